"""Labels that never hide an unknown character."""

import itertools
import pickle
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2Processor

from audio_lottery.data.text import check_vocabulary, out_of_vocabulary
from audio_lottery.errors import ModelError, TextError
from audio_lottery.models.characters import DEFAULT_CHARACTERS, CharacterVocabulary, build_processor, min_frames

# A deadline per example fails at random on a busy machine.
QUICK = settings(deadline=None, max_examples=60)


def vocabulary(processor: Wav2Vec2Processor) -> CharacterVocabulary:
    return CharacterVocabulary.from_processor(processor)


@pytest.fixture(scope="module")
def processor() -> Wav2Vec2Processor:
    return build_processor(DEFAULT_CHARACTERS)


@pytest.fixture(scope="module")
def upper_processor() -> Wav2Vec2Processor:
    return build_processor(DEFAULT_CHARACTERS.upper())


@QUICK
@given(text=st.text(alphabet=DEFAULT_CHARACTERS + " "))
def test_labels_decode_to_the_text(processor: Wav2Vec2Processor, text: str) -> None:
    labels = vocabulary(processor).encode(text)
    assert processor.tokenizer.decode(labels, group_tokens=False) == text.strip()
    assert processor.tokenizer.unk_token_id not in labels
    assert vocabulary(processor).decode(labels) == text
    assert labels == processor.tokenizer(text).input_ids


def test_upper_case_vocabulary(processor: Wav2Vec2Processor, upper_processor: Wav2Vec2Processor) -> None:
    assert vocabulary(upper_processor).encode("it's a") == vocabulary(processor).encode("it's a")
    assert vocabulary(upper_processor).encode("IT'S A") == vocabulary(upper_processor).encode("it's a")


def test_case_is_not_forced_on_other_letters(upper_processor: Wav2Vec2Processor) -> None:
    # str.upper would write these as SS and I.
    assert set(out_of_vocabulary([("u", "ßı")], vocabulary(upper_processor))) == {"ß", "ı"}


@pytest.mark.parametrize(
    ("characters", "text", "written"),
    [
        ("ΑΣ", "σας", "ΣΑΣ"),  # one capital for both forms of sigma
        ("ασ", "σας", "σασ"),  # a vocabulary without the final form
        ("αςσ", "σας", "σας"),
        ("ABCÇIİ", "iı", "İI"),  # the capital of i has a dot where I is that of ı
        ("ABCI", "i", "I"),
        ("STRAẞE", "straße", "STRAẞE"),
    ],
)
def test_other_forms_of_the_letters(characters: str, text: str, written: str) -> None:
    processor = build_processor("".join(dict.fromkeys(characters)))
    assert processor.tokenizer.decode(vocabulary(processor).encode(text), group_tokens=False) == written


def test_lower_case_vocabulary_refuses_upper_case(processor: Wav2Vec2Processor) -> None:
    assert out_of_vocabulary([("u", "Ab")], vocabulary(processor)) == {"A": (1, "u")}


def test_special_tokens_are_no_characters(processor: Wav2Vec2Processor) -> None:
    found = out_of_vocabulary([("u", "a|b <unk>")], vocabulary(processor))
    assert set(found) == {"|", "<", ">"}
    with pytest.raises(TextError, match=r"'\|' U\+007C"):
        vocabulary(processor).encode("a|b")


def test_out_of_vocabulary_counts_and_first_id(processor: Wav2Vec2Processor) -> None:
    texts = [("u1", "abc"), ("u2", "né 1"), ("u3", "éé 2")]
    assert out_of_vocabulary(texts, vocabulary(processor)) == {"é": (3, "u2"), "1": (1, "u2"), "2": (1, "u3")}
    assert list(out_of_vocabulary(texts, vocabulary(processor))) == ["é", "1", "2"]


def test_check_vocabulary_names_everything(processor: Wav2Vec2Processor) -> None:
    check_vocabulary([("u1", "it's fine"), ("u2", "")], vocabulary(processor))
    with pytest.raises(TextError) as caught:
        check_vocabulary([("u1", "né"), ("u2", "é\u0301\u200b")], vocabulary(processor), "common_voice/dev")
    message = str(caught.value)
    assert "common_voice/dev" in message
    assert "'é' U+00E9 (2×, first in u1)" in message
    assert "U+0301 (1×, first in u2)" in message
    assert "U+200B" in message
    for remedy in ("--data.normalizer", "--model.characters", "--data.out_of_vocabulary drop"):
        assert remedy in message


def test_tokenizer_without_word_delimiter() -> None:
    tokenizer = SimpleNamespace(get_vocab=lambda: {"a": 0}, word_delimiter_token=None)
    with pytest.raises(ModelError, match="word delimiter"):
        CharacterVocabulary.from_processor(SimpleNamespace(tokenizer=tokenizer))


def test_encoder_pickles(processor: Wav2Vec2Processor) -> None:
    encoder = CharacterVocabulary.from_processor(processor)
    assert pickle.loads(pickle.dumps(encoder)).encode("a b") == encoder.encode("a b")


@pytest.mark.parametrize(("labels", "frames"), [([], 0), ([5], 1), ([5, 6], 2), ([5, 5], 3), ([5, 5, 5, 6, 6], 8)])
def test_min_frames_table(labels: list[int], frames: int) -> None:
    assert min_frames(labels) == frames


@settings(deadline=None, max_examples=15)
@given(labels=st.lists(st.integers(1, 2), min_size=1, max_size=5))
def test_min_frames_is_where_the_loss_becomes_finite(labels: list[int]) -> None:
    def loss(frames: int) -> float:
        log_probs = torch.zeros(frames, 1, 3).log_softmax(-1)
        sizes = torch.tensor([frames]), torch.tensor([len(labels)])
        return torch.nn.functional.ctc_loss(log_probs, torch.tensor([labels]), *sizes, reduction="sum").item()

    least = next(frames for frames in itertools.count(1) if loss(frames) != float("inf"))
    assert min_frames(labels) == least
