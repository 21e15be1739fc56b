"""Which weights are kept while a training runs: a fixed mask, a mask that shrinks, or one that is drawn again.

A policy is a pure function of the optimiser step and the weights, so a resumed training meets the same masks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from accelerate import Accelerator
from torch import nn

from audio_lottery import pruning
from audio_lottery.pruning import Enforcer, Mask
from audio_lottery.training.processes import require_same

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

    def held(self, mask: Mask) -> Mask | None:
        """The mask whose pruned weights are held at zero from step to step while ``mask`` is the present one.

        Weights that it keeps and ``mask`` prunes train until they are pruned again; None lets all weights train.
        """
        ...

    def due(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask | None:
        """The mask that replaces ``mask`` before step ``step``; None leaves it."""
        ...

    def final(self, step: int, total: int) -> bool:
        """Whether a model after ``step`` steps is as sparse as was asked, so that it may be kept."""
        ...

    def settle(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask:
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

    def held(self, mask: Mask) -> Mask | None:
        """The mask."""
        return mask

    def due(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask | None:
        """Never another."""
        return None

    def final(self, step: int, total: int) -> bool:
        """Always."""
        return True

    def settle(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask:
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

    def held(self, mask: Mask) -> Mask | None:
        """The present mask: pruned weights stay zero."""
        return mask

    def density_at(self, step: int, total: int) -> float:
        """Density after the pruning at ``step``."""
        t0, t1 = self._span(total)
        share = min(1.0, max(0.0, (step - t0) / (t1 - t0)))
        initial = self.start.density()
        return self.density + (initial - self.density) * (1.0 - share) ** 3

    def due(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask | None:
        """A sparser mask among the present one, every ``every`` steps."""
        t0, t1 = self._span(total)
        if step < t0 or step > t1 or ((step - t0) % self.every and step != t1):
            return None
        wanted = self.density_at(step, total)
        return self.prune(model, wanted, mask) if wanted < mask.density() else None

    def final(self, step: int, total: int) -> bool:
        """From the last pruning on; ``step`` steps are done, and the pruning before step t1 comes with the next one."""
        return step > self._span(total)[1]

    def settle(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask:
        """The present mask."""
        return mask

    def _span(self, total: int) -> tuple[int, int]:
        t0 = round(self.begin * total)
        return t0, min(total - 1, max(t0 + 1, round(self.end * total)))


@dataclass(frozen=True)
class Adjusting:
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

    def held(self, mask: Mask) -> Mask | None:
        """The mask of the warm start, if there is one: whatever it keeps trains."""
        return self.within

    def density_at(self, step: int, total: int) -> float:
        """Density of the stage that ``step`` lies in."""
        return self.densities[min(len(self.densities) - 1, step * len(self.densities) // total)]

    def due(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask | None:
        """A new mask from all weights that may train, revived ones included."""
        if step == 0 or step % self.every:
            return None
        return self.prune(model, self.density_at(step, total), self.within)

    def final(self, step: int, total: int) -> bool:
        """In the last stage."""
        return self.density_at(min(step, total - 1), total) == self.densities[-1]

    def settle(self, step: int, total: int, model: nn.Module, mask: Mask) -> Mask:
        """A new mask: what has grown since the last pruning must not count as pruned."""
        return self.prune(model, self.density_at(min(step, total - 1), total), self.within)


class MaskKeeper:
    """Keeps the mask of one training on its model, as a policy says; without a policy it does nothing.

    Args:
        policy: which weights are kept; None trains dense.
        model: the model.
        accelerator: masks are compared between its processes.
        total: steps of the training.
    """

    def __init__(self, policy: MaskPolicy | None, model: nn.Module, accelerator: Accelerator, total: int) -> None:
        self._policy = policy
        self._model = model
        self._accelerator = accelerator
        self._total = total
        self._enforcer: Enforcer | None = None
        self.mask: Mask | None = None

    def start(self, mask: Mask | None) -> None:
        """Begin with ``mask`` (from a checkpoint), or with the policy's first."""
        if self._policy is not None:
            self._put(mask if mask is not None else self._policy.first(self._model))

    def before_step(self, step: int) -> None:
        """Put the mask that is due before ``step`` on the model, the same on every process.

        Raises:
            RunError: processes made different masks.
        """
        if self._policy is None or self.mask is None:
            return
        mask = self._policy.due(step, self._total, self._model, self.mask)
        if mask is not None:
            require_same(self._accelerator, mask.sha256(), f"the mask before step {step}")
            self._put(mask)
            self._zero(mask)

    def mask_gradients(self) -> None:
        """After the backward pass, before clipping."""
        if self._enforcer is not None:
            self._enforcer.mask_gradients()

    def mask_weights(self) -> None:
        """After the optimiser's step."""
        if self._enforcer is not None:
            self._enforcer.mask_weights()

    def before_evaluation(self, step: int) -> None:
        """Make the model after ``step`` steps exactly as sparse as it claims to be.

        Raises:
            MaskError: a weight outside the mask is not zero.
        """
        if self._policy is None or self.mask is None:
            return
        self.mask = self._policy.settle(step, self._total, self._model, self.mask)
        self._zero(self.mask)
        pruning.check(self.mask, self._model)

    def may_keep(self, step: int) -> bool:
        """Whether the model after ``step`` steps is sparse enough to be the result."""
        return self._policy is None or self._policy.final(step, self._total)

    def _put(self, mask: Mask) -> None:
        self.mask = mask
        held = None if self._policy is None else self._policy.held(mask)
        if held is None:
            return
        if self._enforcer is None:
            self._enforcer = Enforcer(held, self._model)
        elif self._enforcer.mask is not held:
            self._enforcer.update(held)

    def _zero(self, mask: Mask) -> None:
        """Zero what trains although it is pruned; what is held at zero is left to the check."""
        if self._policy is not None and self._policy.held(mask) is not mask:
            pruning.apply(mask, self._model)
