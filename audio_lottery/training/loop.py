"""The training loop: one function on accelerate, used for θ and for every round. What else happens hangs on hooks."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from audio_lottery.config import TrainingConfig
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.batching import Batch
from audio_lottery.errors import ModelError
from audio_lottery.models.base import Backbone
from audio_lottery.models.loss import per_label
from audio_lottery.processes import seed_step
from audio_lottery.training.answers import Answers, ask
from audio_lottery.training.checkpoint import load_checkpoint, restore, save_checkpoint, snapshot
from audio_lottery.training.hook import Hook
from audio_lottery.training.hooks import Show
from audio_lottery.training.schedule import learning_rate_factor
from audio_lottery.training.speech import TrainingSpeech
from audio_lottery.training.state import Progress, Stage, Training
from audio_lottery.training.teacher import Teacher, Told

Evaluate = Callable[[Backbone], dict[str, Any]]
"""A backbone → its dev result, with ``wer`` and ``cer``."""


@dataclass(frozen=True)
class TrainingReport:
    """What a training did.

    Attributes:
        steps: optimiser steps.
        spent_steps: those of this training alone, without the ones before a late rewind point.
        audio_seconds: speech that was heard in them, repeats counted, by all processes together.
        teacher: what it was taught by; None for the labels alone.
        epochs: passes over the training set.
        best_step: step of the model that was kept, the best on dev.
        dev: its dev result.
        history: step, dev WER and CER of every evaluation.
        nonfinite_steps: steps skipped because the loss or a gradient was not finite.
        utterances: size of the training set.
        dropped: utterances left out of training, by reason.
        seconds: wall-clock seconds, over all resumes.
    """

    steps: int
    spent_steps: int
    audio_seconds: float
    teacher: str | None
    epochs: float
    best_step: int
    dev: dict[str, Any]
    history: list[dict[str, float]]
    nonfinite_steps: int
    utterances: int
    dropped: dict[str, int]
    seconds: float


class _LossModule(nn.Module):
    """Module and loss as one module, so that autocast and DDP wrap this and leave the model itself untouched.

    A teacher is no part of it: its weights are neither trained, nor clipped, nor sent between processes.
    """

    def __init__(self, backbone: Backbone, teacher: Teacher | None) -> None:
        super().__init__()
        self.model = backbone.module
        self._backbone = backbone
        self._teacher = teacher

    def forward(
        self,
        inputs: dict[str, Tensor],
        samples: Tensor,
        labels: list[Tensor],
        heard: dict[str, Tensor] | None = None,
        answer: Told | None = None,
    ) -> Tensor:
        """See `per_label` and, for what concerns the teacher, `Teacher.losses`."""
        if self._teacher is None:
            losses = self._backbone.loss(inputs, samples, labels)
        else:
            losses = self._teacher.losses(self._backbone, inputs, samples, labels, heard, answer)
        return per_label(losses, labels)


class Trainer:
    """One training from given weights to the best model on dev.

    Args:
        backbone: starts from its current weights and ends with the best on dev.
        speech: what it is trained on.
        evaluate: the dev result that the best model is chosen by, see ``config.best_by``.
        config: how to train.
        accelerator: device, precision and processes.
        stage: which training it is; a checkpoint in its folder is continued.
        hooks: called in this order at every place.
    """

    def __init__(
        self,
        backbone: Backbone,
        speech: TrainingSpeech,
        evaluate: Evaluate,
        config: TrainingConfig,
        accelerator: Accelerator,
        stage: Stage,
        hooks: Sequence[Hook] = (),
    ) -> None:
        self.backbone = backbone
        self.speech = speech
        self.evaluate = evaluate
        self.config = config
        self.accelerator = accelerator
        self.stage = stage
        self.hooks = (*hooks, Show())
        self.total_steps = speech.steps(config)
        self._best: dict[str, Tensor] = {}
        self._answers: Answers | None = None

    def run(self) -> TrainingReport:
        """Train, or continue training, to the end.

        Raises:
            ModelError: too many steps in a row were not finite.
            MaskError: a pruned weight came back.
            RunError: the checkpoint to continue from is damaged.
            StorageError: a checkpoint could not be written.
        """
        training, module, optimizer = self._start()
        progress = training.progress
        started = time.monotonic() - progress.seconds
        teacher = self.speech.teacher
        if teacher is not None and teacher.settings.cache and progress.step < self.total_steps:
            self._answers = ask(self.speech, self.config, self.accelerator, self.stage.description)
        micro_batches = self.speech.from_position(progress.micro_step, self._answers is not None)
        while progress.step < self.total_steps:
            self._call("before_step", training)
            self._step(training, module, optimizer, micro_batches)
            self._call("after_step", training)
            last = progress.step == self.total_steps
            if last or progress.step % self.config.eval_every == 0:
                self._evaluate(training)
            if last or progress.step % self.config.save_every == 0:
                progress.seconds = time.monotonic() - started
                self._save(training)
        if self.total_steps == 0:
            self._evaluate(training)
        restore(self.backbone.module, self._best)
        self._call("finish", training)
        self.accelerator.free_memory(module, optimizer)
        return self._report(progress)

    def _call(self, name: str, *arguments: Any) -> None:
        for hook in self.hooks:
            getattr(hook, name)(*arguments)

    def _start(self) -> tuple[Training, nn.Module, Any]:
        """Model and optimiser on their device, with the state of the checkpoint if there is one."""
        accelerator, model = self.accelerator, self.backbone.module
        model.to(accelerator.device)
        optimizer = accelerator.prepare(_make_optimizer(model, self.config))
        teacher = self.speech.teacher
        if teacher is not None:
            teacher.backbone.module.to(accelerator.device)
        module = accelerator.prepare_model(_LossModule(self.backbone, teacher))
        progress = Progress(world_size=accelerator.num_processes)
        training = Training(
            self.backbone, optimizer.optimizer, accelerator, self.config, self.stage, self.total_steps, progress
        )
        resumed = load_checkpoint(self.stage.checkpoint, training)
        self._call("start", training)
        if resumed is None:
            self._call("begin", training)
        else:
            training.progress, self._best = resumed.progress, resumed.best
            self._call("load", training, resumed.folder)
        return training, module, optimizer

    def _step(self, training: Training, module: nn.Module, optimizer: Any, micro_batches: Iterator[Batch]) -> None:
        """One optimiser step; leaves the mean loss per utterance and the gradient norm in ``training``."""
        accelerator, config, progress = self.accelerator, self.config, training.progress
        window = list(islice(micro_batches, config.accumulation_steps))
        utterances = sum(len(batch["ids"]) for batch in window)
        samples = sum(int(batch["samples"].sum()) for batch in window)
        if accelerator.num_processes > 1:
            utterances, samples = (sum(counts) for counts in zip(*gather_object([(utterances, samples)]), strict=True))
        factor = learning_rate_factor(
            progress.step, self.total_steps, config.warmup_ratio, config.decay, config.hold_ratio
        )
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        module.train()
        optimizer.zero_grad()
        total = torch.zeros((), device=accelerator.device)
        for micro_step, batch in enumerate(window):
            seed_step(self.stage.seed, progress.step, micro_step, accelerator.process_index)
            with self._sync(module, last=micro_step == len(window) - 1):
                inputs, heard = (self._moved(batch.get(name)) for name in ("inputs", "heard"))
                answer = None if self._answers is None else self._answers.of(batch["ids"], accelerator.device)
                loss = module(inputs, batch["samples"], batch["labels"], heard, answer)
                # DDP averages gradients over processes; the loss is the mean over the utterances of all of them.
                accelerator.backward(loss * (accelerator.num_processes / utterances))
            total += loss.detach()
        self._call("after_backward", training)
        training.gradient_norm = float(accelerator.clip_grad_norm_(module.parameters(), config.max_grad_norm))
        training.loss = float(accelerator.reduce(total, "sum")) / utterances
        finite = bool(np.isfinite(training.gradient_norm) and np.isfinite(training.loss))
        if finite or accelerator.scaler is not None:  # the fp16 scaler skips the step itself and lowers its scale
            optimizer.step()
        progress.step += 1
        progress.spent_steps += 1
        progress.spent_samples += samples
        progress.micro_step += len(window)
        self._count_nonfinite(progress, finite)

    def _moved(self, inputs: Any) -> dict[str, Tensor] | None:
        return inputs and {name: tensor.to(self.accelerator.device) for name, tensor in inputs.items()}

    def _count_nonfinite(self, progress: Progress, finite: bool) -> None:
        progress.nonfinite_in_a_row = 0 if finite else progress.nonfinite_in_a_row + 1
        progress.nonfinite_steps += not finite
        if progress.nonfinite_in_a_row >= self.config.max_nonfinite_steps:
            raise ModelError(
                f"{self.stage.description}: loss or gradients were not finite in {progress.nonfinite_in_a_row} steps "
                f"in a row up to step {progress.step}; lower training.learning_rate or use another precision"
            )

    def _sync(self, module: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Gradients travel between processes only with the last micro-batch of a step."""
        return nullcontext() if last else self.accelerator.no_sync(module)

    def _evaluate(self, training: Training) -> None:
        """Dev result of the current weights; they are kept if they are the best so far."""
        progress = training.progress
        self._call("before_evaluation", training)
        result = self.evaluate(self.backbone)
        progress.history.append({"step": progress.step, "wer": result["wer"], "cer": result["cer"]})
        before = progress.best_dev
        best = all(hook.may_keep(training) for hook in self.hooks) and (
            not before or self._badness(result) < self._badness(before)
        )
        if best:
            progress.best_step, progress.best_dev = progress.step, result
            self._best = snapshot(self.backbone.module)
        self._call("after_evaluation", training, best)

    def _badness(self, result: Mapping[str, float]) -> tuple[float, float]:
        """What the best model is chosen by: the less, the better."""
        wer, cer = result["wer"], result["cer"]
        return (wer, cer) if self.config.best_by == "wer" else (cer, wer)

    def _save(self, training: Training) -> None:
        if self.accelerator.is_main_process:
            save_checkpoint(self.stage.checkpoint, training, self._best, self.hooks)
        self.accelerator.wait_for_everyone()

    def _report(self, progress: Progress) -> TrainingReport:
        return TrainingReport(
            steps=progress.step,
            spent_steps=progress.spent_steps,
            audio_seconds=progress.spent_samples / SAMPLE_RATE,
            teacher=None if self.speech.teacher is None else self.speech.teacher.name,
            epochs=progress.micro_step / self.speech.micro_steps_per_epoch,
            best_step=progress.best_step,
            dev=progress.best_dev,
            history=progress.history,
            nonfinite_steps=progress.nonfinite_steps,
            utterances=len(self.speech.data.manifest),
            dropped=self.speech.data.dropped,
            seconds=progress.seconds,
        )


def _make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW without weight decay on biases, norms and other vectors."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.adam_beta2), fused=True)
