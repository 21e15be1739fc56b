"""Prefix beam search over CTC outputs, with or without lexicon and n-gram language model.

Source: Collobert et al. 2016, "Wav2Letter", section 2.3 (lexicon and n-gram model in the beam); Hannun et al. 2014,
arXiv:1408.2873 (prefix search without). The search is flashlight-text's; torchaudio's wrapper of it would load language
model and lexicon again for every weight that tuning tries, and gives no language model score.

Alignments of the same text are added up, not only the best one counted (``log_add``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from audio_lottery.config import DecoderConfig
from audio_lottery.errors import ModelError
from audio_lottery.evaluation.decoding.hypothesis import Hypothesis
from audio_lottery.evaluation.decoding.language_model import flashlight
from audio_lottery.evaluation.decoding.workers import Workers
from audio_lottery.models.base import Emission
from audio_lottery.models.words import Written, merge_repeats

# Log-probability of everything but the word delimiter in the frame that is put behind the last one.
NO_WORD_END = -1e6


@dataclass(frozen=True)
class BeamSearch:
    """Language model and lexicon, loaded once, for any weights.

    Attributes:
        config: search settings.
        files: the files behind it, for `name`.
        blank: id of the CTC blank.
        delimiter: id of the word delimiter.
        frame_seconds: seconds from one frame to the next.
        tokenizer: writes ids as text where there is no lexicon.
        model: flashlight's language model.
        trie: flashlight's tree of spellings; None searches over characters.
        texts: what a hypothesis writes for each word of the lexicon.
    """

    config: DecoderConfig
    files: Sequence[str]
    blank: int
    delimiter: int
    frame_seconds: float
    tokenizer: Any = field(repr=False)
    model: Any = field(repr=False)
    trie: Any = field(repr=False)
    texts: Sequence[str] = field(repr=False)

    @property
    def name(self) -> str:
        """The method, its files and every setting that decides the best hypothesis."""
        config = self.config
        settings = [*self.files]
        if config.lm is not None:
            settings.append(f"lm_weight={config.lm_weight:g}")
        if self.trie is not None:
            settings.append(f"word_score={config.word_score:g}")
        settings.append(f"beam_size={config.beam_size}")
        settings.append(f"beam_size_token={config.beam_size_token or 'all'}")
        settings.append(f"beam_threshold={config.beam_threshold:g}")
        return f"beam({', '.join(settings)})"

    def weighted(self, lm_weight: float, word_score: float) -> "BeamSearch":
        """The same search with other weights."""
        return replace(self, config=replace(self.config, lm_weight=lm_weight, word_score=word_score))

    def decoder(self, processes: int) -> "BeamDecoder":
        """A `Decoder` that searches in as many processes, or, for 0, in the thread that calls it."""
        return BeamDecoder(self, Workers(self, processes) if processes else None)

    def decode(self, log_probs: np.ndarray) -> list[Hypothesis]:
        """The n best hypotheses of one utterance, best first.

        Words count when their last letter is followed by a delimiter or the end of the utterance. Where no hypothesis
        of the beam ends with a whole word, the unfinished last word is left out.

        Args:
            log_probs: [frames, characters] natural log-probabilities.
        """
        log_probs = np.ascontiguousarray(log_probs, dtype=np.float32)
        engine = self._engine(log_probs.shape[1])
        if self.trie is None:
            found = [self._spelt(result) for result in _run(engine, log_probs)]
        else:
            # Models are trained on texts without a delimiter at the end, and a lexicon's words end with one.
            end = np.full((1, log_probs.shape[1]), NO_WORD_END, dtype=np.float32)
            end[0, self.delimiter] = 0.0
            results = _run(engine, np.concatenate([log_probs, end]))
            if not results or results[0].score < NO_WORD_END / 2:
                results = _run(engine, log_probs)
            found = [self._worded(result) for result in results]
        found.sort(key=lambda hypothesis: (-hypothesis.score, hypothesis.text))
        distinct: dict[str, Hypothesis] = {}
        for hypothesis in found:
            distinct.setdefault(hypothesis.text, hypothesis)
        return list(distinct.values())[: self.config.nbest]

    def _engine(self, characters: int) -> Any:
        module, config = flashlight("decoder"), self.config
        common = {
            "beam_size": config.beam_size,
            "beam_size_token": config.beam_size_token or characters,
            "beam_threshold": config.beam_threshold,
            "lm_weight": config.lm_weight,
            "sil_score": 0.0,
            "log_add": True,
            "criterion_type": module.CriterionType.CTC,
        }
        if self.trie is None:
            # The blank in the place of the silence: flashlight opens every hypothesis with its silence, and a
            # delimiter at the very start would be taken for its repetition.
            options = module.LexiconFreeDecoderOptions(**common)
            return module.LexiconFreeDecoder(options, self.model, self.blank, self.blank, [])
        options = module.LexiconDecoderOptions(**common, word_score=config.word_score, unk_score=float("-inf"))
        unused = len(self.texts)  # index of the unknown word, which -inf keeps out
        return module.LexiconDecoder(options, self.trie, self.model, self.delimiter, self.blank, unused, [], False)

    def _worded(self, result: Any) -> Hypothesis:
        words = [self.texts[index] for index in result.words if index >= 0]
        weighted = self.config.lm_weight * result.lmScore + self.config.word_score * len(words)
        written = self._written(result)
        return Hypothesis(
            " ".join(words),
            result.score,
            result.score - weighted,
            result.lmScore,
            written.labels,
            written.starts,
            written.ends,
        )

    def _spelt(self, result: Any) -> Hypothesis:
        written = self._written(result)
        labels = list(written.labels)
        text = " ".join(self.tokenizer.decode(labels, group_tokens=False).split()) if labels else ""
        return Hypothesis(text, result.score, result.score, 0.0, written.labels, written.starts, written.ends)

    def _written(self, result: Any) -> Written:
        path = result.tokens[1:-1]  # flashlight puts its silence before the first frame and behind the last
        return merge_repeats(path, self.blank, self.frame_seconds)


class BeamDecoder:
    """A `Decoder` by beam search."""

    def __init__(self, search: BeamSearch, workers: Workers[BeamSearch] | None) -> None:
        """Search in ``workers``, or without them in the calling thread."""
        self.search = search
        self._workers = workers

    @property
    def name(self) -> str:
        """See `Decoder`."""
        return self.search.name

    @property
    def beam(self) -> int:
        """CTC outputs do not depend on it."""
        return 1

    def __call__(self, emission: Emission) -> list[list[Hypothesis]]:
        """Arguments and result as in `Decoder`.

        Raises:
            ModelError: a logit is NaN.
            RunError: a decoding process was killed.
        """
        utterances = to_log_probs(emission)
        if self._workers is None:
            return [self.search.decode(log_probs) for log_probs in utterances]
        return list(self._workers.map(BeamSearch.decode, utterances))

    def close(self) -> None:
        """End the processes; leaving the decoder to be collected does the same."""
        if self._workers is not None:
            self._workers.close()


def to_log_probs(emission: Emission) -> list[np.ndarray]:
    """Log-probabilities of each utterance of a batch of CTC logits, [frames, characters] in float32, without padding.

    Raises:
        ModelError: a logit is NaN: the model is broken, and no text can be read off it.
    """
    log_probs = emission.values.log_softmax(dim=-1).numpy()
    utterances = [row[:count] for row, count in zip(log_probs, emission.frames, strict=True)]
    broken = sum(bool(np.isnan(utterance).any()) for utterance in utterances)
    if broken:
        raise ModelError(f"the model's output is not a number for {broken} of {len(utterances)} utterances of a batch")
    return utterances


def _run(engine: Any, log_probs: np.ndarray) -> list[Any]:
    frames, characters = log_probs.shape
    results: list[Any] = engine.decode(log_probs.ctypes.data, frames, characters)
    return results
