"""Positions near their entropy: within 10 % of n·H(density) on random masks, below it where a mask has a pattern."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.errors import ModelError
from audio_lottery.sparse.format.positions import decode, encode, entropy_bits


def coded(keep):
    return encode(keep, np.flatnonzero(keep))


@pytest.mark.parametrize("density", [0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5])
def test_random_masks_are_within_a_tenth_of_the_entropy(density):
    keep = np.random.default_rng(7).random(300_000) < density
    coding, blob = coded(keep)
    assert 8 * len(blob) <= 1.06 * entropy_bits(len(keep), int(keep.sum())), coding
    assert np.array_equal(decode(coding, blob, len(keep), int(keep.sum())), np.flatnonzero(keep))


@pytest.mark.parametrize(("kept", "of", "per_weight"), [(2, 4, np.log2(6) / 4), (1, 4, 0.5), (1, 2, 0.5)])
def test_n_of_m_costs_its_own_entropy(kept, of, per_weight):
    scores = np.random.default_rng(3).random((100_000, of))
    keep = (scores.argsort(axis=1) < kept).reshape(-1)
    coding, blob = coded(keep)
    assert coding == "huffman"
    assert 8 * len(blob) / len(keep) <= 1.03 * per_weight < entropy_bits(of, kept) / of


@given(st.lists(st.booleans(), max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_mask_comes_back(bits):
    keep = np.array(bits, bool)
    coding, blob = coded(keep)
    assert np.array_equal(decode(coding, blob, len(keep), int(keep.sum())), np.flatnonzero(keep))


def test_density_that_changes_along_the_tensor_costs_less_than_its_mean():
    rng = np.random.default_rng(5)
    keep = rng.random(400_000) < np.repeat([0.01, 0.2], 200_000)
    halves = sum(entropy_bits(200_000, int(part.sum())) for part in np.split(keep, 2))
    assert 8 * len(coded(keep)[1]) < 1.06 * halves < entropy_bits(len(keep), int(keep.sum()))


@pytest.mark.parametrize(
    ("coding", "blob", "message"),
    [
        ("morse", [0], "coded as 'morse'"),
        ("bitmap", [255, 255, 255], "3 bytes for 16 places"),
        ("bitmap", [255, 255], "keeps 16 places where 3"),
        ("huffman", [255, 255], "cannot be read"),
        ("rice", [0], "does not hold 3 positions"),
        ("rice", [99, 255], "does not hold 3 positions"),
    ],
)
def test_wrong_bytes(coding, blob, message):
    with pytest.raises(ModelError, match=message):
        decode(coding, np.array(blob, np.uint8), 16, 3)


def test_entropy_by_hand():
    assert entropy_bits(8, 4) == 8
    assert entropy_bits(8, 0) == entropy_bits(8, 8) == 0
    assert entropy_bits(100, 10) == pytest.approx(46.8996)
