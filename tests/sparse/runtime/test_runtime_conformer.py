"""Subsampling and conformer blocks against transformers: lengths, threads, refusals."""

import pytest
import torch
from transformers import ParakeetEncoder, ParakeetEncoderConfig

from audio_lottery.errors import ModelError
from audio_lottery.sparse import accelerate
from audio_lottery.sparse.kernels.half import HAS_BF16_DOT
from audio_lottery.sparse.runtime.conformer import ConformerEncoder
from audio_lottery.sparse.runtime.distances import Distances
from audio_lottery.sparse.runtime.registry import runner_of
from audio_lottery.sparse.runtime.subsampling import Subsampling
from tests.sparse.runtime.layers import close, pruned, threads

SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 80,
    "num_mel_bins": 24,
    "subsampling_conv_channels": 16,
}
SETTINGS = {
    "plain": {},
    "by 4": {"subsampling_factor": 4, "num_mel_bins": 20},
    "by 16": {"subsampling_factor": 16, "num_mel_bins": 32},
    "wide": {"intermediate_size": 1600, "hidden_size": 64, "num_attention_heads": 1, "conv_kernel_size": 33},
    "heads of 12": {"hidden_size": 36, "conv_kernel_size": 5},
    "no biases": {"attention_bias": False, "convolution_bias": False, "scale_input": False},
    "relu": {"hidden_act": "relu"},
}


def encoder(name="plain", density=0.4):
    torch.manual_seed(0)
    module = ParakeetEncoder(ParakeetEncoderConfig(**{**SMALL, **SETTINGS[name]}))
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            if parameter.dim() == 1 or "bias_" in key:
                parameter += 0.3 * torch.randn_like(parameter)
            elif parameter.dim() == 2:
                parameter *= 5
        for layer in module.layers:
            layer.conv.norm.running_mean += 0.3 * torch.randn_like(layer.conv.norm.running_mean)
            layer.conv.norm.running_var *= 0.1 + torch.rand_like(layer.conv.norm.running_var)
    return pruned(module, density)


def outputs(module, x, lengths):
    """Frames of each utterance."""
    mask = torch.arange(x.shape[1])[None] < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        found = module(x, attention_mask=mask.long())
    counts = found.attention_mask.sum(1).tolist()
    return torch.cat([row[:count] for row, count in zip(found.last_hidden_state, counts, strict=True)])


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("lengths", [[9], [8 * 129, 8 * 70 + 3], [2600, 1, 17, 1024]], ids=str)
def test_lengths(name, lengths):
    module = encoder(name)
    fast = ConformerEncoder(module)
    x = torch.randn(len(lengths), max(lengths), module.config.num_mel_bins)
    expected = outputs(module, x, lengths)
    assert expected.std() > 0.3
    for count in (1, 2, 3):
        with threads(count):
            close(outputs(fast, x, lengths), expected, atol=1e-4)
    with torch.no_grad():
        close(fast(x).last_hidden_state, module(x).last_hidden_state, atol=1e-4)


@pytest.mark.parametrize("name", SETTINGS)
def test_subsampling_alone(name):
    module, bins = encoder(name).subsampling, {**SMALL, **SETTINGS[name]}["num_mel_bins"]
    lengths = [1201, 1, 640]
    x = torch.randn(3, 1201, bins)
    mask = torch.arange(1201)[None] < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        for count in (1, 2):
            with threads(count):
                close(Subsampling(module)(x, mask), module(x, mask), atol=1e-4)
                close(Subsampling(module)(x), module(x), atol=1e-4)


def test_distances_beyond_what_is_kept(monkeypatch):
    module = encoder()
    x = torch.randn(1, 8 * 300, SMALL["num_mel_bins"])
    kept = ConformerEncoder(module)
    expected = outputs(kept, x, [8 * 300])
    monkeypatch.setattr("audio_lottery.sparse.runtime.distances._KEPT", 0)
    fast = ConformerEncoder(module)
    assert torch.equal(outputs(fast, x, [8 * 300]), expected)
    assert fast.distances.table(300).layers is None
    assert isinstance(fast.distances, Distances)


@pytest.mark.skipif(not HAS_BF16_DOT, reason="needs AVX512-BF16")
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_lower_precisions_are_another_arithmetic_and_near(precision):
    module = encoder("wide")
    fast = ConformerEncoder(module, precision)
    lengths = [2003, 777]
    x = torch.randn(2, 2003, SMALL["num_mel_bins"])
    expected, found = outputs(module, x, lengths), outputs(fast, x, lengths)
    error = (expected - found).square().mean().sqrt() / expected.std()
    assert 1e-5 < error < 0.05


def test_refusals():
    fast = accelerate(encoder(), force=True)
    x = torch.zeros(1, 90, 24)
    for option in ("output_attentions", "output_hidden_states"):
        with pytest.raises(ModelError, match=r"inner states|ask the original model"):
            fast(x, **{option: True})
    with pytest.raises(ModelError, match="pad on the right"):
        fast(x, attention_mask=torch.arange(90)[None] > 2)
    with pytest.raises(ModelError, match=r"not on torch\.float64"):
        fast(x.double())
    with pytest.raises(ModelError, match="24 bins got"):
        fast(x[..., :20])


def test_activations_that_have_no_kernel():
    module = encoder()
    module.layers[0].conv.activation = torch.nn.Tanh()
    assert runner_of(module) == (ConformerEncoder, "no kernel for ParakeetEncoder: it runs as it is")
    fast = accelerate(module, force=True)
    x = torch.randn(1, 200, 24)
    with torch.no_grad():
        close(fast(x).last_hidden_state, module(x).last_hidden_state, atol=1e-4)
