"""From audio to text: greedy CTC over a manifest, batched and shared between processes."""

from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm import tqdm

from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.batching import AudioTransform, Batch, Collator, SpeechDataset, make_loader, pack
from audio_lottery.models.ctc import Recogniser


def greedy_decode(recogniser: Recogniser, logits: torch.Tensor, samples: torch.Tensor) -> list[str]:
    """Best character of each frame, repeats merged, blanks removed (Graves et al. 2006, best path decoding).

    Args:
        recogniser: gives the blank, the characters and the frame rate.
        logits: [batch, frames, characters].
        samples: [batch], samples of each utterance without padding; frames behind its end are not read.
    """
    best = logits.argmax(dim=-1).cpu()
    for row, count in zip(best, samples.tolist(), strict=True):
        row[recogniser.frames(count) :] = recogniser.blank
    return recogniser.processor.batch_decode(best)


def transcribe(
    recogniser: Recogniser,
    manifest: Dataset,
    accelerator: Accelerator,
    *,
    max_batch_seconds: float = 120.0,
    transform: AudioTransform | None = None,
    num_workers: int = 0,
    description: str = "transcribe",
) -> list[str]:
    """The hypothesis of every row of a manifest, in the manifest's order.

    Runs in float32 whatever the training precision. Where padding would change the outputs (group norm), only
    utterances of equal length share a batch.

    Args:
        recogniser: its model must be on ``accelerator.device``; left in evaluation mode.
        manifest: rows to transcribe; none is dropped.
        accelerator: the rows are shared between its processes, and every process gets all hypotheses.
        max_batch_seconds: budget of padded audio of a batch.
        transform: changes the audio (noise).
        num_workers: DataLoader workers.
        description: what the progress bar says.
    """
    model = recogniser.model.eval()
    batches = _evaluation_batches(manifest["duration"], max_batch_seconds, recogniser.pads_exactly)
    mine = batches[accelerator.process_index :: accelerator.num_processes]
    loader = make_loader(
        SpeechDataset(manifest, transform=transform), iter(mine), Collator(recogniser.processor), num_workers
    )
    found: list[tuple[int, str]] = []
    progress = tqdm(
        total=len(mine), desc=description, leave=False, disable=not accelerator.is_local_main_process or None
    )
    with torch.inference_mode():
        for indices, batch in zip(mine, loader, strict=True):
            logits = model(**_to_device(batch, accelerator.device)).logits
            found += zip(indices, greedy_decode(recogniser, logits, batch["samples"]), strict=True)
            progress.update()
    progress.close()
    by_index = dict(gather_object(found) if accelerator.num_processes > 1 else found)
    return [by_index[i] for i in range(len(manifest))]


def _to_device(batch: Batch, device: torch.device) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch["inputs"].items()}


def _evaluation_batches(durations: Sequence[float], budget: float, pads_exactly: bool) -> list[list[int]]:
    """Longest first, so that memory runs out at the start or not at all."""
    lengths = np.asarray(durations, dtype=np.float64)
    order = np.argsort(-lengths, kind="stable")
    if pads_exactly:
        return pack(order, lengths, budget)
    samples = np.round(lengths * SAMPLE_RATE).astype(np.int64)[order]
    runs = np.split(order, np.flatnonzero(np.diff(samples)) + 1)
    return [batch for run in runs for batch in pack(run, lengths, budget)]
