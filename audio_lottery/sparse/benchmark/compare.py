"""The comparison: every contestant on the same audio, checked against torch float32, timed in turns."""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audio_lottery.errors import AudioLotteryError, ConfigError, ModelError
from audio_lottery.sparse.benchmark import own
from audio_lottery.sparse.benchmark.agreement import Agreement, compare
from audio_lottery.sparse.benchmark.contestants import EXTRA, RUNTIMES, Call
from audio_lottery.sparse.benchmark.interleaved import Timing, load_before, take_turns, torch_threads
from audio_lottery.sparse.benchmark.settings import AS_PRUNED, DENSE, BenchmarkSettings
from audio_lottery.sparse.benchmark.subject import Subject

logger = logging.getLogger(__name__)

TimingRow = dict[str, Any]


@dataclass
class Outcome:
    """What a comparison found.

    Attributes:
        title: the model, the threads and the way it was measured.
        rows: one per contestant, sparsity and length: ``runtime, precision, pattern, sparsity, audio_seconds, median_s,
            min_s, max_s`` and further fields. Only contestants whose outputs are right have rows.
        notes: what was left out and why, wrong contestants with their differences, a busy machine.
    """

    title: str
    rows: list[TimingRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Contestant:
    """A runtime with a model in it. ``sparsity`` None: dense runtimes, whose time holds for every sparsity."""

    runtime: str
    precision: str
    pattern: str
    sparsity: float | None
    density: float
    call: Call
    references: dict[float, Tensor]
    plan: Sequence[Any] = ()

    @property
    def name(self) -> str:
        weights = "" if self.sparsity is None else f", {self.pattern}, {self.sparsity:.1%}"
        return f"{self.runtime} {self.precision}{weights}"


def compare_sparsities(subject: Subject, settings: BenchmarkSettings) -> Outcome:
    """Dense runtimes against ours, on ``subject`` pruned to every sparsity in every pattern.

    Dense runtimes run the unpruned weights and are measured once per length, in the same rounds as ours: what they take
    does not depend on zeros. Their rows are repeated for every sparsity, with ``shared`` true.

    Raises:
        ConfigError: impossible settings, or nothing left to measure.
    """
    settings.check()

    def ours_at(references: Callable[[Any], dict[float, Tensor]], notes: list[str]) -> Iterator[_Contestant]:
        for sparsity in settings.sparsities:
            for pattern in settings.patterns if sparsity else (DENSE,):
                model = own.pruned(subject.model, pattern, sparsity)
                found = references(model)
                kept = own.density(model)
                for precision in settings.precisions:
                    label = f"{own.NAME} {precision}, {pattern}, {sparsity:.1%}"
                    with _left_out_if_it_fails(label, notes):
                        yield _accelerated(subject, model, precision, pattern, sparsity, kept, found)

    return _measure(subject, settings, settings.sparsities, ours_at)


def compare_model(subject: Subject, settings: BenchmarkSettings) -> Outcome:
    """Dense runtimes against ours on a model as it is, zeros and all; ``sparsities`` and ``patterns`` are not used.

    Raises:
        ConfigError: impossible settings, or nothing left to measure.
    """
    settings.check()
    kept = own.density(subject.model)
    sparsity = 1 - kept

    def ours_as_pruned(references: Callable[[Any], dict[float, Tensor]], notes: list[str]) -> Iterator[_Contestant]:
        if sparsity == 0:
            notes.append("no prunable weight is zero: the model is dense, and sparsity has nothing to gain")
        found = references(subject.model)
        for precision in settings.precisions:
            with _left_out_if_it_fails(f"{own.NAME} {precision}", notes):
                yield _accelerated(subject, subject.model, precision, AS_PRUNED, sparsity, kept, found)

    return _measure(subject, settings, (sparsity,), ours_as_pruned)


_Ours = Callable[[Callable[[Any], dict[float, Tensor]], list[str]], Iterator[_Contestant]]


def _measure(subject: Subject, settings: BenchmarkSettings, sparsities: Sequence[float], make_ours: _Ours) -> Outcome:
    load, busy = load_before()
    title = (
        f"{subject.name}, batch 1, {settings.threads} thread{'s' if settings.threads > 1 else ''}, "
        f"{settings.repeats} timed calls each, in turns; torch {torch.__version__}; load before: {load:.2f}"
    )
    outcome = Outcome(title, notes=[busy] if busy else [])
    inputs = {seconds: subject.make_inputs(seconds) for seconds in settings.seconds}

    def references(model: Any) -> dict[float, Tensor]:
        with torch.inference_mode():
            return {seconds: subject.logits(model)(tensor).float() for seconds, tensor in inputs.items()}

    with torch_threads(settings.threads):
        sparse = list(make_ours(references, outcome.notes)) if _wanted(own.NAME, settings) else []
        dense_references = references(subject.model)
        lasting: dict[str, Call] = {}
        for seconds, tensor in inputs.items():
            # In a function of its own: what is built for one length must be gone before the next is built.
            timed = _of_length(subject, settings, seconds, tensor, sparse, dense_references, lasting, outcome.notes)
            for row in timed:
                covered = sparsities if row["shared"] else (row["sparsity"],)
                about_run = {"threads": settings.threads, "repeats": settings.repeats, "load_before": load}
                outcome.rows += [row | {"sparsity": sparsity} | about_run for sparsity in covered]
    outcome.notes = list(dict.fromkeys(outcome.notes))
    if not outcome.rows:
        raise ConfigError(f"no contestant could be measured: {'; '.join(outcome.notes)}")
    return outcome


def _accelerated(
    subject: Subject,
    model: Any,
    precision: str,
    pattern: str,
    sparsity: float,
    kept: float,
    references: dict[float, Tensor],
) -> _Contestant:
    logger.info("accelerating: %s, %s %.1f %%", precision, pattern, 100 * sparsity)
    fast = own.accelerated(model, precision)
    call, plan = subject.logits(fast).eval(), getattr(fast, "plan", ())
    return _Contestant(own.NAME, precision, pattern, sparsity, kept, call, references, plan)


def _dense(
    subject: Subject,
    settings: BenchmarkSettings,
    tensor: Tensor,
    references: dict[float, Tensor],
    folder: Path,
    lasting: dict[str, Call],
    notes: list[str],
) -> list[_Contestant]:
    """The dense contestants for one length; those that take any length are built once and kept in ``lasting``."""
    built: list[_Contestant] = []
    kept = own.density(subject.model)
    for runtime in RUNTIMES if subject.runtimes is None else subject.runtimes:
        name = f"{runtime.name} {runtime.precision}"
        if not _wanted(runtime.name, settings):
            continue
        if missing := runtime.missing():
            notes.append(f"{name} is left out: {', '.join(missing)} not installed; {EXTRA}")
            continue
        with _left_out_if_it_fails(name, notes):
            if name not in lasting:
                logger.info("building: %s", name)
                call = runtime.build(subject.logits(subject.model).eval(), tensor, settings.threads, folder)
                if runtime.any_length:
                    lasting[name] = call
            else:
                call = lasting[name]
            built.append(_Contestant(runtime.name, runtime.precision, DENSE, None, kept, call, references))
    return built


def _of_length(
    subject: Subject,
    settings: BenchmarkSettings,
    seconds: float,
    tensor: Tensor,
    sparse: Sequence[_Contestant],
    references: dict[float, Tensor],
    lasting: dict[str, Call],
    notes: list[str],
) -> list[TimingRow]:
    with tempfile.TemporaryDirectory(prefix="audio-lottery-bench-") as folder:
        dense = _dense(subject, settings, tensor, references, Path(folder), lasting, notes)
        timed = _time(subject, [*sparse, *dense], seconds, tensor, settings, notes)
    return [_row(contestant, agreement, timing, seconds) for contestant, agreement, timing in timed]


def _time(
    subject: Subject,
    contestants: Sequence[_Contestant],
    seconds: float,
    tensor: Tensor,
    settings: BenchmarkSettings,
    notes: list[str],
) -> list[tuple[_Contestant, Agreement, Timing]]:
    """Time the contestants whose outputs are right; the others are noted with what is wrong.

    A rival whose lower precision rounds too coarsely is timed all the same, and noted: being less exact does not make
    it less of a rival, and leaving it out would flatter ours.
    """
    right, agree = [], subject.agree or compare
    for contestant in contestants:
        with _left_out_if_it_fails(contestant.name, notes), torch.inference_mode():
            agreement = agree(contestant.call(tensor), contestant.references[seconds], contestant.precision)
            coarse_rival = agreement.coarse and contestant.runtime != own.NAME
            if coarse_rival:
                notes.append(f"TOO COARSE, timed all the same: {contestant.name} at {seconds:g} s: {agreement.verdict}")
            if agreement.right or coarse_rival:
                right.append((contestant, agreement))
            else:
                notes.append(f"WRONG, not timed: {contestant.name} at {seconds:g} s: {agreement.verdict}")
    calls = {contestant.name: _bind(contestant.call, tensor) for contestant, _ in right}
    timings = take_turns(calls, settings.repeats, settings.seed, settings.rest, progress=f"{seconds:g} s of audio")
    return [(contestant, agreement, timings[contestant.name]) for contestant, agreement in right]


def _row(contestant: _Contestant, agreement: Agreement, timing: Timing, seconds: float) -> TimingRow:
    return {
        "runtime": contestant.runtime,
        "precision": contestant.precision,
        "pattern": contestant.pattern,
        "sparsity": contestant.sparsity,
        "audio_seconds": seconds,
        "median_s": timing.median,
        "min_s": min(timing.wall),
        "max_s": max(timing.wall),
        "rtf": timing.median / seconds,
        "shared": contestant.sparsity is None,
        "density": contestant.density,
        "max_abs_difference": agreement.largest,
        "error_share": agreement.share,
        "same_labels": agreement.same_labels,
        "cores": timing.cores,
        # after the calls: layers whose weights their parents read have become dense in the first
        "plan": own.describe_plan(contestant.plan) if contestant.runtime == own.NAME else "",
    }


def _bind(call: Call, tensor: Tensor) -> Callable[[], object]:
    return lambda: call(tensor)


def _wanted(runtime: str, settings: BenchmarkSettings) -> bool:
    return not settings.runtimes or runtime in settings.runtimes


@contextmanager
def _left_out_if_it_fails(name: str, notes: list[str]) -> Iterator[None]:
    """One runtime's failure must not lose the measurement of the others: it is reported by name and left out."""
    try:
        yield
    except ModelError as error:
        notes.append(f"{name} is left out: {error}")
    except (AudioLotteryError, KeyboardInterrupt, GeneratorExit):
        raise
    except Exception as error:  # other people's exporters and runtimes, which raise anything
        lines = str(error).strip().splitlines() or [""]
        notes.append(f"{name} is left out: it failed with {type(error).__name__}: {lines[0][:200]}")
