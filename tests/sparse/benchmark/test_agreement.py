"""What counts as the same answer, at each precision."""

import pytest
import torch

from audio_lottery.sparse.benchmark.agreement import compare

REFERENCE = torch.randn(1, 50, 8, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize(
    ("precision", "noise", "right"),
    [
        ("float32", 0.0, True),
        ("float32", 9e-5, True),
        ("float32", 2e-4, False),
        ("bfloat16", 0.3, True),
        ("bfloat16", 0.6, False),
        ("int8", 1.2, True),
        ("int8", 2.0, False),
    ],
)
def test_limits(precision: str, noise: float, right: bool) -> None:
    signs = torch.where(torch.arange(REFERENCE.numel()) % 2 == 0, 1.0, -1.0).reshape(REFERENCE.shape)
    agreement = compare(REFERENCE + noise * signs, REFERENCE, precision)
    assert agreement.right == right
    assert bool(agreement.verdict) != right
    assert agreement.largest == pytest.approx(noise, abs=1e-5)
    assert agreement.share == pytest.approx(noise / 3, rel=0.1, abs=1e-5)


def test_one_wrong_logit_is_enough_in_float32() -> None:
    found = REFERENCE.clone()
    found[0, 7, 3] += 1e-3
    assert "differs by 1.00e-03" in compare(found, REFERENCE, "float32").verdict


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_output_of_another_model_is_wrong_at_any_precision(precision: str) -> None:
    other = torch.randn(REFERENCE.shape, generator=torch.Generator().manual_seed(1)) * 3
    agreement = compare(other.bfloat16(), REFERENCE, precision)
    assert not agreement.right
    assert agreement.same_labels < 0.5


def test_constant_reference() -> None:
    assert compare(torch.ones(1, 2, 3), torch.ones(1, 2, 3), "bfloat16").right
    assert not compare(torch.ones(1, 2, 3) + 1, torch.ones(1, 2, 3), "bfloat16").right
