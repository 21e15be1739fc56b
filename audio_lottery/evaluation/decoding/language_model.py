"""N-gram language models: what is in the file, and KenLM to query it.

KenLM (Heafield 2011, "KenLM: Faster and Smaller Language Model Queries") comes inside flashlight-text. It reads ARPA
files, plain or gzipped, and its own binaries.
"""

import gzip
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from audio_lottery.errors import ConfigError, ModelError

_BINARY = b"mmap lm http://kheafield.com/code"
# The number of words; KenLM minds no spaces around the numbers.
_COUNT = re.compile(r"ngram\s+1\s*=(.*)")
_GZIP = b"\x1f\x8b"
_NO_WORDS = {"<s>", "</s>", "<unk>", "<UNK>"}


def flashlight(name: str) -> ModuleType:
    """A module of flashlight-text, e.g. ``decoder``.

    Raises:
        ConfigError: the extra ``decode`` is not installed.
    """
    try:
        return import_module(f"flashlight.lib.text.{name}")
    except ImportError as error:
        raise ConfigError(
            f"evaluation.decoder.kind beam needs the extra decode ({error}): pip install 'audio-lottery[decode]' "
            "(flashlight-text has wheels up to Python 3.12)"
        ) from error


def is_binary(path: Path) -> bool:
    """Whether a file is a KenLM binary."""
    with path.open("rb") as file:
        return file.read(len(_BINARY)) == _BINARY


def arpa_words(path: Path) -> list[str]:
    """The words of an ARPA file, plain or gzipped, in its order, without ``<s>``, ``</s>`` and ``<unk>``.

    Raises:
        ModelError: no ARPA file, or its list of words is damaged; names the line.
    """
    lines = enumerate(_text_lines(path), start=1)
    promised = _read_counts(lines, path)
    words: list[str] = []
    for number, line in lines:
        if not line.strip() or line.startswith("\\"):
            break
        fields = [field for field in line.replace("\t", " ").split(" ") if field]  # KenLM splits at these, no others
        if len(fields) not in (2, 3) or not _is_number(fields[0]):
            raise ModelError(
                f"{path}:{number}: '{line.strip()[:60]}' is not a line of 1-grams (log10 probability, tab, word, "
                "back-off)"
            )
        words.append(fields[1])
    if len(words) != promised:
        raise ModelError(f"{path}: {promised} 1-grams are announced and {len(words)} found; the file is damaged")
    return [word for word in words if word not in _NO_WORDS]


def load_kenlm(path: Path, words: Sequence[str]) -> Any:
    """A KenLM model in which word i of ``words`` has index i.

    Args:
        path: ARPA file, plain or gzipped, or KenLM binary.
        words: as the language model spells them; one that it does not know gets the probability of ``<unk>``.

    Raises:
        ModelError: KenLM cannot read the file.
        ConfigError: the extra ``decode`` is not installed.
    """
    dictionary = word_dictionary(words)
    try:
        return flashlight("decoder.kenlm").KenLM(str(path), dictionary)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"{path} is no ARPA file or KenLM binary that KenLM can read: {reason}") from error


def word_dictionary(words: Iterable[str]) -> Any:
    """flashlight's table of words, indices in their order."""
    dictionary = flashlight("dictionary").Dictionary()
    for index, word in enumerate(words):
        dictionary.add_entry(word, index)
    return dictionary


def count_unknown(model: Any, words: int) -> int:
    """How many of a model's words have exactly the probability of a word that it does not know.

    Args:
        model: made by `load_kenlm` from the words and, last, one that no language model knows.
        words: how many there are without that last one.
    """
    start = model.start(False)
    unknown = model.score(start, words)[1]
    return sum(model.score(start, index)[1] == unknown for index in range(words))


def _text_lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            opener: Any = gzip.open if file.read(2) == _GZIP else open
        with opener(path, "rt", encoding="utf-8", newline="\n") as text:
            for line in text:
                yield line.rstrip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read as an ARPA file in UTF-8: {error}") from error


def _read_counts(lines: Iterator[tuple[int, str]], path: Path) -> int:
    """Read up to ``\\1-grams:`` and give how many there should be."""
    first = next((line for _, line in lines if line.strip()), "")
    if first.strip() != "\\data\\":
        raise ModelError(f"{path} is no ARPA file: it starts with '{first.strip()[:40]}' where \\data\\ should be")
    promised = -1
    for number, line in lines:
        count = _COUNT.match(line)
        if count is not None:
            if not count[1].strip().isdecimal():
                raise ModelError(f"{path}:{number}: '{line[:60]}' gives no number of 1-grams")
            promised = int(count[1])
        if line.strip() == "\\1-grams:":
            return promised
    raise ModelError(f"{path}: there is no section \\1-grams:; the file is damaged")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
