"""`SparseConv2d` gives what `nn.Conv2d` gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from audio_lottery.errors import ModelError
from audio_lottery.sparse import accelerate
from audio_lottery.sparse.runtime.convolution_2d import SparseConv2d
from audio_lottery.sparse.runtime.registry import runner_of
from tests.sparse.runtime.layers import close, pruned, threads

pair = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(
    channels=st.tuples(st.integers(1, 6), st.sampled_from([1, 5, 16, 32])),
    taps=pair,
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    padding=st.one_of(st.tuples(st.integers(0, 4), st.integers(0, 4)), st.just("valid")),
    size=st.tuples(st.integers(9, 20), st.one_of(st.integers(13, 40), st.sampled_from([300, 400]))),
    batch=st.integers(1, 3),
    bias=st.booleans(),
    density=st.sampled_from([0.0, 0.2, 1.0]),
    count=st.integers(1, 3),
    kernel=st.sampled_from(["csr", "block16x1"]),
)
@settings(max_examples=60, deadline=None)
def test_equals_dense(channels, taps, stride, dilation, padding, size, batch, bias, density, count, kernel):
    inputs, outputs = channels
    layer = nn.Conv2d(inputs, outputs, taps, stride, padding, dilation, bias=bias)
    pruned(layer, density)
    x = torch.randn(batch, inputs, *size)
    fast = SparseConv2d(layer, kernels=["csr", kernel] if outputs % 16 == 0 else ["csr"])
    with threads(count):
        close(fast(x), layer(x), atol=1e-4)
        close(fast(x[0]), layer(x[0]), atol=1e-4)


def test_bfloat16():
    layer = pruned(nn.Conv2d(4, 16, (5, 11), (2, 1), (2, 5)), 0.2)
    x = torch.randn(2, 4, 33, 170)
    fast = SparseConv2d(layer, "bfloat16", ["csr_bf16"])
    expected = layer(x)
    assert 1e-5 < float((fast(x) - expected).square().mean().sqrt() / expected.std()) < 0.01


def test_weights_come_back():
    layer = pruned(nn.Conv2d(3, 16, (4, 3), (2, 3), dilation=(1, 2)), 0.3)
    fast = accelerate(layer, force=True)
    assert isinstance(fast, nn.Conv2d)
    assert fast.stride == (2, 3)
    assert torch.equal(fast.weight + 0, layer.weight)
    x = torch.randn(1, 3, 20, 40)
    close(fast(x), layer(x))
    assert fast.plan[0].kernel == "dense"


@pytest.mark.parametrize("options", [{"groups": 2}, {"padding": 1, "padding_mode": "reflect"}])
def test_what_has_no_kernel(options):
    assert runner_of(nn.Conv2d(4, 4, 3, **options))[1] == "no kernel for Conv2d: it runs as it is"


def test_refusals():
    fast = SparseConv2d(nn.Conv2d(3, 4, 5))
    with pytest.raises(ModelError, match="3 channels got"):
        fast(torch.zeros(1, 2, 9, 9))
    with pytest.raises(ModelError, match="are too few for a convolution of"):
        fast(torch.zeros(1, 3, 9, 4))
    with pytest.raises(ModelError, match="computes no gradients"):
        fast(torch.zeros(1, 3, 9, 9, requires_grad=True))
