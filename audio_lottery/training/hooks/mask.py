"""The mask of one training, kept on its model as a policy says."""

from pathlib import Path

from audio_lottery import pruning
from audio_lottery.errors import MaskError
from audio_lottery.processes import require_same
from audio_lottery.pruning import Enforcer, Mask
from audio_lottery.training.hook import Hook
from audio_lottery.training.policies import MaskPolicy
from audio_lottery.training.state import Training

_NOW, _BEST = "mask_now.safetensors", "mask_best.safetensors"


class KeepMask(Hook):
    """Holds pruned weights at zero and changes the mask when the policy says so.

    Attributes:
        mask: the present one; None before the training starts.
        best: that of the best model on dev.
    """

    def __init__(self, policy: MaskPolicy) -> None:
        self._policy = policy
        self._enforcer: Enforcer | None = None
        self.mask: Mask | None = None
        self.best: Mask | None = None

    def begin(self, training: Training) -> None:
        """The policy's first mask; weights and optimiser state of a rewind point are from before the pruning."""
        mask = self._policy.first(training.backbone.module)
        self._put(training, mask)
        pruning.apply(mask, training.backbone.module)
        pruning.clear_state(mask, training.backbone.module, training.optimizer)

    def load(self, training: Training, folder: Path) -> None:
        """The masks of the checkpoint."""
        self._put(training, Mask.load(folder / _NOW))
        if (folder / _BEST).exists():
            self.best = Mask.load(folder / _BEST)

    def before_step(self, training: Training) -> None:
        """Put the mask that is due on the model, the same on every process.

        Raises:
            RunError: processes made different masks.
        """
        step = training.progress.step
        mask = self._policy.replacement(step, training.total_steps, training.backbone.module, self._present)
        if mask is not None:
            require_same(training.accelerator, mask.sha256(), f"the mask before step {step}")
            self._put(training, mask)
            self._zero(training, mask)

    def after_backward(self, training: Training) -> None:
        """Pruned weights must not count in the gradient's norm."""
        if self._enforcer is not None:
            self._enforcer.mask_gradients()

    def after_step(self, training: Training) -> None:
        """AdamW moves weights without gradient."""
        if self._enforcer is not None:
            self._enforcer.mask_weights()

    def before_evaluation(self, training: Training) -> None:
        """Make the model exactly as sparse as it claims to be.

        Raises:
            MaskError: a weight outside the mask is not zero.
        """
        module, step = training.backbone.module, training.progress.step
        self.mask = self._policy.at_evaluation(step, training.total_steps, module, self._present)
        self._zero(training, self.mask)
        pruning.check(self.mask, module)

    def may_keep(self, training: Training) -> bool:
        """Whether the model is as sparse as was asked."""
        return self._policy.may_keep(training.progress.step, training.total_steps)

    def after_evaluation(self, training: Training, best: bool) -> None:
        """The mask of the best model goes with it."""
        if best:
            self.best = self.mask

    def save(self, training: Training, folder: Path) -> None:
        """Both masks."""
        self._present.save(folder / _NOW)
        if self.best is not None:
            self.best.save(folder / _BEST)

    def finish(self, training: Training) -> None:
        """The model that was kept is as sparse as its mask says.

        Raises:
            MaskError: it is not.
        """
        if self.best is None:
            raise MaskError(f"{training.stage.description}: no evaluation came after the mask had its final density")
        pruning.check(self.best, training.backbone.module)

    @property
    def _present(self) -> Mask:
        if self.mask is None:
            raise RuntimeError("the training has not started")
        return self.mask

    def _put(self, training: Training, mask: Mask) -> None:
        self.mask = mask
        enforced = self._policy.enforced(mask)
        if enforced is None:
            return
        if self._enforcer is None:
            self._enforcer = Enforcer(enforced, training.backbone.module)
        elif self._enforcer.mask is not enforced:
            self._enforcer.update(enforced)

    def _zero(self, training: Training, mask: Mask) -> None:
        """Zero what trains although it is pruned; what is held at zero is left to the check."""
        if self._policy.enforced(mask) is not mask:
            pruning.apply(mask, training.backbone.module)
