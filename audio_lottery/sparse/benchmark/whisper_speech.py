"""Whisper on real speech: encoder and whole utterances, each with as many word pieces as its transcript has."""

import logging
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audio_lottery.sparse.benchmark.agreement import compare
from audio_lottery.sparse.benchmark.compare import TimingRow
from audio_lottery.sparse.benchmark.contestants import EXTRA, Call
from audio_lottery.sparse.benchmark.interleaved import take_turns, torch_threads
from audio_lottery.sparse.benchmark.own import describe_plan
from audio_lottery.sparse.benchmark.settings import DENSE, OWN, BenchmarkSettings
from audio_lottery.sparse.benchmark.whisper_contestants import Hearing, Writing, ctranslate2_runtimes, same_words

logger = logging.getLogger(__name__)

# What the others are compared with.
RIVAL = ("ctranslate2", "int8")
_PARTS: dict[str, Callable[[nn.Module, int], Any]] = {
    "encoder": lambda model, steps: Hearing(model),
    "utterance": Writing,
}
# Part, runtime, precision, sparsity (none of those who run dense weights).
Key = tuple[str, str, str, float | None]


@dataclass(frozen=True)
class Spoken:
    """An utterance.

    Attributes:
        seconds: of speech.
        features: [1, bins, frames] of its window.
        steps: word pieces that are written, with the end.
    """

    seconds: float
    features: Tensor
    steps: int


@dataclass
class Lap:
    """What one contestant took for all utterances, in one part ("encoder", "utterance").

    Attributes:
        part: see above.
        runtime: of whom.
        precision: of whom.
        sparsity: of ours; None of those who run the dense weights.
        wall: seconds, one sum a round.
        wrong: utterances for which it gave something else than torch in float32 with the same weights; for precisions
            other than float32, other word pieces or an error beyond `agreement`'s limit.
        plan: of ours, what became of the modules.
    """

    part: str
    runtime: str
    precision: str
    sparsity: float | None = None
    wall: list[float] = field(default_factory=list)
    wrong: int = 0
    plan: str = ""


def compare_speech(
    dense: Any,
    sparse: Mapping[float, Any],
    processor: Any,
    utterances: Sequence[Spoken],
    settings: BenchmarkSettings,
) -> tuple[list[Lap], list[str]]:
    """Time torch, CTranslate2 and ours in turns, utterance by utterance.

    Args:
        dense: Whisper in evaluation mode; what torch and CTranslate2 run.
        sparse: sparsity → the same with zeros; what ours runs, and what ours is held against.
        processor: of the model.
        utterances: what is heard.
        settings: ``precisions`` (of ours), ``repeats``, ``threads``, ``seed``, ``rest``; the rest is not used.

    Returns:
        What everybody took, and notes on who is left out.
    """
    from audio_lottery.sparse import accelerate  # numba takes a second to load

    laps: dict[Key, Lap] = {}
    notes: list[str] = []
    with torch_threads(settings.threads), tempfile.TemporaryDirectory(prefix="audio-lottery-bench-") as folder:
        fast: dict[tuple[str, float], Any] = {
            (precision, sparsity): accelerate(model, precision=precision)
            for sparsity, model in sparse.items()
            for precision in settings.precisions
        }
        for number, spoken in enumerate(utterances, start=1):
            logger.info("utterance %d of %d: %.1f s", number, len(utterances), spoken.seconds)
            calls: dict[Key, Callable[[], object]] = {}
            for part, wrap in _PARTS.items():
                found: dict[tuple[str, str, float | None], Call] = {
                    ("torch", "float32", None): wrap(dense, spoken.steps)
                }
                for runtime in ctranslate2_runtimes(processor, part):
                    if missing := runtime.missing():
                        notes.append(f"{runtime.name} is left out: {', '.join(missing)} not installed; {EXTRA}")
                        continue
                    subject = wrap(dense, spoken.steps)
                    call = runtime.build(subject, spoken.features, settings.threads, Path(folder))
                    found[runtime.name, runtime.precision, None] = call
                found |= {(OWN, *which): wrap(model, spoken.steps) for which, model in fast.items()}
                with torch.inference_mode():
                    expected: dict[float | None, Tensor] = {None: wrap(dense, spoken.steps)(spoken.features)}
                    for zeros, model in sparse.items():
                        expected[zeros] = wrap(model, spoken.steps)(spoken.features)
                for (name, precision, sparsity), call in found.items():
                    key = (part, name, precision, sparsity)
                    lap = laps.setdefault(key, Lap(*key))
                    lap.wrong += _differs(part, precision, call, expected[sparsity], spoken.features)
                    calls[key] = partial(call, spoken.features)
            for key, timing in take_turns(calls, settings.repeats, settings.seed + number, settings.rest).items():
                before = laps[key].wall or [0.0] * settings.repeats
                laps[key].wall = [sum(both) for both in zip(before, timing.wall, strict=True)]
        for lap in laps.values():
            if lap.sparsity is not None:
                lap.plan = describe_plan(getattr(fast[lap.precision, lap.sparsity], "plan", ()))
    return list(laps.values()), list(dict.fromkeys(notes))


def _differs(part: str, precision: str, call: Call, expected: Tensor, features: Tensor) -> bool:
    with torch.inference_mode():
        found = call(features)
    if part == "encoder":
        return not compare(found, expected, precision).right
    return same_words(found, expected, precision).same_labels < 1


def rows_of(laps: Sequence[Lap], seconds: float, pattern: str) -> list[TimingRow]:
    """A row for each contestant and part: what `compare.Outcome` says of time, RTF (seconds per second of speech) and
    the ratio to `RIVAL`, both with the least and the most of the rounds; ratios above 1 are faster.

    Args:
        laps: of `compare_speech`.
        seconds: of all speech.
        pattern: of the zeros.
    """
    rows: list[TimingRow] = []
    for lap in laps:
        rival = next((one for one in laps if (one.part, one.runtime, one.precision) == (lap.part, *RIVAL)), None)
        ratios = [] if rival is None else [b / a for a, b in zip(lap.wall, rival.wall, strict=True)]
        rows.append(
            {
                "subject": lap.part,
                "runtime": lap.runtime,
                "precision": lap.precision,
                "pattern": pattern if lap.sparsity else DENSE,
                "sparsity": lap.sparsity,
                "audio_seconds": seconds,
                "median_s": statistics.median(lap.wall),
                "shared": lap.sparsity is None,
                "plan": lap.plan,
                "wall": lap.wall,
                "wrong": lap.wrong,
                "rtf": [function(lap.wall) / seconds for function in (statistics.median, min, max)],
                "ratio": [function(ratios) for function in (statistics.median, min, max)] if ratios else None,
            }
        )
    return rows
