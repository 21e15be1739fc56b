"""Float32 on the kernels is as near to float64 as torch's is, where biases and residuals are large beside products."""

import copy

import pytest
import torch
from torch import nn
from transformers import (
    ParakeetEncoder,
    ParakeetEncoderConfig,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from audio_lottery.sparse import accelerate
from audio_lottery.sparse.kernels.half import HAS_BF16_DOT
from audio_lottery.sparse.runtime.convolution import SparseConv1d
from audio_lottery.sparse.runtime.convolution_2d import SparseConv2d
from audio_lottery.sparse.runtime.linear import SparseLinear
from audio_lottery.sparse.runtime.lstm import SparseLSTM
from tests.sparse.runtime.layers import pruned

LARGE = 30.0
# Root mean squares of errors, ours by torch's.
LIMIT = 2.2


def unlike(model, large):
    """Norms' weights, biases and batch norms' statistics that differ; biases of linear layers of the size ``large``."""
    torch.manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                if parameter.dim() == 1:
                    size = large if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) else 0.3
                    parameter += size * torch.randn_like(parameter)
    return model


@torch.no_grad()
def ratio(call, module, fast):
    """The root mean square of our errors by that of torch's; ``call`` gives a tensor of a module and a type."""
    exact = call(copy.deepcopy(module).double(), torch.float64)
    rms = [float((call(one, torch.float32).double() - exact).square().mean().sqrt()) for one in (module, fast)]
    print(f"rounding: torch {rms[0]:.2e}, ours {rms[1]:.2e}, ratio {rms[1] / rms[0]:.2f}")
    return rms[1] / rms[0]


def of(x):
    """A call with one input."""
    return lambda module, kind: module(x.to(kind))


@pytest.mark.parametrize("frames", [1, 70])
@pytest.mark.parametrize("kernel", ["csr", "block16x1"])
def test_linear(kernel, frames):
    linear = pruned(unlike(nn.Linear(768, 512), LARGE), 0.6)
    x = torch.randn(frames, 768)
    assert ratio(of(x), linear, SparseLinear(linear, kernels=[kernel])) < LIMIT


@pytest.mark.parametrize(
    "kernel",
    [
        "csr_bf16",
        pytest.param("block16x2_bf16", marks=pytest.mark.skipif(not HAS_BF16_DOT, reason="no AVX512-BF16")),
    ],
)
def test_sums_of_bfloat16(kernel):
    """Numbers that bfloat16 holds exactly: what is left is the rounding of the sums."""
    linear = pruned(unlike(nn.Linear(768, 512), LARGE), 0.6)
    x = torch.randn(64, 768).bfloat16().float()
    with torch.no_grad():
        linear.weight.copy_(linear.weight.bfloat16().float())
    if kernel == "csr_bf16":
        # zeros in the low halves of the pairs: else their bits are the end of what is in the high ones
        x[:32] = 0
    fast = SparseLinear(linear, kernels=[kernel])
    assert ratio(lambda module, kind: module(x.to(kind))[32:], linear, fast) < LIMIT


@pytest.mark.parametrize("kernel", ["csr", "block16x1"])
def test_convolutions(kernel):
    layer = pruned(unlike(nn.Conv1d(256, 64, 3, 2), LARGE), 0.6)
    assert ratio(of(torch.randn(1, 256, 301)), layer, SparseConv1d(layer, kernels=[kernel])) < LIMIT
    layer = pruned(unlike(nn.Conv2d(32, 32, (5, 5)), LARGE), 0.6)
    assert ratio(of(torch.randn(1, 32, 20, 100)), layer, SparseConv2d(layer, kernels=[kernel])) < LIMIT


@pytest.mark.parametrize("batch", [1, 5])
def test_lstm(batch):
    lstm = pruned(nn.LSTM(64, 512, batch_first=True), 0.9)
    with torch.no_grad():
        lstm.bias_ih_l0 += 3 * torch.randn(4 * 512)
    x = torch.randn(batch, 20, 64)
    assert ratio(lambda module, kind: module(x.to(kind))[0], lstm, SparseLSTM(lstm)) < LIMIT


def whisper():
    config = WhisperConfig(
        d_model=384, encoder_attention_heads=6, decoder_attention_heads=6, encoder_ffn_dim=768, decoder_ffn_dim=768,
        encoder_layers=2, decoder_layers=2, num_mel_bins=16, vocab_size=60, max_source_positions=600,
        max_target_positions=40, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config)


def conformer():
    config = ParakeetEncoderConfig(
        hidden_size=256, num_hidden_layers=2, num_attention_heads=4, intermediate_size=512, num_mel_bins=24,
        subsampling_conv_channels=32,
    )  # fmt: skip
    return ParakeetEncoder(config)


def wav2vec2(before):
    config = Wav2Vec2Config(
        conv_dim=[64, 64, 64], conv_kernel=[10, 3, 2], conv_stride=[5, 2, 2], num_feat_extract_layers=3,
        hidden_size=256, num_hidden_layers=2, num_attention_heads=4, intermediate_size=1024,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, do_stable_layer_norm=before,
        feat_extract_norm="layer" if before else "group",
    )  # fmt: skip
    return Wav2Vec2Model(config)


def encoded(x):
    return lambda model, kind: model(x.to(kind)).last_hidden_state


def written(frames):
    def call(model, kind):
        torch.manual_seed(2)
        states, tokens = torch.randn(2, 600, 384), torch.randint(3, 60, (2, frames))
        hidden = model.model.decoder(input_ids=tokens, encoder_hidden_states=states.to(kind))
        return hidden.last_hidden_state

    return call


@pytest.mark.parametrize(
    ("make", "part", "call"),
    [
        (whisper, "model.encoder", lambda: encoded(torch.randn(1, 16, 1200))),
        (whisper, "", lambda: written(1)),
        (whisper, "", lambda: written(20)),
        (conformer, "", lambda: encoded(torch.randn(1, 1600, 24))),
        (lambda: wav2vec2(False), "", lambda: encoded(torch.randn(1, 16_000))),
        (lambda: wav2vec2(True), "", lambda: encoded(torch.randn(1, 16_000))),
    ],
    ids=["whisper", "decoder, a frame", "decoder", "conformer", "post-norm", "pre-norm"],
)
def test_encoders(make, part, call):
    torch.manual_seed(0)
    model = pruned(unlike(make(), 3.0), 0.5).get_submodule(part)
    assert ratio(call(), model, accelerate(model, force=True)) < LIMIT
