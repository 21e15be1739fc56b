"""The words that beam search may write, and how the model spells them."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio_lottery.data.text.characters import show
from audio_lottery.errors import TextError
from audio_lottery.models.characters import CharacterVocabulary

logger = logging.getLogger(__name__)

# How many examples a message lists.
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """One way to spell one word.

    Attributes:
        word: as the language model writes it.
        text: as a hypothesis writes it.
        spelling: ids of the model's characters, the word delimiter last.
    """

    word: str
    text: str
    spelling: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Speller:
    """Characters to ids and back.

    A vocabulary with letters of one case spells words of either case: LibriSpeech's language models are upper case, and
    most models are not. A vocabulary with both cases spells words as they are.

    Attributes:
        ids: id of every character that a word may hold.
        characters: what the tokenizer writes for an id.
        delimiter: id of the word delimiter.
        delimiter_token: its token in the vocabulary, usually ``|``.
    """

    ids: Mapping[str, int]
    characters: Mapping[int, str]
    delimiter: int
    delimiter_token: str

    @classmethod
    def from_processor(cls, processor: Any) -> "Speller":
        """The speller of a processor's tokenizer.

        Raises:
            ModelError: the tokenizer is not a character-level CTC tokenizer.
        """
        # lower case for an upper-case vocabulary is in there
        ids = dict(CharacterVocabulary.from_processor(processor).ids)
        delimiter = ids.pop(" ")
        tokenizer = processor.tokenizer
        characters = {index: token for token, index in tokenizer.get_vocab().items() if ids.get(token) == index}
        if getattr(tokenizer, "do_lower_case", False):
            characters = {index: token.lower() for index, token in characters.items()}
        if not any(token.isupper() for token in ids):
            upper = {char.upper(): index for char, index in ids.items() if char.upper().lower() == char}
            ids = {char: index for char, index in upper.items() if len(char) == 1} | ids
        return cls(ids, characters, delimiter, tokenizer.word_delimiter_token)

    def entry(self, word: str) -> Entry | None:
        """A word spelt letter by letter, or None if the vocabulary lacks one of its characters."""
        try:
            spelling = tuple(self.ids[char] for char in word)
        except KeyError:
            return None
        return Entry(word, "".join(self.characters[index] for index in spelling), (*spelling, self.delimiter))


def spell_words(words: Iterable[str], speller: Speller, source: Path) -> list[Entry]:
    """Spell the words of a language model; those that the vocabulary cannot write are left out, counted and warned of.

    Args:
        words: as the language model writes them.
        speller: gives the spelling.
        source: the language model, for messages.

    Raises:
        TextError: no words, or most of them cannot be written: the alphabets differ.
    """
    entries: list[Entry] = []
    lost: list[str] = []
    for word in words:
        entry = speller.entry(word)
        if entry is None:
            lost.append(word)
        else:
            entries.append(entry)
    if len(lost) >= len(entries):
        known = "".join(sorted(set(speller.characters.values())))
        raise TextError(
            f"{source}: {len(lost)} of {len(lost) + len(entries)} words hold characters that the model does not have "
            f"({known}){_examples(lost)}; "
            "use a language model of the model's alphabet, or give evaluation.decoder.lexicon"
        )
    if lost:
        total = len(lost) + len(entries)
        logger.warning(
            "%s: %d of %d words left out, the model cannot spell them%s", source, len(lost), total, _examples(lost)
        )
    return entries


def read_lexicon(path: Path, speller: Speller) -> list[Entry]:
    """Read lines of word and spelling: ``word<TAB>c h a r s |``; the final ``|`` may be left out.

    A word may have several lines, one per spelling. Hypotheses write words as the file does.

    Raises:
        TextError: not UTF-8, no line, a word without spelling, or a character the vocabulary lacks; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    entries: dict[Entry, None] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        where = f"{path}:{number}: '{line.strip()[:60]}'"
        word, spelling = fields[0], fields[1:]
        if spelling and spelling[-1] == speller.delimiter_token:
            spelling.pop()
        if not spelling:
            raise TextError(f"{where} gives no spelling; write word, tab, characters separated by spaces")
        long = [token for token in spelling if len(token) > 1]
        if long:
            raise TextError(
                f"{where}: '{long[0]}' is not one character; separate the characters of a spelling by spaces"
            )
        unknown = [token for token in spelling if token not in speller.ids]
        if unknown:
            known = "".join(sorted(set(speller.characters.values())))
            raise TextError(f"{where}: the model has no {show(unknown[0])}; it has {known}")
        ids = (*(speller.ids[token] for token in spelling), speller.delimiter)
        entries[Entry(word, word, ids)] = None
    if not entries:
        raise TextError(f"{path}: the lexicon holds no word")
    return list(entries)


def _examples(words: list[str]) -> str:
    return f", e.g. {', '.join(words[:_EXAMPLES])}" if words else ""
