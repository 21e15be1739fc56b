"""Models of known sizes with random weights, for benchmarks: time depends on shapes and zeros, not on what was learned.

Untrained weights must not hide errors: batch norms get the statistics of a first pass, so that activations neither die
out nor grow from layer to layer, and outputs are scaled until they spread as those of a trained model.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCTC, AutoModelForRNNT

from audio_lottery.models.cnn_lstm import CnnLstm
from audio_lottery.models.conformer import Conformer
from audio_lottery.models.transducer import Transducer
from audio_lottery.sparse.benchmark import Subject, wav2vec2_base

_LOGIT_STD = 3.0
_FRAMES_A_SECOND = 100
# What the statistics and the scale of the outputs are taken from.
_SECONDS = 2.0


def _features(bins: int, seed: int) -> Callable[[float], Tensor]:
    """Seconds → [1, frames, bins] of noise, as normalised features spread."""

    def make(seconds: float) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(1, round(seconds * _FRAMES_A_SECOND), bins, generator=generator)

    return make


def _subject(name: str, preset: Mapping[str, Any], mapping: Any, head: str, bins: int, seed: int) -> Subject:
    config = AutoConfig.for_model(**preset)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = mapping.from_config(config).eval()
    subject = Subject(f"{name} shapes", model, "input_features", _features(bins, seed))
    _enliven(subject, model.get_submodule(head))
    return subject


def _enliven(subject: Subject, head: Any) -> None:
    norms = [module for module in subject.model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    inputs = subject.make_inputs(_SECONDS)
    with torch.inference_mode(False), torch.no_grad():
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        if norms:
            subject.model(**{subject.input_name: inputs})
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
        head.weight *= _LOGIT_STD / subject.logits(subject.model)(inputs).std()


def _parakeet(seed: int) -> Subject:
    # 608 M parameters: transformers' defaults are those of nvidia/parakeet-ctc-0.6b
    return _subject("parakeet-ctc-0.6b", {"model_type": "parakeet_ctc"}, AutoModelForCTC, "ctc_head", 80, seed)


def _conformer_small(seed: int) -> Subject:
    preset = Conformer.presets["conformer-small"]
    return _subject("conformer-small", preset, AutoModelForCTC, "ctc_head", 64, seed)


def _cnn_lstm(seed: int) -> Subject:
    return _subject("cnn-lstm", CnnLstm.presets["cnn-lstm-base"], AutoModelForCTC, "lm_head", 161, seed)


def _rnnt(seed: int) -> Subject:
    """The encoder, and the joint network behind the first label at all frames."""
    return _subject("rnnt", Transducer.presets["rnnt-base"], AutoModelForRNNT, "joint.head", 80, seed)


SHAPES: dict[str, Callable[[int], Subject]] = {
    "wav2vec2-base": wav2vec2_base,
    "parakeet-ctc-0.6b": _parakeet,
    "conformer-small": _conformer_small,
    "cnn-lstm": _cnn_lstm,
    "rnnt": _rnnt,
}
"""Name → a function of the seed of the weights."""
