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
from audio_lottery.sparse.benchmark.contestants import EXTRA
from audio_lottery.sparse.benchmark.interleaved import take_turns, torch_threads
from audio_lottery.sparse.benchmark.settings import OWN, BenchmarkSettings
from audio_lottery.sparse.benchmark.whisper_contestants import Hearing, Writing, ctranslate2_runtimes, same_words

logger = logging.getLogger(__name__)

# What the others are compared with.
RIVAL = ("ctranslate2", "int8")


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
        wall: seconds, one sum a round.
        wrong: utterances for which it gave something else than torch in float32 with the same weights; for precisions
            other than float32, other word pieces or an error beyond `agreement`'s limit.
    """

    part: str
    runtime: str
    precision: str
    wall: list[float] = field(default_factory=list)
    wrong: int = 0


def compare_speech(
    dense: Any, sparse: Any, processor: Any, utterances: Sequence[Spoken], settings: BenchmarkSettings
) -> tuple[list[Lap], list[str]]:
    """Time torch, CTranslate2 and ours in turns, utterance by utterance.

    Args:
        dense: Whisper in evaluation mode; what torch and CTranslate2 run.
        sparse: the same with zeros; what ours runs, and what ours is held against.
        processor: of the model.
        utterances: what is heard.
        settings: ``repeats``, ``threads``, ``seed``, ``rest``; the rest is not used.

    Returns:
        What everybody took, and notes on who is left out.
    """
    from audio_lottery.sparse import accelerate  # numba takes a second to load

    laps: dict[tuple[str, str, str], Lap] = {}
    notes: list[str] = []
    parts: dict[str, Callable[[nn.Module, int], Any]] = {
        "encoder": lambda model, steps: Hearing(model),
        "utterance": Writing,
    }
    with torch_threads(settings.threads), tempfile.TemporaryDirectory(prefix="audio-lottery-bench-") as folder:
        fast = {precision: accelerate(sparse, precision=precision) for precision in ("float32", "bfloat16")}
        for number, spoken in enumerate(utterances, start=1):
            logger.info("utterance %d of %d: %.1f s", number, len(utterances), spoken.seconds)
            calls: dict[tuple[str, str, str], Callable[[], object]] = {}
            for part, wrap in parts.items():
                found = {("torch", "float32"): wrap(dense, spoken.steps)}
                for runtime in ctranslate2_runtimes(processor, part):
                    if runtime.missing():
                        notes.append(f"{runtime.name} is left out: it is not installed; {EXTRA}")
                        continue
                    inputs = wrap(dense, spoken.steps), spoken.features, settings.threads, Path(folder)
                    found[runtime.name, runtime.precision] = runtime.build(*inputs)
                found |= {(OWN, precision): wrap(model, spoken.steps) for precision, model in fast.items()}
                with torch.inference_mode():
                    references = {own: wrap(sparse if own else dense, spoken.steps)(spoken.features) for own in (0, 1)}
                    for (runtime, precision), call in found.items():
                        key = (part, runtime, precision)
                        agree = compare if part == "encoder" else same_words
                        agreement = agree(call(spoken.features), references[runtime == OWN], precision)
                        lap = laps.setdefault(key, Lap(*key))
                        lap.wrong += not agreement.right or (part == "utterance" and agreement.same_labels < 1)
                        calls[key] = partial(call, spoken.features)
            for key, timing in take_turns(calls, settings.repeats, settings.seed + number, settings.rest).items():
                wall = laps[key].wall or [0.0] * settings.repeats
                laps[key].wall = [sum(both) for both in zip(wall, timing.wall, strict=True)]
    return list(laps.values()), list(dict.fromkeys(notes))


def rows_of(laps: Sequence[Lap], seconds: float) -> list[Mapping[str, Any]]:
    """A row for each contestant and part: RTF (seconds per second of speech) and the ratio to `RIVAL`, both with the
    least and the most of the rounds; ratios above 1 are faster.

    Args:
        laps: of `compare_speech`.
        seconds: of all speech.
    """
    rows = []
    for lap in laps:
        rival = next((one for one in laps if (one.part, one.runtime, one.precision) == (lap.part, *RIVAL)), None)
        ratios = [] if rival is None else [b / a for a, b in zip(lap.wall, rival.wall, strict=True)]
        rows.append(
            {
                "part": lap.part,
                "runtime": lap.runtime,
                "precision": lap.precision,
                "wall": lap.wall,
                "wrong": lap.wrong,
                "rtf": [function(lap.wall) / seconds for function in (statistics.median, min, max)],
                "ratio": [function(ratios) for function in (statistics.median, min, max)] if ratios else None,
            }
        )
    return rows
