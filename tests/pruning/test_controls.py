"""Controls keep as many weights as the ticket, and choose them blindly."""

import pytest
import torch

from audio_lottery.errors import MaskError
from audio_lottery.pruning import Mask, parse_pattern, random_like, random_uniform, shuffled


def ticket(density: float = 0.3, seed: int = 0) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    return Mask(
        {
            "a": torch.rand(64, 48, generator=generator) < density,
            "conv": torch.rand(16, 8, 3, generator=generator) < 2 * density,
            "whole": torch.ones(4, 4, dtype=torch.bool),
            "empty": torch.zeros(4, 4, dtype=torch.bool),
        }
    )


@pytest.mark.parametrize("control", [random_like, shuffled])
def test_layer_counts_stay_and_places_are_new(control):
    mask = ticket()
    drawn = control(mask, 1)
    assert drawn.per_tensor() == mask.per_tensor()
    assert drawn == control(mask, 1)
    assert drawn != control(mask, 2)
    p = mask.per_tensor()["a"][0] / (64 * 48)
    assert drawn.overlap_per_tensor(mask)["a"] == pytest.approx(p / (2 - p), abs=0.04)  # as of independent masks


def test_uniform_keeps_the_total_and_no_layer_is_favoured():
    mask = ticket()
    drawn = random_uniform(mask, 3)
    assert drawn.kept == mask.kept
    assert drawn == random_uniform(mask, 3)
    for kept, prunable in drawn.per_tensor().values():
        sigma = (mask.density() * (1 - mask.density()) / prunable) ** 0.5
        assert abs(kept / prunable - mask.density()) < 5 * sigma


@pytest.mark.parametrize("spec", ["block:1x4", "block:16x1", "rows", "columns"])
def test_random_blocks(spec):
    pattern = parse_pattern(spec)
    shape = torch.Size((64, 48))
    groups = torch.rand(pattern.grid(shape), generator=torch.Generator().manual_seed(0)) < 0.4
    mask = Mask({"a": pattern.expand(groups, shape)})
    drawn = random_like(mask, 1, spec)
    assert drawn.kept == mask.kept
    assert drawn != mask
    pattern.whole("a", drawn["a"])  # no block is torn


def test_random_n_of_m_over_a_denser_mask():
    pattern = parse_pattern("nm:2:4")
    mask = Mask({"a": pattern.select("a", torch.rand(8, 16, generator=torch.Generator().manual_seed(0)))})
    drawn = random_like(mask, 1, "nm:2:4")
    assert drawn["a"].reshape(-1, 4).sum(dim=1).tolist() == [2] * 32
    narrow = Mask({"a": parse_pattern("nm:1:4").select("a", torch.rand(8, 16))})
    inside = random_like(narrow, 5, "nm:1:4", among=drawn)
    assert inside.is_subset_of(drawn)
    assert inside.kept == 32


def test_among_is_respected():
    wide, mask = ticket(0.45, 1), ticket(0.2, 2)
    wide = Mask({**wide, "empty": torch.ones(4, 4, dtype=torch.bool)})
    drawn = random_like(mask, 0, among=wide)
    assert drawn.is_subset_of(wide)
    assert drawn.per_tensor() == mask.per_tensor()


def test_what_cannot_be_matched_is_refused():
    with pytest.raises(MaskError, match=r"'a' keeps \d+ weights, and the mask to choose among only \d+"):
        random_like(ticket(0.4), 0, among=ticket(0.2))
    with pytest.raises(MaskError, match="the densities of the layers would not match"):
        random_like(ticket(), 0, "nm:2:4")
    with pytest.raises(MaskError, match="different parameters"):
        random_like(ticket(), 0, among=Mask({"b": torch.ones(2, dtype=torch.bool)}))
