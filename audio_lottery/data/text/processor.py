"""The character vocabulary and feature extractor of a CTC recogniser."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.text.characters import show
from audio_lottery.errors import ConfigError

if TYPE_CHECKING:
    from transformers import Wav2Vec2Processor

DEFAULT_CHARACTERS = "abcdefghijklmnopqrstuvwxyz'"

PAD_TOKEN = "<pad>"
UNKNOWN_TOKEN = "<unk>"
WORD_DELIMITER = "|"


def build_processor(
    characters: str = DEFAULT_CHARACTERS, *, do_normalize: bool = True, return_attention_mask: bool = True
) -> "Wav2Vec2Processor":
    """A character-level CTC processor: ids 0 ``<pad>`` (the CTC blank), 1 ``<unk>``, 2 ``|``, then ``characters``.

    Ids follow the order of ``characters`` alone, so the same setting always builds the same vocabulary.

    Args:
        characters: the characters the model can write, without the space (``|`` stands for it).
        do_normalize: scale every utterance to zero mean and unit variance.
        return_attention_mask: as the model's feature encoder wants it (``feat_extract_norm="layer"`` does).

    Raises:
        ConfigError: ``characters`` is empty, repeats a character, or holds white space or ``|``.
    """
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor

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
