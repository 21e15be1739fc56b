"""The training loop: one function on accelerate, used for θ and for every round."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor, nn
from tqdm import tqdm

from audio_lottery import pruning
from audio_lottery.config import TrainingConfig
from audio_lottery.data.batching import (
    AudioTransform,
    Batch,
    Collator,
    SpeechDataset,
    TrainingBatches,
    make_loader,
)
from audio_lottery.data.filters import TrainingData
from audio_lottery.errors import ModelError, RunError
from audio_lottery.evaluation.transcribe import best_texts, transcribe
from audio_lottery.evaluation.wer import score
from audio_lottery.models.ctc import Recogniser, ctc_loss
from audio_lottery.pruning import Mask
from audio_lottery.training.checkpoint import Progress, load_checkpoint, restore, save_checkpoint, snapshot
from audio_lottery.training.masking import MaskKeeper, MaskPolicy
from audio_lottery.training.movement import MovementKeeper
from audio_lottery.training.processes import seed_step
from audio_lottery.training.schedule import learning_rate_factor
from audio_lottery.training.tracking import StageTracker

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingReport:
    """What a training did.

    Attributes:
        steps: optimiser steps.
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
    epochs: float
    best_step: int
    dev: dict[str, Any]
    history: list[dict[str, float]]
    nonfinite_steps: int
    utterances: int
    dropped: dict[str, int]
    seconds: float


class _LossModule(nn.Module):
    """Recogniser and loss as one module, so that autocast and DDP wrap this and leave the model itself untouched."""

    def __init__(self, recogniser: Recogniser) -> None:
        super().__init__()
        self.model = recogniser.model
        self._recogniser = recogniser

    def forward(self, inputs: dict[str, Tensor], frames: Tensor, labels: list[Tensor]) -> Tensor:
        logits = self.model(**inputs).logits
        with torch.autocast(logits.device.type, enabled=False):
            return ctc_loss(logits, frames, labels, self._recogniser.blank)


