"""Where a result comes from: versions, commit, machine kind."""

import subprocess
from pathlib import Path
from typing import Any

import accelerate
import torch
import transformers
from accelerate import Accelerator

from audio_lottery import __version__
from audio_lottery.config import RunConfig


def software() -> dict[str, Any]:
    """Versions and commit."""
    return {
        "audio_lottery": __version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
    }


def provenance(config: RunConfig, accelerator: Accelerator) -> dict[str, Any]:
    """What every ``metrics.json`` of a run begins with."""
    return {
        "schema": 2,
        **software(),
        "seed": config.seed,
        "precision": accelerator.mixed_precision,
        "device": accelerator.device.type,
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
    }


def _commit() -> str | None:
    """Commit of the source tree the package runs from, ``+`` where it was changed; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
