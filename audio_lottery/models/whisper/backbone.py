"""Whisper (Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision", arXiv:2212.04356)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    GenerationConfig,
    GenerationMixin,
    PreTrainedConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperProcessor,
)
from transformers.modeling_outputs import BaseModelOutput

from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.errors import ModelError
from audio_lottery.models import pretrained
from audio_lottery.models.base import Backbone, Emission, Hypothesis, Inputs, Masking, Predictions
from audio_lottery.models.checkpoint import OpenedCheckpoint
from audio_lottery.models.specaugment import feature_masking
from audio_lottery.models.start import start_with
from audio_lottery.models.whisper.checkpoint import WHISPER, check_architecture, new_generation
from audio_lottery.models.whisper.features import MARGIN, OWNERS, POSITION, ROUNDING, WindowFeatures, WindowMasking
from audio_lottery.models.whisper.loss import label_states, log_likelihood, recorded_states, state_likelihood
from audio_lottery.models.whisper.prompt import make_prompt, read_generation, settle_generation
from audio_lottery.models.whisper.tokenizer import WhisperVocabulary, byte_tokenizer

_WINDOW = "window_seconds"
"""Field of config.json that keeps a window shorter than the model's own; plain transformers leaves it alone."""


@dataclass(frozen=True, slots=True)
class Written(Emission):
    """What the decoder wrote: ``values`` are token ids [windows, hypotheses, longest], filled up with the end.

    Attributes:
        scores: [windows, hypotheses], natural log-probability of each text and its end, float64.
        owners: the utterance that each window is of, in its order.
    """

    scores: Tensor
    owners: list[int]


