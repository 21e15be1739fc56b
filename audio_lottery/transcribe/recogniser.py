"""A recogniser to use: recordings of any length, rate and number of channels in, words with times out."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from audio_lottery.config import DecoderConfig, ModelConfig
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.errors import ConfigError
from audio_lottery.evaluation.decoding import Decoder, Hypothesis, make_decoder
from audio_lottery.evaluation.forward import (
    BATCH_SECONDS,
    Part,
    PartCollator,
    emissions,
    evaluation_batches,
    read_ahead,
)
from audio_lottery.models.base import Backbone, Emission
from audio_lottery.models.load import load_trained
from audio_lottery.processes import computes_in_bf16
from audio_lottery.sparse.benchmark.interleaved import torch_threads
from audio_lottery.sparse.benchmark.own import density, describe_plan
from audio_lottery.sparse.precision import PRECISIONS
from audio_lottery.transcribe.desk import Desk, Failure, Recording, Source, Task
from audio_lottery.transcribe.live import Line, lines, read_pcm
from audio_lottery.transcribe.result import Transcript
from audio_lottery.transcribe.windows import Windowing

logger = logging.getLogger(__name__)

# Share of zeros among the prunable weights from which on a model counts as sparse.
_SPARSE = 0.01
# Batches whose windows are gathered and sorted by length: like lengths need little padding.
_GATHERED = 4
# Batches that may wait for the decoder.
_DECODE_BEHIND = 2


class Recogniser:
    """A model, its processor and its decoder, ready to transcribe.

    Attributes:
        backbone: the model; its module is in evaluation mode, and accelerated where ``accelerated`` says so.
        decoder: from the model's outputs to words.
        accelerated: whether sparse kernels run.
        precision: float32, bfloat16 or int8.
        threads: of torch and of the kernels; None takes torch's setting.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        precision: str = "float32",
        threads: int | None = None,
        decoder: DecoderConfig | None = None,
        accelerate: bool | None = None,
    ) -> None:
        """Make a loaded model ready; see `load`. The backbone's module is replaced where it is accelerated."""
        if precision not in PRECISIONS:
            raise ConfigError(f"precision '{precision}' is unknown; there are {', '.join(PRECISIONS)}")
        if threads is not None and threads < 1:
            raise ConfigError(f"threads is {threads}; it must be 1 or more")
        self.backbone = backbone
        self.precision = precision
        self.threads = threads
        # first, because beam search starts its processes here
        self.decoder: Decoder = make_decoder(decoder or DecoderConfig(), backbone, Path(), processes=threads)
        backbone.module.eval()
        with self._threads():
            self.accelerated = self._accelerate(accelerate)
        if precision == "int8" and not self.accelerated:
            raise ConfigError(
                "precision 'int8' is one of the sparse kernels, on which this model does not run: "
                "choose float32 or bfloat16"
            )
        if precision == "bfloat16" and not self.accelerated and not computes_in_bf16():
            logger.warning("this machine only imitates bfloat16, many times slower than float32")

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        precision: str = "float32",
        threads: int | None = None,
        decoder: DecoderConfig | None = None,
        accelerate: bool | None = None,
    ) -> Self:
        """Load a model to transcribe with.

        Args:
            model: folder or Hub id, dense or with ``model.sparse.safetensors``.
            revision: branch, tag or commit on the Hub.
            precision: float32, bfloat16, or int8, which only sparse kernels have.
            threads: of torch and of the kernels; None takes torch's setting.
            decoder: greedy by default; paths are relative to the folder one is in.
            accelerate: whether to run on sparse kernels (`audio_lottery.sparse.accelerate`); None does where weights
                are zero.

        Raises:
            ModelError: it cannot be loaded whole, processor included.
            ConfigError: an unknown precision, int8 of a model that runs on no sparse kernels, fewer threads than one,
                or a decoder that cannot be made.
        """
        backbone = load_trained(ModelConfig(init=str(model), revision=revision))
        return cls(backbone, precision=precision, threads=threads, decoder=decoder, accelerate=accelerate)

    def windowing(self, seconds: float | None = None) -> Windowing:
        """How long recordings are cut for this model.

        At every pause between sentences, as a small model has learnt to hear; but with several sentences in a window
        for one that pads all it hears to the same length (Whisper): a short one takes it as long, and tells it less.

        Args:
            seconds: of a window at most; None takes 20, or what the model's own window takes.

        Raises:
            ConfigError: no seconds at all.
        """
        if self.backbone.longest is None:
            return Windowing() if seconds is None else Windowing.up_to(seconds)
        most = self.backbone.longest / SAMPLE_RATE
        return Windowing.long(most if seconds is None else min(seconds, most))

    def transcribe(
        self, audio: str | Path | np.ndarray, *, sample_rate: int = SAMPLE_RATE, windowing: Windowing | None = None
    ) -> Transcript:
        """What was said in a recording of any length.

        Args:
            audio: a file that soundfile reads, of any rate and number of channels, or samples as `Recording` has them.
            sample_rate: of samples, in Hz; a file says its own.
            windowing: how long recordings are cut; None does it as `windowing` says.

        Raises:
            AudioError: a file that cannot be decoded, or samples that are no audio.
            ModelError: the model's output is not a number.
        """
        source = Recording(audio, sample_rate) if isinstance(audio, np.ndarray) else audio
        [found] = self.transcribe_all([source], windowing=windowing)
        if isinstance(found, Failure):
            raise found.error
        return found

    def transcribe_all(
        self,
        sources: Iterable[Source],
        *,
        windowing: Windowing | None = None,
        progress: Callable[[float], object] | None = None,
    ) -> Iterator[Transcript | Failure]:
        """What was said in each of many recordings, in their order; windows of several go through the model at once.

        A file that cannot be read is a `Failure`, and the others go on. Memory grows with no length.

        Args:
            sources: files, or `Recording`.
            windowing: how long recordings are cut; None does it as `windowing` says.
            progress: called with seconds of audio that went through the model.

        Raises:
            ModelError: the model's output is not a number.
        """
        with self._threads():
            desk = Desk(self.backbone, windowing or self.windowing())
            for tasks in self._transcribed(desk.windows(sources)):
                if progress is not None:
                    progress(sum(task.seconds for task in tasks))
                yield from desk.finished()
            yield from desk.finished()

    def _transcribed(self, tasks: Iterator[Task]) -> Iterator[list[Task]]:
        """The tasks in batches, when they are done: forward passes side by side, decoding in a thread behind them."""
        batches = read_ahead(self._batches(tasks))
        computing: deque[list[Task]] = deque()
        decoding: deque[Future[list[Task]]] = deque()

        def parts() -> Iterator[list[Part]]:
            for batch, inputs in batches:
                computing.append(batch)
                yield inputs

        autocast = "bf16" if self.precision == "bfloat16" and not self.accelerated else "no"
        computed = emissions(self.backbone, parts(), self.backbone.module.device, autocast, self.decoder.beam)
        # one thread of torch: the others compute, and steps of a search are too short to be shared
        pool = ThreadPoolExecutor(1, "decode", initializer=torch.set_num_threads, initargs=(1,))
        with closing(batches), closing(computed), pool:
            for results in computed:
                decoding.append(pool.submit(self._decode, computing.popleft(), results))
                if len(decoding) > _DECODE_BEHIND:
                    yield decoding.popleft().result()
            while decoding:
                yield decoding.popleft().result()

    def _decode(self, tasks: list[Task], results: list[tuple[list[int], Emission]]) -> list[Task]:
        for places, emission in results:
            for place, [best, *_] in zip(places, self.decoder(emission), strict=True):
                tasks[place].found = best
        for task in tasks:
            task.done = True
        return tasks

    def stream(self, chunks: Iterable[np.ndarray]) -> Iterator[Hypothesis]:
        """See `Backbone.stream`: text while the audio comes in."""
        with self._threads():
            yield from self.backbone.stream(chunks)

    def live(self, read: Callable[[int], bytes]) -> Iterator[Line]:
        """Lines that grow while somebody speaks.

        Args:
            read: gives up to so many bytes of 16 kHz mono speech in 16 bits, as soon as there are some; none at the
                end.

        Raises:
            ModelError: a model that cannot stream; before anything is read.
            AudioError: see `read_pcm`.
        """
        heard = 0

        def chunks() -> Iterator[np.ndarray]:
            nonlocal heard
            for chunk in read_pcm(read):
                heard += len(chunk)
                yield chunk

        return lines(self.stream(chunks()), lambda: heard / SAMPLE_RATE, self.backbone.spell)

    def _threads(self) -> Any:
        return nullcontext() if self.threads is None else torch_threads(self.threads)

    def _accelerate(self, wanted: bool | None) -> bool:
        module = self.backbone.module
        zeros = 1.0 - density(module)
        if wanted is False or (wanted is None and zeros < _SPARSE):
            return False
        from audio_lottery.sparse import accelerate  # numba takes a second to load

        fast: Any = accelerate(module, precision=self.precision)
        if fast is module:
            return False
        self.backbone.module = fast
        logger.info(
            "%.0f %% of the prunable weights are zero: runs on sparse kernels where that is faster here (%s)",
            100 * zeros,
            describe_plan(fast.plan),
        )
        return True

    def _batches(self, tasks: Iterator[Task]) -> Iterator[tuple[list[Task], list[Part]]]:
        budget = BATCH_SECONDS["cpu" if self.backbone.module.device.type == "cpu" else "cuda"]
        collate, exact = PartCollator(self.backbone), self.backbone.pads_exactly
        for gathered in _gather(tasks, _GATHERED * budget):
            seconds = np.asarray([task.seconds for task in gathered])
            for rows in evaluation_batches(seconds, budget, exact, self.backbone.padded(seconds)):
                batch = [gathered[row] for row in rows]
                yield batch, collate([task.take() for task in batch])


def _gather(tasks: Iterable[Task], seconds: float) -> Iterator[list[Task]]:
    gathered: list[Task] = []
    for task in tasks:
        gathered.append(task)
        if sum(one.seconds for one in gathered) >= seconds:
            yield gathered
            gathered = []
    if gathered:
        yield gathered
