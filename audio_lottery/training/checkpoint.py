"""Exact checkpoints: everything a training needs to go on as if it had not stopped, in safetensors and JSON.

Random generators and the data order are functions of the step (`seed_step`, `TrainingBatches`), so what is left is
weights, optimiser moments, the best model so far, a few numbers, and what the hooks write.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.optim import Optimizer

from audio_lottery.errors import RunError
from audio_lottery.processes import finished
from audio_lottery.storage import read_json, sealed_folder, write_json
from audio_lottery.training.hook import Hook
from audio_lottery.training.state import Progress, Training


@dataclass(frozen=True)
class Checkpoint:
    """What `load_checkpoint` brings back besides the model's weights and the optimiser's state.

    Attributes:
        folder: where it lies, for what the hooks wrote.
        progress: where the training stood.
        best: weights of the best model so far.
    """

    folder: Path
    progress: Progress
    best: dict[str, Tensor]


def save_checkpoint(folder: Path, training: Training, best: dict[str, Tensor], hooks: Sequence[Hook]) -> None:
    """Replace the checkpoint at ``folder``; the old one stays until the new one is whole. Main process only.

    Raises:
        StorageError: it could not be written; the old one is still there.
    """
    progress = training.progress
    if training.accelerator.scaler is not None:
        progress.scaler = training.accelerator.scaler.state_dict()
    with sealed_folder(folder) as temporary:
        save_model(training.backbone.module, str(temporary / "model.safetensors"))
        save_file(_flat_state(training.optimizer), temporary / "optimizer.safetensors")
        save_file(best, temporary / "best.safetensors")
        for hook in hooks:
            hook.save(training, temporary)
        write_json(temporary / "progress.json", asdict(progress))


def load_checkpoint(folder: Path, training: Training) -> Checkpoint | None:
    """Load the checkpoint at ``folder`` into the model and the optimiser of ``training``.

    Returns:
        The rest of the checkpoint, or None where there is none.

    Raises:
        RunError: the checkpoint is cut short or damaged, or was made by another number of processes.
    """
    accelerator = training.accelerator
    if not finished(accelerator, folder, remedy=f"remove {folder} to train this stage from its start"):
        return None
    progress = Progress(**read_json(folder / "progress.json"))
    if progress.world_size != accelerator.num_processes:
        raise RunError(
            f"{folder} was made by {progress.world_size} processes and {accelerator.num_processes} run now; "
            f"launch {progress.world_size}, or remove it to train this stage from its start"
        )
    device = str(accelerator.device)
    load_model(training.backbone.module, folder / "model.safetensors", device=device)
    _restore_state(training.optimizer, load_file(folder / "optimizer.safetensors", device=device))
    if accelerator.scaler is not None and progress.scaler:
        accelerator.scaler.load_state_dict(progress.scaler)
    return Checkpoint(folder, progress, load_file(folder / "best.safetensors"))


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
