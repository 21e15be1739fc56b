"""The steps that normalisers are made of. Each is ``str -> str``, does one thing, and never fails on any text."""

import re
import unicodedata
from collections.abc import Callable

from audio_lottery.data.text.characters import category, is_dash, is_latin, is_punctuation

Step = Callable[[str], str]

# What people and keyboards write for an apostrophe: ’ ‘ ‛ ʼ ʻ ` ´ ′, Armenian ՚, Hebrew ׳
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘‛ʼʻ`´′՚׳", "'"))

# The dot above i, which İ leaves behind in lower case: between the two, only marks that are written elsewhere.
_ELSEWHERE = "".join(char for char in map(chr, range(0x0300, 0x0370)) if unicodedata.combining(char) not in (0, 230))
_DOT_ABOVE = "\u0307"
_DOTTED_I = re.compile(f"[iįịḭ][{_ELSEWHERE}{_DOT_ABOVE}]+")

# Letters that NFKC takes apart, or that once had to be written with an invisible joiner, as they are written today.
_LETTERS = {
    "\u0e4d\u0e32": "\u0e33",  # Thai am: one letter to every keyboard and vocabulary, two to NFKC
    "\u0ecd\u0eb2": "\u0eb3",  # Lao am
    # Malayalam's chillus and Bengali's khanda ta before Unicode 5.1 and 4.1: letter, virama, zero-width joiner.
    "\u0d23\u0d4d\u200d": "\u0d7a",
    "\u0d28\u0d4d\u200d": "\u0d7b",
    "\u0d30\u0d4d\u200d": "\u0d7c",
    "\u0d32\u0d4d\u200d": "\u0d7d",
    "\u0d33\u0d4d\u200d": "\u0d7e",
    "\u0d15\u0d4d\u200d": "\u0d7f",
    "\u09a4\u09cd\u200d": "\u09ce",
}
_OLD_LETTER = re.compile("|".join(_LETTERS))
# As Unicode's final sigma (section 3.13): behind a letter and before none; an apostrophe or a mark is not a letter.
_FINAL_SIGMA = re.compile(r"(?<=[^\W\d_]|[\u0300-\u036f])σ(?!['\u0300-\u036f]*[^\W\d_])")

# Labels and fillers: <o,f0,male> <sil> <unk> {NOISE} [MUSIC]; pronunciation variants and utterance names: word(2) (id).
_MARKUP = re.compile(r"<[^<>]*>|\{[^{}]*\}|\[[^\[\]]*\]|\([^()]*\)")
_BRACKETS = re.compile(r"[<>{}\[\]()]")
# TED-LIUM splits contractions (it 's, don 't), but these are words of their own, not the ends of others.
_SUFFIX = re.compile(r"(?<=\w) '(?=\w)(?!(?:em|cause|til|till|n|bout|round|tis|twas)\b|\d)", re.IGNORECASE)
# A single full stop is left out: u.s. and e.g. are one word each. Not "between letters": a vowel sign is not a letter.
_JOINT = re.compile(r"(?<!\d)(?:…|\.{2,}|[/,;:!?])+(?!\d)")
# The list of Whisper's English normaliser (Radford et al. 2022, appendix C), which the Open ASR Leaderboard uses too.
_FILLERS = frozenset({"hmm", "mm", "mhm", "mmm", "uh", "um"})


def collapse_whitespace(text: str) -> str:
    """Every run of white space becomes one space; none at either end."""
    return " ".join(text.split())


def unify_apostrophes(text: str) -> str:
    """Typographic apostrophes and the accents typed in their place become ``'``."""
    return text.translate(_APOSTROPHES)


def drop_spacing_accents(text: str) -> str:
    """Remove free-standing accents (category Sk: ``¨ ¯ ^``), which NFKC would turn into a space and a stray mark."""
    return "".join(char for char in text if category(char) != "Sk")


def compose(text: str) -> str:
    """Unicode NFKC: one spelling for what looks the same (full-width letters, ligatures, combining accents)."""
    return unicodedata.normalize("NFKC", text)


def lower(text: str) -> str:
    """Lower case; not case folding, which would rewrite ``ß`` as ``ss``.

    ``İ`` becomes ``i``: Python's lower case of it is an ``i`` with a second dot, which looks the same and is not.
    """
    return _undot(text.lower())


def lower_turkish(text: str) -> str:
    """Lower case of the Turkic languages, where ``I`` is the capital of ``ı`` and ``İ`` that of ``i``."""
    return lower(text.replace("I" + _DOT_ABOVE, "i").replace("I", "ı"))


def unify_letters(text: str) -> str:
    """One spelling for letters that have several, which Unicode does not hold for the same; the result is NFC.

    ``σ`` is written ``ς`` at the end of a word and nowhere else, ``i`` has one dot, and Thai and Lao ``am``,
    Malayalam's chillus and Bengali's khanda ta are one character each.
    """
    if text.isascii():
        return text
    text = _OLD_LETTER.sub(lambda match: _LETTERS[match[0]], unicodedata.normalize("NFC", text))
    return unicodedata.normalize("NFC", _FINAL_SIGMA.sub("ς", _undot(text).replace("ς", "σ")))


def _undot(text: str) -> str:
    return _DOTTED_I.sub(lambda match: match[0].replace(_DOT_ABOVE, ""), text)


def dashes_to_spaces(text: str) -> str:
    """Hyphens and dashes separate words: ``twenty-one`` is two."""
    return "".join(" " if is_dash(char) else char for char in text)


def split_joined_words(text: str) -> str:
    """A space for ``… .. / , ; : ! ?``, except beside a digit: ``well...yes`` and ``and/or`` are two words each.

    ``10:30`` and ``3,000`` stay, and so do initials (``u.s.``).
    """
    return _JOINT.sub(" ", text)


def drop_punctuation(text: str) -> str:
    """Remove punctuation, symbols and invisible controls (soft hyphen, zero-width space), but not ``'``."""
    return "".join(char for char in text if char == "'" or char.isspace() or not is_punctuation(char))


def strip_quotes(text: str) -> str:
    """Remove apostrophes at the edges of a word, where they are quotation marks; those inside a word stay.

    ``'hello'`` becomes ``hello`` and ``it's`` stays. The price is the apostrophe of ``'cause`` and ``dogs'``, which
    text alone cannot tell from a quotation mark; reference and hypothesis lose it alike.
    """
    return " ".join(word.strip("'") for word in text.split())


def drop_accents(text: str) -> str:
    """Remove the accents of Latin letters: ``José`` becomes ``Jose``; letters such as ``ø`` and ``ß`` have none.

    Other scripts keep their marks, which there are letters (``й``) or vowels (Devanagari).
    """
    kept: list[str] = []
    latin = False
    for char in unicodedata.normalize("NFD", text):
        if category(char) != "Mn":
            latin = is_latin(char)
        elif latin:
            continue
        kept.append(char)
    return unicodedata.normalize("NFC", "".join(kept))


def drop_markup(text: str) -> str:
    """Remove what stands in ``<> {} [] ()``, innermost first, and brackets without a partner.

    ``<sil> read(2) {NOISE} [MUSIC] <unk>`` becomes ``read``, in single spaces.
    """
    before = ""
    while text != before:  # markup inside markup
        before, text = text, _MARKUP.sub(" ", text)
    return " ".join(_BRACKETS.sub(" ", text).split())


def join_contractions(text: str) -> str:
    """Join what TED-LIUM writes apart: ``it 's`` becomes ``it's``; ``rock 'n`` and ``get 'em`` stay."""
    return _SUFFIX.sub("'", text)


def drop_fillers(text: str) -> str:
    """Remove the English hesitations ``hmm mm mhm mmm uh um``, whatever their case, with punctuation at their edges.

    In other languages these may be words (German ``um``).
    """
    return " ".join(word for word in text.split() if _core(word) not in _FILLERS)


def _core(word: str) -> str:
    """A word in lower case without punctuation at its edges."""
    first, last = 0, len(word)
    while first < last and is_punctuation(word[first]):
        first += 1
    while last > first and is_punctuation(word[last - 1]):
        last -= 1
    return word[first:last].lower()
