"""Gap codes: exact for any positions, at the entropy for random ones, and never a crash on wrong bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.errors import ModelError
from audio_lottery.sparse.format import rice


@given(st.sets(st.integers(0, 2**33), max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_positions_come_back(places):
    positions = np.array(sorted(places), np.int64)
    blob = rice.encode(positions)
    assert np.array_equal(rice.decode(blob, len(positions), 2**33 + 1), positions)


@pytest.mark.parametrize("count", [1, rice.BLOCK - 1, rice.BLOCK, rice.BLOCK + 1, 3 * rice.BLOCK])
def test_blocks_of_gaps(count):
    # sparse at first, dense at last: each block has its own parameter
    gaps = np.random.default_rng(0).integers(0, np.linspace(5000, 1, count).astype(int))
    positions = np.cumsum(gaps + 1) - 1
    blob = rice.encode(positions)
    assert np.array_equal(rice.decode(blob, count, int(positions[-1]) + 1), positions)


def test_the_code_by_hand():
    # gaps 0, 2, 1: k = 0 gives 1, 001, 01 = 1 0 0 1 0 1 from the lowest bit up
    assert rice.encode(np.array([0, 3, 5])).tolist() == [0, 0b101001]


def test_a_claim_of_more_gaps_than_bits_gets_no_memory():
    with pytest.raises(ModelError, match="does not hold 1000000000000000 positions"):
        rice.decode(np.zeros(100, np.uint8), 10**15, 10**16)


@given(st.binary(max_size=40), st.integers(0, 50), st.integers(1, 300))
@settings(max_examples=300, deadline=None)
def test_wrong_bytes_raise_or_give_positions_in_range(data, count, limit):
    try:
        positions = rice.decode(np.frombuffer(data, np.uint8), count, limit)
    except ModelError:
        return
    assert len(positions) == count
    assert (np.diff(positions, prepend=-1) > 0).all()
    assert count == 0 or positions[-1] < limit
