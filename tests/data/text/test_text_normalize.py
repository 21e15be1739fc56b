"""Normalisers: every step in a table, names that determine what is done, and no text that breaks one."""

import importlib.util
import json
import pickle
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

from audio_lottery.data.text import NORMALIZERS, STEPS, Normalizer, get_normalizer, whisper
from audio_lottery.errors import ConfigError

# A deadline per example fails at random on a busy machine.
QUICK = settings(deadline=None, max_examples=60)
HAS_WHISPER = importlib.util.find_spec("whisper_normalizer") is not None
OURS = [name for name in NORMALIZERS if not name.startswith("whisper")]
EVERY = [name for name in [*NORMALIZERS, *STEPS] if HAS_WHISPER or name != "whisper_english"]
needs_whisper = pytest.mark.skipif(not HAS_WHISPER, reason="needs the extra 'whisper'")

# Texts near what the steps look for: quotes, dashes, brackets, fillers, numbers, accents, other scripts.
PIECES = (
    "it 's don't <unk> {NOISE} ( ) [x] uh, Um … .. / $ 3.5 1,000 twenty one oh "
    "é e\u0301 ß İ ’ ‘ ´ ½ ² ٣ नमस्ते й \u200b - – a/b"
)
NEAR = st.lists(st.sampled_from(PIECES.split(" ")), max_size=12).flatmap(
    lambda words: st.sampled_from([" ".join(words), "".join(words)])
)
TEXT = st.one_of(st.text(), NEAR)

STEP_TABLE = [
    ("collapse_whitespace", " a \t b\u00a0\n", "a b"),
    ("unify_apostrophes", "it’s it‘s itʼs it`s it´s it′s", "it's it's it's it's it's it's"),
    ("drop_spacing_accents", "¨a¯ ^b é", "a b é"),
    ("compose", "ﬁne ＨＥ e\u0301", "fine HE é"),
    ("lower", "It’s STRASSE ß", "it’s strasse ß"),
    ("dashes_to_spaces", "twenty-one—two−three", "twenty one two three"),
    ("split_joined_words", "well...yes and/or yes,no wait…what", "well yes and or yes no wait what"),
    ("split_joined_words", "u.s. 10:30 3,000 4:b a/4 e.g. a.b", "u.s. 10:30 3,000 4:b a/4 e.g. a.b"),
    ("drop_punctuation", "Wait, “what”?! it's fi\u00adne (no.)", "Wait what it's fine no"),
    ("strip_quotes", "'hello' rock 'n' roll it's dogs'", "hello rock n roll it's dogs"),
    ("drop_accents", "José Søren Straße Việt e\u0301", "Jose Søren Straße Viet e"),
    ("drop_accents", "йод नमस्ते", "йод नमस्ते"),
    ("drop_markup", "<sil> read(2) {NOISE} [MUSIC] a<unk>b ((x)y) c> (id-1)", "read a b c"),
    ("join_contractions", "it 's don 't we 're", "it's don't we're"),
    ("join_contractions", "rock 'n roll get 'em 'cause the 90s", "rock 'n roll get 'em 'cause the 90s"),
    ("drop_fillers", "Um, so uh hmm mm mhm mmm (UH) yes", "so yes"),
    ("drop_fillers", "umbrella uhm ah uh-huh humm", "umbrella uhm ah uh-huh humm"),
    ("whisper_basic", "Hello, [noise] it's (x) É", "hello it s é"),
    ("whisper_english", "Um, it's <unk> twenty-one colours, Mr. O'Neill (laughs)", "it is 21 colors mister 0 neill"),
    ("whisper_english", "kinda sorta dunno", "kinda sorta dunno"),
]

