"""`MaskCallback`: a mask held while transformers' ``Trainer`` trains."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from audio_lottery.errors import MaskError
from audio_lottery.pruning.distributed import broadcast_mask
from audio_lottery.pruning.enforce import Handle, check, enforce
from audio_lottery.pruning.mask import Mask
from audio_lottery.storage import write_bytes

MASK_FILE = "pruning_mask.safetensors"
_UNPRUNED = "pruning_mask.none"  # marks a checkpoint made before the schedule gave its first mask


class MaskCallback(TrainerCallback):
    """Holds a mask on the model that a transformers ``Trainer`` trains; fails the run if a pruned weight comes back.

        trainer = Trainer(model, arguments, train_dataset=data, callbacks=[MaskCallback(mask)])
        trainer.train()

    The mask is applied when training starts; gradients are masked as they are accumulated (so clipping sees the
    survivors only, with gradient accumulation too) and weights after every optimiser step, whatever wraps the optimiser
    (accelerate, fp16, bf16). Before every evaluation and every save, and at the end, every pruned weight is checked to
    be exactly zero. The mask in force is written into each checkpoint folder as ``pruning_mask.safetensors``, and
    ``train(resume_from_checkpoint=...)`` goes on from it. With several processes all of them must hold the same mask.

    Args:
        mask: the mask from the first step on; None with a schedule that gives one.
        schedule: gradual pruning: called with 0 at the start and with the number of finished optimiser steps after each
            step; returns the mask from now on, or None to leave it as it is. Called on every process.
            Steps that a loss scaler skips count, as they do for the Trainer.

    Raises:
        MaskError: neither a mask nor a schedule. While training: the mask does not fit the model, a pruned weight is
            not zero, or a resumed checkpoint was trained with another mask.
    """

    def __init__(self, mask: Mask | None = None, schedule: Callable[[int], Mask | None] | None = None) -> None:
        if mask is None and schedule is None:
            raise MaskError("MaskCallback needs a mask, or a schedule that makes one")
        self._given = mask
        self._last = mask
        self._schedule = schedule
        self._handle: Handle | None = None
        self._checked_at: int | None = None

    @property
    def mask(self) -> Mask | None:
        """The mask in force; before training the one that was given, after it the last one."""
        return self._last if self._handle is None else self._handle.mask

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module,
        optimizer: Optimizer,
        **kwargs: Any,
    ) -> None:
        """Apply the mask and hold it; after a resume, prove that the checkpoint was trained with it."""
        if self._handle is not None:  # a training before this one failed, or the Trainer found a smaller batch size
            self._handle.remove()
            self._handle = None
        self._checked_at = None
        resumed = state.global_step > 0
        mask = self._mask_of_checkpoint(args, state) if resumed else self._given
        if resumed and mask is not None:
            _check(mask, model, "the checkpoint to resume from was trained with another mask")
        scheduled = None if self._schedule is None or resumed else self._schedule(0)
        self._hold(scheduled if scheduled is not None else mask, model, optimizer)
        self._verify(state, model)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module,
        optimizer: Optimizer,
        **kwargs: Any,
    ) -> None:
        """Follow the schedule; check where the Trainer is about to evaluate or save."""
        mask = None if self._schedule is None else self._schedule(state.global_step)
        if mask is not None:
            self._hold(mask, model, optimizer)
        if control.should_evaluate or control.should_save:
            self._verify(state, model)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **kwargs: Any
    ) -> None:
        """Check where the Trainer is about to evaluate or save."""
        if control.should_evaluate or control.should_save:
            self._verify(state, model)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **kwargs: Any
    ) -> None:
        """Catch evaluations that another callback asked for; costs nothing where the check was made before."""
        self._verify(state, model)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **kwargs: Any
    ) -> None:
        """Write the mask beside the weights."""
        self._verify(state, model)
        folder = _checkpoint(args, state)
        if not (state.is_world_process_zero and folder.is_dir()):
            return
        if self._handle is None:
            write_bytes(folder / _UNPRUNED, b"")
        else:
            self._handle.mask.save(folder / MASK_FILE)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **kwargs: Any
    ) -> None:
        """Check what training leaves, the best model if the Trainer loaded it, and let go."""
        if self._handle is None:
            return
        self._last = mask = self._handle.mask
        self._handle.remove()
        self._handle = None
        _check(
            mask,
            model,
            "the model that training ends with is not the one that was pruned; with a schedule, load_best_model_at_end "
            "can bring back a denser one: choose among the checkpoints that have the final mask",
        )

    def _hold(self, mask: Mask | None, model: nn.Module, optimizer: Optimizer) -> None:
        if mask is None:  # a schedule that starts later
            return
        mask = broadcast_mask(mask)
        self._checked_at = None
        if self._handle is None:
            self._handle = enforce(mask, model, optimizer)
        else:
            self._handle.update(mask)

    def _verify(self, state: TrainerState, model: nn.Module) -> None:
        if self._handle is not None and self._checked_at != state.global_step:
            check(self._handle.mask, model)
            self._checked_at = state.global_step

    def _mask_of_checkpoint(self, args: TrainingArguments, state: TrainerState) -> Mask | None:
        file = _checkpoint(args, state) / MASK_FILE
        if not file.is_file():
            if self._given is None and not file.with_name(_UNPRUNED).is_file():
                raise MaskError(
                    f"{file} is missing: the mask at step {state.global_step} is not known; resume from a checkpoint "
                    "in output_dir that has it, or load its mask and pass it as MaskCallback(mask, schedule)"
                )
            return self._given
        saved = Mask.load(file)
        if self._schedule is None and saved != self._given:
            raise MaskError(
                f"{file} is another mask than the one given; resume with that mask, or start a new output_dir"
            )
        return saved


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    """Where the Trainer keeps the checkpoint of the current step (its public folder names)."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _check(mask: Mask, model: nn.Module, meaning: str) -> None:
    try:
        check(mask, model)
    except MaskError as error:
        raise MaskError(f"{meaning} ({error})") from error
