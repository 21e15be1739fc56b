"""Which weights are kept while a training runs: a fixed mask, a mask that shrinks, or one that is drawn again.

A policy is a pure function of the optimiser step and the weights, so a resumed training meets the same masks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from audio_lottery.pruning import Mask

Prune = Callable[[nn.Module, float, Mask | None], Mask]
"""(model, density, among) → mask: a score, a pattern and an allocation, ready to use."""


class MaskPolicy(Protocol):
    """What a training asks about its mask. Steps count from 0; ``total`` is the number of steps of the training."""

    @property
    def target(self) -> float:
        """Density that the training ends with."""
        ...

    def first(self, model: nn.Module) -> Mask:
        """The mask before the first step."""
        ...

    def enforced(self, mask: Mask) -> Mask | None:
        """The mask whose pruned weights are held at zero from step to step while ``mask`` is the present one.

        Weights that it keeps and ``mask`` prunes train until they are pruned again; None lets all weights train.
        """
        ...

    def replacement(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask | None:
        """The mask that replaces ``mask`` before step ``step``; None leaves it."""
        ...

    def may_keep(self, step: int, total: int) -> bool:
        """Whether a model after ``step`` steps is as sparse as was asked, so that it may be kept."""
        ...

    def at_evaluation(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask:
        """The mask that a model is evaluated and saved with after ``step`` steps."""
        ...


@dataclass(frozen=True)
class Fixed:
    """One mask from the first step to the last: iterative pruning, one-shot pruning, tickets."""

    mask: Mask

    @property
    def target(self) -> float:
        """Density that the training ends with."""
        return self.mask.density()

    def first(self, model: nn.Module) -> Mask:
        """The mask."""
        return self.mask

    def enforced(self, mask: Mask) -> Mask | None:
        """The mask."""
        return mask

    def replacement(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask | None:
        """Never another."""
        return None

    def may_keep(self, step: int, total: int) -> bool:
        """Always."""
        return True

    def at_evaluation(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask:
        """The mask."""
        return mask


@dataclass(frozen=True)
class Gradual:
    """Gradual magnitude pruning: the mask shrinks during training, fast at first (Zhu & Gupta 2017, arXiv:1710.01878).

    s_t = s_f + (s_i - s_f)(1 - (t - t0) / (nΔt))³ for sparsity s, from s_i of the first mask.

    Attributes:
        start: mask before the first step.
        density: density at the end.
        prune: score, pattern and allocation.
        begin: share of the steps before pruning starts.
        end: share of the steps after which the density is reached.
        every: steps between two prunings (Δt).
    """

    start: Mask
    density: float
    prune: Prune
    begin: float = 0.0
    end: float = 0.5
    every: int = 20

    @property
    def target(self) -> float:
        """Density that the training ends with."""
        return self.density

    def first(self, model: nn.Module) -> Mask:
        """The mask before pruning starts."""
        return self.start

    def enforced(self, mask: Mask) -> Mask | None:
        """The present mask: pruned weights stay zero."""
        return mask

    def density_at(self, step: int, total: int) -> float:
        """Density after the pruning at ``step``."""
        t0, t1 = self._span(total)
        share = min(1.0, max(0.0, (step - t0) / (t1 - t0)))
        initial = self.start.density()
        return self.density + (initial - self.density) * (1.0 - share) ** 3

    def replacement(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask | None:
        """A sparser mask among the present one, every ``every`` steps."""
        t0, t1 = self._span(total)
        if step < t0 or step > t1 or ((step - t0) % self.every and step != t1):
            return None
        wanted = self.density_at(step, total)
        return self.prune(model, wanted, mask) if wanted < mask.density() else None

    def may_keep(self, step: int, total: int) -> bool:
        """From the last pruning on; ``step`` steps are done, and the pruning before step t1 comes with the next one."""
        return step > self._span(total)[1]

    def at_evaluation(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask:
        """The present mask."""
        return mask

    def _span(self, total: int) -> tuple[int, int]:
        t0 = round(self.begin * total)
        return t0, min(total - 1, max(t0 + 1, round(self.end * total)))


@dataclass(frozen=True)
class Repruned:
    """PARP: pruned weights are zero but go on training, and every n updates the model is pruned again.

    Source: Lai et al. 2021, "PARP: Prune, Adjust and Re-Prune for Self-Supervised Speech Recognition",
    arXiv:2106.05933. With ``progressive`` densities it is PARP-P: the density falls in equal steps, each of which
    lasts as long.

    Attributes:
        start: mask before the first step.
        densities: one density (PARP), or several falling ones (PARP-P).
        prune: score, pattern and allocation.
        every: updates between two prunings.
        within: mask of a warm start: what it prunes is held at zero and never comes back. None: every weight may.
    """

    start: Mask
    densities: tuple[float, ...]
    prune: Prune
    every: int = 20
    within: Mask | None = None

    @property
    def target(self) -> float:
        """Density that the training ends with."""
        return self.densities[-1]

    def first(self, model: nn.Module) -> Mask:
        """The mask of the model before it is trained."""
        return self.start

    def enforced(self, mask: Mask) -> Mask | None:
        """The mask of the warm start, if there is one: whatever it keeps trains."""
        return self.within

    def density_at(self, step: int, total: int) -> float:
        """Density of the stage that ``step`` lies in."""
        return self.densities[min(len(self.densities) - 1, step * len(self.densities) // total)]

    def replacement(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask | None:
        """A new mask from all weights that may train, revived ones included."""
        if step == 0 or step % self.every:
            return None
        return self.prune(model, self.density_at(step, total), self.within)

    def may_keep(self, step: int, total: int) -> bool:
        """In the last stage."""
        return self.density_at(min(step, total - 1), total) == self.densities[-1]

    def at_evaluation(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask:
        """A new mask: what has grown since the last pruning must not count as pruned."""
        return self.prune(model, self.density_at(min(step, total - 1), total), self.within)
