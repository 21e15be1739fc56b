"""The language of the mini corpora: some 65 words in phrases, and any number of sentences made of them.

Every draw goes through ``random.Random.random()``, whose stream Python promises to keep, and never through ``hash``,
``choice``, ``shuffle`` or a set's order: the same sentences come out on every machine and Python version.
"""

import random
import re
from collections.abc import Sequence
from typing import TypeVar

SEED = 20190506
"""Whoever changes this, or anything else that changes the corpora, raises `VERSION`, so that no old cache is taken."""

_T = TypeVar("_T")

_UNITS = "one two three four five six seven eight nine"
_WORDS = {
    "hour": f"{_UNITS} ten",
    "digit": f"zero {_UNITS}",
    "unit": _UNITS,
    "day": "Monday Tuesday Friday Sunday",
    "month": "May June July",
    "colour": "red blue green yellow black",
    "thing": "box jacket key lamp door",
    "place": "park zoo market river",
    "person": "mother doctor queen brother",
    "verb": "open find move take",
    "when": "today now quickly",
}
SLOTS: dict[str, list[str]] = {slot: words.split() for slot, words in _WORDS.items()}
"""The words that may fill each ``{slot}`` of a template; an upper-case slot name asks for a capital first letter."""

PHRASES: tuple[str, ...] = (
    "{verb} the {colour} {thing}",
    "{verb} my {thing}",
    "don't {verb} the {thing}",
    "we'll {verb} the {thing}",
    "I can't find the {thing}",
    "is the {thing} {colour}",
    "it's {colour}",
    "it's {when}",
    "at {hour} o'clock",
    "at the {place}",
    "go to the {place}",
    "I'm with the {person}",
    "my {person}",
    "on {day}",
    "in {month}",
    "{month} {unit}",
    "{when}",
    "{digit} {digit}",
    "{digit} {digit} {digit}",
    "{colour} {thing}",
)
"""A sentence is two or three of these in any order, as in the GRID corpus: what comes next cannot be guessed.

Whole sentences from templates can: a small model then learns where in a sentence a word stands, and not how it sounds.
"""

SHORT: tuple[str, ...] = ("Yes, please.", "Not now.", "It's {hour}.", "On {day}.", "{WHEN}.", "In {month}.")
"""What a talk says in under a second: the segments that a careless reader drops."""

_SLOT = re.compile(r"\{(\w+)\}")


def pick(rng: random.Random, items: Sequence[_T]) -> _T:
    """One of ``items``, uniformly, by one call of ``rng.random()``."""
    return items[int(rng.random() * len(items))]


def _fill(template: str, rng: random.Random) -> str:
    def word(match: re.Match[str]) -> str:
        slot = match.group(1)
        chosen = pick(rng, SLOTS[slot.lower()])
        return chosen.capitalize() if slot.isupper() else chosen

    return _SLOT.sub(word, template)


class Sentences:
    """Draws sentences, no sentence twice: what is in one split of a corpus is in no other.

    Sentences are in sentence case with punctuation, the form that Common Voice keeps; see `plain` for the other.
    """

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._seen: set[str] = set()  # asked only whether it contains something, so its order does not matter

    def draw(self) -> str:
        """A new sentence of 2 to 12 words; one in twelve is quoted."""
        while True:
            count = 2 + int(self._rng.random() * 2)
            words = " ".join(_fill(pick(self._rng, PHRASES), self._rng) for _ in range(count))
            words = words[0].upper() + words[1:]
            if self._rng.random() < 1 / 12:
                sentence = f'"{words}," said the {pick(self._rng, SLOTS["person"])}.'
            else:
                sentence = f"{words}."
            if sentence not in self._seen:
                self._seen.add(sentence)
                return sentence

    def draw_short(self) -> str:
        """A sentence of 1 to 2 words; these may repeat, for there are few."""
        return _fill(pick(self._rng, SHORT), self._rng)


def plain(sentence: str) -> str:
    """The words of a sentence: lower case, no punctuation but the apostrophe."""
    return " ".join(re.sub(r"[^a-z' ]", " ", sentence.lower()).split())


def vocabulary() -> list[str]:
    """Every word the grammar can say, lower case, sorted."""
    words: set[str] = set()
    for template in (*PHRASES, *SHORT, "said the"):
        words.update(plain(_SLOT.sub(" ", template)).split())
    for filler in SLOTS.values():
        words.update(word.lower() for word in filler)
    return sorted(words)
