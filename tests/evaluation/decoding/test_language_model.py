"""What a language model file holds, and KenLM's probabilities against back-off by definition."""

import base64
import gzip
import zlib
from pathlib import Path

import pytest

pytest.importorskip("flashlight.lib.text")

from audio_lottery.errors import ConfigError, ModelError
from audio_lottery.evaluation.decoding import language_model
from audio_lottery.evaluation.decoding.language_model import arpa_words, count_unknown, is_binary, load_kenlm
from tests.evaluation.decoding.conftest import arpa, lm_score

# What KenLM's build_binary makes of conftest.arpa().
BINARY = zlib.decompress(
    base64.b85decode(
        "c-qU&O)OBz$yLZGDJihh*U!#KO-##7%}LQq&d=3P&QD2INXswEO)OC;OD!tS%+FIW<zhg9274f}pAks>2Lg}?BUFY7OdhaD7Gs0b"
        "EDWdsBrcepefg5OI6E@~Zg6Y&N~MU^0w-93Y_6Q|A8U&rWP|MaaWVMcrq+E)Aae`q6!%)TmBQ`B0S<s1&%ki((5#s=_Zb@-+e7#a"
        "_Gi!d?3*=H5=fuf3zXXrr1!xzNx68ge<6B+2_(kxi7BIHqp>hZKeE9~!z!vwjc+aont>v&*=BxW&!J`opf&q!O7pVq7;K7xSRY6v"
        "G9)H3Bm*%3nQdKJ"
    )
)


def written(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"lm.{kind}"
    data = {"arpa": arpa().encode(), "gz": gzip.compress(arpa().encode()), "bin": BINARY}[kind]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["arpa", "gz", "bin"])
@pytest.mark.parametrize("sentence", ["", "a", "ab", "a ab", "ab ab", "cab a ab", "ab cab cab a", "a a a"])
def test_kenlm_gives_the_probability_by_definition(tmp_path, kind, sentence):
    path = written(tmp_path, kind)
    words = ["cab", "a", "ab"]
    model = load_kenlm(path, words)
    state, total = model.start(False), 0.0
    for word in sentence.split():
        state, probability = model.score(state, words.index(word))
        total += probability
    assert total + model.finish(state)[1] == pytest.approx(lm_score(sentence.split()), abs=1e-5)
    assert is_binary(path) == (kind == "bin")


def test_words_are_listed_without_the_marks(tmp_path):
    for kind in ("arpa", "gz"):
        assert arpa_words(written(tmp_path, kind)) == ["a", "ab", "cab"]


@pytest.mark.parametrize("spelling", ["ngram  1=  6", "ngram 1=6  ", "ngram 1= 6"])
def test_spaces_around_counts_mean_nothing(tmp_path, spelling):
    """As KenLM reads them."""
    path = tmp_path / "lm.arpa"
    path.write_text(arpa().replace("ngram 1=6", spelling))
    assert arpa_words(path) == ["a", "ab", "cab"]
    assert load_kenlm(path, ["a"]) is not None


def test_unknown_words_are_counted(lm):
    assert count_unknown(load_kenlm(lm, ["a", "AB", "cab", "zz", "no such"]), 4) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", r"it starts with '' where \\data\\ should be"),
        (lambda text: "hello\n" + text, "it starts with 'hello'"),
        (
            lambda text: text.replace("-0.6\tab", "ab\t-0.6"),
            r"lm\.arpa:10: 'ab\s-0\.6\s-0\.1' is not a line of 1-grams",
        ),
        (lambda text: text[: text.index("-1.2")], "6 1-grams are announced and 5 found"),
        (lambda text: text[:20], "no section"),
        (lambda text: text.replace("ngram 1=6", "ngram 1=six"), r"lm\.arpa:2: 'ngram 1=six' gives no number"),
    ],
)
def test_damaged_arpa_is_refused_with_its_line(tmp_path, change, message):
    path = tmp_path / "lm.arpa"
    path.write_text(change(arpa()))
    with pytest.raises(ModelError, match=message) as error:
        arpa_words(path)
    assert "\n" not in str(error.value)


def test_arpa_that_is_not_utf8_or_a_cut_gzip_is_refused(tmp_path):
    path = tmp_path / "lm.arpa"
    for data in (arpa().replace("cab", "cäb").encode("latin-1"), gzip.compress(arpa().encode())[:40]):
        path.write_bytes(data)
        with pytest.raises(ModelError, match="cannot be read as an ARPA file in UTF-8"):
            arpa_words(path)


@pytest.mark.parametrize(
    "data",
    [
        arpa().replace("-0.3\ta ab", "0.3 a ab").encode(),
        arpa().partition("-0.25")[0].encode(),
        gzip.compress(arpa().encode())[:-30],
        BINARY[:200],
        b"\x00\x01",
    ],
)
def test_what_kenlm_refuses_is_one_line(tmp_path, data):
    path = tmp_path / "lm.arpa"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="KenLM can read: ") as error:
        load_kenlm(path, ["a"])
    assert "\n" not in str(error.value)


def test_without_the_extra_the_message_says_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(language_model, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'audio-lottery\[decode\]' .*Python 3\.12"):
        load_kenlm(Path("lm.arpa"), ["a"])
