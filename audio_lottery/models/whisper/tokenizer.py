"""Whisper's word pieces as labels, and a vocabulary of bytes for models that are built from scratch."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from transformers import WhisperTokenizer

from audio_lottery.data.text.vocabulary import require_writable

END = "<|endoftext|>"
START = "<|startoftranscript|>"
TRANSCRIBE = "<|transcribe|>"
NO_TIMESTAMPS = "<|notimestamps|>"

# In the order of the published vocabularies, without the languages.
_SPECIAL = (START, "<|translate|>", TRANSCRIBE, "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", NO_TIMESTAMPS)


_REMEDY = "choose another --data.normalizer, or leave such utterances out with --data.out_of_vocabulary drop"


def byte_tokenizer() -> WhisperTokenizer:
    """A Whisper tokenizer whose word pieces are the 256 bytes: ids 0 to 255, the end 256, other special tokens behind.

    It writes any text, and needs nothing from anywhere.
    """
    vocabulary = {char: index for index, char in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = WhisperTokenizer(vocab={**vocabulary, END: len(vocabulary)}, merges=[], pad_token=END)
    tokenizer.add_special_tokens({"additional_special_tokens": list(_SPECIAL)})
    tokenizer.set_prefix_tokens()  # they have ids only now
    return tokenizer


@dataclass(frozen=True)
class WhisperVocabulary:
    """The labels of a Whisper tokenizer; see `audio_lottery.data.text.Vocabulary`.

    A text begins with a space, as in what Whisper was trained on: without it the first word has other pieces, and
    tiny.en finds LibriSpeech's transcripts 1.6 times as unlikely (negative log-likelihood of eight utterances).

    Attributes:
        tokenizer: of transformers.
    """

    tokenizer: Any
    _known: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return WhisperVocabulary, (self.tokenizer,)  # `_pieces` forgets its setting when it is pickled

    @cached_property
    def _pieces(self) -> Any:
        """Writes special tokens that occur in a transcript as the text that they are."""
        pieces = copy.deepcopy(self.tokenizer.backend_tokenizer)
        pieces.encode_special_tokens = True
        return pieces

    @cached_property
    def _has_all_bytes(self) -> bool:
        return set(ByteLevel.alphabet()) <= self.tokenizer.get_vocab().keys()

    def unknown(self, text: str) -> list[str]:
        """The characters that no piece can write; none, where every byte is a piece."""
        if self._has_all_bytes:
            return []
        return [char for char in text if not self._writes(char)]

    def _writes(self, char: str) -> bool:
        if char not in self._known:
            ids = self._pieces.encode(char, add_special_tokens=False).ids
            self._known[char] = self.tokenizer.decode(ids) == char
        return self._known[char]

    def encode(self, text: str) -> list[int]:
        """Label ids of a normalised text; none for an empty one.

        Raises:
            TextError: a character cannot be written.
        """
        require_writable(self.unknown(text), text, _REMEDY)
        return list(self._pieces.encode(f" {text}", add_special_tokens=False).ids) if text else []

    def decode(self, labels: Sequence[int]) -> str:
        """The text of label ids, without special tokens and white space at its ends."""
        return str(self.tokenizer.decode(list(labels), skip_special_tokens=True)).strip() if labels else ""
