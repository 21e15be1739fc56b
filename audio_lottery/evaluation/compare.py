"""Two systems compared on one test set, and one configuration summarised over training seeds."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.special import stdtrit

from audio_lottery.errors import ConfigError
from audio_lottery.evaluation.bootstrap import CONFIDENCE, Difference, difference_interval
from audio_lottery.evaluation.counts import UtteranceErrors
from audio_lottery.evaluation.mapsswe import Mapsswe, mapsswe


@dataclass(frozen=True, slots=True)
class Comparison:
    """A system against a baseline: the difference with its intervals, and MAPSSWE on NIST alignments."""

    difference: Difference
    mapsswe: Mapsswe

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {**self.difference.to_dict(), "mapsswe": self.mapsswe.to_dict()}


def compare(system: UtteranceErrors, baseline: UtteranceErrors, *, resamples: int = 1000, seed: int = 0) -> Comparison:
    """Compare two systems on the same utterances; a positive difference means that ``system`` is worse.

    Raises:
        TextError: the two do not hold the same utterances, references, normaliser and alignment.
        ConfigError: too few resamples.
    """
    return Comparison(
        difference_interval(system, baseline, resamples=resamples, seed=seed),
        mapsswe(system.realigned("nist"), baseline.realigned("nist")),
    )


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A number over training seeds.

    Attributes:
        n: how many seeds.
        mean: their mean.
        deviation: sample standard deviation (n - 1); None for one seed.
        interval: mean ± t · deviation / √n, Student's t with n - 1 degrees of freedom; None for one seed.
    """

    n: int
    mean: float
    deviation: float | None
    interval: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self) | {"interval": None if self.interval is None else list(self.interval)}


def aggregate(values: Sequence[float], confidence: float = CONFIDENCE) -> Aggregate:
    """Mean, sample standard deviation and t interval of one number per seed.

    Raises:
        ConfigError: no value, or one that is not finite.
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise ConfigError(f"cannot average {list(values)} over seeds: one finite number per seed is needed")
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Aggregate(1, mean, None, None)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * deviation / math.sqrt(n)
    return Aggregate(n, mean, deviation, (mean - half, mean + half))


def aggregate_differences(
    values: Sequence[float], baselines: Sequence[float], confidence: float = CONFIDENCE
) -> Aggregate:
    """`aggregate` of the differences seed by seed: what the two share within a seed drops out (paired t interval).

    Raises:
        ConfigError: the two have different numbers of seeds.
    """
    if len(values) != len(baselines):
        raise ConfigError(f"{len(values)} seeds cannot be paired with {len(baselines)}: every seed needs both")
    return aggregate([value - baseline for value, baseline in zip(values, baselines, strict=True)], confidence)
