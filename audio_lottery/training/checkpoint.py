"""Exact checkpoints: everything a training needs to go on as if it had not stopped, in safetensors and JSON.

Random generators and the data order are functions of the step (`seed_step`, `TrainingBatches`), so what is left is
weights, optimiser moments, the best model so far, movement scores where they are gathered, and a few numbers.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.optim import Optimizer

from audio_lottery.errors import RunError
from audio_lottery.pruning import Mask
from audio_lottery.storage import read_json, sealed_folder, write_json
from audio_lottery.processes import finished


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
    seconds: float = 0.0
    scaler: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """What `load_checkpoint` brings back besides the model's weights and the optimiser's state.

    Attributes:
        progress: where the training stood.
        best: weights of the best model so far.
        masks: ``now`` and ``best``, where the training had masks.
        movement: ``now`` and ``best``, where movement scores were gathered: parameter → scores.
    """

    progress: Progress
    best: dict[str, Tensor]
    masks: dict[str, Mask]
    movement: dict[str, dict[str, Tensor]]


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: Optimizer,
    best: dict[str, Tensor],
    masks: dict[str, Mask],
    progress: Progress,
    accelerator: Accelerator,
    movement: Mapping[str, dict[str, Tensor]] | None = None,
) -> None:
    """Replace the checkpoint at ``folder``; the old one stays until the new one is whole. Main process only.

    Raises:
        StorageError: it could not be written; the old one is still there.
    """
    if accelerator.scaler is not None:
        progress.scaler = accelerator.scaler.state_dict()
    with sealed_folder(folder) as temporary:
        save_model(model, str(temporary / "model.safetensors"))
        save_file(_flat_state(optimizer), temporary / "optimizer.safetensors")
        save_file(best, temporary / "best.safetensors")
        for name, mask in masks.items():
            mask.save(temporary / f"mask_{name}.safetensors")
        for name, scores in (movement or {}).items():
            save_file(scores, temporary / f"movement_{name}.safetensors")
        write_json(temporary / "progress.json", asdict(progress))


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: Optimizer, accelerator: Accelerator
) -> Checkpoint | None:
    """Load the checkpoint at ``folder`` into the model and the optimiser.

    Returns:
        The rest of the checkpoint, or None where there is none.

    Raises:
        RunError: the checkpoint is cut short or damaged, or was made by another number of processes.
    """
    if not finished(accelerator, folder, remedy=f"remove {folder} to train this stage from its start"):
        return None
    progress = Progress(**read_json(folder / "progress.json"))
    if progress.world_size != accelerator.num_processes:
        raise RunError(
            f"{folder} was made by {progress.world_size} processes and {accelerator.num_processes} run now; "
            f"launch {progress.world_size}, or remove it to train this stage from its start"
        )
    load_model(model, folder / "model.safetensors", device=str(accelerator.device))
    _restore_state(optimizer, load_file(folder / "optimizer.safetensors", device=str(accelerator.device)))
    if accelerator.scaler is not None and progress.scaler:
        accelerator.scaler.load_state_dict(progress.scaler)
    masks = {name: Mask.load(file) for name, file in _named(folder, "mask_").items()}
    movement = {name: load_file(file) for name, file in _named(folder, "movement_").items()}
    return Checkpoint(progress, load_file(folder / "best.safetensors"), masks, movement)


def _named(folder: Path, prefix: str) -> dict[str, Path]:
    """What follows ``prefix`` in a file's name → the file."""
    return {file.stem.removeprefix(prefix): file for file in sorted(folder.glob(f"{prefix}*.safetensors"))}


def _flat_state(optimizer: Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value.contiguous() for index, entry in state.items() for key, value in entry.items()}


def _restore_state(optimizer: Optimizer, flat: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's weights on the CPU."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in model.state_dict().items()}


def restore(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Put the weights of `snapshot` back, bit for bit."""
    with torch.no_grad():
        model.load_state_dict(weights, strict=True)