class Whisper(Backbone):
    """transformers' `WhisperForConditionalGeneration`, with a window that may be shorter than the published 30 s.

    The encoder takes the first positions of its table and the weights stay whole, so that what is saved is a Whisper
    like any other. The window is the same for every utterance of a run: padding is what the encoder hears as silence.
    """

    family = "whisper"
    presets = {  # noqa: RUF012
        # 1.1 M parameters, 8 s, bytes for word pieces: for trying things out; from scratch it takes long to learn
        "whisper-mini": {
            "model_type": WhisperConfig.model_type,
            "d_model": 128,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 512,
            "decoder_ffn_dim": 512,
            "max_source_positions": 400,
            "init_std": 0.05,
        },
    }
    heads = (r"^proj_out\.",)
    predicts = "labels"
    settings = frozenset({"window", "language"})
    instead_of_a_graph = (
        "convert it with CTranslate2's ct2-transformers-converter, or run it with `audio-lottery transcribe`, or "
        "audio_lottery.transcribe.Recogniser"
    )

    def __init__(self, module: Any, processor: Any, window: float | None = None) -> None:
        super().__init__(module, processor)
        self.positions = _set_window(module, window)
        # transformers freezes the sinusoids when it makes a model, and thaws them when it loads one
        module.model.encoder.embed_positions.requires_grad_(False)
        self._prompt = make_prompt(module.generation_config, processor.tokenizer, type(module).__name__)
        start_with(module, self._prompt.tokens)

    # -- making one ---------------------------------------------------------------------------------------------------

    @classmethod
    def claims(cls, architecture: PreTrainedConfig) -> bool:
        """Checkpoints of Whisper, distilled ones too."""
        return isinstance(architecture, WhisperConfig)

    @classmethod
    def build(cls, config: ModelConfig, seed: int, specaugment: SpecAugmentConfig | None = None) -> Self:
        """See `Backbone.build`."""
        architecture = AutoConfig.for_model(**cls.presets[config.init])
        if config.tokenizer is not None:
            raise ModelError(f"model.tokenizer: '{config.init}' writes bytes; leave it out")
        bins = config.overrides.get("num_mel_bins", architecture.num_mel_bins)
        processor = WhisperProcessor(WhisperFeatureExtractor(feature_size=bins), byte_tokenizer())
        module = pretrained.build(architecture, processor, config, seed, WHISPER)
        published = new_generation(module.config, processor.tokenizer)
        module.generation_config = settle_generation(
            published, module.config, processor.tokenizer, config.language, config.init
        )
        return cls(module, processor, config.window)

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
        """See `Backbone.load`; the output layer is the embedding, and is never new."""
        check_architecture(opened.architecture, config)
        published = read_generation(config.init, config.revision, opened.architecture)
        module, processor = pretrained.load(opened, config, seed, new_head=False, task=WHISPER)
        module.generation_config = settle_generation(
            published, module.config, processor.tokenizer, config.language, config.init
        )
        return cls(module, processor, config.window)

    # -- text and audio -----------------------------------------------------------------------------------------------

    @cached_property
    def vocabulary(self) -> WhisperVocabulary:
        """Whisper's own word pieces."""
        return WhisperVocabulary(self.processor.tokenizer)

    @cached_property
    def features(self) -> WindowFeatures:
        """Log-mel features of the window."""
        return WindowFeatures(self.processor.feature_extractor, self.positions * POSITION)

    @property
    def longest(self) -> int:
        """A second less than the window; in evaluation what is longer is cut (`WindowFeatures`)."""
        return self.features.longest

    def beside(self, source: ModelConfig) -> ModelConfig:
        """With this window, whatever the other was published with."""
        return replace(source, window=self.positions * POSITION / SAMPLE_RATE)

    def padded(self, seconds: np.ndarray) -> np.ndarray:
        """Whole windows."""
        return self.features.padded(seconds)

    def frames(self, samples: Tensor) -> Tensor:
        """Encoder positions that hear something of the utterance."""
        return torch.div(samples, POSITION, rounding_mode="floor")

    def can_align(self, labels: Sequence[int], samples: int) -> bool:
        """The decoder has a position for every label and every token of the prompt."""
        return 0 < len(labels) <= self._room and self.shortest <= samples <= self.longest

    @property
    def _room(self) -> int:
        """Most labels of a text."""
        return int(self.module.config.max_target_positions) - len(self._prompt.tokens)

    def masking(self, settings: SpecAugmentConfig) -> Masking | None:
        """Spans of mel frames and bins; the module's own masking changes its input in place, and is off."""
        hop = int(self.processor.feature_extractor.hop_length)
        return None if feature_masking(settings) is None else WindowMasking(settings, hop)

    @property
    def shortest(self) -> int:
        """One encoder position."""
        return POSITION

    @property
    def pads_exactly(self) -> bool:
        """Every utterance is padded to the window, whatever is beside it."""
        return True

    # -- loss and words -----------------------------------------------------------------------------------------------

    def loss(self, inputs: Inputs, samples: Tensor, labels: Sequence[Tensor]) -> Tensor:
        """Negative log-likelihood of the labels and the end behind the prompt; the prompt itself does not count.

        Raises:
            ModelError: an utterance without labels, with more than the decoder has positions for, or longer than the
                window takes.
        """
        self._check(samples, [len(one) for one in labels])
        encoded = self.module.model.encoder(inputs["input_features"]).last_hidden_state
        return -log_likelihood(self.module, encoded, labels, self._prompt)

    def predict(
        self, inputs: Inputs, samples: Tensor, labels: Sequence[Tensor], teacher: Predictions | None = None
    ) -> Predictions:
        """See `Backbone.predict`: the outputs before every label and before the end; raises as `loss`."""
        self._check(samples, [len(one) for one in labels])
        encoded = self.module.model.encoder(inputs["input_features"]).last_hidden_state
        states = label_states(self.module, encoded, labels, self._prompt)
        logits = self.module.proj_out(states).float()
        points = torch.tensor([len(one) + 1 for one in labels])
        losses = None if teacher is None else -state_likelihood(self.module, states, labels, self._prompt.end)
        return Predictions(logits, points, losses)

    def _check(self, samples: Tensor, counts: Sequence[int]) -> None:
        room = self._room
        for place, (length, count) in enumerate(zip(samples.tolist(), counts, strict=True)):
            if length > self.longest + ROUNDING:
                raise ModelError(
                    f"utterance {place} of a batch lasts {length / SAMPLE_RATE:.2f} s, and a window of "
                    f"{self.features.window / SAMPLE_RATE:g} s takes {self.longest / SAMPLE_RATE:g} s and "
                    f"{MARGIN / SAMPLE_RATE:g} s of silence; lower data.max_seconds or raise model.window"
                )
            if not 0 < count <= room:
                what = "no labels" if count == 0 else f"{count} labels"
                raise ModelError(
                    f"utterance {place} of a batch has {what}; the decoder takes 1 to {room} beside the prompt of "
                    f"{len(self._prompt.tokens)} tokens: leave it out, or cut it"
                )

    @torch.no_grad()
    def emit(self, inputs: Inputs, samples: Tensor, beam: int = 1) -> Written:
        """What `generate` writes with the published suppression lists; a long utterance's windows one after another."""
        features = inputs["input_features"]
        owners = inputs[OWNERS].tolist() if OWNERS in inputs else list(range(len(features)))
        encoded = self.module.model.encoder(features).last_hidden_state
        prompt, end = torch.tensor(self._prompt.tokens, device=features.device), self._prompt.end
        with recorded_states(self.module) as states:
            ids = GenerationMixin.generate(
                self.module,
                encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
                decoder_input_ids=prompt.expand(len(features), -1),
                attention_mask=torch.ones(features.shape[0], features.shape[2], device=features.device),
                generation_config=self._decoding(beam),
            )
        ids = ids[:, len(prompt) :].cpu()
        labels = [row[: _length(row, end)] for row in ids]
        ended = [len(one) < len(row) for one, row in zip(labels, ids, strict=True)]
        if beam == 1:
            scores = state_likelihood(self.module, torch.stack(states, 1), labels, end, ended)
        else:  # beams change places, and their states do not say where to
            scores = log_likelihood(self.module, encoded.repeat_interleave(beam, 0), labels, self._prompt, ended)
        counts = [0] * len(samples)
        for one, owner in zip(labels[::beam], owners, strict=True):
            counts[owner] += len(one)
        shape = (len(features), beam)
        return Written(ids.reshape(*shape, -1), counts, scores.double().cpu().reshape(shape), owners)

    def _decoding(self, beam: int) -> GenerationConfig:
        """The published lists and limit, with the beam of the recipe and nothing drawn."""
        published, end = self.module.generation_config, self._prompt.end
        return GenerationConfig(
            max_length=published.max_length or self.module.config.max_target_positions,
            num_beams=beam,
            num_return_sequences=beam,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=end,
            bos_token_id=end,
            decoder_start_token_id=self._prompt.tokens[0],
            suppress_tokens=published.suppress_tokens or None,
            begin_suppress_tokens=published.begin_suppress_tokens or None,
        )

    def search(self, emission: Emission, beam: int = 1) -> list[list[Hypothesis]]:
        """The texts that were written; of an utterance in several windows the best of each, one after another.

        Raises:
            ModelError: an output is NaN: the model is broken, and no text can be read off it.
        """
        if not isinstance(emission, Written):
            raise TypeError(f"{type(emission).__name__} is not of this backbone")
        broken = int(emission.scores[:, 0].isnan().sum())
        if broken:
            raise ModelError(f"the model's output is not a number for {broken} of {len(emission.scores)} windows")
        windows: list[list[list[Hypothesis]]] = [[] for _ in emission.frames]
        for owner, ids, scores in zip(emission.owners, emission.values, emission.scores.tolist(), strict=True):
            windows[owner].append([self._hypothesis(*one) for one in zip(ids.tolist(), scores, strict=True)])
        return [parts[0] if len(parts) == 1 else [_joined([part[0] for part in parts])] for parts in windows]

    def _hypothesis(self, ids: list[int], acoustic: float) -> Hypothesis:
        labels = ids[: ids.index(self._prompt.end)] if self._prompt.end in ids else ids
        written = len(labels) + (len(labels) < len(ids))
        return Hypothesis(self.vocabulary.decode(labels), acoustic / written, acoustic, 0.0, tuple(labels))


