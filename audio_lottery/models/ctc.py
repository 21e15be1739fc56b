"""What every CTC family shares: vocabulary, lengths, loss, emission and greedy search."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig

from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.features import FeatureExtraction, input_lengths
from audio_lottery.data.text import Vocabulary
from audio_lottery.errors import ModelError
from audio_lottery.models import pretrained
from audio_lottery.models.base import Backbone, Emission, Hypothesis, Inputs, Predictions
from audio_lottery.models.characters import min_frames
from audio_lottery.models.checkpoint import OpenedCheckpoint
from audio_lottery.models.graph import Graph
from audio_lottery.models.loss import ctc_loss
from audio_lottery.models.padding import PaddingTrial, output_frames, shortest_audio, try_padding
from audio_lottery.models.tokenizers import pieces_of, vocabulary_of
from audio_lottery.models.words import merge_repeats

# Frames between which the length of one is measured: not among the first, whose windows are not whole.
_FIRST_WHOLE, _LATER = 4, 20


class CtcBackbone(Backbone):
    """A transformers model that gives logits [batch, frames, outputs], one of the outputs the blank."""

    heads = (r"^lm_head\.", r"^ctc_head\.")
    predicts = "frames"

    @classmethod
    def build(cls, config: ModelConfig, seed: int, specaugment: SpecAugmentConfig | None = None) -> Self:
        """See `Backbone.build`."""
        architecture = AutoConfig.for_model(**cls.presets[config.init])
        cls.set_specaugment(architecture, specaugment)
        processor = cls.make_processor(architecture, config)
        return cls(pretrained.build(architecture, processor, config, seed), processor)

    @classmethod
    def make_processor(cls, architecture: PreTrainedConfig, config: ModelConfig) -> Any:
        """The processor of a model that is built from a preset."""
        raise TypeError(f"{cls.__name__} has no presets")

    @classmethod
    def load(
        cls,
        opened: OpenedCheckpoint,
        config: ModelConfig,
        seed: int,
        *,
        new_head: bool,
        specaugment: SpecAugmentConfig | None = None,
    ) -> Self:
        """See `Backbone.load`."""
        cls.set_specaugment(opened.architecture, specaugment)
        return cls(*pretrained.load(opened, config, seed, new_head=new_head))

    @classmethod
    def set_specaugment(cls, architecture: PreTrainedConfig, settings: SpecAugmentConfig | None) -> None:
        """Put the settings into the config of a module that masks its own hidden states; most have nothing to set."""

    @property
    def blank(self) -> int:
        """Id of the CTC blank: the tokenizer's pad token."""
        return int(self.processor.tokenizer.pad_token_id)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Characters where the tokenizer has a word delimiter, else word pieces."""
        return vocabulary_of(self.processor)

    @cached_property
    def features(self) -> FeatureExtraction:
        """The processor's feature extractor."""
        return FeatureExtraction(self.processor.feature_extractor)

    @cached_property
    def shortest(self) -> int:
        """See `Backbone.shortest`; found by trial."""
        return shortest_audio(self.module, self.features)

    @cached_property
    def padding(self) -> PaddingTrial:
        """What padding does to the module; tried when it is first asked for, and remembered."""
        return try_padding(self.module, self.features, self.shortest)

    @property
    def pads_exactly(self) -> bool:
        """See `Backbone.pads_exactly`; found by trial."""
        return self.padding.exact

    @property
    def keeps_state(self) -> bool:
        """See `Backbone.keeps_state`; found by trial."""
        return self.padding.keeps_state

    def input_lengths(self, samples: Tensor) -> Tensor:
        """Lengths of the module's inputs, of mel features in frames, for so many samples of audio."""
        lengths = [_input_length(self.features, max(int(count), self.shortest)) for count in samples.reshape(-1)]
        return torch.tensor(lengths, dtype=torch.long).reshape(samples.shape)

    def frames(self, samples: Tensor) -> Tensor:
        """See `Backbone.frames`: the module's own formula."""
        return torch.where(samples < self.shortest, 0, output_frames(self.module, self.input_lengths(samples)))

    @cached_property
    def frame_seconds(self) -> float:
        """See `Backbone.frame_seconds`; from how many samples it takes to give some frames more."""

        def samples(frames: int) -> int:
            most = SAMPLE_RATE
            while int(self.frames(torch.tensor(most))) < frames:
                most *= 2
            return bisect_left(range(most), frames, key=lambda count: int(self.frames(torch.tensor(count))))

        return (samples(_LATER) - samples(_FIRST_WHOLE)) / (_LATER - _FIRST_WHOLE) / SAMPLE_RATE

    def can_align(self, labels: Sequence[int], samples: int) -> bool:
        """CTC needs a frame for every label, and a blank between equal neighbours."""
        return min_frames(labels) <= int(self.frames(torch.tensor(samples)))

    def logits(self, inputs: Inputs, samples: Tensor) -> Tensor:
        """[batch, frames, outputs]; arguments as in `loss`."""
        logits: Tensor = self.module(**inputs).logits
        return logits

    def loss(self, inputs: Inputs, samples: Tensor, labels: Sequence[Tensor]) -> Tensor:
        """See `Backbone.loss`; the softmax and the sum over alignments are float32 under any autocast."""
        return self._losses(self.logits(inputs, samples), self._valid_frames(inputs, samples), labels)

    def predict(
        self, inputs: Inputs, samples: Tensor, labels: Sequence[Tensor], teacher: Predictions | None = None
    ) -> Predictions:
        """See `Backbone.predict`: the outputs of every frame, the blank among them."""
        logits, frames = self.logits(inputs, samples), self._valid_frames(inputs, samples)
        return Predictions(logits, frames, None if teacher is None else self._losses(logits, frames, labels))

    def emit(self, inputs: Inputs, samples: Tensor, beam: int = 1) -> Emission:
        """Logits in float32 on the CPU."""
        values = self.logits(inputs, samples).float().cpu()
        return Emission(values, self._valid_frames(inputs, samples).tolist())

    def search(self, emission: Emission, beam: int = 1) -> list[list[Hypothesis]]:
        """Best path: the best output of each frame, repeats merged, blanks removed (Graves et al. 2006, section 3.2).

        With a language model, or a ``beam`` above 1: `audio_lottery.evaluation.decoding`.

        Raises:
            ModelError: a logit is NaN: the model is broken, and no text can be read off it.
        """
        best = emission.values.argmax(dim=-1)  # of the logits: log_softmax rounds close ones to a tie
        values = emission.values.log_softmax(dim=-1).gather(-1, best.unsqueeze(-1)).squeeze(-1)
        for row, score, count in zip(best, values, emission.frames, strict=True):
            row[count:] = self.blank
            score[count:] = 0.0
        texts = self.processor.batch_decode(best)
        totals = values.sum(dim=-1, dtype=torch.float64).tolist()
        broken = sum(total != total for total in totals)
        if broken:
            raise ModelError(f"the model's output is not a number for {broken} of {len(totals)} utterances of a batch")
        found = []
        for text, total, row, count in zip(texts, totals, best, emission.frames, strict=True):
            written = merge_repeats(row[:count].tolist(), self.blank, self.frame_seconds)
            found.append([Hypothesis(text, total, total, 0.0, written.labels, written.starts, written.ends)])
        return found

    def graph(self) -> Graph:
        """See `Backbone.graph`: logits of every frame."""
        given = self.features([np.zeros(self.shortest, np.float32)])
        main = self.module.main_input_name
        names = (main, *(name for name in given if name != main))
        return Graph(self.module, names, tuple(given[name].dtype for name in names)).eval()

    @cached_property
    def pieces(self) -> list[str]:
        """See `Backbone.pieces`."""
        return pieces_of(self.processor.tokenizer, int(self.module.config.vocab_size), self.blank)

    def _losses(self, logits: Tensor, frames: Tensor, labels: Sequence[Tensor]) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            return ctc_loss(logits, frames, labels, self.blank)

    def _valid_frames(self, inputs: Mapping[str, Tensor], samples: Tensor) -> Tensor:
        """Output frames of each row that are not padding, [batch], on the CPU.

        A row has padding of its own even alone where the extractor fills up its frames to an even number.
        """
        return output_frames(self.module, input_lengths(inputs, samples).cpu())


@lru_cache(maxsize=1 << 20)
def _input_length(features: FeatureExtraction, samples: int) -> int:
    inputs = features([np.zeros(samples, np.float32)])
    return int(input_lengths(inputs, torch.tensor([samples])))
