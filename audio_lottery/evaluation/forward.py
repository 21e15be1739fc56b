"""From audio to emissions: batches of like length, read ahead of the model, shared between processes."""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from tqdm import tqdm

from audio_lottery.config import EvaluationConfig
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.batching import AudioTransform, Batch, Collator, Item, SpeechDataset, make_loader, pack
from audio_lottery.models.base import Backbone, Emission

if TYPE_CHECKING:  # 80 MB that a recogniser has no use for
    from datasets import Dataset

logger = logging.getLogger(__name__)

# Batches decoded ahead of the model. Two hide the jitter of reading; more only hold memory.
READ_AHEAD = 2

# Padded audio of a batch by kind of device. More overflows the caches of a CPU and is slower; a GPU wants much at once.
BATCH_SECONDS = {"cpu": 32.0, "cuda": 240.0}

T = TypeVar("T")

Part = tuple[list[int], Batch]
"""Places in a list of items, and the items there, padded."""


def forward(
    backbone: Backbone,
    manifest: "Dataset",
    accelerator: Accelerator,
    *,
    settings: EvaluationConfig,
    transform: AudioTransform | None = None,
    num_workers: int = 0,
    description: str = "evaluate",
    beam: int = 1,
) -> Iterator[tuple[list[int], Emission]]:
    """The emissions of this process's share of a manifest, batch by batch.

    Utterances are sorted by length and packed under a budget of padded audio; the longest come first, so that memory
    runs out at the start or not at all. Audio is decoded, changed and padded in a thread of its own while the model
    computes. Where padding would change the outputs (`Backbone.pads_exactly`), only utterances of equal length go
    through the model together, so the result does not depend on the budget. An utterance too short for an output frame
    never reaches the model and is not yielded.

    Args:
        backbone: its module must be on ``accelerator.device``; left in evaluation mode.
        manifest: rows to evaluate; none is dropped.
        accelerator: the rows are shared between its processes.
        settings: ``max_batch_seconds``, budget of padded audio of a batch, None takes `BATCH_SECONDS` of the device;
            ``precision``: float32, or bf16 autocast whatever the training precision was.
        transform: changes the audio (noise).
        num_workers: DataLoader workers.
        description: what the progress bar says.
        beam: see `Backbone.emit`.

    Yields:
        (rows of the manifest, their emission). No row twice.
    """
    backbone.module.eval()
    device = accelerator.device
    budget = settings.max_batch_seconds or BATCH_SECONDS.get(device.type, BATCH_SECONDS["cuda"])
    durations = np.asarray(manifest["duration"], dtype=np.float64)
    batches = evaluation_batches(durations, budget, backbone.pads_exactly, backbone.padded(durations))
    mine = batches[accelerator.process_index :: accelerator.num_processes]
    dataset = SpeechDataset(manifest, transform=transform)
    collator = PartCollator(backbone)
    loader = read_ahead(make_loader(dataset, iter(mine), collator, num_workers))
    progress = tqdm(
        total=round(sum(float(durations[batch].sum()) for batch in mine)),
        desc=description,
        unit="s",
        leave=False,
        disable=not accelerator.is_local_main_process or None,
    )

    # the other runtime has a bfloat16 of its own
    precision = settings.precision if settings.runtime == "torch" else "no"
    silent = 0
    with progress, closing(loader), closing(emissions(backbone, loader, device, precision, beam)) as computed:
        for rows, results in zip(mine, computed, strict=True):
            for places, emission in results:
                yield [rows[place] for place in places], emission
            silent += len(rows) - sum(len(places) for places, _ in results)
            progress.update(round(float(durations[rows].sum())))
    if silent:
        seconds = backbone.shortest / SAMPLE_RATE
        logger.warning(
            "%s: %d utterances are shorter than %g s and give no output frame: empty hypotheses",
            description,
            silent,
            seconds,
        )


def emissions(
    backbone: Backbone, batches: Iterable[list[Part]], device: torch.device, precision: str, beam: int = 1
) -> Generator[list[tuple[list[int], Emission]]]:
    """Forward passes of batches, in order; on a CPU as many side by side as torch has threads.

    Args:
        backbone: its module must be on ``device``, in evaluation mode.
        batches: what a `PartCollator` made.
        device: where the module is.
        precision: no (float32), or bf16 autocast.
        beam: see `Backbone.emit`.

    Yields:
        For each batch the places in it that gave an emission, and the emission.
    """

    def compute(parts: list[Part]) -> list[tuple[list[int], Emission]]:
        # Both are settings of a thread. Not torch.inference_mode: a module that keeps something of the pass (rotary
        # positions of Wav2Vec2-Conformer) could not be trained afterwards.
        autocast: Any = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
        results = []
        with torch.no_grad(), autocast:
            for places, batch in parts:
                inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch["inputs"].items()}
                results.append((places, backbone.emit(inputs, batch["samples"], beam)))
        return results

    together = 1 if backbone.keeps_state else torch.get_num_threads()
    with closing(_side_by_side(compute, batches, device, together)) as computed:
        yield from computed


class PartCollator:
    """Pads items to batches that may go through the model as they are; items too short for a frame are in none.

    The lengths of the audio decide: those of a manifest are rounded, and a file may end a little before its row does.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._collate = Collator(backbone.features)
        self._shortest = backbone.shortest
        self._mixed = backbone.pads_exactly

    def __call__(self, items: list[Item]) -> list[Part]:
        places: dict[int, list[int]] = {}
        for place, item in enumerate(items):
            samples = item["audio"].shape[0]
            if samples >= self._shortest:
                places.setdefault(0 if self._mixed else samples, []).append(place)
        return [(part, self._collate([items[place] for place in part])) for part in places.values()]


def _side_by_side(
    compute: Callable[[list[Part]], T], batches: Iterable[list[Part]], device: torch.device, together: int
) -> Generator[T]:
    """``compute`` of every batch, in order; on a CPU ``together`` batches at once, one thread each.

    A thread per batch keeps all cores busy where a small model's layers are too short to be shared between them, and
    its sums do not depend on the number of threads.
    """
    if device.type != "cpu" or together == 1:
        yield from map(compute, batches)
        return
    threads = torch.get_num_threads()
    waiting: deque[Future[T]] = deque()
    # The number of threads is a setting of each thread, and the default of threads that start later.
    with ThreadPoolExecutor(together, "forward", initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(compute, batch))
                if len(waiting) > together:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(threads)


def evaluation_batches(
    durations: Sequence[float] | np.ndarray, budget: float, pads_exactly: bool, padded: np.ndarray | None = None
) -> list[list[int]]:
    """Rows in batches, longest first.

    Args:
        durations: seconds of every row.
        budget: longest duration × rows of a batch, in seconds.
        pads_exactly: whether rows of different length may share a batch.
        padded: seconds that every row takes in a batch; None: its duration.
    """
    lengths = np.asarray(durations, dtype=np.float64)
    seconds = lengths if padded is None else padded
    order = np.argsort(-lengths, kind="stable")
    if pads_exactly:
        return pack(order, seconds, budget)
    samples = np.round(lengths * SAMPLE_RATE).astype(np.int64)[order]
    runs = np.split(order, np.flatnonzero(np.diff(samples)) + 1)
    return [batch for run in runs for batch in pack(run, seconds, budget)]


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
