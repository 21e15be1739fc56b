"""Utterances to read and hear: what was said, and what the dense model and a ticket made of it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from audio_lottery.evaluation.alignment import DELETION, HIT, INSERTION, SUBSTITUTION
from audio_lottery.evaluation.counts import ErrorCounts
from audio_lottery.evaluation.worst import worst
from audio_lottery.report.page.audio import encode, find_utterances
from audio_lottery.report.page.read import RunGroup
from audio_lottery.report.tables import plain_number

_KINDS = {HIT: "hit", SUBSTITUTION: "sub", DELETION: "del", INSERTION: "ins"}


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a hypothesis: ``hit``, ``sub``, ``ins``, or ``del``, one that is missing; and what was said there."""

    kind: str
    text: str
    said: str


@dataclass(frozen=True, slots=True)
class Line:
    """One system's hypothesis of an utterance."""

    system: str
    errors: int
    words: list[Word]


@dataclass(frozen=True, slots=True)
class Shown:
    """One utterance: why it is shown, what was said, what was recognised, and how it sounds."""

    id: str
    why: str
    reference: str
    reference_words: int
    lines: list[Line]
    audio: str
    note: str


def transcripts(group: RunGroup, count: int, seed: int, budget: int) -> list[Shown]:
    """The utterances with most errors of the shown ticket, then some drawn at random, of the first suite.

    Args:
        group: of it the first run.
        count: of either kind.
        seed: of the draw.
        budget: bytes of audio, see `encode`.

    Raises:
        RunError: the transcripts are not there.
        TextError: they are damaged.
    """
    run, suite, ticket = group.first, group.suites[0], group.shown_ticket
    counts = [("dense", run.texts(0, suite))]
    if ticket is not None:
        percent = run.rounds[ticket]["remaining_percent"]
        counts.append((f"ticket {plain_number(percent)} %", run.texts(ticket, suite)))
    judged = counts[-1][1]
    chosen = {entry.id: "most errors" for entry in worst(judged, count)}
    others = sorted(set(judged.ids) - set(chosen))
    chosen |= dict.fromkeys(random.Random(seed).sample(others, min(count, len(others))), "drawn at random")
    rows = find_utterances(run.folder.data / "test", chosen)
    audio = encode([(utterance_id, rows.get(utterance_id)) for utterance_id in chosen], budget)
    places = [{utterance_id: index for index, utterance_id in enumerate(one.ids)} for _, one in counts]
    return [_shown(utterance_id, why, counts, places, audio[utterance_id]) for utterance_id, why in chosen.items()]


def _shown(
    utterance_id: str,
    why: str,
    counts: Sequence[tuple[str, ErrorCounts]],
    places: Sequence[dict[str, int]],
    audio: tuple[str, str],
) -> Shown:
    index = places[-1][utterance_id]
    judged = counts[-1][1]
    lines = [
        Line(system, int(one.words.errors[place[utterance_id]]), diff(one, place[utterance_id]))
        for (system, one), place in zip(counts, places, strict=True)
    ]
    return Shown(utterance_id, why, judged.references[index], int(judged.words.reference[index]), lines, *audio)


def diff(counts: ErrorCounts, index: int) -> list[Word]:
    """The words of one hypothesis by the alignment that its errors were counted on."""
    truth, guess = iter(counts.references[index].split()), iter(counts.hypotheses[index].split())
    words = []
    for operation in counts.alignments[index].tolist():
        said = "" if operation == INSERTION else next(truth)
        text = said if operation == DELETION else next(guess)
        words.append(Word(_KINDS[operation], text, said))
    return words
