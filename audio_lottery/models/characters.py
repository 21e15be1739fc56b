"""Character vocabularies: the processor that a model is built with, and characters as labels.

Nothing here ever emits ``<unk>``: a character that the vocabulary cannot write is the user's decision, so it is
reported and never hidden.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor

from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.text.characters import show
from audio_lottery.data.text.vocabulary import require_writable
from audio_lottery.errors import ConfigError, ModelError

DEFAULT_CHARACTERS = "abcdefghijklmnopqrstuvwxyz'"

PAD_TOKEN = "<pad>"
UNKNOWN_TOKEN = "<unk>"
WORD_DELIMITER = "|"


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
        raise ConfigError(f"--model.characters repeats {', '.join(map(show, repeated))}; list every character once")
    reserved = [char for char in characters if char.isspace() or char == WORD_DELIMITER]
    if reserved:
        raise ConfigError(
            f"--model.characters holds {', '.join(map(show, reserved))}; remove it: the space between words is in the "
            f"vocabulary already, written '{WORD_DELIMITER}'"
        )


@dataclass(frozen=True, slots=True)
class CharacterVocabulary:
    """Characters to CTC label ids. Make one per corpus with `from_processor`; it is a plain table and pickles.

    Attributes:
        ids: id of every character that a transcript may hold, the space (the word delimiter) included.
    """

    ids: Mapping[str, int]

    @classmethod
    def from_processor(cls, processor: Wav2Vec2Processor) -> "CharacterVocabulary":
        """The table of a processor's tokenizer.

        Special tokens are left out, so a literal ``|`` in a transcript is an unknown character and not a space. Lower
        case is written with upper-case ids where the vocabulary is all upper case (facebook/wav2vec2-base).

        Raises:
            ModelError: the tokenizer has no word delimiter, so it is not a character-level CTC tokenizer.
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
        return cls({**_aliases(ids), **ids, " ": vocabulary[delimiter]})

    def unknown(self, text: str) -> list[str]:
        """The characters of ``text`` without an id, repeats included, in the order of the text."""
        return [char for char in text if char not in self.ids]

    def encode(self, text: str) -> list[int]:
        """Label ids of a normalised text, one per character.

        Raises:
            TextError: a character has no id.
        """
        require_writable(self.unknown(text), text)
        return [self.ids[char] for char in text]

    def decode(self, labels: Sequence[int]) -> str:
        """The text of label ids, repeats kept."""
        characters = {index: char for char, index in self.ids.items()}
        return "".join(characters[label] for label in labels)


def min_frames(labels: Sequence[int]) -> int:
    """The fewest output frames on which CTC can write ``labels``: one each, and a blank between equal neighbours.

    Source: Graves et al. 2006, "Connectionist Temporal Classification", section 3.1 (the map B removes repeats).
    """
    return len(labels) + sum(left == right for left, right in pairwise(labels))


def _aliases(ids: Mapping[str, int]) -> dict[str, int]:
    """Ids for other forms of the vocabulary's letters: lower case where it is all upper case, and final sigma.

    From the vocabulary's side and not with ``str.upper`` on the text: that would write ``ß`` as ``SS`` and ``ı`` as
    ``I`` without a word.
    """
    aliases: dict[str, int] = {}
    if not any(char.islower() for char in ids):
        aliases = {char.lower(): index for char, index in ids.items() if len(char.lower()) == 1}
        if "İ" in ids and "I" in ids:  # the alphabet of a Turkic language: i is not the small form of I
            aliases |= {"i": ids["İ"], "ı": ids["I"]}
    sigma = ids.get("σ", aliases.get("σ"))
    return aliases if sigma is None else aliases | {"ς": sigma}
