"""What shape is pruned: single weights, blocks, N of every M inputs, rows, input columns, channels.

A pattern turns the scores of the weights into one score per group: the mean over the group's members, in float64.
Groups are pruned whole. Blocks at the lower and right edge of a matrix that the block does not divide are smaller; the
mean makes them comparable.

`PATTERNS` lists how a user writes them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audio_lottery.errors import MaskError
from audio_lottery.pruning.pattern import FixedPattern, GroupPattern, Pattern, as_matrix, matrix_shape
from audio_lottery.pruning.selection import Size

_GROUPS_PER_CHUNK = 1 << 15
_WEIGHTS_PER_CHUNK = 1 << 16


@dataclass(frozen=True)
class Blocks(GroupPattern):
    """Rectangles of the matrix that are kept or pruned whole.

    Attributes:
        spec: how a user writes the pattern.
        rows: output features of a block; None for all of them (a block is an input column).
        columns: input features of a block; None for all of them (a block is a row).
        only_convolutions: refuse parameters with fewer than three dimensions.
    """

    spec: str
    rows: int | None = 1
    columns: int | None = 1
    only_convolutions: bool = False

    @property
    def single(self) -> bool:
        """See `GroupPattern.single`."""
        return self.rows == 1 and self.columns == 1

    def reduce(self, name: str, scores: Tensor) -> Tensor:
        """Scores of the groups, [block rows, block columns], float32: the mean over the members of each.

        Raises:
            MaskError: the pattern is for convolutions and the parameter ``name`` is none.
        """
        self.check(name, scores.shape)
        if self.single:
            return as_matrix(scores)
        height, width = self._block(scores.shape)
        sums = _block_sums(as_matrix(scores).numpy(), height, width)
        sizes = self.sizes(scores.shape)
        sums /= sizes if isinstance(sizes, int) else sizes.reshape(sums.shape)
        return torch.from_numpy(sums.astype(np.float32))

    def sizes(self, shape: torch.Size) -> Size:
        """How many weights a group has: one number, or one per group (flat) where edge blocks are smaller."""
        height, width = self._block(shape)
        rows, columns = matrix_shape(shape)
        if rows % height == 0 and columns % width == 0:
            return height * width
        heights = np.minimum(height, rows - np.arange(0, rows, height))
        widths = np.minimum(width, columns - np.arange(0, columns, width))
        return np.outer(heights, widths).reshape(-1)

    def grid(self, shape: torch.Size) -> torch.Size:
        """(block rows, block columns) of a parameter of ``shape``."""
        height, width = self._block(shape)
        rows, columns = matrix_shape(shape)
        return torch.Size((-(-rows // height), -(-columns // width)))

    def expand(self, groups: Tensor, shape: torch.Size) -> Tensor:
        """The mask of the weights, of ``shape``, from the mask of the groups."""
        if self.single:
            return groups.reshape(shape)
        height, width = self._block(shape)
        rows, columns = matrix_shape(shape)
        full = groups[:, None, :, None].expand(-1, height, -1, width)
        return full.reshape(len(groups) * height, groups.shape[1] * width)[:rows, :columns].reshape(shape)

    def whole(self, name: str, mask: Tensor) -> Tensor:
        """The groups that a mask of the weights keeps, [block rows, block columns].

        Raises:
            MaskError: the mask keeps some groups in part, or the pattern does not suit the parameter ``name``.
        """
        self.check(name, mask.shape)
        if self.single:
            return as_matrix(mask)
        kept = _block_sums(as_matrix(mask).numpy(), *self._block(mask.shape))
        sizes = self.sizes(mask.shape)
        full = kept == (sizes if isinstance(sizes, int) else sizes.reshape(kept.shape))
        torn = int(np.count_nonzero((kept > 0) & ~full))
        if torn:
            raise MaskError(
                f"the mask so far keeps {torn} groups of pattern '{self.spec}' in '{name}' only in part, so they "
                f"cannot be kept or pruned whole; start from a dense mask, or from one made with '{self.spec}'"
            )
        return torch.from_numpy(full)

    def check(self, name: str, shape: torch.Size) -> None:
        """Refuse a parameter that the pattern is not for.

        Raises:
            MaskError: the pattern is for convolutions and the parameter is none.
        """
        if self.only_convolutions and len(shape) < 3:
            raise MaskError(
                f"pattern '{self.spec}' is for convolutions and '{name}' {tuple(shape)} is none; exclude it, keep it "
                "dense by a rule, or use pattern 'rows', which prunes output features of any layer"
            )

    def _block(self, shape: torch.Size) -> tuple[int, int]:
        rows, columns = matrix_shape(shape)
        # at least 1, so that an empty parameter has no groups rather than groups of size 0
        return max(1, min(self.rows or rows, rows)), max(1, min(self.columns or columns, columns))


@dataclass(frozen=True)
class NofM(FixedPattern):
    """Exactly ``n`` of every ``m`` consecutive inputs of each output row are kept.

    Mishra et al. 2021, arXiv:2104.08378; 2:4 is the pattern that NVIDIA's sparse tensor cores run.

    Attributes:
        spec: how a user writes the pattern.
        n: kept.
        m: of so many.
    """

    spec: str
    n: int
    m: int

    @property
    def density(self) -> float:
        """N/M."""
        return self.n / self.m

    def kept(self, weights: int) -> int:
        """N of every M."""
        return weights * self.n // self.m

    def select(self, name: str, scores: Tensor, among: Tensor | None = None) -> Tensor:
        """See `FixedPattern.select`: the ``n`` largest scores of every ``m``; ties go to the earlier input.

        Raises:
            MaskError: ``m`` does not divide the inputs, or ``among`` keeps fewer than ``n`` somewhere.
        """
        self.check(name, scores.shape)
        groups = scores.reshape(-1, self.m).numpy()
        allowed = None if among is None or bool(among.all()) else among.reshape(-1, self.m).numpy()
        if allowed is not None:
            poor = int(np.count_nonzero(allowed.sum(axis=1) < self.n))
            if poor:
                raise MaskError(
                    f"the mask so far keeps fewer than {self.n} weights in {poor} groups of {self.m} inputs in "
                    f"'{name}', so pattern '{self.spec}' cannot be met; start from a dense mask or a denser N:M mask"
                )
        kept = np.empty(groups.shape, dtype=bool)
        for start in range(0, len(groups), _GROUPS_PER_CHUNK):
            stop = start + _GROUPS_PER_CHUNK
            part = groups[start:stop]
            if not np.isfinite(part).all():
                raise MaskError(
                    f"'{name}' has weights or scores that are NaN or infinite; the model that was trained has diverged"
                )
            if allowed is not None:
                part = np.where(allowed[start:stop], part, np.float32(-np.inf))
            kept[start:stop] = _first_n(np.ascontiguousarray(part.T), self.n).T
        return torch.from_numpy(kept).reshape(scores.shape)

    def check(self, name: str, shape: torch.Size) -> None:
        """Refuse a parameter whose inputs cannot be cut into groups of ``m``.

        Raises:
            MaskError: they cannot.
        """
        columns = matrix_shape(shape)[1]
        if columns % self.m:
            raise MaskError(
                f"pattern '{self.spec}' needs inputs in groups of {self.m}: '{name}' {tuple(shape)} has {columns} "
                f"inputs per output, which {self.m} does not divide; exclude it, or keep it dense by a rule"
            )


@dataclass(frozen=True)
class PatternKind:
    """How a user names patterns.

    Attributes:
        form: with its parameters in capitals, and an example where there are some; for messages and help.
        parse: a spec → its pattern, None where the spec is not of this form.
    """

    form: str
    parse: Callable[[str], Pattern | None]


def _named(pattern: Pattern) -> PatternKind:
    return PatternKind(pattern.spec, lambda spec: pattern if spec == pattern.spec else None)


def _parse_blocks(spec: str) -> Blocks | None:
    block = re.fullmatch(r"block:([1-9]\d*)x([1-9]\d*)", spec)
    return Blocks(spec, int(block[1]), int(block[2])) if block else None


def _parse_n_of_m(spec: str) -> NofM | None:
    fraction = re.fullmatch(r"nm:([1-9]\d*):([1-9]\d*)", spec)
    if not fraction:
        return None
    n, m = int(fraction[1]), int(fraction[2])
    if n >= m:
        raise MaskError(f"pattern '{spec}' keeps {n} of every {m} weights, which prunes nothing; N must be below M")
    if m > 64:
        raise MaskError(f"pattern '{spec}' has groups of {m}; at most 64 are supported")
    return NofM(spec, n, m)


PATTERNS: dict[str, PatternKind] = {
    "unstructured": _named(Blocks("unstructured")),
    "block": PatternKind("block:ROWSxCOLUMNS (block:1x4)", _parse_blocks),
    "nm": PatternKind("nm:N:M (nm:2:4)", _parse_n_of_m),
    "rows": _named(Blocks("rows", 1, None)),
    "columns": _named(Blocks("columns", None, 1)),
    "channels": _named(Blocks("channels", 1, None, only_convolutions=True)),
}
"""What can be pruned as a whole. ``rows`` are output features, ``columns`` input features (for a convolution: one tap
of one input channel), ``channels`` output channels of convolutions; ``channels`` refuses other layers."""


def parse_pattern(spec: str) -> Pattern:
    """The pattern that ``spec`` names, in one of the forms of `PATTERNS`.

    Raises:
        MaskError: it names none, or a size is out of range.
    """
    for kind in PATTERNS.values():
        pattern = kind.parse(spec)
        if pattern is not None:
            return pattern
    raise MaskError(f"'{spec}' is not a pattern; patterns are {', '.join(kind.form for kind in PATTERNS.values())}")


def _block_sums(matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sums of the blocks in float64, [block rows, block columns]; blocks at the lower and right edge are smaller."""
    rows, columns = matrix.shape
    sums = np.empty((-(-rows // height), -(-columns // width)))
    step = max(1, _WEIGHTS_PER_CHUNK // max(1, height * columns))  # block rows that stay in a core's cache
    for start in range(0, len(sums), step):
        part = matrix[start * height : (start + step) * height].astype(np.float64)
        if height > 1:
            whole = len(part) // height
            tall = part[: whole * height].reshape(whole, height, columns).sum(axis=1)
            rest = part[whole * height :]
            part = np.concatenate([tall, rest.sum(axis=0, keepdims=True)]) if len(rest) else tall
        if width > 1:
            part = np.add.reduceat(part, np.arange(0, columns, width), axis=1)
        sums[start : start + step] = part
    return sums


def _first_n(members: np.ndarray, n: int) -> np.ndarray:
    """[m, groups] → true for the n largest members of each group: those that fewer than n others beat."""
    m = len(members)
    beaten_by = np.empty(members.shape, dtype=np.uint8)
    beaten_by[:] = np.arange(m - 1, -1, -1, dtype=np.uint8)[:, None]  # by all later ones, until shown otherwise
    for i in range(m):
        for j in range(i + 1, m):
            first = (members[i] >= members[j]).view(np.uint8)  # on a tie the earlier input wins
            beaten_by[j] += first
            beaten_by[i] -= first
    return beaten_by < n
