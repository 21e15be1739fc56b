"""Transducers as backbones: what RNN-T and TDT share, and the LSTM transducer."""

import copy
import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, Wav2Vec2Processor

from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.features import FeatureExtraction
from audio_lottery.data.text import Vocabulary
from audio_lottery.models import pretrained
from audio_lottery.models.base import Backbone, Emission, Hypothesis, Inputs, Masking, Predictions
from audio_lottery.models.checkpoint import OpenedCheckpoint
from audio_lottery.models.specaugment import feature_masking
from audio_lottery.models.tokenizers import vocabulary_of
from audio_lottery.models.transducer.beam import beam_search
from audio_lottery.models.transducer.configuration import TransducerConfig
from audio_lottery.models.transducer.features import LogMelFeatureExtractor
from audio_lottery.models.transducer.greedy import greedy
from audio_lottery.models.transducer.loss import JOINT_CELLS, transducer_loss
from audio_lottery.models.transducer.path import best_paths, output_parts, outputs_along
from audio_lottery.models.transducer.stream import read_stream
from audio_lottery.models.vocabulary import make_tokenizer


class TransducerBackbone(Backbone):
    """A module with ``decoder`` and ``joint``, as transformers' Parakeet transducers have them."""

    heads = (r"^joint\.head\.",)
    predicts = "steps of a path"

    @classmethod
    def build(cls, config: ModelConfig, seed: int, specaugment: SpecAugmentConfig | None = None) -> Self:
        """See `Backbone.build`."""
        architecture = AutoConfig.for_model(**cls.presets[config.init])
        processor = cls.make_processor(architecture, config)
        task = cls.task_of(architecture)
        return cls(pretrained.build(architecture, processor, config, seed, task), processor)

    @classmethod
    @abstractmethod
    def make_processor(cls, architecture: Any, config: ModelConfig) -> Any:
        """The processor of a model that is built from a preset."""

    @classmethod
    def task_of(cls, architecture: PreTrainedConfig) -> pretrained.Task:
        """Which of transformers' mappings has the model."""
        return pretrained.RNNT

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
        task = cls.task_of(opened.architecture)
        return cls(*pretrained.load(opened, config, seed, new_head=new_head, task=task))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Characters where the tokenizer has a word delimiter, else word pieces."""
        return vocabulary_of(self.processor)

    @cached_property
    def features(self) -> FeatureExtraction:
        """The processor's feature extractor."""
        return FeatureExtraction(self.processor.feature_extractor)

    @property
    def pads_exactly(self) -> bool:
        """Padding is masked everywhere, or comes too late to be seen."""
        return True

    @property
    @abstractmethod
    def frame_seconds(self) -> float:
        """Seconds from one encoder frame to the next."""

    @abstractmethod
    def encode(self, inputs: Inputs, samples: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, frames, decoder size] as the joint network takes them, and [batch] valid frames, on the CPU."""

    def can_align(self, labels: Sequence[int], samples: int) -> bool:
        """At every frame at most ``max_symbols_per_step`` labels are written."""
        return 0 < len(labels) <= self.module.config.max_symbols_per_step * int(self.frames(torch.tensor(samples)))

    def masking(self, settings: SpecAugmentConfig) -> Masking | None:
        """Spans of feature frames and bins."""
        return feature_masking(settings)

    def loss(self, inputs: Inputs, samples: Tensor, labels: Sequence[Tensor]) -> Tensor:
        """See `Backbone.loss` and `transducer_loss`."""
        encoded, frames = self.encode(inputs, samples)
        return transducer_loss(self.module, encoded, frames, labels, self._cells)

    def predict(
        self, inputs: Inputs, samples: Tensor, labels: Sequence[Tensor], teacher: Predictions | None = None
    ) -> Predictions:
        """See `Backbone.predict`: the outputs along the teacher's best path, see `best_paths`."""
        encoded, frames = self.encode(inputs, samples)
        if teacher is None or teacher.path is None:
            path, points = best_paths(self.module, encoded, frames, labels, self._cells)
        else:
            path, points = teacher.path, teacher.points
        logits = outputs_along(self.module, encoded, labels, path)
        losses = None
        if teacher is not None:
            losses = transducer_loss(self.module, encoded, frames, labels, self._cells)
        return Predictions(logits, points, losses, output_parts(self.module), path)

    @property
    def _cells(self) -> int:
        return int(getattr(self.module.config, "joint_cells", JOINT_CELLS))

    def emit(self, inputs: Inputs, samples: Tensor, beam: int = 1) -> Emission:
        """Encoder frames, in float32 on the CPU."""
        encoded, frames = self.encode(inputs, samples)
        return Emission(encoded.float().cpu(), frames.tolist())

    @torch.no_grad()
    def search(self, emission: Emission, beam: int = 1) -> list[list[Hypothesis]]:
        """See `greedy` and `beam_search`; hypotheses have labels and times.

        Raises:
            ModelError: an output is NaN, or a beam above 1 where the model predicts durations.
        """
        parts = _on_cpu(self.module)
        if beam == 1:
            found = greedy(parts, emission.values, emission.frames).written
            return [[self._hypothesis(one.labels, one.frames, one.score)] for one in found]
        rows = zip(emission.values, emission.frames, strict=True)
        return [
            [self._hypothesis(one.labels, one.frames, one.score) for one in beam_search(parts, row[:count], beam)]
            for row, count in rows
        ]

    def _hypothesis(self, labels: Sequence[int], frames: Sequence[int], score: float) -> Hypothesis:
        times = tuple(frame * self.frame_seconds for frame in frames)
        return Hypothesis(self.spell(labels), score, score, 0.0, tuple(labels), times)


