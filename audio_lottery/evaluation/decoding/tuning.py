"""Weights of beam search, chosen by WER on a development set whose log-probabilities are computed once."""

import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from tqdm import tqdm

from audio_lottery.errors import storage_error
from audio_lottery.evaluation.decoding.beam import BeamSearch
from audio_lottery.evaluation.decoding.workers import Workers
from audio_lottery.evaluation.wer import score

logger = logging.getLogger(__name__)

# Utterances of one task: enough to make its hand-over cheap, few enough to share the last ones between the processes.
_SHARE = 8

_Held = tuple[BeamSearch, Sequence[np.ndarray]]
_Task = tuple[float, float, list[int]]


@dataclass(frozen=True, slots=True)
class Point:
    """One pair of weights and what came of it.

    Attributes:
        lm_weight: weight of the language model's log10 probability.
        word_score: added for every word.
        wer: word error rate, a fraction.
    """

    lm_weight: float
    word_score: float
    wer: float


@dataclass(frozen=True, slots=True)
class References:
    """What the hypotheses are scored against; fields as `audio_lottery.evaluation.wer.score` takes them."""

    ids: Sequence[str]
    texts: Sequence[str]
    normalizer: str


def keep_log_probs(utterances: Iterable[tuple[int, np.ndarray]]) -> list[np.ndarray]:
    """Log-probabilities in an unnamed temporary file, mapped into memory.

    Mapped, so that a development set of any size fits, and the processes of the search share it.

    Args:
        utterances: row and log-probabilities [frames, characters] of every row once, rows from 0, in any order.

    Returns:
        The log-probabilities of row 0, 1, 2 ...

    Raises:
        StorageError: the temporary file cannot be written.
    """
    starts: dict[int, tuple[int, tuple[int, int]]] = {}
    size = 0
    try:
        with tempfile.TemporaryFile() as file:
            for row, log_probs in utterances:
                starts[row] = (size, (log_probs.shape[0], log_probs.shape[1]))
                file.write(log_probs.astype(np.float32).tobytes())
                size += log_probs.size
            file.flush()
            kept = np.memmap(file, dtype=np.float32, mode="r", shape=(size,)) if size else np.empty(0, np.float32)
    except OSError as error:
        raise storage_error(f"a temporary file in {tempfile.gettempdir()}", error) from error
    spans = [starts[row] for row in range(len(starts))]
    return [kept[start : start + frames * width].reshape(frames, width) for start, (frames, width) in spans]


def tune(
    search: BeamSearch,
    utterances: Sequence[np.ndarray],
    references: References,
    lm_weights: Sequence[float],
    word_scores: Sequence[float],
    processes: int,
) -> list[Point]:
    """WER of every pair of weights, then of the pairs halfway between the best one and its neighbours.

    Args:
        search: language model and lexicon.
        utterances: log-probabilities [frames, characters] of each utterance.
        references: in the order of ``utterances``.
        lm_weights: weights of the language model to try.
        word_scores: word scores to try.
        processes: processes to search in, 1 or more.

    Returns:
        All points, in the order of the weights.

    Raises:
        TextError: there is nothing to score.
        RunError: a decoding process was killed.
    """
    one_best = replace(search, config=replace(search.config, nbest=1))
    workers = Workers((one_best, utterances), processes)
    try:
        coarse = sorted(set(product(lm_weights, word_scores)))
        points = _measure(workers, utterances, references, coarse, "coarse grid")
        best = best_point(points)
        around = set(product(_around(lm_weights, best.lm_weight, 0.0), _around(word_scores, best.word_score)))
        points += _measure(workers, utterances, references, sorted(around - set(coarse)), "fine grid")
    finally:
        workers.close()
    _warn_of_edges(points)
    return sorted(points, key=lambda point: (point.lm_weight, point.word_score))


def best_point(points: Iterable[Point]) -> Point:
    """The point of lowest WER; of equal ones the smaller language model weight, then the smaller word score."""
    return min(points, key=lambda point: (point.wer, point.lm_weight, abs(point.word_score), point.word_score))


def _measure(
    workers: Workers[_Held],
    utterances: Sequence[np.ndarray],
    references: References,
    pairs: Sequence[tuple[float, float]],
    description: str,
) -> list[Point]:
    # Longest first: the processes end together.
    order = sorted(range(len(utterances)), key=lambda row: (-len(utterances[row]), row))
    shares = [order[start : start + _SHARE] for start in range(0, len(order), _SHARE)]
    tasks: list[_Task] = [(*pair, share) for pair in pairs for share in shares]
    texts: dict[tuple[float, float], dict[int, str]] = {pair: {} for pair in pairs}
    with tqdm(total=len(pairs) * len(order), desc=description, unit="utt", leave=False, disable=None) as progress:
        for (weight, bonus, rows), found in zip(tasks, workers.map(_search_share, tasks), strict=True):
            texts[weight, bonus].update(zip(rows, found, strict=True))
            progress.update(len(rows))
    points = []
    for pair, by_row in texts.items():
        hypotheses = [by_row[row] for row in range(len(utterances))]
        errors = score(references.ids, references.texts, hypotheses, references.normalizer)
        points.append(Point(*pair, errors.wer))
    return points


def _search_share(held: _Held, task: _Task) -> list[str]:
    search, utterances = held
    lm_weight, word_score, rows = task
    weighted = search.weighted(lm_weight, word_score)
    return [weighted.decode(utterances[row])[0].text for row in rows]


def _around(values: Sequence[float], best: float, least: float = float("-inf")) -> list[float]:
    """``best`` and the points halfway to its neighbours; beyond an end of the axis, half a step further."""
    axis = sorted(set(values))
    if len(axis) == 1:
        return axis
    place = axis.index(best)
    below = axis[place - 1] if place > 0 else 2 * best - axis[1]
    above = axis[place + 1] if place + 1 < len(axis) else 2 * best - axis[-2]
    return [max(least, (below + best) / 2), best, (best + above) / 2]


def _warn_of_edges(points: Sequence[Point]) -> None:
    best = best_point(points)
    for name in ("lm_weight", "word_score"):
        values = sorted({getattr(point, name) for point in points})
        value = getattr(best, name)
        at_zero = name == "lm_weight" and value == 0
        if len(values) > 1 and value in (values[0], values[-1]) and not at_zero:
            side = "smaller" if value == values[0] else "larger"
            logger.warning("the best %s, %g, is at the edge of what was tried; try %s ones too", name, value, side)
