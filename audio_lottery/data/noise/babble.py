"""Babble: several other people speaking at once."""

import numpy as np
from datasets import Dataset

from audio_lottery.data.levels import active_power, centred, is_silent, without_offset
from audio_lottery.data.noise.pieces import MAX_DRAWS, cut
from audio_lottery.errors import AudioError, CorpusError

FEWEST_TALKERS = 5
MOST_TALKERS = 8

# Rows drawn at random before the manifest is walked through instead, which a speaker with most of the rows may need.
_RANDOM_ROWS = 64
_WALK = 1000


class Babble:
    """The sum of 5 to 8 utterances of a manifest, of as many speakers, at equal active level.

    Nothing is kept of the manifest but how many talkers it allows: rows are drawn at random, and drawn again where the
    speaker is the utterance's own or talks already. So a memory-mapped manifest of any length costs no memory.
    """

    def __init__(self, manifest: Dataset) -> None:
        """Look how many speakers there are, up to the number that is needed.

        Args:
            manifest: rows with ``id, audio, start, end, speaker``.

        Raises:
            CorpusError: fewer than 5 speakers would be left beside an utterance's own.
        """
        self._rows = manifest.select_columns(["id", "audio", "start", "end", "speaker"])
        self._speakers = manifest.select_columns(["speaker"])
        speakers: set[str] = set()
        for first in range(0, len(manifest), _WALK):
            speakers.update(self._speakers[first : first + _WALK]["speaker"])
            if len(speakers) > MOST_TALKERS:
                break
        others = min(len(speakers) - 1, MOST_TALKERS)
        if others < FEWEST_TALKERS:
            raise CorpusError(
                f"babble needs {FEWEST_TALKERS} speakers beside the utterance's own, and the manifest has "
                f"{len(speakers)} in all; use a larger set or other noise"
            )
        self._most = others

    def sample(self, n: int, rng: np.random.Generator, speaker: str | None = None) -> np.ndarray:
        """Babble without one speaker.

        Args:
            n: number of samples at 16 kHz, 1 or more.
            rng: decides who talks, and which piece is heard of each.
            speaker: who is left out.

        Returns:
            float32 array ``[n]``.

        Raises:
            AudioError: an utterance cannot be decoded, or ``MAX_DRAWS`` in a row were silent or constant.
        """
        talkers = {speaker}
        babble = np.zeros(n, dtype=np.float32)
        for _ in range(int(rng.integers(FEWEST_TALKERS, self._most + 1))):
            talker, voice = self._voice(n, rng, talkers)
            talkers.add(talker)
            babble += voice / np.float32(np.sqrt(active_power(voice)))
        return babble

    def _voice(self, n: int, rng: np.random.Generator, talkers: set[str | None]) -> tuple[str, np.ndarray]:
        """A piece of an utterance of someone new that is not silent."""
        for _ in range(MAX_DRAWS):
            row = self._rows[self._draw(rng, talkers)]
            voice = cut(row["audio"], row["start"], row["end"], n, rng, row["id"])
            if not is_silent(centred(voice)):
                return row["speaker"], without_offset(voice)
        raise AudioError(
            f"{MAX_DRAWS} utterances in a row were silent as babble, the last one '{row['id']}' in {row['audio']}; "
            "remove silent utterances from the manifest"
        )

    def _draw(self, rng: np.random.Generator, talkers: set[str | None]) -> int:
        """The row of an utterance of someone who does not talk yet."""
        rows = len(self._speakers)
        for index in rng.integers(rows, size=_RANDOM_ROWS):
            if self._speakers[int(index)]["speaker"] not in talkers:
                return int(index)
        begin = int(rng.integers(rows))
        for first in [*range(begin, rows, _WALK), *range(0, begin, _WALK)]:
            for offset, speaker in enumerate(self._speakers[first : first + _WALK]["speaker"]):
                if speaker not in talkers:
                    return first + offset
        raise CorpusError(f"babble: no speaker is left beside {sorted(map(str, talkers))}; use a larger set")