def _length(ids: Tensor, end: int) -> int:
    """Labels before the end; all of them, where there is none."""
    found = (ids == end).nonzero()
    return int(found[0]) if len(found) else len(ids)


def _joined(parts: list[Hypothesis]) -> Hypothesis:
    labels = tuple(label for part in parts for label in part.labels)
    acoustic = sum(part.acoustic for part in parts)
    text = " ".join(part.text for part in parts if part.text)
    return Hypothesis(text, acoustic / (len(labels) + len(parts)), acoustic, 0.0, labels)


def _set_window(module: Any, window: float | None) -> int:
    """Let the encoder take the first positions of its table; what is saved has all of them.

    Args:
        module: changed in place, its weights and its configuration's ``max_source_positions`` not.
        window: seconds; None takes what the checkpoint was trained with, or else all positions.

    Returns:
        Positions.

    Raises:
        ModelError: longer than the table, or too short for speech and the silence behind it.
    """
    config, encoder = module.config, module.model.encoder
    whole = config.max_source_positions * POSITION / SAMPLE_RATE
    seconds = window if window is not None else getattr(config, _WINDOW, None) or whole
    least = 2 * MARGIN / SAMPLE_RATE
    if not least <= seconds <= whole:
        raise ModelError(
            f"model.window is {seconds:g}; it must lie between {least:g} and the {whole:g} s that the model has "
            f"positions for, and be {MARGIN / SAMPLE_RATE:g} s longer than the speech"
        )
    positions = int(np.ceil(round(seconds * SAMPLE_RATE / POSITION, 6)))
    # a configuration of its own, so that the one that is saved stays the published one
    encoder.config = copy.deepcopy(config)
    encoder.config.max_source_positions = positions
    encoder.embed_positions.num_embeddings = positions
    setattr(config, _WINDOW, positions * POSITION / SAMPLE_RATE)
    return positions
