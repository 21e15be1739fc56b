"""Bootstrap intervals of a WER and of the difference between two systems.

Percentile bootstrap (Efron & Tibshirani 1993, chapter 13) of the corpus-level WER: units are drawn with replacement,
their errors and reference words summed, and divided. Two systems are resampled together, which takes the difficulty
of the utterances out of their difference (Bisani & Ney 2004, "Bootstrap estimates for confidence intervals in ASR
performance evaluation", ICASSP). Units are utterances, or whole speakers (talks): errors of one speaker are not
independent, and an interval over utterances is then too narrow (block bootstrap; Liu & Peng 2020, arXiv:1912.09508).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audio_lottery.errors import ConfigError
from audio_lottery.evaluation.counts import UtteranceErrors, match_utterances

CONFIDENCE = 0.95
"""Level of every interval of the package unless another is asked for."""

Units = Literal["utterances", "speakers"]
Floats = NDArray[np.float64]

FEW_SPEAKERS = 20
"""Below this an interval over speakers is clearly too narrow: 92 % coverage at 20, 80 % at 5 (docs/statistics.md)."""

_CELLS = 1 << 20  # drawn units held in memory at a time


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, or why there is none.

    Attributes:
        bounds: (low, high); None where no interval is defined.
        units: how many utterances, speakers or seeds it rests on.
        note: why there is none, or what to mind.
    """

    bounds: tuple[float, float] | None
    units: int
    note: str = ""

    def to_list(self) -> list[float] | None:
        """[low, high], or None."""
        return None if self.bounds is None else list(self.bounds)


@dataclass(frozen=True, slots=True)
class Difference:
    """WER of a system minus WER of a baseline on the same utterances; positive is worse.

    Attributes:
        difference: absolute, a fraction (0.005 is half a point).
        interval: of the difference, utterances resampled.
        interval_speakers: of the difference, speakers resampled.
        relative: difference / WER of the baseline; None where the baseline makes no error.
        interval_relative: of the relative difference, utterances resampled.
        probability_of_improvement: share of the resamples in which the system is better (Bisani & Ney 2004).
    """

    difference: float
    interval: Interval
    interval_speakers: Interval
    relative: float | None
    interval_relative: Interval
    probability_of_improvement: float | None

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {
            "difference": self.difference,
            "interval": self.interval.to_list(),
            "interval_speakers": self.interval_speakers.to_list(),
            "relative": self.relative,
            "interval_relative": self.interval_relative.to_list(),
            "probability_of_improvement": self.probability_of_improvement,
            "notes": [n for n in (self.interval.note, self.interval_speakers.note, self.interval_relative.note) if n],
        }


