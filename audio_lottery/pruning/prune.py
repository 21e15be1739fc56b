"""`prune`: score × pattern × allocation → mask."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from audio_lottery.errors import MaskError
from audio_lottery.pruning.allocation import Layer, Owed, Rule, allocate, check_allocation, match_rules, share
from audio_lottery.pruning.distributed import full_parameters
from audio_lottery.pruning.mask import Mask
from audio_lottery.pruning.pattern import FixedPattern, GroupPattern, Pattern, as_matrix
from audio_lottery.pruning.patterns import parse_pattern
from audio_lottery.pruning.scope import Scope, find_scope
from audio_lottery.pruning.scores import SCORES, Score, ScoreInputs, ScoreKind
from audio_lottery.pruning.selection import (
    Size,
    check_density,
    exact_count,
    in_threads,
    keep_in_rows,
    keep_largest,
)


@torch.no_grad()
def prune(
    model: nn.Module,
    density: float,
    *,
    score: str | Score | ScoreKind = "magnitude",
    pattern: str | Pattern = "unstructured",
    allocation: str = "global",
    among: Mask | Scope | None = None,
    rules: Sequence[Rule] = (),
    score_inputs: ScoreInputs | None = None,
) -> Mask:
    """The mask that keeps a share of the prunable weights of any torch model. The model is not changed.

    Counts are exact. Unstructured masks keep ⌊density·n + ½⌋ of n prunable weights. Patterns whose groups all have one
    size g keep the nearest number of groups; where sizes differ (rows of matrices of different widths, blocks at an
    edge), the best groups are kept until their number of weights is nearest to what was asked, in the whole model
    (``global``) or in each layer (other allocations). N:M patterns keep exactly N of every M.

    No layer loses all its weights, unless a rule lets it: where the global ranking would leave a layer with fewer than
    it is owed, its best ones are kept and the last of the ranking give way. Layers that ``among`` has emptied stay
    empty.

    Weights are ranked in float32, complex ones by their magnitude: a score of one's own sees |w| of them.

    Args:
        model: on any device; the work is done on the CPU, with as many threads as torch uses. The parameters of a
            model that is sharded (FSDP2) are gathered: every process must call, and every process gets the same mask.
        density: kept / prunable, in (0, 1]; prunable is the scope. For N:M it must be N/M.
        score: how important a weight is: magnitude, lamp, random, taylor, wanda, movement, or a function like them.
        pattern: what is pruned as a whole; see `PATTERNS`: unstructured, block:1x4, nm:2:4, rows, columns, channels.
        allocation: where: global, uniform, uniform_plus, erk. LAMP is score lamp with allocation global.
        among: what may be pruned: the scope that `find_scope` gives for expressions of one's own; or the mask so far,
            which gives the scope and of which only weights that it keeps may be kept, so masks only shrink. None:
            all that `find_scope` finds.
        rules: layers to keep dense, or above a density or number; see `Rule`.
        score_inputs: what taylor, wanda, movement and obs look at, and the seed of random; see `ScoreInputs`.

    Raises:
        MaskError: an unknown name; a density that is out of range, below what layers and rules need or above what
            ``among`` has; a pattern that does not fit a layer or the mask so far; weights that are NaN, infinite,
            beyond float32's range or without values (meta device); score_inputs that is missing or does not fit.
    """
    check_density(density)
    check_allocation(allocation)
    kind = _score(score)
    shape = parse_pattern(pattern) if isinstance(pattern, str) else pattern
    parameters = _parameters(model, among)
    owed = match_rules(rules, list(parameters))
    so_far = among if isinstance(among, Mask) else None
    job = _Job(parameters, so_far, kind, score_inputs or ScoreInputs(), owed)
    if isinstance(shape, FixedPattern):
        return _prune_fixed(job, shape, density, allocation)
    return _prune_groups(job, shape, density, allocation)


@dataclass(frozen=True)
class _Job:
    """What both kinds of pattern need."""

    weights: dict[str, Tensor]
    among: Mask | None
    score: ScoreKind
    score_inputs: ScoreInputs
    owed: Owed

    @property
    def free(self) -> list[str]:
        """The layers that are ranked: not kept dense by a rule, and not emptied by the mask so far."""
        gone = (
            set() if self.among is None else {name for name, (kept, _) in self.among.per_tensor().items() if not kept}
        )
        return [name for name in self.weights if name not in self.owed.dense and name not in gone]

    def scores(self, names: Sequence[str]) -> Mapping[str, Tensor]:
        """Scores of the named layers, checked."""
        weights = {name: self.weights[name] for name in names}
        scores = self.score.function(weights, self.among, self.score_inputs)
        for name, weight in weights.items():
            found = scores.get(name)
            if (
                found is None
                or found.shape != weight.shape
                or found.dtype != torch.float32
                or found.device.type != "cpu"
            ):
                raise MaskError(
                    f"the score gives no float32 scores on the CPU of shape {tuple(weight.shape)} for '{name}'"
                )
        return scores

    def for_each(self, names: Sequence[str], function: Callable[[str, Tensor], Tensor]) -> dict[str, Tensor]:
        """Name → function(name, scores); scores are made and used up one tensor at a time where that is the same."""
        names = list(names)
        if self.score.tensor_by_tensor:
            made = in_threads(lambda name: function(name, self.scores([name])[name]), names)
        else:
            scores = self.scores(names)
            made = in_threads(lambda name: function(name, scores[name]), names)
        return dict(zip(names, made, strict=True))

    def assemble(self, chosen: Mapping[str, Tensor]) -> Mask:
        """The mask of all layers: those chosen, dense ones as they were, emptied ones empty."""
        tensors = {}
        for name, weight in self.weights.items():
            if name in chosen:
                tensors[name] = chosen[name]
            elif self.among is not None:
                tensors[name] = self.among[name].clone()
            else:
                tensors[name] = torch.ones(weight.shape, dtype=torch.bool)
        return Mask(tensors)


def _prune_fixed(job: _Job, pattern: FixedPattern, density: float, allocation: str) -> Mask:
    if abs(density - pattern.density) > 1e-9:
        raise MaskError(
            f"pattern '{pattern.spec}' has density {pattern.density:g} and {density:g} was asked; ask for "
            f"{pattern.density:g}, or take another pattern"
        )
    if allocation not in ("global", "uniform"):
        raise MaskError(
            f"pattern '{pattern.spec}' fixes every layer's density at {pattern.density:g}, so allocation "
            f"'{allocation}' has nothing to decide; use global or uniform"
        )
    for name, floor in job.owed.floors.items():
        if floor > pattern.density + 1e-9:
            raise MaskError(
                f"the rule for '{name}' asks for a density of {floor:g} and pattern '{pattern.spec}' keeps "
                f"{pattern.density:g}; keep the layer dense, or take another pattern"
            )
    for name in job.free:
        pattern.check(name, job.weights[name].shape)

    def select(name: str, scores: Tensor) -> Tensor:
        return pattern.select(name, scores, None if job.among is None else job.among[name])

    return job.assemble(job.for_each(job.free, select))


def _prune_groups(job: _Job, pattern: GroupPattern, density: float, allocation: str) -> Mask:
    free = job.free
    for name in free:
        pattern.check(name, job.weights[name].shape)
    sizes = {name: pattern.sizes(job.weights[name].shape) for name in free}
    groups = None if job.among is None else {name: pattern.whole(name, job.among[name]) for name in free}
    unit = _common_size(sizes)
    if unit:
        sizes = dict.fromkeys(free, 1)
    layers = [_layer(job, name, sizes[name], unit or 1, None if groups is None else groups[name]) for name in free]
    total = _total(job, density, layers, unit or 1)
    counts = None
    if allocation != "global":
        shapes = {name: tuple(weight.shape) for name, weight in job.weights.items() if weight.numel()}
        counts = allocate(allocation, layers, total, shapes)
        if pattern.single:
            job = replace(job, score_inputs=replace(job.score_inputs, wanted=counts))
    ranking = _Ranking(*_group_scores(job, pattern, free), groups, sizes)
    if counts is None:
        chosen = _global(ranking, layers, total)
    else:
        by_row = job.score.within_rows and allocation == "uniform" and pattern.single
        chosen = {
            layer.name: _in_rows(ranking, layer, counts[layer.name])
            if by_row
            else ranking.best(layer, counts[layer.name])
            for layer in layers
            if counts[layer.name]
        }
    for layer in layers:
        if layer.name not in chosen:
            chosen[layer.name] = torch.zeros(ranking.scores[layer.name].shape, dtype=torch.bool)
    return job.assemble({name: pattern.expand(kept, job.weights[name].shape) for name, kept in chosen.items()})


@dataclass(frozen=True)
class _Ranking:
    """Scores of groups as matrices, and what selection has to know of them."""

    scores: Mapping[str, Tensor]
    absolute: bool
    groups: Mapping[str, Tensor] | None
    sizes: Mapping[str, Size]

    def best_of(self, names: Sequence[str], keep: int, least: int = 0) -> Mask:
        """The best groups of the named layers together."""
        scores = {name: self.scores[name] for name in names}
        return keep_largest(scores, keep, self.groups, absolute=self.absolute, sizes=self.sizes, least=least)

    def best(self, layer: Layer, keep: int) -> Tensor:
        """The best groups of one layer."""
        return self.best_of([layer.name], keep, layer.least)[layer.name]

    def weigh(self, name: str, chosen: Tensor) -> int:
        """How many weights (or groups of the common size) the chosen groups are."""
        size = self.sizes[name]
        mask = chosen.reshape(-1).numpy()
        return int(np.count_nonzero(mask)) * size if isinstance(size, int) else int(size[mask].sum())


def _global(ranking: _Ranking, layers: Sequence[Layer], total: int) -> dict[str, Tensor]:
    """Rank all layers together; layers that get less than they must keep get that, and the others are ranked again."""
    chosen: dict[str, Tensor] = {}
    free = list(layers)
    while free:
        need = sum(layer.least for layer in free)
        if total < max(need, 1):
            raise MaskError(
                f"cannot keep at least one group and every floor in each layer: {total} weights are left for "
                f"{len(free)} layers that need {need}; ask for a higher density or change the rules"
            )
        mask = ranking.best_of([layer.name for layer in free], total)
        short = [layer for layer in free if ranking.weigh(layer.name, mask[layer.name]) < layer.least]
        if not short:
            chosen.update(mask)
            break
        for layer in short:
            chosen[layer.name] = ranking.best(layer, layer.least)
            total -= ranking.weigh(layer.name, chosen[layer.name])
        free = [layer for layer in free if layer not in short]
    return chosen


def _in_rows(ranking: _Ranking, layer: Layer, count: int) -> Tensor:
    scores = ranking.scores[layer.name]
    allowed = None if ranking.groups is None else ranking.groups[layer.name]
    rows, columns = scores.shape
    available = [columns] * rows if allowed is None else [int(n) for n in allowed.sum(dim=1)]
    counts = share(count, [1] * rows, [0] * rows, available)
    return keep_in_rows(scores, np.array(counts), allowed)


def _group_scores(job: _Job, pattern: GroupPattern, names: Sequence[str]) -> tuple[dict[str, Tensor], bool]:
    """Scores of the groups, and whether selection still has to take their absolute values."""
    if job.score.is_magnitude and pattern.single:  # |w| of the whole model need not be in memory
        return {name: as_matrix(job.weights[name]) for name in names}, True
    return job.for_each(names, pattern.reduce), False


def _layer(job: _Job, name: str, size: Size, unit: int, groups: Tensor | None) -> Layer:
    shape = tuple(job.weights[name].shape)
    whole = job.weights[name].numel() // unit
    mask = None if groups is None else groups.reshape(-1).numpy()
    if isinstance(size, int):
        available = whole if mask is None else int(np.count_nonzero(mask)) * size
        smallest = size
    else:
        present = size if mask is None else size[mask]
        available, smallest = int(present.sum()), int(present.min())
    least = min(job.owed.least.get(name, 1) * smallest, available)
    floor_density = job.owed.floors.get(name)
    if floor_density is not None:
        floor = -(-exact_count(floor_density, job.weights[name].numel()) // unit)
        if floor > available:
            raise MaskError(
                f"the rule for '{name}' asks for a density of {floor_density:g}, {floor * unit} weights, and the "
                f"mask so far keeps {available * unit} of them; lower the floor"
            )
        least = max(least, floor)
    return Layer(name, shape, whole, available, least)


def _total(job: _Job, density: float, layers: Sequence[Layer], unit: int) -> int:
    """How many groups (or weights, where their sizes differ) the ranked layers keep together."""
    prunable = sum(weight.numel() for weight in job.weights.values())
    exact_count(density, prunable)  # refuses a density that keeps nothing
    dense = sum(
        job.weights[name].numel() if job.among is None else int(torch.count_nonzero(job.among[name]))
        for name in job.owed.dense
    )
    if prunable % unit == 0 and dense % unit == 0:
        total = math.floor(density * (prunable // unit) + 0.5) - dense // unit
    else:
        total = math.floor((density * prunable - dense) / unit + 0.5)
    need, have = sum(layer.least for layer in layers), sum(layer.available for layer in layers)
    if total < max(need, min(len(layers), 1)):
        raise MaskError(
            f"density {density:g} of {prunable} weights keeps {exact_count(density, prunable)}, and the layers need "
            f"{dense + max(need, 1) * unit}: {dense} in those that rules keep dense, {need * unit} in the other "
            f"{len(layers)} for floors and at least one weight or group each; ask for more, or change the rules"
        )
    if total > have:
        raise MaskError(
            f"density {density:g} of {prunable} weights asks for {exact_count(density, prunable)}; the mask so far "
            f"keeps {dense + have * unit}, and masks only shrink"
        )
    return total


def _common_size(sizes: Mapping[str, Size]) -> int | None:
    """The number of weights in a group where all groups have the same, else None."""
    different = {size if isinstance(size, int) else None for size in sizes.values()}
    return different.pop() if len(different) == 1 else None


def _score(score: str | Score | ScoreKind) -> ScoreKind:
    if isinstance(score, ScoreKind):
        return score
    if not isinstance(score, str):
        return ScoreKind(score, tensor_by_tensor=False)  # it may compare tensors with each other
    if score not in SCORES:
        raise MaskError(f"'{score}' is not a score; scores are {', '.join(SCORES)}")
    return SCORES[score]


def _parameters(model: nn.Module, among: Mask | Scope | None) -> dict[str, Tensor]:
    if isinstance(among, Mask):
        among.check_fits(model)
        names = list(among)
    else:
        names = (among or find_scope(model)).names
    return {name: _readable(name, weight) for name, weight in full_parameters(model, names)}


def _readable(name: str, weight: Tensor) -> Tensor:
    weight = weight.detach().cpu()
    if weight.is_complex():
        weight = weight.abs()
    if weight.dtype != torch.float64:
        return weight
    narrow = weight.float()
    if bool((narrow.isinf() & weight.isfinite()).any()):
        raise MaskError(f"'{name}' has weights beyond the range of float32, in which they are ranked; scale them down")
    return narrow
