"""Word-piece vocabularies: trained on transcripts, read by transformers, used as labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import ParakeetTokenizer

from audio_lottery.data.text import Vocabulary
from audio_lottery.data.text.vocabulary import require_writable
from audio_lottery.errors import ConfigError, ModelError, TextError
from audio_lottery.models.characters import PAD_TOKEN, UNKNOWN_TOKEN, CharacterVocabulary

Kind = Literal["bpe", "unigram"]

# What word pieces mark the begin of a word with.
_WORD_BEGIN = "▁"

_REMEDY = "train one on such text, or leave such utterances out with --data.out_of_vocabulary drop"


def train_tokenizer(texts: Iterable[str], kind: Kind, size: int) -> ParakeetTokenizer:
    """A vocabulary of word pieces, learnt from normalised transcripts.

    Sources: byte-pair encoding, Sennrich et al. 2016, arXiv:1508.07909; unigram, Kudo 2018, arXiv:1804.10959. Words
    begin with ``▁``. Id 0 is ``<pad>``, the CTC blank; id 1 ``<unk>``, which is never a label.

    Args:
        texts: normalised transcripts.
        kind: bpe or unigram.
        size: pieces in all, blank and unknown included; small corpora may give fewer.

    Raises:
        ConfigError: ``size`` is smaller than the number of characters.
        TextError: there is no text.
    """
    lines = [text for text in texts if text.strip()]
    if not lines:
        raise TextError("there is no text to learn a vocabulary from")
    characters = sorted({char for line in lines for char in line if not char.isspace()})
    least = len(characters) + 3  # blank, unknown, word begin
    if size < least:
        raise ConfigError(
            f"a vocabulary of {size} pieces cannot hold the {len(characters)} characters of the corpus; "
            f"it needs {least} or more"
        )
    special = [PAD_TOKEN, UNKNOWN_TOKEN]
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN_TOKEN))
        trainer: Any = trainers.BpeTrainer(
            vocab_size=size, special_tokens=special, initial_alphabet=characters, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=size,
            special_tokens=special,
            unk_token=UNKNOWN_TOKEN,
            initial_alphabet=characters,
            show_progress=False,
        )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(lines, trainer)
    return ParakeetTokenizer(tokenizer_object=tokenizer, pad_token=PAD_TOKEN, unk_token=UNKNOWN_TOKEN)


@dataclass(frozen=True)
class PieceVocabulary:
    """The labels of a word-piece tokenizer; see `audio_lottery.data.text.Vocabulary`.

    Attributes:
        tokenizer: of transformers, with a ``tokenizers`` backend.
    """

    tokenizer: Any

    def unknown(self, text: str) -> list[str]:
        """The characters that no piece can write."""
        encoding = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        unk = self.tokenizer.unk_token_id
        spans = [offsets for label, offsets in zip(encoding.ids, encoding.offsets, strict=True) if label == unk]
        return [char for start, end in spans for char in text[start:end] if not char.isspace()]

    def encode(self, text: str) -> list[int]:
        """Label ids of a normalised text.

        Raises:
            TextError: a character cannot be written.
        """
        require_writable(self.unknown(text), text, _REMEDY)
        return list(self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, labels: Sequence[int]) -> str:
        """The text of label ids, repeats kept."""
        return str(self.tokenizer.decode(list(labels), group_tokens=False))


def vocabulary_of(processor: Any) -> Vocabulary:
    """The labels of a processor: characters where its tokenizer has a word delimiter, else word pieces.

    Raises:
        ModelError: its tokenizer is of neither kind.
    """
    tokenizer = processor.tokenizer
    if getattr(tokenizer, "word_delimiter_token", None) is None and hasattr(tokenizer, "backend_tokenizer"):
        return PieceVocabulary(tokenizer)
    return CharacterVocabulary.from_processor(processor)


def pieces_of(tokenizer: Any, outputs: int, blank: int) -> list[str]:
    """What each output adds to a text: tokens with their mark of a word's begin or end as a space, "" for the blank.

    Raises:
        ModelError: texts that are joined of these pieces are not those that the tokenizer writes.
    """
    delimiter = getattr(tokenizer, "word_delimiter_token", None) or _WORD_BEGIN
    tokens = tokenizer.convert_ids_to_tokens(list(range(outputs)))
    pieces = ["" if token is None else str(token).replace(delimiter, " ") for token in tokens]
    if getattr(tokenizer, "do_lower_case", False):
        pieces = [piece.lower() for piece in pieces]
    pieces[blank] = ""
    # words of any two outputs: whatever else a tokenizer does shows in some of them
    labels = [index for index in range(outputs) if index != blank]
    for first, second in zip(labels, labels[1:] + labels[:1], strict=True):
        written = tokenizer.decode([first, second], group_tokens=False)
        if "".join((pieces[first], pieces[second])).split() != written.split():
            raise ModelError(
                f"{type(tokenizer).__name__} writes '{tokens[first]}', '{tokens[second]}' as '{written}', so its texts "
                "cannot be joined of tokens by another program; use a tokenizer of characters or word pieces"
            )
    return pieces