def wer_interval(
    counts: UtteranceErrors,
    *,
    by: Units = "utterances",
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The percentile bootstrap interval of a WER.

    The same utterances give the same interval whatever their order.

    Args:
        counts: the errors.
        by: what is resampled.
        resamples: how many resamples (B); 0 gives no interval.
        seed: of the resamples.
        confidence: level of the interval.

    Raises:
        ConfigError: 1 to 99 resamples or fewer than none, or a confidence that is not between 0 and 1.
    """
    _check(resamples, confidence)
    groups, units, note = _units(counts, by, resamples)
    if groups is None:
        return Interval(None, units, note)
    sums = _resampled(counts.words.errors[:, None], counts.words.reference, groups, units, resamples, seed)
    return Interval(_percentiles(sums[:, 0], confidence), units, note)


def difference_interval(
    system: UtteranceErrors,
    baseline: UtteranceErrors,
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Difference:
    """The difference of two systems on the same utterances, with paired bootstrap intervals.

    Raises:
        TextError: the two do not hold the same utterances, or their references differ.
        ConfigError: as `wer_interval`.
    """
    return mean_difference_interval([(system, baseline)], resamples=resamples, seed=seed, confidence=confidence)


def mean_difference_interval(
    pairs: Sequence[tuple[UtteranceErrors, UtteranceErrors]],
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Difference:
    """The difference of two systems averaged over training seeds, all seeds resampled together.

    The interval says how the mean of *these* seeds would vary with other utterances; how it varies with other seeds
    is `audio_lottery.evaluation.compare.aggregate`.

    Args:
        pairs: (system, baseline) of every seed, all on the same utterances.
        resamples: how many resamples (B); 0 gives no interval.
        seed: of the resamples.
        confidence: level of the intervals.

    Raises:
        TextError: not all hold the same utterances, or their references differ.
        ConfigError: as `wer_interval`.
    """
    _check(resamples, confidence)
    first = pairs[0][0]
    systems = [match_utterances(first, system).words for system, _ in pairs]
    baselines = [match_utterances(first, baseline).words for _, baseline in pairs]
    errors = np.stack([tally.errors for tally in systems + baselines], axis=1)
    system_wer = float(np.mean([tally.rate for tally in systems]))
    baseline_wer = float(np.mean([tally.rate for tally in baselines]))

    def sampled(by: Units) -> tuple[Floats | None, Floats | None, int, str]:
        groups, units, note = _units(first, by, resamples)
        if groups is None:
            return None, None, units, note
        rates = _resampled(errors, first.words.reference, groups, units, resamples, seed)
        return rates[:, : len(pairs)].mean(axis=1), rates[:, len(pairs) :].mean(axis=1), units, note

    ours, theirs, units, note = sampled("utterances")
    ours_by_speaker, theirs_by_speaker, speakers, speaker_note = sampled("speakers")
    relative = (system_wer - baseline_wer) / baseline_wer if baseline_wer > 0 else None
    interval = Interval(None, units, note)
    interval_relative = Interval(None, units, note)
    improved = None
    if ours is not None and theirs is not None:
        difference = ours - theirs
        interval = Interval(_percentiles(difference, confidence), units)
        improved = float(np.mean(difference < 0))
        if np.all(theirs > 0):
            interval_relative = Interval(_percentiles(difference / theirs, confidence), units)
        else:
            interval_relative = Interval(
                None, units, "no relative interval: the baseline makes no error in some resamples"
            )
    by_speaker = Interval(None, speakers, speaker_note)
    if ours_by_speaker is not None and theirs_by_speaker is not None:
        by_speaker = Interval(_percentiles(ours_by_speaker - theirs_by_speaker, confidence), speakers, speaker_note)
    return Difference(system_wer - baseline_wer, interval, by_speaker, relative, interval_relative, improved)


def resample_sums(values: Floats, resamples: int, seed: int) -> Floats:
    """Sums over units drawn with replacement.

    Args:
        values: [units, quantities]; all quantities see the same draws.
        resamples: how many resamples.
        seed: of the draws.

    Returns:
        [resamples, quantities]. Memory does not grow with units × resamples: draws are made in blocks.
    """
    units = len(values)
    rng = np.random.default_rng(seed)
    sums = np.empty((resamples, values.shape[1]))
    rows = max(1, _CELLS // units)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(0, units, size=(count, units)) + units * np.arange(count)[:, None]
        # How often each unit was drawn: a multinomial count, so the sums of all quantities are one product.
        times = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units)
        sums[start : start + count] = times @ values
    return sums


def _resampled(
    errors: NDArray[np.int64],
    reference: NDArray[np.int64],
    groups: NDArray[np.int64],
    units: int,
    resamples: int,
    seed: int,
) -> Floats:
    """WER of every column of ``errors`` in every resample that holds a reference word, [resamples, columns]."""
    columns = np.column_stack([errors, reference]).astype(np.float64)
    values = np.zeros((units, columns.shape[1]))
    np.add.at(values, groups, columns)
    sums = resample_sums(values, resamples, seed)
    sums = sums[sums[:, -1] > 0]
    return sums[:, :-1] / sums[:, -1:]


def _units(counts: UtteranceErrors, by: Units, resamples: int) -> tuple[NDArray[np.int64] | None, int, str]:
    """The unit of every utterance (None where there is no interval), how many units there are, and a note."""
    names = counts.ids if by == "utterances" else counts.speakers
    if resamples == 0:
        return None, len(set(names) - {""}), f"no interval over {by}: none was asked for (bootstrap 0)"
    unknown = 0 if by == "utterances" else names.count("")
    if unknown:
        what = "no utterance has a speaker" if unknown == len(names) else f"{unknown} utterances have no speaker"
        return None, len(set(names) - {""}), f"no interval over speakers: {what}"
    unique, groups = np.unique(np.array(names), return_inverse=True)
    if len(unique) < 2:
        return None, len(unique), f"no interval over {by}: there is only one"
    few = by == "speakers" and len(unique) < FEW_SPEAKERS
    note = f"only {len(unique)} speakers: the interval over speakers is too narrow" if few else ""
    return groups.astype(np.int64).reshape(-1), len(unique), note


def _percentiles(samples: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _check(resamples: int, confidence: float) -> None:
    if resamples != 0 and resamples < 100:
        raise ConfigError(
            f"{resamples} bootstrap resamples are too few for a 95 % interval; use 1000 (at least 100), or 0 for none"
        )
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence {confidence} is not between 0 and 1; the usual value is 0.95")
