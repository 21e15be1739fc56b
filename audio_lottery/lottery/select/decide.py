"""Which tickets win: chosen on dev, reported on test.

A ticket *matches* the dense model of its own run (round 0) when, on dev, the difference of their WER

- has a 95 % interval that does not lie above zero (a ticket that is significantly *better* matches), and
- is below a margin. Without it, a dev set so small that nothing is significant would let everything match.

With several seeds the difference is the mean over seeds, and neither of two intervals may lie above zero: over
utterances (paired bootstrap of that mean) and over seeds (paired t). Test never decides anything.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio_lottery.errors import ConfigError
from audio_lottery.evaluation.bootstrap import Difference, Interval, mean_difference_interval, wer_interval
from audio_lottery.evaluation.compare import Aggregate, aggregate, aggregate_differences
from audio_lottery.evaluation.counts import UtteranceErrors
from audio_lottery.evaluation.mapsswe import Mapsswe, mapsswe
from audio_lottery.lottery.select.read import DEV, SearchedRun, check_seeds, read_run

logger = logging.getLogger(__name__)

DEFAULT_MARGIN = 0.005
"""Half a point of absolute WER."""

_LARGEST_MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class SetResult:
    """One round on dev or on test.

    Attributes:
        wer: over the seeds.
        interval: of the WER over utterances; for one seed only.
        difference: WER minus that of the dense model, mean over the seeds, intervals over utterances and speakers;
            None for the dense model.
        over_seeds: the same difference over the seeds.
        mapsswe: the test against the dense model, one per seed.
    """

    wer: Aggregate
    interval: Interval | None
    difference: Difference | None
    over_seeds: Aggregate | None
    mapsswe: tuple[Mapsswe, ...]

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval of the WER to print: over utterances for one seed, over seeds for more."""
        return self.wer.interval if self.interval is None else self.interval.bounds

    @property
    def difference_bounds(self) -> tuple[float, float] | None:
        """The interval of the difference over utterances."""
        return None if self.difference is None else self.difference.interval.bounds

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {
            "wer": self.wer.to_dict(),
            "wer_interval": None if self.interval is None else self.interval.to_list(),
            "difference": None if self.difference is None else self.difference.to_dict(),
            "difference_over_seeds": None if self.over_seeds is None else self.over_seeds.to_dict(),
            "mapsswe": [test.to_dict() for test in self.mapsswe],
        }


