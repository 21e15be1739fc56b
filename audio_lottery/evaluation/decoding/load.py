"""Load language model and lexicon for beam search, and check that they fit each other and the model."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audio_lottery.config import DecoderConfig
from audio_lottery.errors import ConfigError, TextError
from audio_lottery.evaluation.decoding.beam import NO_WORD_END, BeamSearch
from audio_lottery.evaluation.decoding.language_model import (
    arpa_words,
    count_unknown,
    flashlight,
    is_binary,
    load_kenlm,
)
from audio_lottery.evaluation.decoding.lexicon import Entry, Speller, read_lexicon, spell_words
from audio_lottery.models.base import Backbone
from audio_lottery.storage import file_sha256

logger = logging.getLogger(__name__)

# A word that no language model knows.
_UNKNOWN = "\u2060no such word\u2060"


def load_search(config: DecoderConfig, backbone: Backbone, root: Path) -> BeamSearch:
    """Load what beam search needs.

    Args:
        config: language model, lexicon and search settings.
        backbone: gives blank, vocabulary and spelling.
        root: folder that relative paths start from.

    Raises:
        ConfigError: no extra ``decode``, a setting out of range, a missing file, or a KenLM binary without a lexicon.
        ModelError: a language model that cannot be read.
        TextError: a lexicon that cannot be read, or words that the model cannot spell or the language model not know.
    """
    _check(config)
    blank, frame_seconds = backbone.blank, backbone.frame_seconds
    if blank is None or frame_seconds is None:
        raise ConfigError(
            "a language model or lexicon in beam search needs CTC outputs, which "
            f"{type(backbone.module).__name__} does not give; leave evaluation.decoder.lm and lexicon out"
        )
    module = flashlight("decoder")
    lm = _file(config.lm, root, "lm")
    lexicon = _file(config.lexicon, root, "lexicon")
    speller = Speller.from_processor(backbone.processor)
    files = [
        f"{key}={path.name} sha256:{file_sha256(path)[:12]}" for key, path in (("lm", lm), ("lexicon", lexicon)) if path
    ]
    outputs = blank, speller.delimiter, frame_seconds, backbone.processor.tokenizer
    if lm is None and lexicon is None:
        return BeamSearch(config, files, *outputs, module.ZeroLM(), None, ())
    entries = _entries(lm, lexicon, speller)
    texts = {entry.word: entry.text for entry in entries}
    model = module.ZeroLM() if lm is None else load_kenlm(lm, [*texts, _UNKNOWN])
    if lm is not None and lexicon is not None:
        _require_known(model, list(texts), lm, lexicon)
    trie = _trie(module, model, entries, list(texts), speller.delimiter)
    return BeamSearch(config, files, *outputs, model, trie, list(texts.values()))


def _check(config: DecoderConfig) -> None:
    in_range = {
        "beam_size": config.beam_size >= 1,
        "beam_size_token": config.beam_size_token is None or config.beam_size_token >= 1,
        "beam_threshold": 0 < config.beam_threshold <= -NO_WORD_END / 10,
        "nbest": 1 <= config.nbest <= config.beam_size,
    }
    for name, holds in in_range.items():
        if not holds:
            raise ConfigError(
                f"evaluation.decoder.{name} is {getattr(config, name)}; beam_size, beam_size_token and nbest are 1 or "
                "more, nbest is at most beam_size, and beam_threshold is positive"
            )


def _file(name: str | None, root: Path, setting: str) -> Path | None:
    if name is None:
        return None
    path = root / Path(name).expanduser()
    if not path.is_file():
        raise ConfigError(f"evaluation.decoder.{setting}: there is no file {path}")
    return path


def _entries(lm: Path | None, lexicon: Path | None, speller: Speller) -> list[Entry]:
    if lexicon is not None:
        return read_lexicon(lexicon, speller)
    if lm is None or is_binary(lm):
        raise ConfigError(
            f"{lm} is a KenLM binary, whose words cannot be listed; give them with evaluation.decoder.lexicon, or use "
            "the ARPA file it was made from"
        )
    return spell_words(arpa_words(lm), speller, lm)


def _require_known(model: Any, words: list[str], lm: Path, lexicon: Path) -> None:
    unknown = count_unknown(model, len(words))
    if 2 * unknown > len(words):
        raise TextError(
            f"{lexicon}: {lm.name} does not know {unknown} of the {len(words)} words (the first is '{words[0]}'); "
            "write them as the language model does: upper or lower case, the same apostrophes"
        )
    if unknown:
        logger.warning("%s: %d of %d words have the probability of <unk> in %s", lexicon, unknown, len(words), lm.name)


def _trie(module: Any, model: Any, entries: Sequence[Entry], words: Sequence[str], delimiter: int) -> Any:
    index = {word: number for number, word in enumerate(words)}
    trie = module.Trie(max(max(entry.spelling) for entry in entries) + 1, delimiter)
    start = model.start(False)
    for entry in entries:
        number = index[entry.word]
        trie.insert(list(entry.spelling), number, model.score(start, number)[1])
    trie.smear(module.SmearingMode.MAX)
    return trie