NORMALIZER_TABLE = [
    ("none", " It’s\t A-B,  c ", "It’s A-B, c"),
    ("basic", "It's", "it's"),
    ("basic", "It’s it‘s itʼs it`s it´s", "it's it's it's it's it's"),
    ("basic", "'Hello', she said", "hello she said"),
    ("basic", "‘Hello’", "hello"),
    ("basic", "rock 'n' roll", "rock n roll"),
    ("basic", "the dogs' o'clock", "the dogs o'clock"),
    ("basic", "twenty-one — twenty–two", "twenty one twenty two"),
    ("basic", "Wait, what?! (no.)", "wait what no"),
    ("basic", "ﬁne ＨＥＬＬＯ", "fine hello"),
    ("basic", "e\u0301te\u0301", "été"),
    ("basic", "fine\u00adly zero\u200bwidth", "finely zerowidth"),
    ("basic", "¨ a ¯", "a"),
    ("basic", "½", "1 2"),
    ("basic", "Straße", "straße"),
    ("basic", "  a \t b\u00a0c\n", "a b c"),
    ("basic", " - ' -- '' ", ""),
    ("basic", "", ""),
    ("librispeech", "MISTER QUILTER'S DOGS' 'TIS", "mister quilter's dogs' 'tis"),
    ("common_voice", "“Well...yes,” said José—and/or no.", "well yes said josé and or no"),
    ("common_voice", "\"The U.S. team's 'best' one\"", "the us team's best one"),
    ("tedlium", "<sil> it ’s {BREATH} read(2) <unk> don 't twenty-one", "it's read don't twenty one"),
    ("basic+drop_fillers", "Um, so - uh - yes", "so yes"),
    ("common_voice+drop_accents", "José's", "jose's"),
    ("lower+drop_punctuation", "A,  B.", "a b"),
]


@pytest.mark.parametrize(("step", "text", "expected"), STEP_TABLE)
def test_step_table(step: str, text: str, expected: str) -> None:
    if step == "whisper_english" and not HAS_WHISPER:
        pytest.skip("needs the extra 'whisper'")
    assert STEPS[step](text) == expected


def test_every_step_is_in_the_table() -> None:
    assert {step for step, _, _ in STEP_TABLE} == set(STEPS)


@pytest.mark.parametrize(("name", "text", "expected"), NORMALIZER_TABLE)
def test_normalizer_table(name: str, text: str, expected: str) -> None:
    assert get_normalizer(name)(text) == expected


@pytest.mark.parametrize("name", EVERY)
@QUICK
@given(text=TEXT)
@example("\ud800 <<a>(b) ŉ ｀")
@example("e\u200b\u0301 'a' \u0345ΐ")
def test_no_text_breaks_a_normalizer(name: str, text: str) -> None:
    result = get_normalizer(name)(text)
    assert result == " ".join(result.split())


@pytest.mark.parametrize("name", OURS)
@settings(deadline=None, max_examples=200)
@given(text=TEXT)
@example("a 's 't b 'em")
def test_idempotent(name: str, text: str) -> None:
    normalize = get_normalizer(name)
    assert normalize(normalize(text)) == normalize(text)


@pytest.mark.parametrize("name", [name for name in STEPS if not name.startswith("whisper")])
@QUICK
@given(text=TEXT)
def test_steps_are_idempotent(name: str, text: str) -> None:
    # So that the same step twice in a row may be written once.
    assert STEPS[name](STEPS[name](text)) == STEPS[name](text)


@QUICK
@given(text=TEXT)
def test_basic_has_no_upper_case_and_no_outer_apostrophes(text: str) -> None:
    result = get_normalizer("basic")(text)
    assert result == result.lower()
    assert not any(word.startswith("'") or word.endswith("'") for word in result.split())


@pytest.mark.parametrize("name", OURS)
@QUICK
@given(words=st.lists(st.from_regex(r"[a-z]{1,4}('[a-z]{1,3})?", fullmatch=True)))
def test_normal_text_stays(name: str, words: list[str]) -> None:
    assert get_normalizer(name)(" ".join(words)) == " ".join(words)


