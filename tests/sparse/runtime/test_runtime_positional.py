"""The positional convolution through the Fourier transform, against `nn.Conv1d`."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from audio_lottery.sparse.runtime.positional import FourierConv1d
from tests.sparse.runtime.layers import close


@given(
    st.sampled_from([1, 2, 4]),
    st.integers(1, 6),
    st.sampled_from([3, 4, 8, 15, 16, 64, 128]),
    st.one_of(st.integers(1, 40), st.sampled_from([129, 400])),
    st.booleans(),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_equals_dense(groups, width, taps, frames, bias, data):
    channels = groups * width
    convolution = nn.Conv1d(channels, channels, taps, padding=taps // 2, groups=groups, bias=bias).requires_grad_(False)
    length = data.draw(st.integers(1, frames), "length")
    x = torch.randn(channels, frames)
    x[:, length:] = 0
    # an even number of taps gives a frame too many, which wav2vec2 cuts off
    expected = convolution(x[None])[0, :, :frames]
    close(added(convolution, x, length), x + expected)
    if bias:
        close(added(convolution, x, length, activation="gelu"), x + nn.functional.gelu(expected))


def added(convolution, x, length, **options):
    """[channels, frames] of the same."""
    found, row = FourierConv1d(convolution, **options).add_to(x.t().contiguous().numpy().reshape(-1), length)
    return torch.from_numpy(found.reshape(len(x), row)[:, : x.shape[1]].copy())


def test_weight_norm_is_read_and_left_in_place():
    convolution = nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 8, 16, padding=8, groups=2), dim=2)
    x = torch.randn(8, 50)
    with torch.no_grad():
        close(added(convolution, x, 50), x + convolution(x[None])[0, :, :50])
    assert nn.utils.parametrize.is_parametrized(convolution, "weight")


@pytest.mark.parametrize("length", [1, 6, 15, 30])
def test_out_of_reach_is_exactly_the_bias(length):
    convolution = nn.Conv1d(4, 4, 8, padding=4).requires_grad_(False)
    x = torch.zeros(4, 300)
    x[:, :length] = 1e3 * torch.randn(4, length)
    found = added(convolution, x, length)
    assert torch.equal(found[:, length + 8 :], convolution.bias[:, None].expand(-1, 300 - length - 8))