class Trainer:
    """One training from given weights to the best model on dev.

    Args:
        recogniser: starts from its current weights and ends with the best on dev.
        data: training set.
        dev: manifest the best model is chosen on.
        config: how to train.
        accelerator: device, precision and processes.
        folder: where checkpoints live; a checkpoint found there is continued.
        seed: seed of order, dropout and SpecAugment.
        normalizer: text normaliser of the dev WER.
        masking: which weights are kept while training; None trains dense. After `run`, ``mask`` is that of the model
            that was kept.
        augment: changes the training audio; None leaves it as it is.
        num_workers: DataLoader workers.
        description: what the progress bar says.
        tracker: gets loss, gradient norm, learning rate and dev WER; None keeps them nowhere.
        late: keep a checkpoint of a step, to rewind to.
        start: checkpoint of `late` that this training goes on from, under its own mask: late rewinding (Frankle et
            al. 2020, arXiv:1912.05671) returns weights, optimiser, schedule and data order to that step.
        movement: parameters whose movement scores are gathered (Sanh et al. 2020, arXiv:2005.07683). After `run`,
            ``movement`` has those of the model that was kept, gathered from this training's first step to its step.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        data: TrainingData,
        dev: Dataset,
        config: TrainingConfig,
        accelerator: Accelerator,
        *,
        folder: Path,
        seed: int,
        normalizer: str,
        masking: MaskPolicy | None = None,
        augment: AudioTransform | None = None,
        num_workers: int = 0,
        description: str = "train",
        tracker: StageTracker | None = None,
        late: tuple[int, Path] | None = None,
        start: Path | None = None,
        movement: Sequence[str] = (),
    ) -> None:
        self.recogniser = recogniser
        self.data = data
        self.dev = dev
        self.config = config
        self.accelerator = accelerator
        self.checkpoint = folder / "checkpoint"
        self.seed = seed
        self.normalizer = normalizer
        self.mask: Mask | None = None
        self.movement: dict[str, Tensor] | None = None
        self.scored = list(movement)
        self.augment = augment
        self.num_workers = num_workers
        self.description = description
        self.tracker = tracker
        self.late = late
        self.start = start
        self.batches = TrainingBatches(
            np.asarray(data.manifest["duration"]) / min(config.augment.speeds),
            config.max_batch_seconds,
            seed,
            accelerator.process_index,
            accelerator.num_processes,
        )
        self.micro_steps_per_epoch = len(self.batches.epoch(0))
        steps = config.max_steps or round((config.epochs or 0) * self.micro_steps_per_epoch / config.accumulation_steps)
        self.total_steps = max(1, steps)
        self.keeper = MaskKeeper(masking, recogniser.model, accelerator, self.total_steps)

    def run(self) -> TrainingReport:
        """Train, or continue training, to the end.

        Raises:
            ModelError: too many steps in a row were not finite.
            MaskError: a pruned weight came back.
            RunError: the checkpoint to continue from is damaged.
            StorageError: a checkpoint could not be written.
        """
        accelerator, model = self.accelerator, self.recogniser.model
        model.to(accelerator.device)
        optimizer = accelerator.prepare(_make_optimizer(model, self.config))
        module = accelerator.prepare_model(_LossModule(self.recogniser))
        best: dict[str, Tensor] = {}
        masks: dict[str, Mask] = {}
        progress = Progress(world_size=accelerator.num_processes)
        resumed = load_checkpoint(self.checkpoint, model, optimizer.optimizer, accelerator)
        if resumed is not None:
            progress, best, masks = resumed.progress, resumed.best, resumed.masks
        saved = None if resumed is None else resumed.movement
        movement = MovementKeeper(self.scored, model, optimizer.optimizer, saved)
        keeper = self.keeper
        keeper.start(masks.get("now"))
        if resumed is None and self.start is not None:
            progress = self._start_late(optimizer.optimizer)
        started = time.monotonic() - progress.seconds
        bar = tqdm(
            total=self.total_steps,
            initial=progress.step,
            desc=self.description,
            unit="step",
            disable=not accelerator.is_local_main_process or None,
        )
        tracker = self.tracker
        if tracker is not None:
            tracker.start(progress.step)
        micro_batches = self._micro_batches(progress.micro_step)
        while progress.step < self.total_steps:
            keeper.before_step(progress.step)
            loss, norm = self._step(module, optimizer, micro_batches, progress)
            bar.update()
            if tracker is not None and progress.step % self.config.log_every == 0:
                rate = optimizer.param_groups[0]["lr"]
                scalars = {"train/loss": loss, "train/gradient_norm": norm, "train/learning_rate": rate}
                tracker.log(scalars, progress.step)
            last = progress.step == self.total_steps
            if last or progress.step % self.config.eval_every == 0:
                if self._evaluate(progress):
                    best = snapshot(model)
                    masks = {"best": keeper.mask} if keeper.mask is not None else {}
                    movement.keep()
                if tracker is not None:
                    tracker.log({"dev/wer": progress.history[-1]["wer"]}, progress.step)
                if accelerator.is_main_process:
                    self._log_evaluation(progress, loss)
                bar.set_postfix(loss=f"{loss:.3f}", dev_wer=f"{progress.history[-1]['wer']:.3f}")
            if self.late is not None and progress.step == self.late[0]:
                self._keep_late(optimizer.optimizer, progress)
            if last or progress.step % self.config.save_every == 0:
                progress.seconds = time.monotonic() - started
                if accelerator.is_main_process:
                    now = {"now": keeper.mask} if keeper.mask is not None else {}
                    scores = movement.state()
                    save_checkpoint(
                        self.checkpoint, model, optimizer.optimizer, best, masks | now, progress, accelerator, scores
                    )
                accelerator.wait_for_everyone()
        bar.close()
        if tracker is not None:
            tracker.finish()
        restore(model, best)
        movement.remove()
        self.mask, self.movement = masks.get("best"), movement.best
        if self.mask is not None:
            pruning.check(self.mask, model)
        accelerator.free_memory(module, optimizer)
        return TrainingReport(
            steps=progress.step,
            epochs=progress.micro_step / self.micro_steps_per_epoch,
            best_step=progress.best_step,
            dev=progress.best_dev,
            history=progress.history,
            nonfinite_steps=progress.nonfinite_steps,
            utterances=len(self.data.manifest),
            dropped=self.data.dropped,
            seconds=progress.seconds,
        )

    def _keep_late(self, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """The checkpoint of a step as a rewind point: no best model, no history."""
        if self.late is not None and self.accelerator.is_main_process:
            point = Progress(progress.step, progress.micro_step, progress.world_size)
            save_checkpoint(self.late[1], self.recogniser.model, optimizer, {}, {}, point, self.accelerator)
        self.accelerator.wait_for_everyone()

    def _start_late(self, optimizer: torch.optim.Optimizer) -> Progress:
        """Go on from the rewind point, weights and moments outside the mask at zero."""
        model = self.recogniser.model
        loaded = None if self.start is None else load_checkpoint(self.start, model, optimizer, self.accelerator)
        if loaded is None:
            raise RunError(f"the rewind point {self.start} is missing; remove round_00 to train it again")
        if self.keeper.mask is not None:
            pruning.apply(self.keeper.mask, model)
            pruning.clear_state(self.keeper.mask, model, optimizer)
        return loaded.progress

    def _log_evaluation(self, progress: Progress, loss: float) -> None:
        latest = progress.history[-1]
        star = " (best so far)" if progress.best_step == progress.step else ""
        logger.info(
            "%s: step %d/%d, loss %.3f, dev WER %.2f %%, CER %.2f %%%s",
            self.description,
            progress.step,
            self.total_steps,
            loss,
            100 * latest["wer"],
            100 * latest["cer"],
            star,
        )

    def _micro_batches(self, position: int) -> Iterator[Batch]:
        dataset = SpeechDataset(self.data.manifest, self.data.encode, self.augment)
        order = self.batches.from_position(position)
        return iter(make_loader(dataset, order, Collator(self.recogniser.processor), self.num_workers))

    def _step(
        self,
        module: nn.Module,
        optimizer: Any,
        micro_batches: Iterator[Batch],
        progress: Progress,
    ) -> tuple[float, float]:
        """One optimiser step. Returns the mean loss per utterance and the gradient norm before clipping."""
        accelerator, config = self.accelerator, self.config
        window = list(islice(micro_batches, config.accumulation_steps))
        utterances = sum(len(batch["ids"]) for batch in window)
        if accelerator.num_processes > 1:
            utterances = sum(gather_object([utterances]))
        factor = learning_rate_factor(progress.step, self.total_steps, config.warmup_ratio, config.decay)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        module.train()
        optimizer.zero_grad()
        total = torch.zeros((), device=accelerator.device)
        for micro_step, batch in enumerate(window):
            seed_step(self.seed, progress.step, micro_step, accelerator.process_index)
            with self._sync(module, last=micro_step == len(window) - 1), self._specaugment(batch):
                inputs = {name: tensor.to(accelerator.device) for name, tensor in batch["inputs"].items()}
                frames = self.recogniser.frame_counts(batch["samples"])
                loss = module(inputs, frames, batch["labels"])
                # DDP averages gradients over processes; the loss is the mean over the utterances of all of them.
                accelerator.backward(loss * (accelerator.num_processes / utterances))
            total += loss.detach()
        self.keeper.mask_gradients()
        norm = float(accelerator.clip_grad_norm_(module.parameters(), config.max_grad_norm))
        mean_loss = float(accelerator.reduce(total, "sum")) / utterances
        finite = bool(np.isfinite(norm) and np.isfinite(mean_loss))
        if finite or accelerator.scaler is not None:  # the fp16 scaler skips the step itself and lowers its scale
            optimizer.step()
        self.keeper.mask_weights()
        progress.step += 1
        progress.micro_step += len(window)
        progress.nonfinite_in_a_row = 0 if finite else progress.nonfinite_in_a_row + 1
        progress.nonfinite_steps += not finite
        if progress.nonfinite_in_a_row >= config.max_nonfinite_steps:
            raise ModelError(
                f"{self.description}: loss or gradients were not finite in {progress.nonfinite_in_a_row} steps "
                f"in a row up to step {progress.step}; lower training.learning_rate or use another precision"
            )
        return mean_loss, norm

    def _sync(self, module: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Gradients travel between processes only with the last micro-batch of a step."""
        return nullcontext() if last else self.accelerator.no_sync(module)

    @contextmanager
    def _specaugment(self, batch: Batch) -> Iterator[None]:
        """transformers refuses to mask spans longer than the padded batch: such a batch goes without masking."""
        model_config = self.recogniser.model.config
        wanted = getattr(model_config, "apply_spec_augment", False)
        if wanted:
            padded_frames = self.recogniser.frames(int(batch["samples"].max()))
            model_config.apply_spec_augment = padded_frames >= model_config.mask_time_length
        try:
            yield
        finally:
            if wanted:
                model_config.apply_spec_augment = wanted

    def _evaluate(self, progress: Progress) -> bool:
        """Dev WER of the current weights; returns whether they are the best so far (WER, then CER)."""
        self.keeper.before_evaluation(progress.step)
        hypotheses = transcribe(
            self.recogniser,
            self.dev,
            self.accelerator,
            max_batch_seconds=self.config.max_batch_seconds,
            num_workers=self.num_workers,
            description="dev",
        )
        result = score(self.dev["id"], self.dev["text"], best_texts(hypotheses), self.normalizer).to_dict()
        progress.history.append({"step": progress.step, "wer": result["wer"], "cer": result["cer"]})
        if not self.keeper.may_keep(progress.step):
            return False
        best = progress.best_dev
        if best and (result["wer"], result["cer"]) >= (best["wer"], best["cer"]):
            return False
        progress.best_step, progress.best_dev = progress.step, result
        return True


def _make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW without weight decay on biases, norms and other vectors."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.adam_beta2), fused=True)
