"""`SparseConv1d` gives what `nn.Conv1d` gives, whatever its stride, dilation, padding and groups."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.runtime.convolution import SparseConv1d
from audio_lottery.sparse.runtime.matrix import KERNELS
from audio_lottery.sparse.runtime.quantised import INT8_FUNCTIONS
from tests.sparse.runtime.layers import close, needs_int8, pruned, threads


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@given(
    groups=st.sampled_from([1, 1, 2, 3]),
    inputs=st.integers(1, 12),
    outputs=st.sampled_from([1, 3, 16, 80]),
    taps=st.integers(1, 12),
    stride=st.integers(1, 7),
    dilation=st.integers(1, 5),
    padding=st.sampled_from([0, 1, 9, "same", "valid"]),
    length=st.one_of(st.integers(1, 60), st.sampled_from([FRAMES, 3 * FRAMES + 5, 2000])),
    batch=st.sampled_from([None, 0, 1, 3]),
    density=st.sampled_from([0.0, 0.2, 1.0]),
    bias=st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_equals_dense(groups, inputs, outputs, taps, stride, dilation, padding, length, batch, density, bias):
    stride = 1 if padding == "same" else stride
    around = 2 * padding if isinstance(padding, int) else (taps - 1) * dilation * (padding == "same")
    assume(length + around > (taps - 1) * dilation)
    convolution = nn.Conv1d(
        groups * inputs, groups * outputs, taps, stride, padding, dilation, groups=groups, bias=bias
    )
    pruned(convolution, density)
    x = torch.randn(*() if batch is None else (batch,), groups * inputs, length)
    close(SparseConv1d(convolution)(x), convolution(x))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("taps", range(1, 7))
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("length", [2, 30, 300])
def test_same_padding(taps, dilation, length):
    convolution = pruned(nn.Conv1d(3, 5, taps, padding="same", dilation=dilation), 1.0)
    x = torch.randn(2, 3, length)
    close(SparseConv1d(convolution)(x), convolution(x))


@pytest.mark.parametrize("kernel", KERNELS["float32"])
@pytest.mark.parametrize(("taps", "stride", "length"), [(3, 2, 1201), (2, 2, 700), (10, 5, 2999), (5, 1, 400)])
def test_each_kernel_with_norm_and_activation(kernel, taps, stride, length):
    convolution = pruned(nn.Conv1d(24, 160, taps, stride), 0.2)
    norm = nn.LayerNorm(160).requires_grad_(False)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    sparse = SparseConv1d(convolution, kernels=(kernel,), norm=norm, activation="gelu")
    assert sparse.kernel == kernel
    x = torch.randn(2, 24, length)
    expected = nn.functional.gelu(norm(convolution(x).transpose(1, 2)).transpose(1, 2))
    close(sparse(x), expected)


@pytest.mark.parametrize(("taps", "stride", "dilation"), [(3, 2, 1), (10, 5, 1), (5, 1, 4), (4, 3, 2)])
@pytest.mark.parametrize("length", [60, 900])
def test_bfloat16(taps, stride, dilation, length):
    """Inputs are rounded to nearest: each is wrong by 2⁻⁸ of itself at most."""
    convolution = pruned(nn.Conv1d(9, 33, taps, stride, 2, dilation), 0.3)
    sparse = SparseConv1d(convolution, kernels=("csr_bf16",))
    assert sparse.kernel == "csr_bf16"
    x = torch.randn(2, 9, length)
    bound = nn.functional.conv1d(x.abs(), convolution.weight.abs(), None, stride, 2, dilation) * 2**-8
    assert ((sparse(x) - convolution(x)).abs() <= bound + 1e-5).all()


@needs_int8
@pytest.mark.parametrize("kernel", INT8_FUNCTIONS)
@pytest.mark.parametrize(("taps", "stride", "dilation"), [(3, 2, 1), (2, 2, 1), (10, 5, 1), (5, 1, 4), (4, 3, 2)])
@pytest.mark.parametrize("length", [60, 900])
def test_int8(kernel, taps, stride, dilation, length):
    """Inputs and weights are wrong by half a step at most; what is largest in a tile is so at most in the input."""
    convolution = pruned(nn.Conv1d(9, 32, taps, stride, 2, dilation), 0.3)
    sparse = SparseConv1d(convolution, "int8", kernels=(kernel,))
    assert sparse.kernel == kernel
    x = torch.randn(2, 9, length)
    weight = convolution.weight
    input_off, off = x.abs().max() / 254, weight.abs().amax((1, 2)) / 254
    there = (weight != 0).float()
    wrong = nn.functional.conv1d(x.abs(), there, None, stride, 2, dilation) * off[:, None]
    bound = input_off * (weight.abs().sum((1, 2)) + off * there.sum((1, 2)))[:, None] + wrong
    assert ((sparse(x) - convolution(x)).abs() <= 1.001 * bound + 1e-5).all()


def test_any_arrangement_of_the_input():
    convolution = pruned(nn.Conv1d(12, 20, 3, 2), 0.4)
    sparse = SparseConv1d(convolution)
    x = torch.randn(3, 500, 12).transpose(1, 2)
    for arranged in (x, x[:, :, ::3], x[:1].expand(2, -1, -1), x.flip(2), x[0]):
        close(sparse(arranged), convolution(arranged))


def test_threads_change_nothing():
    sparse = SparseConv1d(pruned(nn.Conv1d(12, 40, 3, 2), 0.4), activation="relu")
    x = torch.randn(2, 12, 3001)
    results = []
    for count in range(1, 5):
        with threads(count):
            results.append(sparse(x))
    assert all(torch.equal(results[0], result) for result in results)


def test_what_it_says_of_itself():
    convolution = pruned(nn.Conv1d(8, 12, 3, groups=2), 0.4)
    sparse = SparseConv1d(convolution)
    assert sparse.kind == "convolution"
    assert (sparse.kept, sparse.weights) == (int((convolution.weight != 0).sum()), 4 * 12 * 3)


def test_wrong_inputs():
    with pytest.raises(ModelError, match="padding mode 'reflect'"):
        SparseConv1d(nn.Conv1d(2, 2, 3, padding=1, padding_mode="reflect"))
    sparse = SparseConv1d(nn.Conv1d(4, 2, 5))
    with pytest.raises(ModelError, match=r"4 channels got \(1, 3, 20\)"):
        sparse(torch.zeros(1, 3, 20))
    with pytest.raises(ModelError, match="4 frames are too few for a convolution of 5 taps"):
        sparse(torch.zeros(1, 4, 4))
    with pytest.raises(ModelError, match="no gradients"):
        sparse(torch.zeros(1, 4, 9, requires_grad=True))
