"""One accelerate setup for the whole run, and what processes must agree on."""

import logging
import os
import platform
import random
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, gather_object

from audio_lottery.errors import ConfigError, RunError
from audio_lottery.storage import is_sealed, recover_retired, verify_sealed

logger = logging.getLogger(__name__)


def make_accelerator(precision: str, expected_processes: int | None) -> Accelerator:
    """The accelerator of a run, with deterministic kernels switched on.

    Args:
        precision: no, bf16, fp16, or auto: bf16 where the device computes in it, else no.
        expected_processes: processes the run was asked for; None accepts any.

    Raises:
        ConfigError: the launch started another number of processes, or the device cannot do fp16.
    """
    native = computes_in_bf16()
    if precision == "auto":
        precision = "bf16" if native else "no"
    elif precision == "bf16" and not native:
        logger.warning("precision bf16: this device only imitates bfloat16, many times slower than --precision no")
    # cuBLAS is deterministic only with a fixed workspace; must be set before the first CUDA call.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Or every new tensor would first be filled with NaN, which takes a fifth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        # Some backbones never use some parameters (masked_spec_embed in a batch without masking): DDP must look.
        ddp = DistributedDataParallelKwargs(find_unused_parameters=True)
        accelerator = Accelerator(mixed_precision=precision, kwargs_handlers=[ddp])
    except ValueError as error:
        raise ConfigError(f"precision {precision} cannot be used on this device: {error}") from error
    if not accelerator.is_main_process:
        logging.getLogger("audio_lottery").setLevel(logging.ERROR)  # every line once
    if expected_processes is not None and accelerator.num_processes != expected_processes:
        raise ConfigError(
            f"num_processes is {expected_processes} and {accelerator.num_processes} started; launch with "
            f"`accelerate launch --multi_gpu --num_processes {expected_processes}` (on CPUs with "
            "ACCELERATE_USE_CPU=true: `--cpu` starts one process whatever --num_processes says)"
        )
    return accelerator


def finish_trackers(accelerator: Accelerator) -> None:
    """Close the experiment trackers of a run; the group of processes stays, for what else they may have to do."""
    for tracker in accelerator.trackers:
        tracker.finish()


def computes_in_bf16() -> bool:
    """Whether the GPU, or without one the CPU, multiplies in bfloat16 and does not imitate it by float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if platform.machine() in ("arm64", "aarch64"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def require_same(accelerator: Accelerator, value: str, what: str) -> None:
    """Check that every process holds the same value.

    Raises:
        RunError: they differ.
    """
    if accelerator.num_processes == 1:
        return
    values = gather_object([value])
    if len(set(values)) > 1:
        raise RunError(f"{what} differs between processes: {', '.join(values)}")


def finished(accelerator: Accelerator, folder: Path, remedy: str) -> bool:
    """Whether the sealed folder of a stage is there, the same answer on every process.

    Args:
        accelerator: its main process first undoes a replacement that a kill interrupted.
        folder: the sealed folder.
        remedy: what the user should do about a damaged one, for the message.

    Raises:
        RunError: it is there and damaged.
    """
    if accelerator.is_main_process:
        recover_retired(folder)
    accelerator.wait_for_everyone()
    if not is_sealed(folder):
        return False
    verify_sealed(folder, remedy)
    return True


def seed_step(seed: int, step: int, micro_step: int, rank: int) -> None:
    """Seed every random generator for one micro-batch.

    Dropout and SpecAugment become functions of (seed, step, rank): a resumed training needs no generator state.
    """
    words = np.random.SeedSequence([seed, step, micro_step, rank]).generate_state(2)
    random.seed(int(words[0]))
    np.random.seed(int(words[0]))  # transformers draws SpecAugment masks from numpy's global generator
    torch.manual_seed(int(words[1]))
