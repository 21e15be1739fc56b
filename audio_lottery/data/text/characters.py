"""What kind of character one is, by its Unicode category."""

import unicodedata
from functools import cache

# The minus sign and the fraction slash are mathematical symbols to Unicode; NFKC writes ½ with the latter.
_DASHES_OUTSIDE_PD = "\u2212\u2044"


@cache
def category(char: str) -> str:
    """Unicode's general category, such as ``Lu`` or ``Pd``."""
    return unicodedata.category(char)


@cache
def is_dash(char: str) -> bool:
    """Whether a character is a hyphen, a dash or a minus sign."""
    return category(char) == "Pd" or char in _DASHES_OUTSIDE_PD


@cache
def is_punctuation(char: str) -> bool:
    """Whether a character is punctuation, a symbol or an invisible control."""
    return category(char)[0] in "PS" or category(char) in ("Cc", "Cf")


@cache
def is_latin(char: str) -> bool:
    """Whether a character is a letter of the Latin script."""
    return unicodedata.name(char, "").startswith("LATIN ")


def show(char: str) -> str:
    """A character for a message: as it is and by number, because look-alikes and invisible ones are what goes wrong."""
    visible = f"'{char}' " if char.isprintable() and not unicodedata.combining(char) else ""
    return f"{visible}U+{ord(char):04X}"
