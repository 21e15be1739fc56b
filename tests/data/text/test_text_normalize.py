"""Normalisers: every step in a table, names that determine what is done, and no text that breaks one."""

import importlib.util
import json
import pickle
import unicodedata
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
    "é e\u0301 ß İ ’ ‘ ´ ½ ² ٣ नमस्ते й \u200b - – a/b "
    "i \u0307 \u0323 \u0301 Į I ı Σ ς σ ασ' \u0e4d \u0e32 ำ ന \u0d4d \u200d \ufe0f \u0640 \u3164 \u20e3 ׳"
)
NEAR = st.lists(st.sampled_from(PIECES.split(" ")), max_size=12).flatmap(
    lambda words: st.sampled_from([" ".join(words), "".join(words)])
)
TEXT = st.one_of(st.text(), NEAR)

STEP_TABLE = [
    ("collapse_whitespace", " a \t b\u00a0\n", "a b"),
    ("unify_apostrophes", "it’s it‘s itʼs it`s it´s it′s", "it's it's it's it's it's it's"),
    ("unify_apostrophes", "ג׳ירפה Շ՚", "ג'ירפה Շ'"),
    ("drop_spacing_accents", "¨a¯ ^b é", "a b é"),
    ("compose", "ﬁne ＨＥ e\u0301", "fine HE é"),
    ("lower", "It’s STRASSE ß", "it’s strasse ß"),
    ("lower", "İ I\u0307 I\u0323\u0307 Į\u0307 Ċ C\u0307", "i i i\u0323 į ċ c\u0307"),
    ("lower_turkish", "ISPARTA İSTANBUL I\u0307zmir Şırnak", "ısparta istanbul izmir şırnak"),
    ("unify_letters", "οδοσ ΣΑΣ σασ ςας σ ας' ας'α σ1", "οδος ΣΑΣ σας σας σ ας' ασ'α σ1"),
    ("unify_letters", "น\u0e49\u0e4d\u0e32 ອ\u0ecd\u0eb2", "น\u0e49\u0e33 ອ\u0eb3"),
    ("unify_letters", "അവന\u0d4d\u200d ত\u09cd\u200d i\u0307\u0301", "അവ\u0d7b \u09ce í"),
    ("dashes_to_spaces", "twenty-one—two−three", "twenty one two three"),
    ("split_joined_words", "well...yes and/or yes,no wait…what", "well yes and or yes no wait what"),
    ("split_joined_words", "u.s. 10:30 3,000 4:b a/4 e.g. a.b", "u.s. 10:30 3,000 4:b a/4 e.g. a.b"),
    ("drop_punctuation", "Wait, “what”?! it's fi\u00adne (no.)", "Wait what it's fine no"),
    ("drop_punctuation", "a❤\ufe0fb 1\ufe0f\u20e3 c\u034fd س\u0640لام \u3164", "ab 1 cd سلام "),
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

# What people write for one and the same text. Written as numbers where two rows of an editor would look the same.
SAME_TABLE = [
    ("Turkish capital İ", "İstanbul", "istanbul"),
    ("Turkish capital İ, decomposed", "I\u0307stanbul", "istanbul"),
    ("a dot that its own mark kept apart", "i\u200b\u0307", "i"),
    ("Lithuanian dots", "i\u0307\u0301", "í"),
    ("German capital ẞ", "STRAẞE", "straße"),
    ("Greek final sigma in capitals", "ΟΔΟΣ", "οδός".replace("ό", "ο")),
    ("Greek sigma of one form", "οδοσ", "οδος"),
    ("Greek sigma before a removed sign", "ας»τι", "αστι"),
    ("Greek sigma before a separating sign", "ας-τι", "ασ τι"),
    ("Greek lunate sigma", "ϲαϲ", "σας"),
    ("Cyrillic decomposed", "И\u0306", "й"),
    ("Vietnamese decomposed", "Vie\u0323\u0302t", "việt"),
    ("Vietnamese, marks in the other order", "Vie\u0302\u0323t", "việt"),
    ("Devanagari nukta", "\u0958", "\u0915\u093c"),
    ("Hangul decomposed", "\u1112\u1161\u11ab", "한"),
    ("Hangul compatibility letters", "\u314e\u314f", "\u1112\u1161"),
    ("Hangul filler", "가\u3164", "가"),
    ("Thai am in two", "น\u0e49\u0e4d\u0e32", "น\u0e49\u0e33"),
    ("Lao am in two", "ນ\u0ecd\u0eb2", "ນ\u0eb3"),
    ("Malayalam chillu before Unicode 5.1", "അവന\u0d4d\u200d", "അവ\u0d7b"),
    ("Bengali khanda ta before Unicode 4.1", "সৎ".replace("\u09ce", "ত\u09cd\u200d"), "সৎ"),
    ("Devanagari joiners", "क\u094d\u200dष", "क\u094dष"),
    ("Persian non-joiner", "می\u200cخواهم", "میخواهم"),
    ("Arabic presentation forms", "\ufefb \ufeb3\ufefc\ufee1", "لا سلام"),
    ("Arabic tatweel", "ســـلام", "سلام"),
    ("Hebrew geresh", "ג׳ירפה", "ג'ירפה"),
    ("Hebrew maqaf", "בית\u05beספר", "בית ספר"),
    ("Armenian ligature", "\u0587", "եւ"),
    ("Georgian capitals", "ᲗᲑᲘᲚᲘᲡᲘ", "თბილისი"),
    ("full-width letters", "ＨＥＬＬＯ", "hello"),
    ("half-width katakana", "ｶﾞ", "ガ"),
    ("ligatures", "ﬁne ﬂy ﬀ", "fine fly ff"),
    ("curly apostrophes", "don’t", "don't"),
    ("full-width apostrophe", "don\uff07t", "don't"),
    ("soft hyphen", "fine\u00adly", "finely"),
    ("no-break spaces and hyphen", "a\u00a0b\u202fc\u2011d", "a b c d"),
    ("byte order mark and word joiner", "\ufeffa\u2060b", "ab"),
    ("grapheme joiner", "a\u034fb", "ab"),
    ("an emoji and its selector are no word", "I ❤\ufe0f you", "i you"),
    ("keycap", "1\ufe0f\u20e3", "1"),
]
# Spelling that differs, and stays different: what a language writes with a letter or mark of its own.
DIFFERENT_TABLE = [
    ("German ß is not ss", "Straße", "strasse"),
    ("Turkish ı is not i", "ısı", "isi"),
    ("an accent", "José", "jose"),
    ("Cyrillic й is not и", "й", "и"),
    ("Cyrillic ё is not е", "ё", "е"),
    ("Hebrew niqqud", "שָׁלוֹם", "שלום"),
    ("Arabic vowel marks", "كَتَبَ", "كتب"),
    ("Devanagari vowel sign", "कि", "क"),
    ("Malayalam chillu is not the letter with a virama", "അവ\u0d7b", "അവന\u0d4d"),
    ("Japanese long vowel mark", "カー", "カ"),
    ("dotted ċ", "ċ", "c"),
]
LABELS = [
    ("German", "Straße", "straße"),
    ("Greek", "Ο Άρης", "ο άρης"),
    ("Thai", "น้ำ", "น\u0e49\u0e33"),
    ("Vietnamese", "Việt", "vi\u1ec7t"),
    ("Turkish", "ılık", "ılık"),
    ("Hebrew", "שָׁלוֹם", "שָׁלוֹם"),
]
# Scripts in which every capital has one small letter. Not here: ß (in capitals SS), ı (I), letters with iota subscript.
CASED = "".join(
    chr(code)
    for first, last in ((0x61, 0x17F), (0x3B1, 0x3CE), (0x430, 0x52F), (0x561, 0x586), (0x10D0, 0x10FA))
    for code in range(first, last + 1)
    if chr(code).isalpha() and chr(code) not in "ßıŉ"
)


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


@pytest.mark.parametrize("name", ["basic", "common_voice", "tedlium"])
@pytest.mark.parametrize(("one", "other"), [pytest.param(*row[1:], id=row[0]) for row in SAME_TABLE])
def test_the_same_text(name: str, one: str, other: str) -> None:
    normalize = get_normalizer(name)
    assert normalize(one) == normalize(other)
    assert unicodedata.is_normalized("NFC", normalize(one))


@pytest.mark.parametrize(("one", "other"), [pytest.param(*row[1:], id=row[0]) for row in DIFFERENT_TABLE])
def test_another_spelling(one: str, other: str) -> None:
    assert get_normalizer("basic")(one) != get_normalizer("basic")(other)


@pytest.mark.parametrize(("text", "label"), [pytest.param(*row[1:], id=row[0]) for row in LABELS])
def test_the_letters_of_a_language_are_what_is_trained_on(text: str, label: str) -> None:
    assert get_normalizer("basic")(text) == label


@settings(deadline=None, max_examples=200)
@given(text=st.text(alphabet=CASED + " -'"))
def test_capitals_make_no_difference(text: str) -> None:
    normalize = get_normalizer("basic")
    assert normalize(text.upper()) == normalize(text.lower()) == normalize(text)


@settings(deadline=None, max_examples=200)
@given(text=TEXT, form=st.sampled_from(["NFC", "NFD"]))
def test_canonically_equal_texts_are_the_same(text: str, form: Any) -> None:
    normalize = get_normalizer("basic")
    assert normalize(unicodedata.normalize(form, text)) == normalize(text)


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
        "basic": "unify_apostrophes+drop_spacing_accents+compose+unify_apostrophes+lower+unify_letters"
        "+dashes_to_spaces+drop_punctuation+compose+unify_letters+strip_quotes+collapse_whitespace",
        "librispeech": "lower+collapse_whitespace",
        "common_voice": "unify_apostrophes+drop_spacing_accents+compose+unify_apostrophes+lower+unify_letters"
        "+dashes_to_spaces+split_joined_words+drop_punctuation+compose+unify_letters+strip_quotes+collapse_whitespace",
        "tedlium": "unify_apostrophes+drop_markup+join_contractions+unify_apostrophes+drop_spacing_accents+compose"
        "+unify_apostrophes+lower+unify_letters+dashes_to_spaces+drop_punctuation+compose+unify_letters+strip_quotes"
        "+collapse_whitespace",
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
