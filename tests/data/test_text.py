"""Normalisers, the processor they feed, and labels that never hide an unknown character."""

import itertools
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoProcessor, Wav2Vec2Processor

from audio_lottery.data.text import (
    DEFAULT_CHARACTERS,
    NORMALIZERS,
    LabelEncoder,
    build_processor,
    check_vocabulary,
    collapse_whitespace,
    encode_labels,
    get_normalizer,
    lower_case,
    min_ctc_frames,
    out_of_vocabulary,
    pipeline,
)
from audio_lottery.errors import ConfigError, ModelError, TextError

# A deadline per example fails at random on a busy machine.
QUICK = settings(deadline=None, max_examples=60)


@pytest.fixture(scope="module")
def processor() -> Wav2Vec2Processor:
    return build_processor(DEFAULT_CHARACTERS)


@pytest.fixture(scope="module")
def upper_processor() -> Wav2Vec2Processor:
    return build_processor(DEFAULT_CHARACTERS.upper())


# --- normalisers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's", "it's"),
        ("It’s it‘s itʼs it`s it´s", "it's it's it's it's it's"),
        ("'Hello', she said", "hello she said"),
        ("‘Hello’", "hello"),
        ("rock 'n' roll", "rock n roll"),
        ("the dogs' o'clock", "the dogs o'clock"),
        ("twenty-one — twenty–two", "twenty one twenty two"),
        ("Wait, what?! (no.)", "wait what no"),
        ("ﬁne ＨＥＬＬＯ", "fine hello"),
        ("e\u0301te\u0301", "été"),
        ("fine\u00adly zero\u200bwidth", "finely zerowidth"),
        ("¨ a ¯", "a"),
        ("½", "1 2"),
        ("Straße", "straße"),
        ("  a \t b\u00a0c\n", "a b c"),
        (" - ' -- '' ", ""),
        ("", ""),
    ],
)
def test_basic_table(text: str, expected: str) -> None:
    assert get_normalizer("basic")(text) == expected


def test_none_changes_white_space_only() -> None:
    assert get_normalizer("none")(" It’s\t A-B,  c ") == "It’s A-B, c"


@pytest.mark.parametrize("name", sorted(NORMALIZERS))
@QUICK
@given(text=st.text())
def test_idempotent(name: str, text: str) -> None:
    normalize = get_normalizer(name)
    once = normalize(text)
    assert normalize(once) == once
    assert once == " ".join(once.split())


@QUICK
@given(text=st.text())
def test_basic_has_no_upper_case_and_no_outer_apostrophes(text: str) -> None:
    result = get_normalizer("basic")(text)
    assert result == result.lower()
    assert not any(word.startswith("'") or word.endswith("'") for word in result.split())


@QUICK
@given(words=st.lists(st.from_regex(r"[a-z]{1,4}('[a-z]{1,3})?", fullmatch=True)))
def test_basic_leaves_normal_text_alone(words: list[str]) -> None:
    assert get_normalizer("basic")(" ".join(words)) == " ".join(words)


def test_unknown_normalizer_lists_the_names() -> None:
    with pytest.raises(TextError, match=r"'whisper'.*basic, none"):
        get_normalizer("whisper")


def test_steps_compose() -> None:
    assert pipeline(lower_case, collapse_whitespace)(" A  B ") == "a b"


# --- the processor ------------------------------------------------------------------------------------------------


def test_ids_follow_the_characters(processor: Wav2Vec2Processor) -> None:
    expected = {"<pad>": 0, "<unk>": 1, "|": 2} | {c: i for i, c in enumerate(DEFAULT_CHARACTERS, start=3)}
    assert processor.tokenizer.get_vocab() == expected
    assert len(processor.tokenizer) == processor.tokenizer.vocab_size == 30
    assert processor.tokenizer.pad_token_id == 0
    assert processor.tokenizer.bos_token is None
    assert processor.tokenizer.eos_token is None
    assert build_processor(DEFAULT_CHARACTERS).tokenizer.get_vocab() == expected


