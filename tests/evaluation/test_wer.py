"""Error rates: numbers counted by hand, and jiwer's own to the last digit."""

import dataclasses
import json

import jiwer
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from audio_lottery.data.text import get_normalizer
from audio_lottery.errors import ConfigError, TextError
from audio_lottery.evaluation.wer import WordErrors, evaluate_texts, score

COUNTS = ("hits", "substitutions", "deletions", "insertions", "reference_words", "empty_references")
QUICK = settings(deadline=None, max_examples=60)


def score_pairs(pairs: list[tuple[str, str]], normalizer: str = "basic") -> WordErrors:
    references, hypotheses = zip(*pairs, strict=True)
    return score([f"u{i}" for i in range(len(pairs))], references, hypotheses, normalizer)


@pytest.mark.parametrize(
    ("pairs", "counts", "wer"),
    [
        ([("a b c", "a b c")], (3, 0, 0, 0, 3, 0), 0.0),
        ([("a b c", "a x c")], (2, 1, 0, 0, 3, 0), 1 / 3),
        ([("a b c", "a c")], (2, 0, 1, 0, 3, 0), 1 / 3),
        ([("a c", "a b c")], (2, 0, 0, 1, 2, 0), 1 / 2),
        ([("a b", "")], (0, 0, 2, 0, 2, 0), 1.0),
        ([("a", "x y z")], (0, 1, 0, 2, 1, 0), 3.0),
        ([("a b c d", "x b c d"), ("e", "f")], (3, 2, 0, 0, 5, 0), 2 / 5),
        # An empty reference keeps its place wherever it stands: its words are insertions.
        ([("", "a b"), ("c d", "c d")], (2, 0, 0, 2, 2, 1), 1.0),
        ([("c d", "c d"), ("", ""), ("", "a")], (2, 0, 0, 1, 2, 2), 1 / 2),
        # Punctuation alone is an empty reference too.
        ([("...", "uh"), ("yes", "yes")], (1, 0, 0, 1, 1, 1), 1.0),
        ([("It’s twenty-one.", "it's twenty one")], (3, 0, 0, 0, 3, 0), 0.0),
    ],
)
def test_hand_counted(pairs: list[tuple[str, str]], counts: tuple[int, ...], wer: float) -> None:
    result = score_pairs(pairs)
    assert tuple(getattr(result, name) for name in COUNTS) == counts
    assert result.wer == wer
    assert result.utterances == len(pairs)


@pytest.mark.parametrize(
    ("pairs", "characters", "cer"),
    [
        ([("abc", "abc")], 3, 0.0),
        ([("abcd", "abxd")], 4, 1 / 4),
        # The space between words counts, the white space around does not.
        ([(" ab   cd ", "abcd")], 5, 1 / 5),
        ([("ab", "ab"), ("", "xyz")], 2, 3 / 2),
    ],
)
def test_hand_counted_characters(pairs: list[tuple[str, str]], characters: int, cer: float) -> None:
    result = score_pairs(pairs)
    assert result.reference_characters == characters
    assert result.cer == cer


def test_the_normalizer_decides() -> None:
    assert score_pairs([("Hello, World", "hello world")], "none").wer == 1.0
    assert score_pairs([("Hello, World", "hello world")], "basic").wer == 0.0


@QUICK
@given(pairs=st.lists(st.tuples(st.text("ab ", max_size=12), st.text("ab ", max_size=12)), min_size=1, max_size=8))
def test_equals_jiwer(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = map(list, zip(*pairs, strict=True))
    assume(any(text.strip() for text in references))
    result = score_pairs(pairs, "none")
    assert result.wer == jiwer.wer(references, hypotheses)
    assert result.wer == (result.substitutions + result.deletions + result.insertions) / result.reference_words
    assert result.reference_words == sum(len(text.split()) for text in references)


@QUICK
@given(pairs=st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=5), name=st.sampled_from(["none", "basic"]))
def test_equals_jiwer_on_any_text(pairs: list[tuple[str, str]], name: str) -> None:
    normalize = get_normalizer(name)
    references, hypotheses = ([normalize(text) for text in side] for side in zip(*pairs, strict=True))
    assume(any(references))
    result = score_pairs(pairs, name)
    assert result.wer == jiwer.wer(references, hypotheses)
    assert result.cer == jiwer.cer(references, hypotheses)
    assert result.reference_words == sum(len(text.split()) for text in references)
    assert result.reference_characters == sum(map(len, references))


@pytest.mark.parametrize("pairs", [[("", "a")], [("--", ""), ("  ", "b")]])
def test_no_reference_word_at_all(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(TextError, match="not one reference holds a word after normalizer 'basic'"):
        score_pairs(pairs)


def test_nothing_to_score() -> None:
    with pytest.raises(TextError, match="0 utterances"):
        score([], [], [], "none")


def test_lengths_must_match() -> None:
    with pytest.raises(TextError, match="1 ids, 2 references and 1 hypotheses"):
        score(["u"], ["a", "b"], ["a"], "none")


def test_ids_must_be_unique() -> None:
    with pytest.raises(TextError, match="'u1' is scored more than once"):
        score(["u0", "u1", "u1"], ["a"] * 3, ["a"] * 3, "none")


def test_unknown_normalizer() -> None:
    with pytest.raises(ConfigError, match="unknown normalizer"):
        score(["u"], ["a"], ["a"], "whisper")


def test_to_dict_is_json_and_complete() -> None:
    result = score_pairs([("a b", "a c")])
    assert WordErrors(**json.loads(json.dumps(result.to_dict()))) == result
    assert set(result.to_dict()) == {field.name for field in dataclasses.fields(WordErrors)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.wer = 0.0  # type: ignore[misc]


def test_an_evaluation_holds_what_metrics_json_promises() -> None:
    ids, references = ["u0", "u1", "u2"], ["Hello, World", "x y z a b", ""]
    result = evaluate_texts(ids, references, ["hello world", "a b p q r", "oh"], ["s", "s", "t"], "basic")
    found = json.loads(json.dumps(result.to_dict()))
    assert {field.name for field in dataclasses.fields(WordErrors)} <= set(found)
    assert (found["wer"], found["substitutions"], found["insertions"]) == (6 / 7, 5, 1)
    # As they are, both words of the first utterance are wrong.
    assert found["raw"]["wer"] == 8 / 7
    # sclite's weights: three deletions and three insertions for five substitutions.
    assert found["nist"] == {"hits": 4, "substitutions": 0, "deletions": 3, "insertions": 4, "wer": 1.0}
    low, high = found["wer_interval"]
    assert low <= found["wer"] <= high
    assert len(found["wer_interval_speakers"]) == 2
    assert found["alignment"] == "jiwer"
    assert found["bootstrap"]["resamples"] == 1000
    assert (found["bootstrap"]["seed"], found["bootstrap"]["speakers"]) == (0, 2)


def test_an_evaluation_without_speakers_says_why() -> None:
    found = evaluate_texts(["a", "b"], ["x", "y"], ["x", "z"], None, "none").to_dict()
    assert found["wer_interval_speakers"] is None
    assert found["bootstrap"]["notes"] == ["no interval over speakers: no utterance has a speaker"]
    assert found["raw"] == {"wer": found["wer"], "cer": found["cer"]}


def test_an_evaluation_by_nist_counts() -> None:
    found = evaluate_texts(["u", "v"], ["x y z a b", "c"], ["a b p q r", "c"], None, "none", alignment="nist").to_dict()
    assert (found["wer"], found["nist"]["wer"], found["raw"]["wer"]) == (1.0, 1.0, 1.0)
    assert found["deletions"] == found["nist"]["deletions"] == 3