@dataclass(frozen=True, slots=True)
class Ticket:
    """One round over the seeds; round 0 is the dense model and no ticket.

    Attributes:
        round: its number.
        remaining_percent: remaining weights, per cent of the prunable ones (mean over the seeds).
        mask_sha256: of every seed's mask.
        dev: what decides.
        test: what is reported.
        matches: whether it matches the dense model.
        reason: why it does not; empty where it does.
        removed: why its model is not on disk, one of the seeds'; empty where all are.
        budget: steps and hours of speech that it cost from θ on (mean over the seeds); None where it was not counted.
    """

    round: int
    remaining_percent: float
    mask_sha256: tuple[str, ...]
    dev: SetResult
    test: SetResult
    matches: bool
    reason: str
    removed: str = ""
    budget: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {
            "round": self.round,
            "remaining_percent": self.remaining_percent,
            "mask_sha256": list(self.mask_sha256),
            "matches": self.matches,
            "reason": self.reason,
            "removed": self.removed,
            "budget": self.budget,
            "dev": self.dev.to_dict(),
            "test": self.test.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome.

    Attributes:
        suite: test suite that is reported.
        margin: largest difference that still matches, absolute WER.
        seeds: training seed of each run.
        tickets: every round, round 0 (dense) first.
    """

    suite: str
    margin: float
    seeds: tuple[int, ...]
    tickets: tuple[Ticket, ...]

    @property
    def winning(self) -> tuple[Ticket, ...]:
        """The tickets that match the dense model."""
        return tuple(ticket for ticket in self.tickets if ticket.round > 0 and ticket.matches)

    @property
    def best(self) -> Ticket | None:
        """The ticket with the lowest dev WER, whether it matches or not; of equals, the sparser."""
        return _lowest(ticket for ticket in self.tickets if ticket.round > 0)

    @property
    def best_winning(self) -> Ticket | None:
        """Of the tickets that match the dense model, the one with the lowest dev WER; of equals, the sparser."""
        return _lowest(self.winning)

    @property
    def extreme(self) -> Ticket | None:
        """The sparsest winning ticket."""
        return min(self.winning, key=lambda ticket: ticket.remaining_percent, default=None)

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values; rates are fractions."""
        return {
            "suite": self.suite,
            "margin": self.margin,
            "seeds": list(self.seeds),
            "winning": [ticket.round for ticket in self.winning],
            "best": None if self.best is None else self.best.round,
            "extreme": None if self.extreme is None else self.extreme.round,
            "rounds": [ticket.to_dict() for ticket in self.tickets],
        }


def select(
    run_dirs: Sequence[Path],
    *,
    margin: float = DEFAULT_MARGIN,
    suite: str = "clean",
    resamples: int = 1000,
    seed: int = 0,
) -> Selection:
    """Choose the winning, the best and the extreme ticket of a search on dev, from run folders: see `choose`.

    Args:
        run_dirs: run folders; several are seeds of one configuration.
        margin: a fraction.
        suite: test suite to report.
        resamples: bootstrap resamples.
        seed: of the resamples.

    Raises:
        RunError: a folder is not a run; and what `choose` raises.
    """
    runs = [read_run(Path(path)) for path in run_dirs]
    return choose(runs, margin=margin, suite=suite, resamples=resamples, seed=seed)


def choose(
    runs: Sequence[SearchedRun],
    *,
    margin: float = DEFAULT_MARGIN,
    suite: str = "clean",
    resamples: int = 1000,
    seed: int = 0,
) -> Selection:
    """Choose the winning, the best and the extreme ticket of a search on dev.

    Args:
        runs: several are seeds of one configuration.
        margin: a ticket matches only if its WER exceeds the dense model's by less than this, absolute, a fraction.
        suite: test suite to report.
        resamples: bootstrap resamples.
        seed: of the resamples.

    Raises:
        ConfigError: an impossible margin.
        RunError: a run lacks its dense round, dev transcripts or the suite; or the runs are not seeds of one
            configuration.
        TextError: a transcript file is damaged, or the runs were evaluated on different utterances.
    """
    if not 0 <= margin <= _LARGEST_MARGIN:
        raise ConfigError(
            f"margin {margin:g} is {100 * margin:g} points of WER; it is a fraction between 0 and {_LARGEST_MARGIN}: "
            f"{DEFAULT_MARGIN} is half a point"
        )
    if resamples == 0:
        raise ConfigError("tickets are chosen by intervals: bootstrap must be 100 or more, 1000 is usual")
    check_seeds(runs)
    numbers = sorted(set.intersection(*(set(run.rounds) for run in runs)))
    left_out = sorted(set.union(*(set(run.rounds) for run in runs)) - set(numbers))
    if left_out:
        logger.warning("rounds %s are left out: not every run has them", ", ".join(map(str, left_out)))
    dense = {name: [run.errors(0, name) for run in runs] for name in (DEV, suite)}
    tickets = []
    for number in numbers:
        errors = dense if number == 0 else {name: [run.errors(number, name) for run in runs] for name in dense}
        dev, test = (measure(errors[name], dense[name] if number else [], resamples, seed) for name in (DEV, suite))
        reason = "" if dev.difference is None else why_not(dev.difference, dev.over_seeds, margin)
        rounds = [run.rounds[number] for run in runs]
        remaining = aggregate([metrics["remaining_percent"] for metrics in rounds]).mean
        masks = tuple(metrics["mask_sha256"] for metrics in rounds)
        removed = next((why for run in runs if (why := run.removed(number))), "")
        spent = mean_budget([metrics.get("budget") for metrics in rounds])
        tickets.append(Ticket(number, remaining, masks, dev, test, not reason, reason, removed, spent))
    return Selection(suite, margin, tuple(int(run.settings["seed"]) for run in runs), tuple(tickets))


def mean_budget(budgets: Sequence[Mapping[str, float] | None]) -> dict[str, float] | None:
    """Steps and hours of speech that a round cost, mean over the seeds; None where one of them was not counted.

    Args:
        budgets: ``budget`` of the round's metrics, one per seed.
    """
    known = [budget for budget in budgets if budget is not None]
    if len(known) < len(budgets):
        return None
    return {key: aggregate([budget[key] for budget in known]).mean for key in known[0]}


def _lowest(tickets: Iterable[Ticket]) -> Ticket | None:
    return min(tickets, key=lambda ticket: (ticket.dev.wer.mean, ticket.remaining_percent), default=None)


def why_not(difference: Difference, over_seeds: Aggregate | None, margin: float) -> str:
    """Why a ticket does not match the dense model; empty where it does.

    Args:
        difference: WER of the ticket minus WER of the dense model, on dev.
        over_seeds: the same over seeds, where there are several.
        margin: absolute WER, a fraction.
    """
    bounds = difference.interval.bounds
    if bounds is None:
        return difference.interval.note
    reasons = []
    if bounds[0] > 0:
        reasons.append("worse over utterances")
    if over_seeds is not None and over_seeds.interval is not None and over_seeds.interval[0] > 0:
        reasons.append("worse over seeds")
    if difference.difference >= margin:
        reasons.append("margin")
    return ", ".join(reasons)


def measure(
    counts: Sequence[UtteranceErrors], dense: Sequence[UtteranceErrors], resamples: int, seed: int
) -> SetResult:
    """WER over the seeds, and against another system on the same utterances, seed by seed.

    Args:
        counts: of every seed.
        dense: of what it is compared with, in the same order of seeds; empty for no comparison.
        resamples: bootstrap resamples.
        seed: of the resamples.

    Raises:
        TextError: the two do not hold the same utterances and references.
    """
    rates = [one.wer for one in counts]
    interval = wer_interval(counts[0], resamples=resamples, seed=seed) if len(counts) == 1 else None
    if not dense:
        return SetResult(aggregate(rates), interval, None, None, ())
    pairs = list(zip(counts, dense, strict=True))
    return SetResult(
        wer=aggregate(rates),
        interval=interval,
        difference=mean_difference_interval(pairs, resamples=resamples, seed=seed),
        over_seeds=aggregate_differences(rates, [one.wer for one in dense]),
        mapsswe=tuple(mapsswe(one.realigned("nist"), other.realigned("nist")) for one, other in pairs),
    )
