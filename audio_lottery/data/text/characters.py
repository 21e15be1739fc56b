"""What kind of character one is, by its Unicode category."""

import unicodedata
from functools import cache

# The minus sign and the fraction slash are mathematical symbols to Unicode; NFKC writes ½ with the latter.
_DASHES_OUTSIDE_PD = "\u2212\u2044"

# Characters without a sign of their own that Unicode counts as marks and letters (Default_Ignorable_Code_Point):
# variation selectors, which stand behind emoji, the grapheme joiner, Hangul fillers, Khmer's inherent vowels,
# Mongolian's selectors. And the tatweel, which only stretches an Arabic word.
_INVISIBLE = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x0640, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)


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
    """Whether a character is punctuation, a symbol (the frame of a keycap is one) or cannot be seen."""
    return category(char)[0] in "PS" or category(char) in ("Cc", "Cf", "Me") or char in _INVISIBLE


@cache
def is_latin(char: str) -> bool:
    """Whether a character is a letter of the Latin script."""
    return unicodedata.name(char, "").startswith("LATIN ")


def show(char: str) -> str:
    """A character for a message: as it is and by number, because look-alikes and invisible ones are what goes wrong."""
    visible = f"'{char}' " if char.isprintable() and not unicodedata.combining(char) else ""
    return f"{visible}U+{ord(char):04X}"
