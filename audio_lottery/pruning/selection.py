"""Exact selection of the largest scores over many tensors, without sorting or copying a whole model.

A random sample of the scores gives a narrow bracket around the threshold. One pass counts what lies above the bracket
and collects the few scores inside it; sorting those gives the threshold itself, and the counts prove it (a bracket that
missed is widened). A second pass compares every score with the threshold. The result does not depend on the sample.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from audio_lottery.errors import MaskError
from audio_lottery.pruning.mask import Mask

Size = int | np.ndarray  # weights behind one score: the same for the whole tensor, or one number per score

_CHUNK = 1 << 17  # scores that stay in a core's cache while they are compared
_SAMPLE = 1 << 18
_SIGMAS = (5.0, 40.0, math.inf)  # half-width of the bracket, in standard errors of the sample's quantile
_EXACT_IN_FLOAT32 = (torch.float32, torch.float16, torch.bfloat16)

T = TypeVar("T")
R = TypeVar("R")


def exact_count(density: float, total: int) -> int:
    """The integer nearest to ``density · total``, halves upwards.

    Raises:
        MaskError: the density is outside (0, 1], or so small that no weight would be kept, or there are no weights.
    """
    check_density(density)
    if not total:
        raise MaskError("there are no weights to keep a share of: every tensor of the scope is empty")
    count = math.floor(density * total + 0.5)
    if count < 1:
        raise MaskError(f"density {density} of {total} weights keeps none; ask for at least {1 / total:.3g}")
    return count


def check_density(density: float) -> None:
    """Refuse a density outside (0, 1].

    Raises:
        MaskError: it is outside, or NaN.
    """
    if not 0 < density <= 1:
        raise MaskError(f"density {density} is outside (0, 1]")


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """``[function(item) for item in items]`` on as many threads as torch uses; numpy releases the interpreter lock."""
    items = list(items)
    workers = min(torch.get_num_threads(), len(items))
    if workers < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


def keep_largest(
    scores: Mapping[str, Tensor],
    keep: int,
    among: Mapping[str, Tensor] | None = None,
    *,
    absolute: bool = False,
    sizes: Mapping[str, Size] | None = None,
    least: int = 0,
) -> Mask:
    """The mask of the ``keep`` largest scores over all tensors together.

    Ties are broken by position: the earlier tensor, then the lower flat index, is kept.

    Scores may stand for groups of weights, and ``sizes`` says of how many; then ``keep`` counts weights, and the mask
    is the beginning of the ranking whose number of weights is nearest to ``keep`` (at least one group; halves upwards).

    Args:
        scores: name → finite scores of any sign and shape, in float32, float16 or bfloat16.
        keep: how many to keep; exact when every size is 1.
        among: only scores where this is true may be kept, so masks only shrink.
        absolute: rank by the scores' absolute values, without a copy of them.
        sizes: name → how many weights a score stands for, one number or one per score (flat); 1 where absent.
        least: the number of weights may not fall below this, even where fewer would be nearer to ``keep``.

    Raises:
        MaskError: a score is NaN or infinite, or fewer than ``keep`` weights are there to choose from.
    """
    columns = [
        _Column.of(name, score, None if among is None else among[name], (sizes or {}).get(name, 1), absolute)
        for name, score in scores.items()
        if score.numel()
    ]
    available = sum(in_threads(_Column.available, columns))
    if not 1 <= keep <= available:
        raise MaskError(f"cannot keep {keep} weights: {available} are there to choose from")
    threshold, above = _threshold(columns, keep, available)
    kept = {name: np.zeros(0, dtype=bool) for name in scores}  # empty tensors take no part in the ranking
    for column, chosen in zip(columns, in_threads(lambda column: column.above(threshold), columns), strict=True):
        kept[column.name] = chosen
    _keep_ties(columns, kept, threshold, keep - above, least - above)
    return Mask({name: torch.from_numpy(kept[name].reshape(scores[name].shape)) for name in scores})


def keep_in_rows(scores: Tensor, counts: np.ndarray, among: Tensor | None = None) -> Tensor:
    """The mask of the ``counts[r]`` largest scores of every row r; ties go to the lower column.

    Args:
        scores: [rows, columns], finite float32, on the CPU.
        counts: [rows], how many to keep in each row.
        among: only scores where this is true may be kept.

    Raises:
        MaskError: a row has fewer scores to choose from than it should keep.
    """
    values = scores.numpy()
    available = np.full(len(values), values.shape[1]) if among is None else among.numpy().sum(axis=1)
    if (available < counts).any():
        row = int(np.argmax(available < counts))
        raise MaskError(f"cannot keep {counts[row]} weights in row {row}: {available[row]} are there to choose from")
    if not values.size:
        return torch.zeros(scores.shape, dtype=torch.bool)
    kept = np.empty(values.shape, dtype=bool)
    step = max(1, _CHUNK // values.shape[1])

    def fill(start: int) -> None:
        # unique keys, smallest first: falling score above, column below
        keys = (~ordered_bits(values[start : start + step])).astype(np.uint64) << np.uint64(32)
        keys |= np.arange(values.shape[1], dtype=np.uint64)
        if among is not None:
            keys[~among.numpy()[start : start + step]] = np.iinfo(np.uint64).max
        part = counts[start : start + step]
        last = np.take_along_axis(np.sort(keys, axis=1), np.maximum(part - 1, 0)[:, None], axis=1)
        kept[start : start + step] = (keys <= last) & (part > 0)[:, None]

    in_threads(fill, range(0, len(values), step))
    return torch.from_numpy(kept)


def ordered_bits(values: np.ndarray) -> np.ndarray:
    """uint32 numbers in the order of the finite float32 ``values``: the sign flipped, and all bits of negative ones."""
    bits = (values + np.float32(0.0)).view(np.uint32)  # -0.0 equals 0.0
    return np.where(bits >> 31 == 1, ~bits, bits | np.uint32(1 << 31))


@dataclass(frozen=True)
class _Column:
    """One tensor of scores as flat arrays, read in chunks."""

    name: str
    scores: Tensor
    allowed: np.ndarray | None
    size: Size
    absolute: bool

    @classmethod
    def of(cls, name: str, scores: Tensor, allowed: Tensor | None, size: Size, absolute: bool) -> "_Column":
        if scores.dtype not in _EXACT_IN_FLOAT32:
            raise MaskError(f"scores of '{name}' are {scores.dtype}; float32 is needed")
        flat = None if allowed is None else allowed.numpy().reshape(-1)
        if flat is not None and flat.all():
            flat = None
        return cls(name, scores, flat, size, absolute)

    def values(self) -> np.ndarray:
        """The flat float32 scores: a view where they are float32 on the CPU already."""
        return self.scores.detach().to("cpu", torch.float32).contiguous().view(-1).numpy()

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """(start, scores) of every chunk; the array is overwritten by the next one."""
        values = self.values()
        buffer = np.empty(min(_CHUNK, values.size), dtype=np.float32)
        for start in range(0, values.size, _CHUNK):
            chunk = values[start : start + _CHUNK]
            yield start, np.abs(chunk, out=buffer[: chunk.size]) if self.absolute else chunk

    def weigh(self, chosen: np.ndarray, start: int = 0) -> int:
        """How many weights the chosen scores stand for; ``start`` is where the chunk begins."""
        if isinstance(self.size, int):
            return int(np.count_nonzero(chosen)) * self.size
        return int(self.size[start : start + chosen.size][chosen].sum())

    def available(self) -> int:
        """How many weights there are to choose from."""
        if self.allowed is not None:
            return self.weigh(self.allowed)
        return self.scores.numel() * self.size if isinstance(self.size, int) else int(self.size.sum())

    def restrict(self, chosen: np.ndarray, start: int) -> np.ndarray:
        """``chosen`` without what is not allowed, in place."""
        if self.allowed is not None:
            chosen &= self.allowed[start : start + chosen.size]
        return chosen

    def sample(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores at random positions, those that are not allowed left out, and their sizes."""
        values = self.values()
        where = np.random.default_rng(0).integers(values.size, size=count)
        if self.allowed is not None:
            where = where[self.allowed[where]]
        picked = np.abs(values[where]) if self.absolute else values[where]
        return picked, np.full(where.size, self.size) if isinstance(self.size, int) else self.size[where]

    def bracket(self, low: float, high: float) -> tuple[int, np.ndarray, np.ndarray]:
        """How many weights score ``high`` or more, and the scores strictly between with their sizes."""
        heavy = 0
        inside: list[np.ndarray] = []
        sizes: list[np.ndarray] = []
        for start, chunk in self.chunks():
            if not (chunk.max() < math.inf and (self.absolute or chunk.min() > -math.inf)):
                raise MaskError(
                    f"'{self.name}' has weights or scores that are NaN or infinite; "
                    "the model that was trained has diverged"
                )
            from_high = self.restrict(chunk >= np.float32(high), start)
            between = self.restrict(chunk > np.float32(low), start)
            heavy += self.weigh(from_high, start)
            between ^= from_high
            inside.append(chunk[between])
            if not isinstance(self.size, int):
                sizes.append(self.size[start : start + chunk.size][between])
        values = np.concatenate(inside) if inside else np.empty(0, dtype=np.float32)
        return heavy, values, np.full(values.size, self.size) if isinstance(self.size, int) else np.concatenate(sizes)

    def weight_above(self, threshold: float) -> int:
        """How many weights score more than ``threshold``."""
        cut = np.float32(threshold)
        return sum(self.weigh(self.restrict(chunk > cut, start), start) for start, chunk in self.chunks())

    def above(self, threshold: float) -> np.ndarray:
        """Where the scores are larger than ``threshold``, flat."""
        chosen = np.empty(self.scores.numel(), dtype=bool)
        for start, chunk in self.chunks():
            np.greater(chunk, np.float32(threshold), out=chosen[start : start + chunk.size])
        return self.restrict(chosen, 0)

    def ties(self, threshold: float) -> np.ndarray:
        """Flat indices of the scores equal to ``threshold``."""
        found = [
            np.flatnonzero(self.restrict(chunk == np.float32(threshold), start)) + start
            for start, chunk in self.chunks()
        ]
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _threshold(columns: list[_Column], keep: int, available: int) -> tuple[float, int]:
    """The largest score t with at least ``keep`` weights at t or above, and how many weights are above t."""
    for sigmas in _SIGMAS:
        low, high = _sampled_bracket(columns, keep / available, sigmas)
        parts = in_threads(partial(_Column.bracket, low=low, high=high), columns)
        heavy = sum(part[0] for part in parts)
        if heavy >= keep:  # at `high` or above it
            above = sum(in_threads(partial(_Column.weight_above, threshold=high), columns))
            if above < keep:
                return high, above
            continue
        values = np.concatenate([part[1] for part in parts])
        sizes = np.concatenate([part[2] for part in parts])
        order = np.argsort(-values)
        values, reached = values[order], heavy + np.cumsum(sizes[order], dtype=np.int64)
        if reached.size and reached[-1] >= keep:
            threshold = values[np.searchsorted(reached, keep)]
            larger = int(np.searchsorted(-values, -threshold))
            return float(threshold), int(reached[larger - 1]) if larger else heavy
        inside = int(reached[-1]) if reached.size else heavy
        if _weight_from(columns, low) >= keep:
            return low, inside
    raise MaskError("the scores changed while they were ranked; do not train the model while it is pruned")


