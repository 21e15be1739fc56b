"""Recordings taken apart into windows, and their words put together again: what goes on around the model."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from audio_lottery.data.audio import SAMPLE_RATE, read_blocks
from audio_lottery.data.batching import Item
from audio_lottery.data.resample import HIGHEST_RATE, LOWEST_RATE, resample_blocks
from audio_lottery.errors import AudioError
from audio_lottery.models.base import Backbone, Hypothesis
from audio_lottery.models.words import Word
from audio_lottery.transcribe.result import Segment, Transcript, segments_of
from audio_lottery.transcribe.windows import Windowing, cut, join


@dataclass(frozen=True)
class Recording:
    """Samples in memory, for `Recogniser.transcribe_all`.

    Attributes:
        samples: floating point, ``[samples]`` or ``[samples, channels]``, nominally within ±1.
        sample_rate: in Hz.
    """

    samples: np.ndarray
    sample_rate: int = SAMPLE_RATE


@dataclass(frozen=True)
class Failure:
    """A file that could not be transcribed.

    Attributes:
        source: the file.
        error: why, in one line.
    """

    source: str
    error: AudioError


Source = str | Path | Recording


@dataclass(slots=True)
class Task:
    """A window that goes through the model, and what came of it."""

    start: float
    end: float
    samples: np.ndarray | None
    found: Hypothesis | None = None
    done: bool = False

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start

    def take(self) -> Item:
        """The samples, which are not kept."""
        samples, self.samples = self.samples, None
        return {"id": "", "audio": samples, "labels": [], "epoch": 0}  # type: ignore[typeddict-item]


@dataclass(slots=True)
class _Progress:
    """A source that is read and transcribed."""

    source: str
    tasks: deque[Task] = field(default_factory=deque)
    samples: int = 0
    read: bool = False
    error: AudioError | None = None
    parts: list[Segment] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    end: float = 0.0


class Desk:
    """Takes sources apart into windows, in one thread, and puts their words together, in another."""

    def __init__(self, backbone: Backbone, windowing: Windowing) -> None:
        self._backbone = backbone
        self._windowing = windowing
        self._open: deque[_Progress] = deque()

    def windows(self, sources: Iterable[Source]) -> Iterator[Task]:
        """The windows of all sources, one after the other."""
        share = self._backbone.frame_seconds is not None
        for source in sources:
            progress = _Progress("" if isinstance(source, Recording) else str(source))
            self._open.append(progress)
            try:
                for window in cut(self._counted(source, progress), self._windowing, share=share):
                    task = Task(window.start, window.end, window.samples)
                    progress.tasks.append(task)
                    yield task
            except AudioError as error:
                progress.error = error
            progress.read = True

    def _counted(self, source: Source, progress: _Progress) -> Iterator[np.ndarray]:
        for block in _blocks(source):
            progress.samples += len(block)
            yield block

    def finished(self) -> Iterator[Transcript | Failure]:
        """What is ready of the sources, in their order."""
        while self._open:
            progress = self._open[0]
            while progress.tasks and progress.tasks[0].done:
                self._add(progress, progress.tasks.popleft())
            if not progress.read or progress.tasks:
                return
            self._open.popleft()
            if progress.error is not None:
                yield Failure(progress.source, progress.error)
            else:
                segments = progress.parts or segments_of(progress.words)
                yield Transcript(progress.source, progress.samples / SAMPLE_RATE, tuple(segments))

    def _add(self, progress: _Progress, task: Task) -> None:
        text = "" if task.found is None else " ".join(task.found.text.split())
        if task.found is None or not text:
            return
        words = self._backbone.word_times(task.found)
        if words is None:
            progress.parts.append(Segment(text, task.start, task.end))
            return
        moved = [replace(word, start=word.start + task.start, end=word.end + task.start) for word in words]
        # only the end of what there is can meet the new window
        kept = next((i for i, word in enumerate(progress.words) if word.end > task.start - 1.0), len(progress.words))
        progress.words[kept:] = join(progress.words[kept:], moved, task.start, progress.end)
        progress.end = task.end


def _blocks(source: Source) -> Iterator[np.ndarray]:
    if not isinstance(source, Recording):
        yield from read_blocks(source)
        return
    samples, rate = source.samples, source.sample_rate
    if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            f"audio is {samples.dtype} of shape {samples.shape}; give floats between -1 and 1, [samples] or [samples, "
            "channels]"
        )
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(f"audio of {rate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} Hz can be resampled")
    if not np.isfinite(samples).all():
        raise AudioError("audio holds NaN or infinite samples")
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    pieces: Sequence[np.ndarray] = [mono[at : at + rate] for at in range(0, len(mono), rate)]
    yield from resample_blocks((piece.astype(np.float32) for piece in pieces), rate, SAMPLE_RATE)
