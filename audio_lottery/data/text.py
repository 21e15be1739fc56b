"""Transcripts: normalisers that make them comparable, and the vocabulary that turns them into CTC labels.

A normaliser is a named pipeline of small steps, each ``str -> str``. The name is reported beside every WER, because a
WER without its normaliser means nothing. Nothing here ever emits ``<unk>``: a character that the vocabulary cannot
write is the user's decision, so it is reported and never hidden.
"""

import json
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor

from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.errors import ConfigError, ModelError, TextError

DEFAULT_CHARACTERS = "abcdefghijklmnopqrstuvwxyz'"

PAD_TOKEN = "<pad>"
UNKNOWN_TOKEN = "<unk>"
WORD_DELIMITER = "|"

Normalizer = Callable[[str], str]

# --- normalisers: steps -------------------------------------------------------------------------------------------

# What people and keyboards write for an apostrophe: ’ ‘ ‛ ʼ ʻ ` ´ ′
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘‛ʼʻ`´′", "'"))
# The minus sign and the fraction slash are mathematical symbols to Unicode; NFKC writes ½ with the latter.
_DASHES_OUTSIDE_PD = "\u2212\u2044"


def collapse_whitespace(text: str) -> str:
    """Every run of white space becomes one space; none at either end."""
    return " ".join(text.split())


def unify_apostrophes(text: str) -> str:
    """Typographic apostrophes and the accents typed in their place become ``'``."""
    return text.translate(_APOSTROPHES)


def drop_spacing_accents(text: str) -> str:
    """Remove free-standing accents (category Sk: ``¨ ¯ ^``), which NFKC would turn into a space and a stray mark."""
    return "".join(char for char in text if _category(char) != "Sk")


def compose(text: str) -> str:
    """Unicode NFKC: one spelling for what looks the same (full-width letters, ligatures, combining accents)."""
    return unicodedata.normalize("NFKC", text)


def lower_case(text: str) -> str:
    """Lower case; not case folding, which would rewrite ``ß`` as ``ss``."""
    return text.lower()


def dashes_to_spaces(text: str) -> str:
    """Hyphens and dashes separate words: ``twenty-one`` is two."""
    return "".join(" " if _is_dash(char) else char for char in text)


def drop_punctuation(text: str) -> str:
    """Remove punctuation, symbols and invisible controls (soft hyphen, zero-width space), but not ``'``."""
    return "".join(char for char in text if char == "'" or char.isspace() or not _is_punctuation(char))


def strip_quotes(text: str) -> str:
    """Remove apostrophes at the edges of a word, where they are quotation marks; those inside a word stay.

    ``'hello'`` becomes ``hello`` and ``it's`` stays. The price is the apostrophe of ``'cause`` and ``dogs'``, which
    text alone cannot tell from a quotation mark; reference and hypothesis lose it alike.
    """
    return " ".join(word.strip("'") for word in text.split())


def pipeline(*steps: Normalizer) -> Normalizer:
    """One normaliser that applies ``steps`` from left to right."""

    def normalize(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return normalize


@cache
def _category(char: str) -> str:
    return unicodedata.category(char)


@cache
def _is_dash(char: str) -> bool:
    return _category(char) == "Pd" or char in _DASHES_OUTSIDE_PD


@cache
def _is_punctuation(char: str) -> bool:
    category = _category(char)
    return category[0] in "PS" or category in ("Cc", "Cf")


# --- normalisers: registry ----------------------------------------------------------------------------------------

NORMALIZERS: dict[str, Normalizer] = {
    "none": collapse_whitespace,
    "basic": pipeline(
        # Apostrophes first: NFKC would turn ´ into a space and a combining mark. And again after it, for ŉ and ｀.
        unify_apostrophes,
        drop_spacing_accents,
        compose,
        unify_apostrophes,
        lower_case,
        dashes_to_spaces,
        drop_punctuation,
        # A letter and an accent that a removed character kept apart have met.
        compose,
        strip_quotes,
        collapse_whitespace,
    ),
}


def get_normalizer(name: str) -> Normalizer:
    """The normaliser called ``name``.

    Raises:
        TextError: there is none of that name; the message lists those there are.
    """
    if name not in NORMALIZERS:
        raise TextError(f"unknown normalizer '{name}'; choose one of: {', '.join(sorted(NORMALIZERS))}")
    return NORMALIZERS[name]


# --- the processor ------------------------------------------------------------------------------------------------


def build_processor(
    characters: str = DEFAULT_CHARACTERS, *, do_normalize: bool = True, return_attention_mask: bool = True
) -> Wav2Vec2Processor:
    """A character-level CTC processor: ids 0 ``<pad>`` (the CTC blank), 1 ``<unk>``, 2 ``|``, then ``characters``.

    Ids follow the order of ``characters`` alone, so the same setting always builds the same vocabulary.

    Args:
        characters: the characters the model can write, without the space (``|`` stands for it).
        do_normalize: scale every utterance to zero mean and unit variance.
        return_attention_mask: as the model's feature encoder wants it (``feat_extract_norm="layer"`` does).

    Raises:
        ConfigError: ``characters`` is empty, repeats a character, or holds white space or ``|``.
    """
    _check_characters(characters)
    tokens = [PAD_TOKEN, UNKNOWN_TOKEN, WORD_DELIMITER, *characters]
    # The tokenizer reads its vocabulary from a file only, at once, and writes its own copy in save_pretrained.
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.json"
        vocabulary.write_text(json.dumps({token: index for index, token in enumerate(tokens)}), encoding="utf-8")
        tokenizer = Wav2Vec2CTCTokenizer(
            str(vocabulary),
            # The defaults <s> and </s> would be added behind the vocabulary, beyond the model's last logit.
            bos_token=None,
            eos_token=None,
            pad_token=PAD_TOKEN,
            unk_token=UNKNOWN_TOKEN,
            word_delimiter_token=WORD_DELIMITER,
        )
    extractor = Wav2Vec2FeatureExtractor(
        feature_size=1,
        sampling_rate=SAMPLE_RATE,
        padding_value=0.0,
        do_normalize=do_normalize,
        return_attention_mask=return_attention_mask,
    )
    return Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer)


def _check_characters(characters: str) -> None:
    if not characters:
        raise ConfigError(f"--model.characters is empty; the default is {DEFAULT_CHARACTERS!r}")
    repeated = sorted({char for char in characters if characters.count(char) > 1})
    if repeated:
        raise ConfigError(f"--model.characters repeats {', '.join(map(_show, repeated))}; list every character once")
    reserved = [char for char in characters if char.isspace() or char == WORD_DELIMITER]
    if reserved:
        raise ConfigError(
            f"--model.characters holds {', '.join(map(_show, reserved))}; remove it: the space between words is in the "
            f"vocabulary already, written '{WORD_DELIMITER}'"
        )


# --- labels -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LabelEncoder:
    """Characters to CTC label ids. Make one per corpus with `from_processor`; it is a plain table and pickles.

    Attributes:
        ids: id of every character that a transcript may hold, the space (the word delimiter) included.
    """

    ids: Mapping[str, int]

    @classmethod
    def from_processor(cls, processor: Wav2Vec2Processor) -> "LabelEncoder":
        """The table of a processor's tokenizer.

        Special tokens are left out, so a literal ``|`` in a transcript is an unknown character and not a space. Lower
        case is written with upper-case ids where the vocabulary is all upper case (facebook/wav2vec2-base).

        Raises:
            ModelError: the tokenizer has no word delimiter, so it is no character-level CTC tokenizer.
        """
        tokenizer = processor.tokenizer
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        delimiter = getattr(tokenizer, "word_delimiter_token", None)
        if delimiter not in vocabulary:
            raise ModelError(
                f"the {type(tokenizer).__name__} of this model has no word delimiter in its vocabulary; "
                "use a model with a character-level CTC tokenizer"
            )
        special = {delimiter, tokenizer.pad_token, tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token}
        ids = {token: index for token, index in vocabulary.items() if len(token) == 1 and token not in special}
        return cls({**_lower_case_aliases(ids), **ids, " ": vocabulary[delimiter]})

    def unknown(self, text: str) -> list[str]:
        """The characters of ``text`` without an id, repeats included, in the order of the text."""
        return [char for char in text if char not in self.ids]

    def encode(self, text: str) -> list[int]:
        """Label ids of a normalised text, one per character.

        Raises:
            TextError: a character has no id.
        """
        unknown = self.unknown(text)
        if unknown:
            listed = ", ".join(map(_show, dict.fromkeys(unknown)))
            raise TextError(f"the vocabulary has no {listed}, which occurs in '{text}'; {_REMEDY}")
        return [self.ids[char] for char in text]


def encode_labels(text: str, processor: Wav2Vec2Processor) -> list[int]:
    """Label ids of one normalised text (`LabelEncoder` builds its table once, for many).

    Raises:
        TextError: a character is not in the vocabulary; ``<unk>`` is never emitted.
    """
    return LabelEncoder.from_processor(processor).encode(text)


def out_of_vocabulary(texts: Iterable[tuple[str, str]], processor: Wav2Vec2Processor) -> dict[str, tuple[int, str]]:
    """Count the characters that the vocabulary cannot write.

    Args:
        texts: pairs of utterance id and normalised text.
        processor: whose vocabulary counts.

    Returns:
        Character to (how often it occurs, id of the first utterance with it), most frequent first.
    """
    encoder = LabelEncoder.from_processor(processor)
    found: dict[str, tuple[int, str]] = {}
    for utterance_id, text in texts:
        for char in encoder.unknown(text):
            count, first = found.get(char, (0, utterance_id))
            found[char] = (count + 1, first)
    return dict(sorted(found.items(), key=lambda item: (-item[1][0], item[0])))


def check_vocabulary(texts: Iterable[tuple[str, str]], processor: Wav2Vec2Processor, where: str = "the corpus") -> None:
    """Refuse texts that the vocabulary cannot write.

    Args:
        texts: pairs of utterance id and normalised text.
        processor: whose vocabulary counts.
        where: the corpus and split, for the message.

    Raises:
        TextError: lists every such character with its count, the first utterance that holds it, and what to do.
    """
    found = out_of_vocabulary(texts, processor)
    if found:
        listed = ", ".join(f"{_show(char)} ({count}×, first in {first})" for char, (count, first) in found.items())
        raise TextError(f"{where} holds characters outside the vocabulary: {listed}; {_REMEDY}")


def min_ctc_frames(labels: Sequence[int]) -> int:
    """The fewest output frames on which CTC can write ``labels``: one each, and a blank between equal neighbours.

    Source: Graves et al. 2006, "Connectionist Temporal Classification", section 3.1 (the map B removes repeats).
    """
    return len(labels) + sum(left == right for left, right in pairwise(labels))


_REMEDY = (
    "choose another --data.normalizer, add them to --model.characters, or leave such utterances out with "
    "--data.out_of_vocabulary drop"
)


def _lower_case_aliases(ids: Mapping[str, int]) -> dict[str, int]:
    """Ids for the lower case of an upper-case vocabulary; none where it has lower-case letters of its own.

    From the vocabulary's side and not with ``str.upper`` on the text: that would write ``ß`` as ``SS`` and ``ı`` as
    ``I`` without a word.
    """
    if any(char.islower() for char in ids):
        return {}
    return {char.lower(): index for char, index in ids.items() if len(char.lower()) == 1}


def _show(char: str) -> str:
    """A character for a message: as it is and by number, because look-alikes and invisible ones are what goes wrong."""
    visible = f"'{char}' " if char.isprintable() and not unicodedata.combining(char) else ""
    return f"{visible}U+{ord(char):04X}"
