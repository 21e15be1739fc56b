"""From normalised text to CTC labels.

Nothing here ever emits ``<unk>``: a character that the vocabulary cannot write is the user's decision, so it is
reported and never hidden.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from audio_lottery.data.text.characters import show
from audio_lottery.data.text.vocabulary import Vocabulary
from audio_lottery.errors import ModelError, TextError

if TYPE_CHECKING:
    from transformers import Wav2Vec2Processor


@dataclass(frozen=True, slots=True)
class LabelEncoder:
    """Characters to CTC label ids. Make one per corpus with `from_processor`; it is a plain table and pickles.

    Attributes:
        ids: id of every character that a transcript may hold, the space (the word delimiter) included.
    """

    ids: Mapping[str, int]

    @classmethod
    def from_processor(cls, processor: "Wav2Vec2Processor") -> "LabelEncoder":
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
        return cls({**_aliases(ids), **ids, " ": vocabulary[delimiter]})

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
            listed = ", ".join(map(show, dict.fromkeys(unknown)))
            raise TextError(f"the vocabulary has no {listed}, which occurs in '{text}'; {_REMEDY}")
        return [self.ids[char] for char in text]

    def decode(self, labels: Sequence[int]) -> str:
        """The text of label ids, repeats kept."""
        characters = {index: char for char, index in self.ids.items()}
        return "".join(characters[label] for label in labels)


def out_of_vocabulary(texts: Iterable[tuple[str, str]], vocabulary: Vocabulary) -> dict[str, tuple[int, str]]:
    """Count the characters that the vocabulary cannot write.

    Args:
        texts: pairs of utterance id and normalised text.
        vocabulary: what can be written.

    Returns:
        Character to (how often it occurs, id of the first utterance with it), most frequent first.
    """
    found: dict[str, tuple[int, str]] = {}
    for utterance_id, text in texts:
        for char in vocabulary.unknown(text):
            count, first = found.get(char, (0, utterance_id))
            found[char] = (count + 1, first)
    return dict(sorted(found.items(), key=lambda item: (-item[1][0], item[0])))


def check_vocabulary(texts: Iterable[tuple[str, str]], vocabulary: Vocabulary, where: str = "the corpus") -> None:
    """Refuse texts that the vocabulary cannot write.

    Args:
        texts: pairs of utterance id and normalised text.
        vocabulary: what can be written.
        where: the corpus and split, for the message.

    Raises:
        TextError: lists every such character with its count, the first utterance that holds it, and what to do.
    """
    found = out_of_vocabulary(texts, vocabulary)
    if found:
        listed = ", ".join(f"{show(char)} ({count}×, first in {first})" for char, (count, first) in found.items())
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