@pytest.mark.parametrize(
    "name", [*(name for name in EVERY if name in NORMALIZERS), "lower+drop_punctuation", "basic+drop_fillers"]
)
def test_the_name_determines_the_normalizer(name: str) -> None:
    normalizer = get_normalizer(name)
    assert get_normalizer(normalizer.name) == normalizer
    assert get_normalizer(repr(normalizer)) == normalizer
    assert normalizer.name == (name if name in NORMALIZERS else repr(normalizer))
    assert pickle.loads(pickle.dumps(normalizer)) == normalizer
    assert len({normalizer, get_normalizer(name)}) == 1


def test_names_are_what_was_published_with_them() -> None:
    # A failure here means that WERs under this name no longer compare with earlier ones: choose a new name instead.
    assert {name: repr(normalizer) for name, normalizer in NORMALIZERS.items()} == {
        "none": "collapse_whitespace",
        "basic": "unify_apostrophes+drop_spacing_accents+compose+unify_apostrophes+lower+dashes_to_spaces"
        "+drop_punctuation+compose+strip_quotes+collapse_whitespace",
        "librispeech": "lower+collapse_whitespace",
        "common_voice": "unify_apostrophes+drop_spacing_accents+compose+unify_apostrophes+lower+dashes_to_spaces"
        "+split_joined_words+drop_punctuation+compose+strip_quotes+collapse_whitespace",
        "tedlium": "unify_apostrophes+drop_markup+join_contractions+unify_apostrophes+drop_spacing_accents+compose"
        "+unify_apostrophes+lower+dashes_to_spaces+drop_punctuation+compose+strip_quotes+collapse_whitespace",
        "whisper_english": "whisper_english+collapse_whitespace",
        "whisper_basic": "whisper_basic+collapse_whitespace",
    }


def test_white_space_is_collapsed_last_and_once() -> None:
    assert get_normalizer("lower") == get_normalizer("lower+lower+collapse_whitespace") == NORMALIZERS["librispeech"]
    assert get_normalizer(" lower + drop_punctuation ").steps == ("lower", "drop_punctuation", "collapse_whitespace")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("whisper", r"unknown normalizer 'whisper' \(did you mean 'whisper_\w+'\?\); normalizers: none, basic, libri"),
        ("lower+drop_punctation", r"'drop_punctation' in 'lower\+drop_punctation' \(did you mean 'drop_punctuation'"),
        ("xyzzy", r"unknown normalizer 'xyzzy'; normalizers: .*; steps, joined by \+: collapse_whitespace, .*lower"),
        ("", "unknown normalizer ''"),
        ("basic+", r"unknown normalizer '' in 'basic\+'"),
    ],
)
def test_unknown_name(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        get_normalizer(name)


# --- Whisper ------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh() -> Any:
    whisper._english.cache_clear()
    yield
    whisper._english.cache_clear()


def test_missing_extra_is_said_at_once(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    def missing(name: str) -> Path:
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(whisper, "files", missing)
    with pytest.raises(ConfigError, match=r"needs the extra 'whisper': pip install 'audio-lottery\[whisper\]'"):
        get_normalizer("lower+whisper_english")
    assert isinstance(get_normalizer("whisper_basic"), Normalizer)  # needs none


def test_another_spelling_table_is_refused(monkeypatch: pytest.MonkeyPatch, fresh: None, tmp_path: Path) -> None:
    (tmp_path / "normalizers").mkdir()
    (tmp_path / "normalizers" / "english.json").write_text(json.dumps({"colour": "color"}))
    monkeypatch.setattr(whisper, "files", lambda name: tmp_path)
    with pytest.raises(ConfigError, match="another table of spellings than Whisper's"):
        get_normalizer("whisper_english")


@needs_whisper
@QUICK
@given(text=TEXT)
def test_whisper_is_what_transformers_does(text: str) -> None:
    table = json.loads((files("whisper_normalizer") / "normalizers" / "english.json").read_text(encoding="utf-8"))
    assert get_normalizer("whisper_english")(text).split() == EnglishTextNormalizer(table)(text).split()
    assert get_normalizer("whisper_basic")(text).split() == BasicTextNormalizer()(text).split()
