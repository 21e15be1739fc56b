"""Normalisers make transcripts comparable. The name of one determines it, because a WER without it means nothing."""

import difflib
from dataclasses import dataclass

from audio_lottery.data.text import steps
from audio_lottery.data.text.steps import Step
from audio_lottery.data.text.whisper import whisper_basic, whisper_english
from audio_lottery.errors import ConfigError

STEPS: dict[str, Step] = {
    step.__name__: step
    for step in (
        steps.collapse_whitespace,
        steps.unify_apostrophes,
        steps.drop_spacing_accents,
        steps.compose,
        steps.lower,
        steps.lower_turkish,
        steps.unify_letters,
        steps.dashes_to_spaces,
        steps.split_joined_words,
        steps.drop_punctuation,
        steps.strip_quotes,
        steps.drop_accents,
        steps.drop_markup,
        steps.join_contractions,
        steps.drop_fillers,
        whisper_english,
        whisper_basic,
    )
}
"""Step name -> the step. A name keeps its meaning for good: it stands beside published numbers."""

_LAST = "collapse_whitespace"


@dataclass(frozen=True, slots=True)
class Normalizer:
    """Text steps, applied from left to right. Plain names, so it pickles into any worker process.

    Attributes:
        steps: keys of `STEPS`; `get_normalizer` makes them from a name, and white space is always collapsed last.
    """

    steps: tuple[str, ...]

    def __call__(self, text: str) -> str:
        """The normalised text."""
        for step in self.steps:
            text = STEPS[step](text)
        return text

    @property
    def name(self) -> str:
        """What to report: the shortest name that `get_normalizer` turns into this normaliser."""
        return next((name for name, known in NORMALIZERS.items() if known == self), str(self))

    def __repr__(self) -> str:
        return "+".join(self.steps)


def _chain(*parts: str | Normalizer) -> Normalizer:
    """One normaliser from steps and normalisers; neighbours that are the same step are written once."""
    names: list[str] = []
    for part in parts:
        names += part.steps if isinstance(part, Normalizer) else (part,)
    names.append(_LAST)
    return Normalizer(tuple(name for name, before in zip(names, ["", *names], strict=False) if name != before))


# Apostrophes first: NFKC would turn ´ into a space and a combining mark. And again after it, for ŉ and ｀.
_SPELLING = (
    *("unify_apostrophes", "drop_spacing_accents", "compose", "unify_apostrophes"),
    # Before invisible joiners are removed, which some letters used to be written with.
    *("lower", "unify_letters", "dashes_to_spaces"),
)
# A letter and an accent that a removed character kept apart have met: compose again. So have letters.
_PUNCTUATION = ("drop_punctuation", "compose", "unify_letters", "strip_quotes")

NORMALIZERS: dict[str, Normalizer] = {
    "none": _chain(),
    "basic": _chain(*_SPELLING, *_PUNCTUATION),
    "librispeech": _chain("lower"),
    "common_voice": _chain(*_SPELLING, "split_joined_words", *_PUNCTUATION),
    "tedlium": _chain("unify_apostrophes", "drop_markup", "join_contractions", *_SPELLING, *_PUNCTUATION),
    "whisper_english": _chain("whisper_english"),
    "whisper_basic": _chain("whisper_basic"),
}
"""Normaliser name -> its steps; docs/text.md says which to use for what."""


def get_normalizer(name: str) -> Normalizer:
    """The normaliser called ``name``: a key of `NORMALIZERS`, or several of those and of `STEPS` joined by ``+``.

    ``get_normalizer("basic+drop_fillers")`` removes fillers from what ``basic`` leaves.
    ``get_normalizer(str(normalizer)) == normalizer`` for every normaliser.

    Raises:
        ConfigError: a name is neither (the message suggests one and lists them all), or needs an extra that is not
            installed.
    """
    parts = [part.strip() for part in name.split("+")]
    for part in parts:
        if part not in NORMALIZERS and part not in STEPS:
            close = difflib.get_close_matches(part, [*NORMALIZERS, *STEPS], n=1)
            suggestion = f" (did you mean '{close[0]}'?)" if close else ""
            inside = f" in '{name}'" if len(parts) > 1 else ""
            raise ConfigError(
                f"unknown normalizer '{part}'{inside}{suggestion}; normalizers: {', '.join(NORMALIZERS)}; "
                f"steps, joined by +: {', '.join(STEPS)}"
            )
    normalizer = _chain(*(NORMALIZERS.get(part, part) for part in parts))
    normalizer("")  # a step that needs an extra says so now and not after the first epoch
    return normalizer
