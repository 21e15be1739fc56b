"""Every family of recognisers on the kernels: padding, batches and streams are those of the dense model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from audio_lottery.config import ModelConfig
from audio_lottery.models.load import load_backbone
from audio_lottery.sparse import accelerate
from audio_lottery.sparse.runtime.modules import Accelerated
from tests.lottery.test_backbones import TINY
from tests.models.architectures import ARCHITECTURES
from tests.sparse.runtime.test_runtime_parents import lively

LENGTHS = (9_000, 16_000, 3_300)


def _layers(model: ModelConfig, **fields) -> ModelConfig:
    inner = model.overrides["encoder_config"] | fields
    return replace(model, overrides=model.overrides | {"encoder_config": inner})


CONFORMER, TRANSDUCER, PARAKEET = TINY["conformer"], TINY["transducer"], TINY["parakeet_transducer"]
MODELS = {
    "conformer": CONFORMER,
    "conformer of heads that fill no vector": _layers(CONFORMER, hidden_size=36, num_hidden_layers=2),
    "conformer without biases": _layers(CONFORMER, attention_bias=False, convolution_bias=False, scale_input=False),
    "conformer with relu": _layers(CONFORMER, hidden_act="relu", num_hidden_layers=2),
    "parakeet-tdt": PARAKEET,
    "parakeet-rnnt": replace(PARAKEET, init="parakeet-rnnt-mini"),
    "cnn_lstm": replace(TINY["cnn_lstm"], overrides=TINY["cnn_lstm"].overrides | {"num_hidden_layers": 2}),
    "transducer": TRANSDUCER,
    "transducer of one direction": replace(TRANSDUCER, overrides=TRANSDUCER.overrides | {"bidirectional": False}),
}
# What has a runner of its own.
RUNNERS = {
    "conformer": {"ConformerEncoder", "CTCHead"},
    "parakeet": {"ConformerEncoder", "_PackedLSTM"},
    "cnn_lstm": {"SummedLSTM", "_PackedConv2d"},
}
OTHERS = {row.id: row for row in ARCHITECTURES if row.name == "wav2vec2-conformer" and row.exact}


def recogniser(name, density=0.4):
    backbone = OTHERS[name].backbone() if name in OTHERS else load_backbone(MODELS[name], seed=3)
    lively(backbone.module, density)
    with torch.no_grad():
        for module in backbone.module.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                module.running_mean += 0.3 * torch.randn_like(module.running_mean)
                module.running_var *= 0.5 + torch.rand_like(module.running_var)
            if "bias" in module._parameters and module.bias is not None:
                module.bias += 0.1 * torch.randn_like(module.bias)
    return backbone


def on_kernels(backbone, precision):
    module = accelerate(backbone.module, precision=precision, force=True)
    return type(backbone)(module, backbone.processor)


def emissions(backbone, audio):
    """Valid frames of each utterance."""
    samples = torch.tensor([len(one) for one in audio])
    with torch.no_grad():
        emission = backbone.emit(dict(backbone.features(audio)), samples)
    return [values[:count].float() for values, count in zip(emission.values, emission.frames, strict=True)], emission


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", [*MODELS, *OTHERS])
def test_batches_with_padding(name, precision):
    backbone = recogniser(name)
    fast = on_kernels(backbone, precision)
    kinds = {type(module).__name__ for module in fast.module.modules() if isinstance(module, Accelerated)}
    assert kinds >= RUNNERS.get(name.split()[0].split("-")[0], {"_PackedLinear"})
    # what asks them has an answer where no parameter is left
    assert (fast.module.device, fast.module.dtype) == (torch.device("cpu"), torch.float32)
    audio = [np.random.default_rng(length).standard_normal(length).astype(np.float32) for length in LENGTHS]
    expected, dense = emissions(backbone, audio)
    found, sparse = emissions(fast, audio)
    spread = float(torch.cat(expected).std())
    assert spread > 0.2
    bound = 1e-4 if precision == "float32" else 0.1 * spread
    for one, other in zip(expected, found, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() < bound if precision == "float32" else (one - other).square().mean() < bound**2
    if precision == "float32":
        assert [best[0].text for best in fast.search(sparse)] == [best[0].text for best in backbone.search(dense)]
        for one, alone in zip(found, audio, strict=True):
            assert (emissions(fast, [alone])[0][0] - one).abs().max() < 1e-4


def test_a_stream_is_written_as_the_dense_model_writes_it():
    backbone = recogniser("transducer of one direction")
    fast = on_kernels(backbone, "float32")
    audio = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    for size in (16_000, 1_600, 777):
        chunks = [audio[start : start + size] for start in range(0, len(audio), size)]
        expected, found = list(backbone.stream(chunks)), list(fast.stream(chunks))
        assert [one.labels for one in found] == [one.labels for one in expected]
        assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-3)
        assert found[-1].labels
