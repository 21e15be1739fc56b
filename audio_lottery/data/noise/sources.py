"""Where noise comes from: formulas, folders of recordings, other speakers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile as sf
from datasets import Dataset

from audio_lottery.data.audio import probe, read_audio
from audio_lottery.data.levels import centred, is_silent
from audio_lottery.data.noise.babble import Babble
from audio_lottery.data.noise.folders import Part, audio_files
from audio_lottery.data.noise.generated import GENERATORS
from audio_lottery.data.noise.pieces import MAX_DRAWS, cut
from audio_lottery.errors import AudioError, ConfigError, CorpusError

NOISE_NAMES = (*GENERATORS, "babble")
"""Noise that needs no folder."""


# Seconds of a recording in which sound is looked for first.
_BEGINNING = 1.0


class NoiseSource(Protocol):
    """Where noise comes from. The samples depend on ``n``, the state of ``rng`` and ``speaker`` alone."""

    def sample(self, n: int, rng: np.random.Generator, speaker: str | None = None) -> np.ndarray:
        """Noise at 16 kHz that is neither silent nor constant: float32 ``[n]``.

        ``speaker`` is who speaks in the utterance; babble leaves that voice out.
        """
        ...


@dataclass(frozen=True, slots=True)
class GeneratedNoise:
    """Noise from a formula.

    Attributes:
        generate: makes ``n`` samples from a generator.
    """

    generate: Callable[[int, np.random.Generator], np.ndarray]

    def sample(self, n: int, rng: np.random.Generator, speaker: str | None = None) -> np.ndarray:
        """Noise at 16 kHz: float32 ``[n]``."""
        return self.generate(n, rng)


class NoiseFolder:
    """Noise cut from the recordings in a folder (MUSAN, DEMAND, one's own), every file equally likely.

    Attributes:
        path: the folder.
        files: the audio files of the part that was asked for, see `audio_files`.
    """

    def __init__(self, path: str | Path, part: Part = "all") -> None:
        """List the folder.

        Raises:
            CorpusError: there is no such folder, or no audio file in that part of it.
        """
        self.path = Path(path)
        self.files = audio_files(self.path, part, "noise")
        self._seconds: dict[Path, float] = {}

    def sample(self, n: int, rng: np.random.Generator, speaker: str | None = None) -> np.ndarray:
        """A piece of a random file from a random place; a file shorter than ``n`` is looped.

        A silent or constant piece of a file with sound (recordings often start with digital zeros) is drawn again, file
        and place.

        Args:
            n: number of samples at 16 kHz, 1 or more.
            rng: decides the file and the place.
            speaker: not used.

        Returns:
            float32 array ``[n]``.

        Raises:
            AudioError: a file cannot be decoded, is silent or constant from end to end, or ``MAX_DRAWS`` pieces in a
                row were.
        """
        for _ in range(MAX_DRAWS):
            file = self.files[rng.integers(len(self.files))]
            piece = cut(file, 0.0, self._duration(file), n, rng, "noise")
            if not is_silent(centred(piece)):
                return piece
            self._check_file(file)
        raise AudioError(
            f"{self.path}: {MAX_DRAWS} pieces of noise in a row were silent, the last one from {file}; "
            "remove files that are mostly silence"
        )

    def check(self) -> None:
        """Look for sound in every file, so that one without any is found before it is drawn.

        Usually the first second is read of each. Files of floating-point samples are read whole: NaN may be anywhere.

        Raises:
            AudioError: a file cannot be decoded, is silent or constant from end to end, or holds NaN.
        """
        for file in self.files:
            beginning = min(_BEGINNING, self._duration(file))
            floating = sf.info(str(file)).subtype in ("FLOAT", "DOUBLE")
            if floating or is_silent(centred(read_audio(file, 0.0, beginning, utterance_id="noise"))):
                self._check_file(file)

    def _check_file(self, file: Path) -> None:
        samples = read_audio(file, utterance_id="noise")
        if is_silent(centred(samples)):
            what = "silent" if is_silent(samples) else "constant"
            raise AudioError(f"a noise file is {what} from end to end: {file}; remove it")

    def _duration(self, file: Path) -> float:
        if file not in self._seconds:
            # Remembered, because probing an MP3 decodes part of it.
            self._seconds[file] = probe(file).duration
        return self._seconds[file]


def get_noise_source(
    spec: str, root: Path = Path(), part: Part = "all", manifest: Dataset | None = None
) -> NoiseSource:
    """The noise that a setting names: ``white``, ``pink``, ``babble`` or the path of a folder of recordings.

    Args:
        spec: the name or the path.
        root: folder that a relative path starts from.
        part: which part of a folder.
        manifest: whose speakers babble is made of.

    Raises:
        ConfigError: the setting is empty, or babble is asked for without a manifest.
        CorpusError: it is neither a name nor a folder that holds audio, or the manifest has too few speakers.
    """
    names = ", ".join(NOISE_NAMES)
    if not spec.strip():
        raise ConfigError(f"the noise setting is empty; give a folder of audio files, or one of: {names}")
    if spec in GENERATORS:
        return GeneratedNoise(GENERATORS[spec])
    if spec == "babble":
        if manifest is None:
            raise ConfigError("babble is made of other speakers' utterances; it needs a manifest")
        return Babble(manifest)
    folder = root / Path(spec).expanduser()
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such noise folder; give a folder of audio files, or one of: {names}")
    return NoiseFolder(folder, part)
