"""Structured masks are found, and coded by their units."""

import numpy as np
import pytest
import torch

from audio_lottery.pruning.patterns import parse_pattern
from audio_lottery.sparse.format import container
from audio_lottery.sparse.format.units import candidates, choose, grid, members


def masked(shape, pattern, density, seed=0):
    """A tensor of a random mask of one of `pruning`'s patterns."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator)
    blocks = parse_pattern(pattern)
    keep = torch.rand(blocks.grid(weight.shape), generator=generator) < density
    return torch.where(blocks.expand(keep, weight.shape), weight, 0.0)


@pytest.mark.parametrize(
    ("pattern", "shape", "unit"),
    [
        ("block:1x4", (64, 96), (1, 4)),
        ("block:4x1", (64, 96), (4, 1)),
        ("block:16x1", (64, 96), (16, 1)),
        ("block:16x2", (64, 96), (16, 2)),
        ("block:8x8", (160, 160), (8, 8)),
        ("rows", (96, 50), (1, 50)),
        ("columns", (50, 96), (50, 1)),
        ("unstructured", (64, 96), (1, 1)),
        ("block:1x3", (64, 32, 3), (1, 3)),
    ],
)
@pytest.mark.parametrize("values", ["fp32", "fp16", "int8"])
def test_patterns_are_found(pattern, shape, unit, values):
    weight = masked(shape, pattern, 0.2)
    packed = container.pack({"weight": weight}, values)
    assert packed.entries["weight"].unit == unit
    back, _ = container.unpack(packed.data, "file")
    if values == "fp32":
        assert torch.equal(back["weight"], weight)


def test_a_zero_inside_a_kept_unit_is_a_value():
    weight = masked((64, 96), "block:16x1", 0.2)
    inside = torch.nonzero(weight)[5]
    weight[tuple(inside)] = 0.0
    packed = container.pack({"weight": weight})
    assert packed.entries["weight"].unit == (16, 1)
    assert packed.entries["weight"].kept == int(torch.count_nonzero(weight)) + 1
    assert torch.equal(container.unpack(packed.data, "file")[0]["weight"], weight)


def test_units_of_16x1_cost_a_sixteenth_of_the_positions():
    single, block = (
        container.pack({"w": masked((768, 768), pattern, 0.1)}).sizes["w"][0] for pattern in ("rows", "block:16x1")
    )
    assert single < block < 1.1 * 768 * 768 * 0.469 / 16 / 8


def test_blocks_that_do_not_divide_the_matrix_are_not_tried():
    assert (1, 4) not in candidates((32, 10))
    assert (16, 1) not in candidates((24, 10))
    assert (1, 10) in candidates((32, 1, 10))


@pytest.mark.parametrize("unit", [(1, 4), (4, 1), (2, 6), (8, 12), (1, 1)])
def test_grid_and_members_are_inverse(unit):
    keep = np.zeros((8, 12), bool)
    chosen = np.random.default_rng(0).random((8 // unit[0], 12 // unit[1])) < 0.5
    keep[:] = np.kron(chosen, np.ones(unit)) > 0
    assert np.array_equal(grid(keep, unit), chosen)
    assert sorted(members(np.flatnonzero(chosen), unit, 12)) == np.flatnonzero(keep).tolist()


def test_random_masks_are_single_weights():
    keep = np.random.default_rng(0).random((64, 64)) < 0.1
    unit, found = choose(keep, (64, 64), 16)
    assert unit == (1, 1)
    assert np.array_equal(found, keep)