class Transducer(TransducerBackbone):
    """LSTM transducers (Graves 2012, arXiv:1211.3711; He et al. 2019, arXiv:1811.06621)."""

    family = "transducer"
    presets = {  # noqa: RUF012
        # 1.1 M parameters, for the demo's speech; 16.7 frames a second, as for the others
        "rnnt-mini": {
            "model_type": TransducerConfig.model_type,
            "num_mel_bins": 40,
            "hidden_size": 128,
            "num_hidden_layers": 3,
            "time_reduction": [3, 2],
            "decoder_hidden_size": 128,
        },
        # 8 M parameters, for AN4 and other small corpora
        "rnnt-small": {
            "model_type": TransducerConfig.model_type,
            "hidden_size": 320,
            "num_hidden_layers": 4,
            "time_reduction": [3, 2],
            "decoder_hidden_size": 320,
        },
        # 130 M parameters, for LibriSpeech
        "rnnt-base": {"model_type": TransducerConfig.model_type},
    }

    @classmethod
    def claims(cls, architecture: PreTrainedConfig) -> bool:
        """Checkpoints of `TransducerForRNNT`."""
        return isinstance(architecture, TransducerConfig)

    @classmethod
    def make_processor(cls, architecture: Any, config: ModelConfig) -> Any:
        """Log-mel features with constant shift and scale."""
        extractor = LogMelFeatureExtractor(feature_size=architecture.num_mel_bins)
        return Wav2Vec2Processor(feature_extractor=extractor, tokenizer=make_tokenizer(config))

    @property
    def shortest(self) -> int:
        """Samples of an encoder frame."""
        return int(self.processor.feature_extractor.hop_length * math.prod(self.module.config.time_reduction))

    @property
    def frame_seconds(self) -> float:
        """See `TransducerBackbone.frame_seconds`."""
        return self.shortest / SAMPLE_RATE

    def frames(self, samples: Tensor) -> Tensor:
        """Whole encoder frames; what is left over at the end is dropped."""
        return torch.div(samples, self.shortest, rounding_mode="floor")

    def encode(self, inputs: Inputs, samples: Tensor) -> tuple[Tensor, Tensor]:
        """See `TransducerBackbone.encode`."""
        encoded, _ = self.module.encode(**inputs)
        return encoded, self.frames(samples)

    def stream(self, chunks: Iterable[np.ndarray]) -> Iterator[Hypothesis]:
        """See `Backbone.stream`; refused where the encoder is bidirectional."""
        said = self._hypothesis((), (), 0.0)
        for written in read_stream(self.module, self.processor.feature_extractor, chunks):
            if len(written.labels) > len(said.labels):  # most chunks write nothing, and spelling is slow
                said = self._hypothesis(written.labels, written.frames, written.score)
            yield replace(said, score=written.score, acoustic=written.score)


class _Parts:
    """Copies of what a search needs."""

    def __init__(self, module: Any) -> None:
        self.config = module.config
        self.decoder = copy.deepcopy(module.decoder).float().cpu()
        self.joint = copy.deepcopy(module.joint).float().cpu()


def _on_cpu(module: Any) -> Any:
    """The module where it is on a CPU already; else copies of its small half."""
    weight = module.joint.head.weight
    return module if weight.device.type == "cpu" and weight.dtype == torch.float32 else _Parts(module)
