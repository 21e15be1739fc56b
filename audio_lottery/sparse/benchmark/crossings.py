"""From which sparsity on ours is as fast as a dense rival, read off times at several sparsities of one run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from audio_lottery.sparse.benchmark.own import UNCHANGED
from audio_lottery.sparse.benchmark.settings import DENSE


@dataclass(frozen=True)
class Crossings:
    """Where ours becomes as fast as a rival, or slower than it.

    Attributes:
        points: sparsities, from low to high; at each, ours turns from slower to as fast, or back.
        fast_at_least: whether ours is as fast at the least sparsity measured; the first of ``points`` then is one from
            which on it is slower.
        least: the least sparsity measured.
        most: the highest.
    """

    points: tuple[float, ...]
    fast_at_least: bool
    least: float
    most: float

    @property
    def break_even(self) -> float | None:
        """The one sparsity from which on ours is as fast; None where there is none within what was measured, where
        it lies below, or where times cross more than once.
        """
        return self.points[0] if len(self.points) == 1 and not self.fast_at_least else None


def crossings(times: Mapping[float, float], rival: float) -> Crossings:
    """Where ours takes as long as the rival.

    Between two neighbouring sparsities time is taken to be linear in the sparsity: it is a part that does not change
    (attention, norms) and one in proportion to the kept weights. A logarithm of it would be linear of nothing.

    Args:
        times: sparsity → seconds of ours, one or more.
        rival: seconds.
    """
    measured = sorted(times.items())
    points = []
    for (left, before), (right, after) in pairwise(measured):
        if (before <= rival) != (after <= rival):
            points.append(min(right, left + (right - left) * ((before - rival) / (before - after))))
    return Crossings(tuple(points), measured[0][1] <= rival, measured[0][0], measured[-1][0])


@dataclass(frozen=True)
class ModelBreakEven:
    """A whole model on our kernels beside one rival.

    Attributes:
        subject: the model, or a part of it.
        audio_seconds: length of the audio.
        precision: of ours.
        pattern: of its zeros.
        rival: the dense runtime.
        rival_precision: of the rival.
        crossings: where the two are equally fast.
    """

    subject: str
    audio_seconds: float
    precision: str
    pattern: str
    rival: str
    rival_precision: str
    crossings: Crossings

    def to_dict(self) -> dict[str, Any]:
        """All of it, and the break-even sparsity, as JSON has it."""
        return asdict(self) | {"break_even": self.crossings.break_even}


def model_break_even(rows: Sequence[Mapping[str, Any]]) -> list[ModelBreakEven]:
    """Break-even sparsities of whole models, for each of ours (subject, length, precision, pattern) and each rival.

    Times are medians. Where `accelerate` replaced nothing, as at sparsity 0, what ran is torch's and no point of ours:
    such rows are left out, since a line from torch's time to that of our kernels means nothing.

    Args:
        rows: of one run, as `compare.Outcome` has them, with their ``subject``. Rows that are ``shared`` are rivals.

    Returns:
        One for every pair, in the order of the rows; none where fewer than two sparsities were measured.
    """
    ours = [row for row in rows if not row["shared"]]
    if len({row["sparsity"] for row in ours}) < 2:
        return []
    ours = [row for row in ours if row["plan"] != UNCHANGED]
    found = []
    for place, pattern in dict.fromkeys((_place(row), row["pattern"]) for row in ours if row["pattern"] != DENSE):
        patterns = pattern, DENSE  # ours at 0 %, where it ran on kernels, is of every pattern
        line = [row for row in ours if _place(row) == place and row["pattern"] in patterns]
        times = {row["sparsity"]: row["median_s"] for row in line}
        subject, seconds, precision = place
        rivals = {
            (row["runtime"], row["precision"]): row["median_s"]
            for row in rows
            if row["shared"] and (row["subject"], row["audio_seconds"]) == (subject, seconds)
        }
        found += [
            ModelBreakEven(subject, seconds, precision, pattern, *rival, crossings(times, taken))
            for rival, taken in rivals.items()
        ]
    return found


def _place(row: Mapping[str, Any]) -> tuple[str, float, str]:
    return row["subject"], row["audio_seconds"], row["precision"]
