"""What a family of recognisers is to everything else: the contract, which knows no family.

A *backbone* is a module together with what its numbers mean: how audio becomes inputs, how many frames come out, which
transcripts fit, what the loss is, and how outputs become words. Data, training, evaluation and the search ask the
backbone and nothing else; a new family is one file here and one line in `audio_lottery.models.load`
(docs/extending.md).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.data.text import Vocabulary
from audio_lottery.errors import ModelError
from audio_lottery.models.checkpoint import OpenedCheckpoint
from audio_lottery.models.graph import Graph
from audio_lottery.models.words import Word, words

Inputs = dict[str, Tensor]
"""What a module takes, named as transformers names it, padded: first dimension the utterances of the batch."""

Features = Callable[[Sequence[np.ndarray]], Inputs]
"""Audio of some utterances, float32 at 16 kHz, → inputs. Runs in loader workers: it pickles and draws nothing."""


class Masking(Protocol):
    """SpecAugment on the inputs of a module (Park et al. 2019, arXiv:1904.08779); pickles, for loader workers."""

    def __call__(self, inputs: Inputs, samples: Tensor, rngs: Sequence[np.random.Generator]) -> Inputs:
        """New inputs with masks over valid frames; the given ones stay as they are.

        Args:
            inputs: of one batch.
            samples: [batch], samples of each utterance without padding.
            rngs: one generator an utterance, so that its masks do not depend on its batch.
        """
        ...


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One way to read an utterance.

    Attributes:
        text: what was said, words separated by single spaces (greedy: exactly as the tokenizer writes it).
        score: what hypotheses are ordered by: acoustic + lm_weight × lm + word_score × words; of modules that write by
            themselves, acoustic by the number of labels and the end.
        acoustic: natural log-probability of the text: of its best path (greedy), or summed over the alignments that
            the beam kept.
        lm: log10 probability of the text and its end under the language model; 0 without one.
        labels: ids that the text was written with; empty where the search does not say.
        times: seconds from the start of the utterance at which each of the labels was written.
        ends: seconds at which the writing of each ended; empty where a label is written at one frame.
    """

    text: str
    score: float
    acoustic: float
    lm: float
    labels: tuple[int, ...] = ()
    times: tuple[float, ...] = ()
    ends: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Emission:
    """What a module says of a batch, on the CPU: all that a search needs.

    Attributes:
        values: [batch, frames, ...] in float32: logits of CTC, encoder outputs of a transducer; or token ids.
        frames: frames (or ids) of each utterance without padding; what lies behind them means nothing.
    """

    values: Tensor
    frames: list[int]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a module predicts where it predicts: what a student has to come near to.

    Attributes:
        logits: [batch, points, outputs]; a point is where one output is chosen: a frame, a label, a step of a path.
        points: [batch], how many of them belong to each utterance; what lies behind means nothing. On the CPU.
        losses: [batch], what `Backbone.loss` gives, of the same forward pass; None of a teacher.
        parts: numbers of outputs that have a softmax of their own, side by side in ``logits``; empty: one for all.
        path: where the points lie, as the family understands it; None where every utterance has the same.
    """

    logits: Tensor
    points: Tensor
    losses: Tensor | None
    parts: tuple[int, ...] = ()
    path: Tensor | None = None


class Backbone(ABC):
    """A recogniser: a module, what feeds it and what reads it.

    Attributes:
        family: its name in the registry.
        presets: models of the family that are small enough to name; preset → what `build` makes of it.
        heads: regular expressions of parameter names: the layers that spell the output. They stay dense and are what
            `ModelConfig.reset_head` draws anew.
        predicts: what the points of `predict` are; a teacher's must be the same. Empty where there is no `predict`.
        settings: fields of `ModelConfig` that this family takes and others refuse.
        instead_of_a_graph: what to do where `graph` refuses.
        module: what is trained, pruned, saved and accelerated.
        processor: feature extractor and tokenizer, saved beside the module so that transformers finds them.
    """

    family: ClassVar[str]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    heads: ClassVar[tuple[str, ...]] = ()
    predicts: ClassVar[str] = ""
    settings: ClassVar[frozenset[str]] = frozenset()
    instead_of_a_graph: ClassVar[str] = "run it with `audio-lottery transcribe`, or audio_lottery.transcribe.Recogniser"

    def __init__(self, module: PreTrainedModel, processor: Any) -> None:
        self.module = module
        self.processor = processor

    # -- making one ---------------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def claims(cls, architecture: PreTrainedConfig) -> bool:
        """Whether a checkpoint with this transformers config is of the family."""

    @classmethod
    @abstractmethod
    def build(cls, config: ModelConfig, seed: int, specaugment: SpecAugmentConfig | None = None) -> Self:
        """The preset ``config.init``, all weights drawn by ``seed``.

        Args:
            config: which preset, and how it is run.
            seed: of the weights.
            specaugment: of the training to come; some modules have parameters for it.

        Raises:
            ModelError: an unknown field in ``config.overrides``, named.
        """

    @classmethod
    @abstractmethod
    def load(
        cls,
        opened: OpenedCheckpoint,
        config: ModelConfig,
        seed: int,
        *,
        new_head: bool,
        specaugment: SpecAugmentConfig | None = None,
    ) -> Self:
        """The checkpoint ``config.init``, a folder or Hub id, in float32.

        Args:
            opened: what lies there.
            config: which model, and how it is run.
            seed: seed of the weights that the checkpoint does not bring.
            new_head: whether training follows, so that an output layer may be new.
            specaugment: of the training to come; None leaves the checkpoint's own settings.

        Raises:
            ModelError: it cannot be loaded whole; one line that names the file.
        """

    def save(self, folder: Path) -> None:
        """Write what ``from_pretrained`` needs: weights, config, processor."""
        self.module.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    # -- text ---------------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def vocabulary(self) -> Vocabulary:
        """From transcripts to labels.

        Raises:
            ModelError: the processor's tokenizer is not one that labels can be made with.
        """

    # -- audio in -----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def features(self) -> Features:
        """From audio to inputs: the same for one utterance and in a batch, padding aside."""

    @abstractmethod
    def frames(self, samples: Tensor) -> Tensor:
        """How many output frames an utterance of so many samples gives; 0 where it is too short for one.

        Args:
            samples: whole numbers, any shape.
        """

    @abstractmethod
    def can_align(self, labels: Sequence[int], samples: int) -> bool:
        """Whether a transcript fits into so many samples; what does not is never trained on."""

    @property
    def longest(self) -> int | None:
        """Most samples of an utterance that is trained on; None: any number."""
        return None

    def beside(self, source: ModelConfig) -> ModelConfig:
        """How another model of the family is loaded so that it hears what this one hears."""
        return source

    def padded(self, seconds: np.ndarray) -> np.ndarray:
        """Seconds of input that utterances of so many seconds take alone: what the budget of a batch counts."""
        return seconds

    def masking(self, settings: SpecAugmentConfig) -> Masking | None:
        """Switch SpecAugment on or off for a training.

        Returns:
            Masks on the inputs; None where it is off, or where the module masks its own hidden states.
        """
        return None

    @property
    @abstractmethod
    def shortest(self) -> int:
        """Fewest samples that give an output frame; what is shorter must not be given to the module."""

    @property
    @abstractmethod
    def pads_exactly(self) -> bool:
        """Whether, in evaluation mode, padding leaves an utterance's outputs unchanged."""

    @property
    def keeps_state(self) -> bool:
        """Whether the module remembers something of a forward pass, so that two at once may mix up."""
        return False

    # -- loss and words -----------------------------------------------------------------------------------------------

    @abstractmethod
    def loss(self, inputs: Inputs, samples: Tensor, labels: Sequence[Tensor]) -> Tensor:
        """Negative log-likelihood of each utterance, [batch], float32; the caller divides by label counts and sums.

        Args:
            inputs: of one batch, on the module's device.
            samples: [batch], samples of each utterance without padding, on the CPU.
            labels: one 1-D tensor of label ids an utterance, on the CPU.
        """

    def predict(
        self, inputs: Inputs, samples: Tensor, labels: Sequence[Tensor], teacher: Predictions | None = None
    ) -> Predictions:
        """Outputs for distillation, and the loss of the same forward pass; arguments as in `loss`.

        Args:
            inputs: of one batch, on the module's device.
            samples: [batch], samples of each utterance without padding, on the CPU.
            labels: one 1-D tensor of label ids an utterance, on the CPU.
            teacher: what the teacher predicted of the same speech; the student predicts at the same points. None: this
                is the teacher, whose own loss nobody needs.

        Raises:
            ModelError: the family has no such outputs.
        """
        raise ModelError(f"models of the family {self.family} can neither teach nor be taught (training.distill)")

    @abstractmethod
    def emit(self, inputs: Inputs, samples: Tensor, beam: int = 1) -> Emission:
        """The module's outputs for a batch, in evaluation mode; arguments as in `loss`.

        An utterance that is too short for one frame has none.

        Args:
            inputs: as in `loss`; may have several rows of an utterance that is longer than the module takes at once.
            samples: as in `loss`.
            beam: hypotheses that a module follows which writes by itself; others leave the beam to `search`.
        """

    @abstractmethod
    def search(self, emission: Emission, beam: int = 1) -> list[list[Hypothesis]]:
        """Hypotheses of every utterance, best first; runs on the CPU, safe in a thread beside `emit`.

        Args:
            emission: of one batch.
            beam: hypotheses that are followed; 1 is greedy.
        """

    @property
    def blank(self) -> int | None:
        """Id of the CTC blank; None where emissions are not CTC logits, which language-model search needs."""
        return None

    # -- on other runtimes --------------------------------------------------------------------------------------------

    def graph(self) -> Graph:
        """The module as one graph, for runtimes that know neither torch nor this package; it shares the weights.

        Raises:
            ModelError: the module is called step by step while it searches, so that no one graph is the recogniser.
        """
        raise ModelError(
            f"a model of the family {self.family} is no single graph, for its search calls it label by label; "
            f"{self.instead_of_a_graph}"
        )

    @property
    def pieces(self) -> list[str]:
        """What each output of the graph adds to the text: "" for the blank, " " between words.

        Raises:
            ModelError: the family has no graph.
        """
        raise ModelError(f"a model of the family {self.family} is no single graph")

    # -- times --------------------------------------------------------------------------------------------------------

    @property
    def frame_seconds(self) -> float | None:
        """Seconds from one output frame to the next; None where outputs do not follow the audio, and have no times."""
        return None

    def spell(self, labels: Sequence[int]) -> str:
        """The text of labels, repeats kept, as hypotheses write it."""
        return str(self.processor.tokenizer.decode(list(labels), group_tokens=False)) if labels else ""

    def word_times(self, hypothesis: Hypothesis) -> list[Word] | None:
        """When each word of a hypothesis was said; None where `frame_seconds` is.

        Words are those of the text, which a lexicon may write otherwise than the labels spell them.
        """
        step = self.frame_seconds
        if step is None:
            return None
        ends = hypothesis.ends or [time + step for time in hypothesis.times]
        found = words(self.spell, hypothesis.labels, hypothesis.times, ends)
        texts = hypothesis.text.split()
        if len(texts) > len(found):
            return found
        # labels of a last word that no lexicon has are in no text
        return [replace(word, text=text) for word, text in zip(found, texts, strict=False)]

    def stream(self, chunks: Iterable[np.ndarray]) -> Iterator[Hypothesis]:
        """Text while the audio comes in: behind every chunk what has been said so far, at last what `search` says.

        Args:
            chunks: mono samples, float, at 16 kHz, of any lengths.

        Raises:
            ModelError: the module needs the whole utterance, or a chunk is not such audio.
        """
        raise ModelError(
            f"{type(self.module).__name__} reads whole utterances and cannot stream; transducers of one direction can: "
            "--model.init rnnt-mini --model.overrides '{bidirectional: false}'"
        )
