"""From audio to logits: batches of like length, read ahead of the model, shared between processes."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import Tensor
from tqdm import tqdm

from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.batching import AudioTransform, Batch, Collator, SpeechDataset, make_loader, pack
from audio_lottery.models.ctc import Recogniser

# Batches decoded ahead of the model. Two hide the jitter of reading; more only hold memory.
READ_AHEAD = 2

# Padded audio of a batch by kind of device. More overflows the caches of a CPU and is slower; a GPU wants much at once.
BATCH_SECONDS = {"cpu": 32.0, "cuda": 240.0}

T = TypeVar("T")


def forward(
    recogniser: Recogniser,
    manifest: Dataset,
    accelerator: Accelerator,
    *,
    max_batch_seconds: float | None = None,
    precision: Literal["no", "bf16"] = "no",
    transform: AudioTransform | None = None,
    num_workers: int = 0,
    description: str = "evaluate",
) -> Iterator[tuple[list[int], Tensor, list[int]]]:
    """The logits of this process's share of a manifest, batch by batch.

    Utterances are sorted by length and packed under a budget of padded audio; the longest come first, so that memory
    runs out at the start or not at all. Audio is decoded, changed and padded in a thread of its own while the model
    computes. Where padding would change the outputs (group norm), only utterances of equal length share a batch, so
    the result does not depend on the budget.

    Args:
        recogniser: its model must be on ``accelerator.device``; left in evaluation mode.
        manifest: rows to evaluate; none is dropped.
        accelerator: the rows are shared between its processes.
        max_batch_seconds: budget of padded audio of a batch; None takes `BATCH_SECONDS` of the device.
        precision: float32, or bf16 autocast whatever the training precision was.
        transform: changes the audio (noise).
        num_workers: DataLoader workers.
        description: what the progress bar says.

    Yields:
        (rows of the manifest, logits [batch, frames, characters] in float32 on the CPU, frames of each utterance
        without padding).
    """
    model, device = recogniser.model.eval(), accelerator.device
    budget = max_batch_seconds or BATCH_SECONDS.get(device.type, BATCH_SECONDS["cuda"])
    durations = np.asarray(manifest["duration"], dtype=np.float64)
    batches = evaluation_batches(durations, budget, recogniser.pads_exactly)
    mine = batches[accelerator.process_index :: accelerator.num_processes]
    dataset = SpeechDataset(manifest, transform=transform)
    loader = read_ahead(make_loader(dataset, iter(mine), Collator(recogniser.processor), num_workers))
    progress = tqdm(
        total=round(sum(float(durations[batch].sum()) for batch in mine)),
        desc=description,
        unit="s",
        leave=False,
        disable=not accelerator.is_local_main_process or None,
    )

    def compute(batch: Batch) -> tuple[Tensor, list[int]]:
        inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch["inputs"].items()}
        # Both are settings of a thread.
        autocast: Any = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
        with torch.inference_mode(), autocast:
            logits = model(**inputs).logits.float().cpu()
        return logits, recogniser.valid_frames(logits, batch["samples"])

    with progress, closing(loader), closing(_side_by_side(compute, loader, device)) as computed:
        for rows, (logits, frames) in zip(mine, computed, strict=True):
            yield rows, logits, frames
            progress.update(round(float(durations[rows].sum())))


def _side_by_side(compute: Callable[[Batch], T], batches: Iterable[Batch], device: torch.device) -> Generator[T]:
    """``compute`` of every batch, in order; on a CPU as many batches at once as torch has threads, one thread each.

    A thread per batch keeps all cores busy where a small model's layers are too short to be shared between them, and
    its sums do not depend on the number of threads.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield from map(compute, batches)
        return
    waiting: deque[Future[T]] = deque()
    # The number of threads is a setting of each thread, and the default of threads that start later.
    with ThreadPoolExecutor(threads, "forward", initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(compute, batch))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(threads)


def evaluation_batches(durations: Sequence[float] | np.ndarray, budget: float, pads_exactly: bool) -> list[list[int]]:
    """Rows in batches, longest first.

    Args:
        durations: seconds of every row.
        budget: longest duration × rows of a batch, in seconds.
        pads_exactly: whether rows of different length may share a batch.
    """
    lengths = np.asarray(durations, dtype=np.float64)
    order = np.argsort(-lengths, kind="stable")
    if pads_exactly:
        return pack(order, lengths, budget)
    samples = np.round(lengths * SAMPLE_RATE).astype(np.int64)[order]
    runs = np.split(order, np.flatnonzero(np.diff(samples)) + 1)
    return [batch for run in runs for batch in pack(run, lengths, budget)]


def read_ahead(items: Iterable[T], depth: int = READ_AHEAD) -> Generator[T]:
    """Draw from ``items`` in a thread, up to ``depth`` ahead; an exception there is raised here, in its place.

    The thread ends when the items do, or when this generator is closed.
    """
    done = object()
    waiting: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(value: Any) -> bool:
        while not stop.is_set():
            try:
                waiting.put(value, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def draw() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((done, None))
        except BaseException as error:  # handed to the reader, whatever it is
            put((done, error))

    thread = threading.Thread(target=draw, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is done:
                return
            yield item
    finally:
        stop.set()
        thread.join()