@pytest.mark.parametrize("loader", [AutoProcessor, Wav2Vec2Processor])
@pytest.mark.parametrize(("do_normalize", "mask"), [(True, True), (False, False)])
def test_processor_survives_saving(tmp_path: Path, loader: type, do_normalize: bool, mask: bool) -> None:
    built = build_processor("abcé'", do_normalize=do_normalize, return_attention_mask=mask)
    built.save_pretrained(tmp_path)
    loaded = loader.from_pretrained(tmp_path)
    assert isinstance(loaded, Wav2Vec2Processor)
    assert loaded.tokenizer.get_vocab() == built.tokenizer.get_vocab()
    assert len(loaded.tokenizer) == len(built.tokenizer) == 8
    assert loaded.tokenizer.special_tokens_map == built.tokenizer.special_tokens_map
    assert loaded.feature_extractor.to_dict() == built.feature_extractor.to_dict()
    assert loaded.feature_extractor.sampling_rate == 16_000
    assert encode_labels("a b'é", loaded) == encode_labels("a b'é", built)
    assert loaded.tokenizer.decode([3, 3, 0, 3, 2, 4, 0]) == built.tokenizer.decode([3, 3, 0, 3, 2, 4, 0]) == "aa b"


@pytest.mark.parametrize(
    ("characters", "message"), [("", "is empty"), ("abca", "repeats 'a'"), ("ab ", r"U\+0020"), ("a|", r"'\|'")]
)
def test_impossible_characters(characters: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_processor(characters)


# --- labels -------------------------------------------------------------------------------------------------------


@QUICK
@given(text=st.text(alphabet=DEFAULT_CHARACTERS + " "))
def test_labels_decode_to_the_text(processor: Wav2Vec2Processor, text: str) -> None:
    labels = encode_labels(text, processor)
    assert processor.tokenizer.decode(labels, group_tokens=False) == text.strip()
    assert processor.tokenizer.unk_token_id not in labels
    assert labels == processor.tokenizer(text).input_ids


def test_upper_case_vocabulary(processor: Wav2Vec2Processor, upper_processor: Wav2Vec2Processor) -> None:
    assert encode_labels("it's a", upper_processor) == encode_labels("it's a", processor)
    assert encode_labels("IT'S A", upper_processor) == encode_labels("it's a", upper_processor)


def test_case_is_not_forced_on_other_letters(upper_processor: Wav2Vec2Processor) -> None:
    # str.upper would write these as SS and I.
    assert set(out_of_vocabulary([("u", "ßı")], upper_processor)) == {"ß", "ı"}


def test_lower_case_vocabulary_refuses_upper_case(processor: Wav2Vec2Processor) -> None:
    assert out_of_vocabulary([("u", "Ab")], processor) == {"A": (1, "u")}


def test_special_tokens_are_no_characters(processor: Wav2Vec2Processor) -> None:
    found = out_of_vocabulary([("u", "a|b <unk>")], processor)
    assert set(found) == {"|", "<", ">"}
    with pytest.raises(TextError, match=r"'\|' U\+007C"):
        encode_labels("a|b", processor)


def test_out_of_vocabulary_counts_and_first_id(processor: Wav2Vec2Processor) -> None:
    texts = [("u1", "abc"), ("u2", "né 1"), ("u3", "éé 2")]
    assert out_of_vocabulary(texts, processor) == {"é": (3, "u2"), "1": (1, "u2"), "2": (1, "u3")}
    assert list(out_of_vocabulary(texts, processor)) == ["é", "1", "2"]


def test_check_vocabulary_names_everything(processor: Wav2Vec2Processor) -> None:
    check_vocabulary([("u1", "it's fine"), ("u2", "")], processor)
    with pytest.raises(TextError) as caught:
        check_vocabulary([("u1", "né"), ("u2", "é\u0301\u200b")], processor, "common_voice/dev")
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
        LabelEncoder.from_processor(SimpleNamespace(tokenizer=tokenizer))


def test_encoder_pickles(processor: Wav2Vec2Processor) -> None:
    encoder = LabelEncoder.from_processor(processor)
    assert pickle.loads(pickle.dumps(encoder)).encode("a b") == encoder.encode("a b")


@pytest.mark.parametrize(("labels", "frames"), [([], 0), ([5], 1), ([5, 6], 2), ([5, 5], 3), ([5, 5, 5, 6, 6], 8)])
def test_min_ctc_frames_table(labels: list[int], frames: int) -> None:
    assert min_ctc_frames(labels) == frames


@settings(deadline=None, max_examples=15)
@given(labels=st.lists(st.integers(1, 2), min_size=1, max_size=5))
def test_min_ctc_frames_is_where_the_loss_becomes_finite(labels: list[int]) -> None:
    def loss(frames: int) -> float:
        log_probs = torch.zeros(frames, 1, 3).log_softmax(-1)
        sizes = torch.tensor([frames]), torch.tensor([len(labels)])
        return torch.nn.functional.ctc_loss(log_probs, torch.tensor([labels]), *sizes, reduction="sum").item()

    least = next(frames for frames in itertools.count(1) if loss(frames) != float("inf"))
    assert min_ctc_frames(labels) == least
