"""Where the kept weights go: how many each layer gets. Whole numbers that sum exactly to the total.

``global``        no numbers: the scores of all layers compete (`audio_lottery.pruning.prune` ranks them together).
``uniform``       every layer the same density.
``uniform_plus``  the first convolution dense and at least 20 % of the last layer, uniform elsewhere (Gale et al. 2019,
                  arXiv:1902.09574). A model without convolutions has no dense layer.
``erk``           Erdős-Rényi-kernel: density in proportion to (sum of the dimensions) / (product of the dimensions)
                  (Mocanu et al. 2018, Evci et al. 2020, arXiv:1911.11134).

A layer that would get more than it has is filled and the rest is shared again by the others; so is one that would get
less than it must keep. Fractions are rounded by largest remainder, ties to the earlier layer.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from audio_lottery.errors import MaskError

ALLOCATIONS = ("global", "uniform", "uniform_plus", "erk")
_LAST_LAYER_KEEPS = Fraction(1, 5)


@dataclass(frozen=True)
class Rule:
    """What the layers that match are owed, whatever the allocation.

    Attributes:
        match: regular expression, searched in the parameter's name.
        dense: keep the layer whole (all that the mask so far keeps of it); its weights count in the total.
        floor: keep at least this density of the layer.
        least: keep at least as many of its weights (or groups, for patterns). Layers keep 1 where no rule says
            otherwise; 0 lets the layer go.

    Raises:
        MaskError: the expression does not parse; the rule has none or more than one of ``dense``, ``floor`` and
            ``least``; the floor is outside (0, 1], or ``least`` is negative.
    """

    match: str
    dense: bool = False
    floor: float | None = None
    least: int | None = None

    def __post_init__(self) -> None:
        try:
            re.compile(self.match)
        except re.error as error:
            raise MaskError(f"rule '{self.match}' is not a regular expression: {error.msg}") from error
        if self.dense + (self.floor is not None) + (self.least is not None) != 1:
            raise MaskError(f"rule '{self.match}' needs exactly one of dense, floor and least")
        if self.floor is not None and not 0 < self.floor <= 1:
            raise MaskError(f"rule '{self.match}' has floor {self.floor}, which is outside (0, 1]")
        if self.least is not None and self.least < 0:
            raise MaskError(f"rule '{self.match}' keeps at least {self.least} weights; it must be 0 or more")


@dataclass(frozen=True)
class Layer:
    """A layer as an allocation sees it. Numbers are weights, or groups of weights of one size.

    Attributes:
        name: of the parameter.
        shape: of the parameter.
        size: how many it has.
        available: how many may be kept.
        least: how many must be kept.
    """

    name: str
    shape: tuple[int, ...]
    size: int
    available: int
    least: int


@dataclass(frozen=True)
class Owed:
    """What the rules say of a model's layers.

    Attributes:
        dense: names of the layers that are kept whole; that wins over the other two.
        floors: name → density; of several the highest.
        least: name → number of weights or groups; of several the highest.
    """

    dense: set[str]
    floors: dict[str, float]
    least: dict[str, int]


def match_rules(rules: Sequence[Rule], names: Sequence[str]) -> Owed:
    """What the layers of these names are owed.

    Raises:
        MaskError: a rule matches no name; the nearest are suggested.
    """
    owed = Owed(set(), {}, {})
    for rule in rules:
        hits = [name for name in names if re.search(rule.match, name)]
        if not hits:
            near = difflib.get_close_matches(rule.match, names, n=3, cutoff=0.3) or list(names[:3])
            raise MaskError(f"rule '{rule.match}' matches no prunable weight; nearest names: {', '.join(near)}")
        if rule.floor is not None:
            owed.floors.update({name: max(rule.floor, owed.floors.get(name, 0.0)) for name in hits})
        elif rule.least is not None:
            owed.least.update({name: max(rule.least, owed.least.get(name, 0)) for name in hits})
        else:
            owed.dense.update(hits)
    for name in owed.dense:
        owed.floors.pop(name, None)
        owed.least.pop(name, None)
    return owed


def check_allocation(allocation: str) -> None:
    """Refuse a name that is not an allocation.

    Raises:
        MaskError: it is none.
    """
    if allocation not in ALLOCATIONS:
        raise MaskError(f"'{allocation}' is not an allocation; allocations are {', '.join(ALLOCATIONS)}")


def allocate(
    allocation: str, layers: Sequence[Layer], total: int, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """How many every layer keeps; the numbers sum to ``total``.

    Args:
        allocation: uniform, uniform_plus or erk.
        layers: the layers that share the total.
        total: how many are kept in all of them.
        shapes: all prunable parameters in the model's order, those that a rule keeps dense too: they say which
            convolution is the first and which layer the last.

    Raises:
        MaskError: the layers must keep more than ``total``, or have fewer.
    """
    if allocation == "uniform_plus":
        layers = _uniform_plus(layers, shapes)
    weights = [sum(layer.shape) if allocation == "erk" else layer.size for layer in layers]
    counts = share(total, weights, [layer.least for layer in layers], [layer.available for layer in layers])
    return dict(zip((layer.name for layer in layers), counts, strict=True))


def share(total: int, weights: Sequence[int], least: Sequence[int], most: Sequence[int]) -> list[int]:
    """Whole numbers n_i that sum to ``total``, in proportion to ``weights``, with ``least_i ≤ n_i ≤ most_i``.

    The real shares are λ·weight_i cut at the bounds, with the one λ that makes the sum right; they are computed
    exactly and rounded by largest remainder, ties to the earlier position. What weighs nothing gets its least.

    Raises:
        MaskError: the bounds do not allow the total.
    """
    most = [high if weight else low for weight, low, high in zip(weights, least, most, strict=True)]
    if not sum(least) <= total <= sum(most):
        raise MaskError(
            f"cannot keep {total} weights: the layers together need at least {sum(least)} and have {sum(most)} to "
            "choose from; ask for a density between, or change the rules"
        )
    shares = {i: Fraction(least[i]) for i, weight in enumerate(weights) if not weight}
    while len(shares) < len(weights):
        free = [i for i in range(len(weights)) if i not in shares]
        scale = Fraction(total - sum(shares.values(), Fraction(0)), sum(weights[i] for i in free))
        below = [i for i in free if scale * weights[i] < least[i]]
        above = [i for i in free if scale * weights[i] > most[i]]
        missing = sum((least[i] - scale * weights[i] for i in below), Fraction(0))
        surplus = sum((scale * weights[i] - most[i] for i in above), Fraction(0))
        if not below and not above:
            shares.update({i: scale * weights[i] for i in free})
        # the larger violation is settled first: settling the smaller one could change its side
        if below and missing >= surplus:
            shares.update({i: Fraction(least[i]) for i in below})
        if above and surplus >= missing:
            shares.update({i: Fraction(most[i]) for i in above})
    counts = [shares[i].numerator // shares[i].denominator for i in range(len(weights))]
    by_remainder = sorted(range(len(weights)), key=lambda i: (counts[i] - shares[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _uniform_plus(layers: Sequence[Layer], shapes: Mapping[str, tuple[int, ...]]) -> list[Layer]:
    first_convolution = next((name for name, shape in shapes.items() if len(shape) >= 3), None)
    last = list(shapes)[-1]
    changed = []
    for layer in layers:
        least = layer.least
        if layer.name == last:
            least = max(least, -(-layer.size * _LAST_LAYER_KEEPS.numerator // _LAST_LAYER_KEEPS.denominator))
        if layer.name == first_convolution:
            least = layer.available
        changed.append(Layer(layer.name, layer.shape, layer.size, layer.available, min(least, layer.available)))
    return changed
