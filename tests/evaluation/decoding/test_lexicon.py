"""Words and their spellings: case, files, and what is refused."""

import logging
from types import SimpleNamespace

import pytest

pytest.importorskip("flashlight.lib.text")

from audio_lottery.config import DecoderConfig
from audio_lottery.errors import ConfigError, TextError
from audio_lottery.evaluation.decoding import load_search
from audio_lottery.evaluation.decoding.lexicon import Entry, Speller, read_lexicon, spell_words
from audio_lottery.models.characters import build_processor
from tests.evaluation.decoding.conftest import arpa
from tests.evaluation.decoding.test_language_model import BINARY


def speller(characters: str) -> Speller:
    return Speller.from_processor(build_processor(characters))


@pytest.mark.parametrize(
    ("characters", "word", "text"),
    [
        ("abc", "cab", "cab"),
        ("abc", "CAB", "cab"),  # LibriSpeech's language models are upper case
        ("ABC", "cab", "CAB"),
        ("ABC", "CAB", "CAB"),
        ("abcA", "A", "A"),  # both cases in the vocabulary: words are spelt as they are
        ("abcA", "B", None),
        ("abc'", "c'a", "c'a"),
        ("abc", "c'a", None),
        ("abc", "a|b", None),
        ("iı", "I", "i"),  # the capital of both; it goes back to the dotted one
        ("sß", "SS", "ss"),
    ],
)
def test_spelling(characters, word, text):
    made = speller(characters)
    entry = made.entry(word)
    assert (entry and entry.text) == text
    if entry:
        ids = [3 + characters.index(char) for char in text]
        assert entry == Entry(word, text, (*ids, 2))


def test_words_that_cannot_be_spelt_are_counted_and_listed(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        entries = spell_words(["ab", "naïve", "cab", "b"], speller("abc"), tmp_path / "lm.arpa")
    assert [entry.word for entry in entries] == ["ab", "cab", "b"]
    assert "lm.arpa: 1 of 4 words left out, the model cannot spell them, e.g. naïve" in caplog.text


@pytest.mark.parametrize("words", [["дом", "кот", "ab"], ["дом", "ab"], []])
def test_a_language_model_of_another_alphabet_is_refused(tmp_path, words):
    with pytest.raises(TextError, match=f"{len(words) // 2 + len(words) % 2} of {len(words)} words .*abc") as error:
        spell_words(words, speller("abc"), tmp_path / "lm.arpa")
    assert not words or "e.g. дом" in str(error.value)


def test_lexicon_file(tmp_path):
    path = tmp_path / "lexicon.txt"
    path.write_text("cab\tc a b |\ncab\tC A B\n\nWord b b |\nWord\tb a |\n")
    assert read_lexicon(path, speller("abc")) == [
        Entry("cab", "cab", (5, 3, 4, 2)),
        Entry("Word", "Word", (4, 4, 2)),
        Entry("Word", "Word", (4, 3, 2)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ab\ta b |\ncab\n", r"lexicon\.txt:2: 'cab' gives no spelling"),
        ("ab\t|\n", r"lexicon\.txt:1: 'ab\s\|' gives no spelling"),
        ("ab\tab |\n", r"lexicon\.txt:1: .*'ab' is not one character"),
        ("ab\ta b |\n\nad\ta d |\n", r"lexicon\.txt:3: .*the model has no 'd' U\+0064; it has abc"),
        ("ab\ta | b |\n", r"lexicon\.txt:1: .*the model has no '\|' U\+007C"),
        ("\n\n", "holds no word"),
    ],
)
def test_lexicon_lines_that_do_not_parse(tmp_path, text, message):
    path = tmp_path / "lexicon.txt"
    path.write_text(text)
    with pytest.raises(TextError, match=message) as error:
        read_lexicon(path, speller("abc"))
    assert "\n" not in str(error.value)


def test_lexicon_that_is_not_utf8(tmp_path):
    path = tmp_path / "lexicon.txt"
    path.write_bytes("ab\tä b |\n".encode("latin-1"))
    with pytest.raises(TextError, match="cannot be read as UTF-8"):
        read_lexicon(path, speller("abc"))


def search(root, **settings):
    backbone = SimpleNamespace(processor=build_processor("abc"), blank=0, frame_seconds=0.02)
    return load_search(DecoderConfig(kind="beam", **settings), backbone, root)


def test_lexicon_in_another_spelling_than_the_language_model(tmp_path, lm, caplog):
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("AB\ta b |\nCAB\tc a b |\na\ta |\n")
    with pytest.raises(TextError, match=r"lm\.arpa does not know 2 of the 3 words .*upper or lower case"):
        search(tmp_path, lm=lm.name, lexicon=lexicon.name)
    lexicon.write_text("ab\ta b |\ncab\tc a b |\nA\ta |\n")
    with caplog.at_level(logging.WARNING):
        assert search(tmp_path, lm=lm.name, lexicon=lexicon.name).texts == ["ab", "cab", "A"]
    assert "1 of 3 words have the probability of <unk> in lm.arpa" in caplog.text


def test_kenlm_binary_needs_a_lexicon(tmp_path):
    (tmp_path / "lm.bin").write_bytes(BINARY)
    with pytest.raises(ConfigError, match=r"binary, whose words cannot be listed; .*evaluation\.decoder\.lexicon"):
        search(tmp_path, lm="lm.bin")
    (tmp_path / "lexicon.txt").write_text("ab\ta b |\n")
    assert search(tmp_path, lm="lm.bin", lexicon="lexicon.txt").texts == ["ab"]


def test_lexicon_without_language_model(tmp_path):
    (tmp_path / "lexicon.txt").write_text("ab\ta b |\n")
    assert "lm_weight" not in search(tmp_path, lexicon="lexicon.txt").name


def test_upper_case_language_model_for_a_lower_case_model(tmp_path):
    text = arpa().replace("cab", "CAB").replace("ab", "AB").replace("CAB", "CAB")
    (tmp_path / "lm.arpa").write_text(text)
    assert search(tmp_path, lm="lm.arpa").texts == ["a", "ab", "cab"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lm": "nowhere.arpa"}, r"evaluation.decoder.lm: there is no file .*nowhere\.arpa"),
        ({"lexicon": "nowhere.txt"}, r"evaluation.decoder.lexicon: there is no file .*nowhere\.txt"),
        ({"beam_size": 0}, "beam_size is 0"),
        ({"beam_size_token": 0}, "beam_size_token is 0"),
        ({"beam_threshold": 0.0}, "beam_threshold is 0"),
        ({"nbest": 51}, "nbest is 51"),
    ],
)
def test_impossible_settings(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        search(tmp_path, **settings)
