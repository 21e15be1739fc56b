"""Who speaks in the mini corpora: eSpeak accent × voice variant × pitch × rate, and in which split.

A pair of accent and variant belongs to one split of one corpus and to no other, so that a test voice has never been
heard in any training split, not even in another corpus's.
"""

import random
from dataclasses import dataclass

from .grammar import SEED, pick

LIBRI: dict[str, str] = {
    "train-clean": "en-us+m1 en-us+f2 en-us+m3 en-us+f1 en-us-nyc+m2 en-us-nyc+f4 en-us+m4 en-us-nyc+m7 en-us-nyc+f3 "
    "en-us+Alex en-us-nyc+Lee en-us+Mario",
    "dev-clean": "en-us+Denis en-us+f5 en-us+m6 en-us-nyc+robert",
    "test-clean": "en-us-nyc+Alex en-us-nyc+m4 en-us+Lee en-us+m2",
}
# The variants and the accents of the TED-LIUM dev and test voices are all heard in training, but never together.
TED: dict[str, str] = {
    "train": "en-us+m5 en-us-nyc+m3 en-us+f4 en-us-nyc+m5 en-us+max en-us-nyc+max en-us+rob en-us-nyc+rob en-us+Mike "
    "en-us-nyc+adam en-us+robert en-us+aunty en-us-nyc+aunty en-us-nyc+benjamin en-us+m8 en-us-nyc+Denis",
    "dev": "en-us-nyc+Mike en-us+adam en-us-nyc+f2",
    "test": "en-us+m7 en-us-nyc+f1 en-us-nyc+m1 en-us+f3",
}
# Further talks of a split, made after all the others, which stay as they are: with the three dev voices above,
# differences of less than a point between two models cannot be told.
TED_MORE: dict[str, str] = {
    "dev": "en-us+benjamin en-us+norbert en-us+marcelo en-us+grandma en-us+michel en-us-nyc+m6 en-us-nyc+f5 "
    "en-us-nyc+norbert en-us-nyc+Mario en-us-nyc+grandma",
}
CV_SPEAKERS: dict[str, int] = {"train": 50, "dev": 12, "test": 12}

# How Common Voice names the accents, in its own words where it has them.
ACCENTS: dict[str, str] = {
    "en-us": "United States English",
    "en": "England English",
    "en-gb-x-rp": "England English,Received Pronunciation",
    "en-us-nyc": "United States English,New York City",
    "en-gb-scotland": "Scottish English",
    "en-gb-x-gbclan": "England English,Lancashire",
    "en-gb-x-gbcwmd": "England English,West Midlands",
    "en-029": "West Indies and Bermuda (Bahamas, Bermuda, Jamaica, Trinidad)",
}
_CV_VARIANTS = (
    "m1 m2 m3 m4 m5 m6 m7 f1 f2 f3 f4 f5 Alex Mike max adam benjamin rob robert norbert aunty marcelo boris Mario "
    "sandro quincy grandma michel Lee Denis"
)


@dataclass(frozen=True, slots=True)
class Voice:
    """One speaker.

    Attributes:
        name: the eSpeak voice, ``accent+variant``.
        pitch: eSpeak's base pitch, 0 to 100, 50 being the voice's own.
        rate: words per minute.
    """

    name: str
    pitch: int
    rate: int

    @property
    def accent(self) -> str:
        """The eSpeak language, e.g. ``en-gb-scotland``."""
        return self.name.split("+")[0]

    @property
    def female(self) -> bool:
        """Whether the variant was made to sound like a woman."""
        variant = self.name.split("+")[1]
        return variant in ("aunty", "grandma") or (variant[0] == "f" and variant[1:].isdigit())


def _between(rng: random.Random, low: int, high: int) -> int:
    return pick(rng, range(low, high + 1))


def table_voices(table: dict[str, str], salt: int) -> dict[str, list[Voice]]:
    """The voices of `LIBRI` or `TED` by split: close to the variant's own pitch, 140 to 165 words per minute."""
    rng = random.Random(SEED + salt)
    return {
        split: [Voice(name, _between(rng, 38, 62), _between(rng, 140, 165)) for name in names.split()]
        for split, names in table.items()
    }


def cv_voices() -> dict[str, list[Voice]]:
    """The voices of mini-cv by split: every accent, wide pitch, 150 to 220 words per minute."""
    taken = " ".join([*LIBRI.values(), *TED.values()]).split()
    free = [f"{accent}+{variant}" for accent in ACCENTS for variant in _CV_VARIANTS.split()]
    free = [name for name in free if name not in taken]
    rng = random.Random(SEED + 2)
    free.sort(key=dict(zip(free, [rng.random() for _ in free], strict=True)).__getitem__)
    voices: dict[str, list[Voice]] = {}
    for split, count in CV_SPEAKERS.items():
        names, free = free[:count], free[count:]
        voices[split] = [Voice(name, _between(rng, 30, 70), _between(rng, 150, 220)) for name in names]
    return voices
