"""Whisper's two text normalisers, as steps.

Source: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision", appendix C. The code is that
of transformers. The table of British and American spellings is not in transformers; it comes from the package
whisper-normalizer, whose own copy of the code is not used: its version 0.1.15 also rewrites ``kinda``, ``sorta`` and
``dunno``, which neither OpenAI's nor transformers' does.
"""

import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from audio_lottery.errors import ConfigError

if TYPE_CHECKING:  # transformers takes seconds to load, and `audio-lottery score` can do without
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

# Of the table as JSON with sorted keys: a WER must not change because another version of the package is installed.
_SPELLINGS_SHA256 = "a9514fed7a5a462d97b9a7a2f93d38e7ec098ad2dd4171096b9d9e7b2a8ccdec"
_INSTALL = "pip install 'audio-lottery[whisper]'"


def whisper_english(text: str) -> str:
    """Whisper's English normaliser: fillers and brackets go, contractions and numbers are rewritten, US spelling.

    Raises:
        ConfigError: the extra ``whisper`` is not installed, or its spelling table is another.
    """
    return " ".join(_english()(text).split())


def whisper_basic(text: str) -> str:
    """Whisper's normaliser for other languages: lower case, brackets go, punctuation and marks become spaces.

    Apostrophes become spaces too; so do the vowel signs of Devanagari and its relatives.
    """
    return " ".join(_basic()(text).split())


@cache
def _basic() -> "BasicTextNormalizer":
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    return BasicTextNormalizer()


@cache
def _english() -> "EnglishTextNormalizer":
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    try:
        table = json.loads((files("whisper_normalizer") / "normalizers" / "english.json").read_text(encoding="utf-8"))
    except (ModuleNotFoundError, OSError, ValueError) as error:
        raise ConfigError(f"text step 'whisper_english' needs the extra 'whisper': {_INSTALL}") from error
    if hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest() != _SPELLINGS_SHA256:
        raise ConfigError(
            "text step 'whisper_english': the installed whisper-normalizer has another table of spellings than "
            f"Whisper's, so WERs would not compare; {_INSTALL} --force-reinstall"
        )
    return EnglishTextNormalizer(table)
