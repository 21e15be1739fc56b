"""`SparseLSTM` gives what `nn.LSTM` gives: outputs and last states, packed or not."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

from audio_lottery.errors import ModelError
from audio_lottery.sparse.runtime import lstm as module
from audio_lottery.sparse.runtime.lstm import SparseLSTM
from tests.sparse.runtime.layers import pruned, threads


def equal(found, expected):
    """Output and (h, c) within the tolerance that is promised, 1e-5."""
    out, (h, c) = found
    other, (h2, c2) = expected
    if isinstance(other, PackedSequence):
        assert torch.equal(out.batch_sizes, other.batch_sizes)
        for order in ("sorted_indices", "unsorted_indices"):
            one, two = getattr(out, order), getattr(other, order)
            assert (one is None and two is None) or torch.equal(one, two)
        out, other = out.data, other.data
    for one, two in ((out, other), (h, h2), (c, c2)):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


def made(inputs, hidden, density=0.3, **options):
    torch.manual_seed(0)
    lstm = nn.LSTM(inputs, hidden, **options)
    # torch draws weights for as many inputs as hidden units; more inputs would make sums whose rounding is above 1e-5
    scale = 3 if inputs < 100 else min(1, (hidden / inputs) ** 0.5)
    with torch.no_grad():
        for weight in lstm.parameters():
            weight *= scale
    return pruned(lstm, density)


def states(lstm, *batch):
    shape = (lstm.num_layers * (2 if lstm.bidirectional else 1), *batch, lstm.hidden_size)
    return torch.randn(shape), torch.randn(shape)


@given(
    inputs=st.one_of(st.integers(1, 40), st.just(900)),
    hidden=st.one_of(st.integers(1, 70), st.sampled_from([32, 64])),
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    batch_first=st.booleans(),
    bias=st.booleans(),
    batch=st.one_of(st.integers(1, 5), st.sampled_from([16, 37])),
    frames=st.integers(1, 12),
    density=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    given_states=st.booleans(),
    count=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_equals_dense(
    inputs, hidden, layers, bidirectional, batch_first, bias, batch, frames, density, given_states, count
):
    lstm = made(
        inputs, hidden, density, num_layers=layers, bidirectional=bidirectional, batch_first=batch_first, bias=bias
    )
    x = torch.randn(*((batch, frames) if batch_first else (frames, batch)), inputs)
    before = states(lstm, batch) if given_states else None
    with threads(count):
        found = SparseLSTM(lstm)(x, before)
    equal(found, lstm(x, before))


@given(
    lengths=st.lists(st.integers(1, 15), min_size=1, max_size=20),
    bidirectional=st.booleans(),
    ordered=st.booleans(),
    given_states=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_packed_sequences(lengths, bidirectional, ordered, given_states):
    lstm = made(5, 20, num_layers=2, bidirectional=bidirectional)
    lengths = sorted(lengths, reverse=True) if ordered else lengths
    packed = pack_sequence([torch.randn(length, 5) for length in lengths], enforce_sorted=ordered)
    before = states(lstm, len(lengths)) if given_states else None
    equal(SparseLSTM(lstm)(packed, before), lstm(packed, before))


@pytest.mark.parametrize("cost", [0, 1000])
def test_one_by_one_and_together_are_the_same(cost, monkeypatch):
    """Both ways to run a batch; which one is taken is a matter of speed."""
    monkeypatch.setattr(module, "_LANES_COST", cost)
    lstm = made(24, 50, 0.2, bidirectional=True, num_layers=2)
    lengths = torch.tensor([9, 3, 12, 1, 12] * 4)
    padded = torch.randn(12, 20, 24)
    packed = pack_padded_sequence(padded, lengths, enforce_sorted=False)
    for x in (padded, packed):
        before = states(lstm, 20)
        equal(SparseLSTM(lstm)(x, before), lstm(x, before))


def test_padding_is_unpacked_as_zeros():
    lstm = made(3, 8)
    packed = pack_padded_sequence(torch.randn(6, 2, 3), torch.tensor([6, 2]))
    out, lengths = pad_packed_sequence(SparseLSTM(lstm)(packed)[0])
    assert lengths.tolist() == [6, 2]
    assert (out[2:, 1] == 0).all()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_without_a_batch(bidirectional):
    lstm = made(6, 33, num_layers=2, bidirectional=bidirectional, batch_first=True)
    x = torch.randn(20, 6)
    for before in (None, states(lstm)):
        equal(SparseLSTM(lstm)(x, before), lstm(x, before))


def test_uneven_rows_are_sorted_and_come_back_in_order():
    """A few units keep nearly all weights, as in tickets found by global magnitude."""
    lstm = made(10, 200, 1.0)
    with torch.no_grad():
        keep = torch.rand(200) ** 4
        mask = torch.rand(4, 200, 200) < keep[:, None]
        lstm.weight_hh_l0.mul_(mask.reshape(800, 200)).mul_(0.3)
    sparse = SparseLSTM(lstm)
    units = sparse.layers[0][1][0].units
    assert sorted(units) == list(range(200))
    if module.SEGMENT:
        assert list(units) != list(range(200))
    x = torch.randn(30, 20, 10)
    equal(sparse(x), lstm(x))
    equal(sparse(x[:, :1]), lstm(x[:, :1]))


@pytest.mark.parametrize("hidden", [31, 32, 100])
@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
def test_recurrent_matrix_is_kept_exactly(hidden, density):
    weight = torch.randn(4 * hidden, hidden) * (torch.rand(4 * hidden, hidden) < density)
    recurrence = module._compile_recurrence(weight.numpy())
    dense, units = recurrence._dense(), recurrence.units
    expected = module._arranged(weight.numpy()[:, units], units, recurrence.size)
    assert (dense[:, :hidden] == expected).all()
    assert (dense[:, hidden:] == 0).all()


def test_long_inputs_do_not_drift():
    lstm = made(16, 64, 0.2, bidirectional=True)
    x = torch.randn(1500, 1, 16)
    equal(SparseLSTM(lstm)(x), lstm(x))


def test_large_inputs_saturate():
    lstm = made(4, 16)
    x = 1e4 * torch.randn(5, 2, 4)
    equal(SparseLSTM(lstm)(x), lstm(x))


def test_any_arrangement_of_the_input():
    lstm = made(6, 20, batch_first=True)
    sparse = SparseLSTM(lstm)
    x = torch.randn(14, 3, 12)
    for arranged in (x.transpose(0, 1)[..., ::2], x[:1, :, :6].expand(4, -1, -1), x.flip(1)[..., 6:]):
        equal(sparse(arranged), lstm(arranged))
    h, c = states(lstm, 6)
    equal(sparse(x[..., :6][:3], (h[:, ::2], c[:, ::2])), lstm(x[..., :6][:3], (h[:, ::2], c[:, ::2])))


def test_states_are_left_as_they_were():
    lstm = made(6, 20)
    before = states(lstm, 2)
    copies = tuple(state.clone() for state in before)
    SparseLSTM(lstm)(torch.randn(5, 2, 6), before)
    assert all(torch.equal(*pair) for pair in zip(before, copies, strict=True))


def test_threads_change_nothing():
    lstm = made(6, 40, bidirectional=True)
    sparse = SparseLSTM(lstm)
    x = torch.randn(40, 1, 6)
    results = []
    for count in range(1, 5):
        with threads(count):
            results.append(sparse(x)[0])
    assert all(torch.equal(results[0], result) for result in results)


def test_empty_batch():
    lstm = made(6, 20, num_layers=2)
    out, (h, c) = SparseLSTM(lstm)(torch.zeros(5, 0, 6))
    assert out.shape == (5, 0, 20)
    assert h.shape == c.shape == (2, 0, 20)


def test_what_it_says_of_itself():
    lstm = made(12, 20, num_layers=2, bidirectional=True)
    sparse = SparseLSTM(lstm, kernels=("csr",))
    matrices = [weight for weight in lstm.parameters() if weight.dim() == 2]
    assert (sparse.kind, sparse.kernel) == ("lstm", "csr")
    assert sparse.weights == sparse.macs_per_frame == sum(weight.numel() for weight in matrices)
    assert sparse.kept == sum(int((weight != 0).sum()) for weight in matrices)
    assert not list(sparse.parameters())


def test_wrong_inputs():
    with pytest.raises(ModelError, match="proj_size"):
        SparseLSTM(nn.LSTM(4, 8, proj_size=2))
    sparse = SparseLSTM(nn.LSTM(4, 8))
    with pytest.raises(ModelError, match=r"4 inputs got \(2, 3, 5\)"):
        sparse(torch.zeros(2, 3, 5))
    with pytest.raises(ModelError, match=r"4 inputs got \(4,\)"):
        sparse(torch.zeros(4))
    with pytest.raises(ModelError, match=r"4 inputs got \(3, 5\)"):
        sparse(pack_sequence([torch.zeros(3, 5)]))
    with pytest.raises(ModelError, match="without frames"):
        sparse(torch.zeros(0, 1, 4))
    with pytest.raises(ModelError, match=r"states are \(1, 3, 8\) got \(1, 2, 8\) and \(1, 2, 8\)"):
        sparse(torch.zeros(2, 3, 4), (torch.zeros(1, 2, 8), torch.zeros(1, 2, 8)))
    with pytest.raises(ModelError, match="no gradients"):
        sparse(torch.zeros(2, 3, 4, requires_grad=True))
    with pytest.raises(ModelError, match=r"not on torch\.float64"):
        sparse(torch.zeros(2, 3, 4), (torch.zeros(1, 3, 8).double(), torch.zeros(1, 3, 8)))
