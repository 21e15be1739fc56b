"""From audio to text over a manifest: forward pass and decoding side by side, shared between processes."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset

from audio_lottery.config import EvaluationConfig
from audio_lottery.data.batching import AudioTransform
from audio_lottery.evaluation.decoding import NOTHING, Decoder, Hypothesis
from audio_lottery.evaluation.forward import forward
from audio_lottery.models.base import Backbone

# Batches that may wait for the decoder: enough to keep it busy, few enough to hold what the model gave for them.
_DECODE_BEHIND = 2


def transcribe(
    backbone: Backbone,
    manifest: Dataset,
    accelerator: Accelerator,
    decoder: Decoder,
    *,
    settings: EvaluationConfig,
    transform: AudioTransform | None = None,
    num_workers: int = 0,
    description: str = "transcribe",
) -> list[list[Hypothesis]]:
    """The hypotheses of every row of a manifest, best first, in the manifest's order.

    Decoding runs in a thread beside the model. See `audio_lottery.evaluation.forward.forward` for the batching.

    Args:
        backbone: its module must be on ``accelerator.device``; left in evaluation mode.
        manifest: rows to transcribe; none is dropped.
        accelerator: the rows are shared between its processes, and every process gets all hypotheses.
        decoder: from emissions to words.
        settings: budget of a batch and precision.
        transform: changes the audio (noise).
        num_workers: DataLoader workers.
        description: what the progress bar says.
    """
    batches = forward(
        backbone,
        manifest,
        accelerator,
        settings=settings,
        transform=transform,
        num_workers=num_workers,
        description=description,
        beam=decoder.beam,
    )
    found: list[tuple[int, list[Hypothesis]]] = []
    waiting: deque[tuple[list[int], Future[list[list[Hypothesis]]]]] = deque()

    def collect() -> None:
        rows, future = waiting.popleft()
        found.extend(zip(rows, future.result(), strict=True))

    with ThreadPoolExecutor(1, thread_name_prefix="decode") as pool:
        for rows, emission in batches:
            waiting.append((rows, pool.submit(decoder, emission)))
            if len(waiting) > _DECODE_BEHIND:
                collect()
        while waiting:
            collect()
    by_row = dict(gather_object(found) if accelerator.num_processes > 1 else found)
    # what is too short for a frame has no emission, and nothing was said
    return [by_row.get(row, [NOTHING]) for row in range(len(manifest))]