def _weight_from(columns: list[_Column], threshold: float) -> int:
    below = float(np.nextafter(np.float32(threshold), np.float32(-math.inf)))
    return sum(in_threads(partial(_Column.weight_above, threshold=below), columns))


def _sampled_bracket(columns: list[_Column], fraction: float, sigmas: float) -> tuple[float, float]:
    """Scores between which the threshold lies, in all likelihood: a quantile of a sample, plus and minus its error."""
    total = sum(column.scores.numel() for column in columns)
    if total <= 4 * _SAMPLE or math.isinf(sigmas):
        return -math.inf, math.inf
    samples = in_threads(lambda column: column.sample(-(-_SAMPLE * column.scores.numel() // total)), columns)
    values = np.concatenate([sample[0] for sample in samples])
    sizes = np.concatenate([sample[1] for sample in samples]).astype(np.float64)
    if values.size < 1000 or np.isnan(values).any():
        return -math.inf, math.inf
    if (sizes == sizes[0]).all():
        values = np.sort(values)[::-1]
    else:
        order = np.argsort(-values)
        values, sizes = values[order], sizes[order]
    reached = np.cumsum(sizes) / sizes.sum()
    effective = sizes.sum() ** 2 / np.square(sizes).sum()
    margin = sigmas * math.sqrt(fraction * (1 - fraction) / effective) + 2 / effective
    first, last = np.searchsorted(reached, [fraction - margin, fraction + margin])
    high = float(values[first]) if fraction > margin else math.inf
    low = float(values[last]) if last < values.size else -math.inf
    return low, high


def _keep_ties(columns: list[_Column], kept: dict[str, np.ndarray], threshold: float, wanted: int, least: int) -> None:
    """Keep scores equal to the threshold, in order of position, until the number of weights is nearest to wanted."""
    taken = 0
    anything_above = any(chosen.any() for chosen in kept.values())
    for column in columns:
        where = column.ties(threshold)
        if isinstance(column.size, int):
            reached = taken + column.size * np.arange(1, where.size + 1)
        else:
            reached = taken + np.cumsum(column.size[where])
        full = int(np.searchsorted(reached, wanted, side="right"))  # these do not go beyond what is wanted
        before = int(reached[full - 1]) if full else taken
        if full < where.size:
            first = not anything_above and not full and not taken
            if before < wanted and (before < least or first or reached[full] - wanted <= wanted - before):
                full += 1
            kept[column.name][where[:full]] = True
            return
        kept[column.name][where] = True
        taken = before
        if taken >= wanted:
            return
