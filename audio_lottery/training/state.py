"""What a training is, as its hooks see it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch.optim import Optimizer

from audio_lottery.config import TrainingConfig
from audio_lottery.models.base import Backbone


@dataclass(frozen=True)
class Stage:
    """Which training it is.

    Attributes:
        name: theta, round_03, ...
        folder: its scratch space, where the checkpoint lives.
        seed: of order, dropout and SpecAugment.
        description: what progress bar and log lines say.
    """

    name: str
    folder: Path
    seed: int
    description: str

    @property
    def checkpoint(self) -> Path:
        """Folder of the checkpoint to go on from."""
        return self.folder / "checkpoint"


@dataclass
class Progress:
    """Where a training stands.

    Attributes:
        step: optimiser steps done.
        micro_step: micro-batches consumed by each process.
        world_size: number of processes; a training goes on with the same number only.
        best_step: step of the best model on dev so far, 0 before the first evaluation.
        best_dev: dev result of that model.
        history: one entry per evaluation: step, dev WER and CER.
        nonfinite_steps: steps skipped because the loss or a gradient was not finite.
        nonfinite_in_a_row: how many of those were the latest steps.
        spent_steps: optimiser steps of this training alone: fewer than ``step`` behind a late rewind point.
        spent_samples: samples of speech that all processes have heard in them, padding left out.
        seconds: wall-clock seconds spent so far, over all resumes.
        scaler: state of the fp16 gradient scaler.
    """

    step: int = 0
    micro_step: int = 0
    world_size: int = 1
    best_step: int = 0
    best_dev: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    nonfinite_steps: int = 0
    nonfinite_in_a_row: int = 0
    spent_steps: int = 0
    spent_samples: int = 0
    seconds: float = 0.0
    scaler: dict[str, Any] = field(default_factory=dict)


@dataclass
class Training:
    """One training under way.

    Attributes:
        backbone: what is trained.
        optimizer: torch's, under accelerate's wrapper.
        accelerator: device, precision and processes.
        config: how it is trained.
        stage: which training it is.
        total_steps: optimiser steps in all.
        progress: where it stands; `audio_lottery.training.loop` writes it, hooks read it.
        loss: mean loss per utterance of the latest step.
        gradient_norm: of the latest step, before clipping.
    """

    backbone: Backbone
    optimizer: Optimizer
    accelerator: Accelerator
    config: TrainingConfig
    stage: Stage
    total_steps: int
    progress: Progress
    loss: float = 0.0
    gradient_norm: float = 0.0
