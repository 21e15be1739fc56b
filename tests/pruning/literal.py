"""Slow implementations of scores, allocations and patterns, written from their formulas: the judges of the tests.

Weights are lists of numbers in row-major order, fractions are exact, and nothing of the package is used.
"""

import math
from fractions import Fraction
from itertools import accumulate

import numpy as np
from hypothesis import strategies as st

# few distinct values, so that ties, zeros of both signs and denormals are common
VALUES = st.sampled_from([0.0, -0.0, 1e-45, -1e-30, 0.5, -0.5, 0.5, 1.0, -1.0000001, 3.0, -3.4e38])
Shape = tuple[int, ...]


def lamp(weights: list[float], present: list[int]) -> list[float]:
    """Sort ascending, stable by index; divide every square by the sum of itself and all that follow; float32."""
    order = sorted(present, key=lambda i: (abs(weights[i]), i))
    scores = [0.0] * len(weights)
    for rank, index in enumerate(order):
        tail = 0.0
        for other in reversed(order[rank:]):
            tail += weights[other] ** 2
        scores[index] = float(np.float32(weights[index] ** 2 / tail)) if tail else 0.0
    return scores


def best(scores: list[float], keep: int) -> set[int]:
    """Positions of the ``keep`` largest scores; ties to the earlier."""
    return set(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:keep])


def best_of_all(scores: list[list[float]], keep: int, owed: int = 0) -> list[set[int]]:
    """Positions kept in every layer: what each is owed first, then the best of the rest; ties to the earlier layer."""
    chosen = [best(layer, owed) for layer in scores]
    ranking = sorted((-score, layer, i) for layer, row in enumerate(scores) for i, score in enumerate(row))
    for _, layer, i in ranking:
        if sum(map(len, chosen)) < keep:
            chosen[layer].add(i)
    return chosen


def rounded(shares: list[Fraction], total: int) -> list[int]:
    """Largest remainder, ties to the earlier."""
    counts = [math.floor(s) for s in shares]
    order = sorted(range(len(shares)), key=lambda i: (-(shares[i] - counts[i]), i))
    for i in order[: total - sum(counts)]:
        counts[i] += 1
    return counts


def proportional(total: int, weights: list[int], least: list[int], most: list[int]) -> list[int]:
    """λ · weight, cut at ``least`` and ``most``, for the one λ that makes the sum right.

    The sum grows with λ in straight pieces that meet where a layer reaches a bound; in the piece of the total, λ is
    the solution of one linear equation.
    """

    def cut(scale: Fraction) -> list[Fraction]:
        return [min(max(scale * w, Fraction(lo)), Fraction(hi)) for w, lo, hi in zip(weights, least, most, strict=True)]

    corners = sorted({Fraction(bound, w) for w, *bounds in zip(weights, least, most, strict=True) for bound in bounds})
    right = next(scale for scale in corners if sum(cut(scale)) >= total)
    left = max((scale for scale in corners if scale < right), default=right)
    low, high = sum(cut(left)), sum(cut(right))
    scale = right if high in (low, total) else left + (right - left) * (total - low) / (high - low)
    return rounded(cut(scale), total)


def erk(shapes: list[Shape], total: int) -> list[int]:
    """Densities ε·Σdims/Πdims; layers above 1 become dense and ε is computed again, until none is (as RigL does it)."""
    dense: set[int] = set()
    while True:
        rest = [i for i in range(len(shapes)) if i not in dense]
        left = total - sum(math.prod(shapes[i]) for i in dense)
        if not rest:
            break
        epsilon = Fraction(left, sum(sum(shapes[i]) for i in rest))
        over = {i for i in rest if epsilon * sum(shapes[i]) > math.prod(shapes[i])}
        if not over:
            break
        dense |= over
    shares = [Fraction(math.prod(s)) if i in dense else epsilon * sum(s) for i, s in enumerate(shapes)]
    return rounded(shares, total)


def uniform_plus_floors(shapes: list[Shape], owed: int = 0) -> list[int]:
    """The first convolution whole, a fifth of the last layer (rounded up), and what every layer is owed."""
    sizes = [math.prod(shape) for shape in shapes]
    floors = [min(owed, size) for size in sizes]
    floors[-1] = max(floors[-1], math.ceil(Fraction(sizes[-1], 5)))
    convolutions = [i for i, shape in enumerate(shapes) if len(shape) >= 3]
    if convolutions:
        floors[convolutions[0]] = sizes[convolutions[0]]
    return floors


def uniform_plus(shapes: list[Shape], total: int, owed: int = 0) -> list[int]:
    """Gale et al. 2019: the same density everywhere but where the floors ask for more."""
    sizes = [math.prod(shape) for shape in shapes]
    return proportional(total, sizes, uniform_plus_floors(shapes, owed), sizes)


def blocks(shape: Shape, rows: int | None, columns: int | None) -> list[list[int]]:
    """Flat indices of the weights of every block, blocks in row-major order; None takes all rows or columns."""
    height, width = shape[0], math.prod(shape[1:])
    step_down, step_right = rows or height, columns or width
    return [
        [
            r * width + c
            for r in range(top, min(top + step_down, height))
            for c in range(left, min(left + step_right, width))
        ]
        for top in range(0, height, step_down)
        for left in range(0, width, step_right)
    ]


def mean(scores: list[float], members: list[int]) -> float:
    """Score of a block, float32."""
    return float(np.float32(math.fsum(scores[i] for i in members) / len(members)))


def best_blocks(scores: list[list[float]], groups: list[list[list[int]]], density: float) -> list[set[int]]:
    """Weights kept in every layer: the nearest number of blocks, or of weights where blocks differ in size."""
    ranking = sorted(
        (-mean(scores[layer], members), layer, number, members)
        for layer, found in enumerate(groups)
        for number, members in enumerate(found)
    )
    sizes = [len(members) for *_, members in ranking]
    if len(set(sizes)) == 1:
        keep = math.floor(density * len(sizes) + 0.5)
    else:
        asked = math.floor(density * sum(sizes) + 0.5)
        reached = list(accumulate(sizes))
        keep = 1 + min(range(len(sizes)), key=lambda i: (abs(reached[i] - asked), -i))  # halves upwards
    chosen: list[set[int]] = [set() for _ in scores]
    for _, layer, _, members in ranking[:keep]:
        chosen[layer] |= set(members)
    return chosen


def n_of_m(scores: list[float], n: int, m: int) -> set[int]:
    """The n best of every m neighbours; ties to the earlier."""
    return {start + i for start in range(0, len(scores), m) for i in best(scores[start : start + m], n)}
