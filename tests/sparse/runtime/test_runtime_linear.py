"""`SparseLinear` gives what `nn.Linear` gives, on any input, with any threads."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.runtime.linear import SparseLinear
from audio_lottery.sparse.runtime.matrix import KERNELS, MAX_INPUT
from audio_lottery.sparse.runtime.matrix import cost as measured_cost
from audio_lottery.sparse.runtime.quantised import INT8_FUNCTIONS
from tests.sparse.runtime.layers import close, needs_int8, pruned, threads

ACTIVATIONS = {"none": nn.Identity(), "gelu": nn.GELU(), "relu": nn.ReLU()}
frame_counts = st.one_of(st.integers(0, 40), st.sampled_from([FRAMES - 1, FRAMES, FRAMES + 1, 4 * FRAMES + 3]))


@given(
    st.one_of(st.integers(1, 80), st.sampled_from([MAX_INPUT, MAX_INPUT + 1, 2 * MAX_INPUT + 40])),
    st.one_of(st.integers(1, 80), st.sampled_from([16, 64, 272])),
    frame_counts,
    st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    st.booleans(),
    st.sampled_from(list(ACTIVATIONS)),
    st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_equals_dense(inputs, outputs, frames, density, bias, activation, count):
    linear = pruned(nn.Linear(inputs, outputs, bias=bias), density)
    x = torch.randn(frames, inputs)
    with threads(count):
        found = SparseLinear(linear, activation=activation)(x)
    close(found, ACTIVATIONS[activation](linear(x)))


@pytest.mark.parametrize("kernel", KERNELS["float32"])
@pytest.mark.parametrize("inputs", [48, 1000])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_each_kernel(kernel, inputs, density):
    linear = pruned(nn.Linear(inputs, 64), density)
    sparse = SparseLinear(linear, kernels=(kernel,))
    assert sparse.kernel == kernel
    x = torch.randn(3, 70, inputs)
    close(sparse(x), linear(x))


@pytest.mark.parametrize("kernel", [name for name in KERNELS["bfloat16"] if name.endswith("bf16")])
@pytest.mark.parametrize("inputs", [48, 1000])
@pytest.mark.parametrize("frames", [1, 45, 300])
def test_each_kernel_in_bfloat16(kernel, inputs, frames):
    """Inputs, and the weights of blocks, are rounded to nearest: each is wrong by 2⁻⁸ of itself at most."""
    linear = pruned(nn.Linear(inputs, 64), 0.2)
    sparse = SparseLinear(linear, kernels=(kernel,))
    assert sparse.kernel == kernel
    x = torch.randn(frames, inputs)
    share = 2**-8 if kernel == "csr_bf16" else 2**-7 + 2**-16
    bound = nn.functional.linear(x.abs(), linear.weight.abs()) * share
    assert ((sparse(x) - linear(x)).abs() <= bound + 1e-5).all()


@needs_int8
@pytest.mark.parametrize("kernel", INT8_FUNCTIONS)
@pytest.mark.parametrize("inputs", [48, 1000])
@pytest.mark.parametrize("frames", [1, 45, 300])
def test_each_kernel_in_int8(kernel, inputs, frames):
    """Inputs and weights are wrong by half a step at most; 254 steps lie between the largest and its opposite."""
    linear = pruned(nn.Linear(inputs, 64), 0.2)
    sparse = SparseLinear(linear, "int8", kernels=(kernel,))
    assert sparse.kernel == kernel
    x = torch.randn(frames, inputs) * torch.logspace(-2, 2, frames)[:, None]
    inputs_off, weights_off = x.abs().amax(1, True) / 254, linear.weight.abs().amax(1) / 254
    kept = linear.weight.abs() + (linear.weight != 0) * weights_off[:, None]
    bound = nn.functional.linear(inputs_off.expand_as(x), kept) + x.abs() @ (linear.weight != 0).float().T * weights_off
    assert ((sparse(x) - linear(x)).abs() <= 1.001 * bound + 1e-5 * x.abs().amax(1, True)).all()


def test_blocks_are_found():
    linear = nn.Linear(64, 64).eval()
    with torch.no_grad():
        linear.weight *= (torch.rand(4, 1, 64) < 0.2).expand(4, 16, 64).reshape(64, 64)
    assert SparseLinear(linear).kernel == "block16x1"
    assert SparseLinear(pruned(nn.Linear(64, 64), 0.02)).kernel == "csr"


@pytest.mark.parametrize(
    "arrange",
    [
        lambda x: x.transpose(0, 1),
        lambda x: x[::2],
        lambda x: x[:, :, ::2].repeat(1, 1, 2),
        lambda x: x.flip(0),
        lambda x: x[:1].expand(5, -1, -1),
        lambda x: x[0, 0],
        lambda x: x[None],
        lambda x: x[:0],
    ],
    ids=["transposed", "every second", "repeated", "flipped", "expanded", "one frame", "four axes", "empty"],
)
def test_any_arrangement_of_the_input(arrange):
    linear = pruned(nn.Linear(24, 40), 0.3)
    x = arrange(torch.randn(6, 50, 24))
    found = SparseLinear(linear)(x)
    close(found, linear(x))
    assert found.is_contiguous()


def test_input_is_left_as_it_was():
    x = torch.randn(200, 24)
    before = x.clone()
    SparseLinear(pruned(nn.Linear(24, 40), 0.3), activation="gelu")(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("inputs", [40, 1700])
def test_threads_change_nothing(inputs):
    sparse = SparseLinear(pruned(nn.Linear(inputs, 48), 0.1))
    x = torch.randn(700, inputs)
    results = []
    for count in range(1, 5):
        with threads(count):
            results.append(sparse(x))
    assert all(torch.equal(results[0], result) for result in results)


def test_what_it_says_of_itself():
    linear = pruned(nn.Linear(40, 32), 0.25)
    sparse = SparseLinear(linear)
    assert sparse.kind == "linear"
    assert (sparse.kept, sparse.weights) == (int((linear.weight != 0).sum()), 40 * 32)
    assert not list(sparse.parameters())


def test_wrong_inputs():
    sparse = SparseLinear(nn.Linear(8, 4))
    with pytest.raises(ModelError, match=r"8 inputs got \(3, 9\)"):
        sparse(torch.zeros(3, 9))
    with pytest.raises(ModelError, match=r"float32 on the CPU, not on torch\.float16"):
        sparse(torch.zeros(3, 8, dtype=torch.float16))
    with pytest.raises(ModelError, match="no gradients"):
        sparse(torch.zeros(3, 8, requires_grad=True))
    with torch.no_grad():
        assert not sparse(torch.zeros(3, 8, requires_grad=True)).requires_grad


@pytest.mark.parametrize("kernel", KERNELS["float32"])
def test_the_cost_of_a_kernel_is_measured(kernel):
    assert 0 < measured_cost.__wrapped__(kernel) < 1
