"""Two systems on one set, and numbers over seeds."""

import json
import math

import pytest

from audio_lottery.errors import ConfigError, TextError
from audio_lottery.evaluation.compare import aggregate, aggregate_differences, compare
from audio_lottery.evaluation.counts import ErrorCounts, count_errors

IDS = [f"u{i}" for i in range(6)]
REFERENCES = ["a b c d"] * 6


def system(hypotheses: list[str], **options: str) -> ErrorCounts:
    return count_errors(IDS, REFERENCES, hypotheses, options.pop("normalizer", "none"), **options)


def test_compare_reports_the_paired_difference_and_mapsswe() -> None:
    worse = system(["a b c X"] * 3 + ["a b c d"] * 3)
    comparison = compare(worse, system(REFERENCES))
    assert comparison.difference.difference == 3 / 24
    assert comparison.mapsswe.segments == 3
    found = json.loads(json.dumps(comparison.to_dict()))
    assert found["difference"] == 0.125
    assert found["mapsswe"]["verdict"] == "undefined"


def test_mapsswe_uses_nist_alignments_whatever_the_counts() -> None:
    ids, reference, hypothesis = ["u"], ["x y z a b"], ["a b p q r"]
    one, other = (count_errors(ids, reference, [text], "none") for text in (hypothesis[0], reference[0]))
    comparison = compare(one, other)
    assert comparison.difference.difference == 5 / 5
    # DDD HH III: two right words split the errors into 3 and 3; unit costs would give one segment of 5.
    assert (comparison.mapsswe.segments, comparison.mapsswe.mean_difference) == (2, 3)


def test_systems_must_be_scored_alike() -> None:
    with pytest.raises(TextError, match="different normalizers: 'none' and 'basic'"):
        compare(system(REFERENCES), system(REFERENCES, normalizer="basic"))
    with pytest.raises(TextError, match="different alignments: 'jiwer' and 'nist'"):
        compare(system(REFERENCES), system(REFERENCES, alignment="nist"))


def test_references_must_be_the_same() -> None:
    other = count_errors(IDS, ["a b c e", *REFERENCES[1:]], REFERENCES, "none")
    with pytest.raises(TextError, match="'u0' has two references: 'a b c d' and 'a b c e'"):
        compare(system(REFERENCES), other)


def test_aggregate_by_hand() -> None:
    """10, 12, 14: mean 12, deviation 2; t(2, 0.975) = 4.303; half width 4.303 · 2 / √3 = 4.968."""
    found = aggregate([0.10, 0.12, 0.14])
    assert (found.n, found.mean, found.deviation) == (3, pytest.approx(0.12), pytest.approx(0.02))
    assert found.interval == pytest.approx((0.12 - 0.04968, 0.12 + 0.04968), abs=1e-5)
    assert found.to_dict()["interval"] == list(found.interval or ())


def test_one_seed_has_a_mean_only() -> None:
    found = aggregate([0.25])
    assert (found.mean, found.deviation, found.interval) == (0.25, None, None)


def test_paired_differences_drop_what_a_seed_shares() -> None:
    """The seeds spread by 10 points, the differences by nothing."""
    found = aggregate_differences([0.11, 0.21, 0.31], [0.10, 0.20, 0.30])
    assert found.mean == pytest.approx(0.01)
    assert found.deviation == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("values", [[], [0.1, math.nan]])
def test_values_must_be_numbers(values: list[float]) -> None:
    with pytest.raises(ConfigError, match="one finite number per seed"):
        aggregate(values)


def test_every_seed_needs_both() -> None:
    with pytest.raises(ConfigError, match="2 seeds cannot be paired with 1"):
        aggregate_differences([0.1, 0.2], [0.1])
