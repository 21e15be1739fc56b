"""From audio to text over a manifest: forward pass and decoding side by side, shared between processes."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset

from audio_lottery.data.batching import AudioTransform
from audio_lottery.evaluation.decoding import Decoder, Hypothesis, greedy_decoder
from audio_lottery.evaluation.forward import forward
from audio_lottery.models.ctc import Recogniser

# Batches that may wait for the decoder: enough to keep it busy, few enough to hold their logits.
_DECODE_BEHIND = 2


def transcribe(
    recogniser: Recogniser,
    manifest: Dataset,
    accelerator: Accelerator,
    *,
    decoder: Decoder | None = None,
    max_batch_seconds: float | None = None,
    precision: Literal["no", "bf16"] = "no",
    transform: AudioTransform | None = None,
    num_workers: int = 0,
    description: str = "transcribe",
) -> list[list[Hypothesis]]:
    """The hypotheses of every row of a manifest, best first, in the manifest's order.

    Decoding runs in a thread beside the model. See `audio_lottery.evaluation.forward.forward` for the batching.

    Args:
        recogniser: its model must be on ``accelerator.device``; left in evaluation mode.
        manifest: rows to transcribe; none is dropped.
        accelerator: the rows are shared between its processes, and every process gets all hypotheses.
        decoder: from logits to words; None decodes greedily.
        max_batch_seconds: budget of padded audio of a batch; None suits the device.
        precision: of the forward pass.
        transform: changes the audio (noise).
        num_workers: DataLoader workers.
        description: what the progress bar says.
    """
    decode = decoder or greedy_decoder(recogniser)
    batches = forward(
        recogniser,
        manifest,
        accelerator,
        max_batch_seconds=max_batch_seconds,
        precision=precision,
        transform=transform,
        num_workers=num_workers,
        description=description,
    )
    found: list[tuple[int, list[Hypothesis]]] = []
    waiting: deque[tuple[list[int], Future[list[list[Hypothesis]]]]] = deque()

    def collect() -> None:
        rows, future = waiting.popleft()
        found.extend(zip(rows, future.result(), strict=True))

    with ThreadPoolExecutor(1, thread_name_prefix="decode") as pool:
        for rows, logits, frames in batches:
            waiting.append((rows, pool.submit(decode, logits, frames)))
            if len(waiting) > _DECODE_BEHIND:
                collect()
        while waiting:
            collect()
    by_row = dict(gather_object(found) if accelerator.num_processes > 1 else found)
    return [by_row[row] for row in range(len(manifest))]


def best_texts(hypotheses: list[list[Hypothesis]]) -> list[str]:
    """The text of every first hypothesis; empty where the decoder found none."""
    return [nbest[0].text if nbest else "" for nbest in hypotheses]
