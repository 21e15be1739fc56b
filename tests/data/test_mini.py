"""The mini corpora: official layouts that the real readers take, no voice in two splits, the same bits every time."""

import csv
import json
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_lottery.data.corpora import mini, read_corpus
from audio_lottery.data.corpora.mini import MARKER, MINI, MiniCorpora, grammar, launch, prepare_mini, voices
from audio_lottery.data.corpora.mini.resample import level, resample, trim
from audio_lottery.errors import CorpusError, StorageError

COUNTS = {
    "mini-libri": {"train-clean": 1440, "dev-clean": 80, "test-clean": 80},
    "mini-cv": {"train": 500, "dev": 60, "test": 60, "validated": 620},
    "mini-ted": {"train": 736, "dev": 481, "test": 120},
}
SPLITS = [(corpus, split) for corpus, splits in COUNTS.items() for split in splits]
EVALUATION = ("dev", "test", "dev-clean", "test-clean")


@pytest.fixture(scope="module")
def corpora() -> MiniCorpora:
    """The default cache: made by the first test run on a machine, found by all later ones."""
    return prepare_mini()


@pytest.fixture(scope="module")
def rows(corpora: MiniCorpora) -> dict[tuple[str, str], list[dict]]:
    """Every split as the real readers see it."""
    return {
        (corpus, split): read_corpus(MINI[corpus][0], getattr(corpora, MINI[corpus][1]), split).to_list()
        for corpus, split in SPLITS
    }


# ---- what the readers see


@pytest.mark.parametrize(("corpus", "split"), SPLITS)
def test_counts_are_as_documented(rows: dict, corpus: str, split: str) -> None:
    assert len(rows[corpus, split]) == COUNTS[corpus][split]


def test_hours_of_the_marker_are_the_readers_hours(corpora: MiniCorpora, rows: dict) -> None:
    for corpus, splits in corpora.info()["hours"].items():
        for split, hours in splits.items():
            read = sum(row["duration"] for row in rows[corpus, split]) / 3600
            assert read == pytest.approx(hours, abs=1e-4), (corpus, split)


@pytest.mark.parametrize("corpus", COUNTS)
def test_no_speaker_is_in_two_splits(rows: dict, corpus: str) -> None:
    splits = [split for split in COUNTS[corpus] if split != "validated"]
    seen = [{row["speaker"] for row in rows[corpus, split]} for split in splits]
    assert all(seen)
    assert sum(len(s) for s in seen) == len(set.union(*seen))


def test_no_voice_is_in_two_splits_of_any_corpora() -> None:
    ted = (voices.table_voices(voices.TED, 1), voices.table_voices(voices.TED_MORE, 3))
    tables = (voices.table_voices(voices.LIBRI, 0), voices.cv_voices(), *ted)
    names = [voice.name for table in tables for split in table.values() for voice in split]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_ted_test_voices_are_new_pairs_of_known_accents_and_variants() -> None:
    tables = voices.table_voices(voices.LIBRI, 0), voices.table_voices(voices.TED, 1)
    train = [voice.name.split("+") for table in tables for voice in next(iter(table.values()))]
    for voice in tables[1]["test"] + tables[1]["dev"]:
        accent, variant = voice.name.split("+")
        assert accent in {a for a, _ in train}
        assert variant in {v for _, v in train}


def test_splits_share_no_sentence_and_the_words_are_the_grammars(rows: dict) -> None:
    vocabulary = set(grammar.vocabulary())
    assert 60 <= len(vocabulary) <= 70
    for corpus, splits in COUNTS.items():
        said = {split: {grammar.plain(row["text"]) for row in rows[corpus, split]} for split in splits}
        assert {word for texts in said.values() for text in texts for word in text.split()} <= vocabulary
        train, evaluation = said[next(iter(splits))], set.union(*(said[s] for s in splits if s in EVALUATION))
        # Only the one- and two-word segments of the talks can occur on both sides.
        assert all(len(text.split()) <= 2 for text in train & evaluation)


def test_every_letter_occurs_in_every_training_split(rows: dict) -> None:
    for corpus, splits in COUNTS.items():
        text = " ".join(row["text"] for row in rows[corpus, next(iter(splits))])
        assert set("abcdefghijklmnopqrstuvwxyz'") <= set(text.lower()), corpus


def test_each_corpus_has_its_own_spelling(rows: dict) -> None:
    libri, cv, ted = ([row["text"] for row in rows[key]] for key in SPLITS[0::1] if key[1].startswith("train"))
    assert all(text == text.upper() and not set('.,?"') & set(text) for text in libri)
    assert all(text.rstrip('"')[-1] in ".?" or text.endswith(".") for text in cv)
    assert any(text.startswith('"') for text in cv)
    assert all(text == text.lower() for text in ted)
    for text in ted:
        assert not set("<>{}()") & set(text)
        assert " '" not in text
    assert any("it's" in text for text in ted)
    assert any("o'clock" in text for text in ted)


# ---- what is on disk


def test_talks_have_the_quirks_of_the_corpus(corpora: MiniCorpora) -> None:
    for split in ("train", "dev", "test"):
        text = "".join(f.read_text() for f in sorted((corpora.ted / "legacy" / split / "stm").glob("*.stm")))
        for quirk in ("it 's", "<sil>", "{NOISE}", "(2)", "inter_segment_gap", "<o,f0,male>", "<o,f0,female>"):
            assert quirk in text, (split, quirk)
        lines = [line.split(None, 6) for line in text.splitlines()]
        assert any(line[2] == line[0] and line[6] == "ignore_time_segment_in_scoring" for line in lines)
        assert any(float(line[4]) - float(line[3]) < 1.0 and "ignore" not in line[6] for line in lines)
    sphere = sorted((corpora.ted / "legacy").glob("*/sph/*.sph"))
    for path in sphere:
        info = soundfile.info(path)
        assert (info.format, info.subtype, info.samplerate, info.channels) == ("NIST", "PCM_16", 16000, 1)
        assert 30 <= info.duration <= 240


def test_common_voice_tables(corpora: MiniCorpora) -> None:
    with open(corpora.cv / "train.tsv", encoding="utf-8", newline="") as handle:
        table = list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert list(table[0])[:4] == ["client_id", "path", "sentence_id", "sentence"]
    assert len({row["accents"] for row in table}) >= 7
    info = soundfile.info(corpora.cv / "clips" / table[0]["path"])
    assert (info.format, info.samplerate, info.channels) == ("MP3", 32000, 1)


@pytest.mark.parametrize(("corpus", "split"), [(c, s) for c, s in SPLITS if s in EVALUATION])
def test_speech_is_neither_empty_nor_clipped_nor_too_fast(rows: dict, corpus: str, split: str) -> None:
    for row in rows[corpus, split]:
        rate = soundfile.info(row["audio"]).samplerate
        begin, end = round(row["start"] * rate), round(row["end"] * rate)
        samples, _ = soundfile.read(row["audio"], start=begin, stop=end, dtype="int16")
        assert 500 < samples.astype(float).std() < 5000, row["id"]
        assert np.abs(samples.astype(int)).max() < 32000, row["id"]
        assert 0.5 < row["duration"] < 10, row["id"]
        # A CTC frame is 20 ms: fewer than two frames to a letter could not be learnt.
        assert len(row["text"]) / row["duration"] < 25, row["id"]


# ---- made once, whole or not at all


@pytest.mark.parametrize("corpus", MINI)
def test_the_same_bits_every_time(corpus: str, tmp_path: Path) -> None:
    launch.synthesise([corpus], tmp_path / "a", limit=1)
    time.sleep(1.1)  # eSpeak seeds its noise with the second
    launch.synthesise([corpus], tmp_path / "b", limit=1)
    assert mini.digest(tmp_path / "a") == mini.digest(tmp_path / "b")
    assert len(mini._files(tmp_path / "a")) > 20


def test_the_cache_is_what_was_made(corpora: MiniCorpora) -> None:
    assert mini.digest(corpora.root) == corpora.info()["sha256"]


def test_the_second_call_makes_nothing(corpora: MiniCorpora, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mini, "_make", lambda root: pytest.fail("made again"))
    assert prepare_mini(corpora.root) == corpora


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """`prepare_mini` with one segment of each talk, and nothing else."""
    whole = launch.synthesise
    monkeypatch.setattr(launch, "synthesise", lambda corpora, folder: whole(["mini-ted"], folder, limit=1))


@pytest.mark.usefixtures("quick")
def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    made = prepare_mini(tmp_path / "mini")
    before = made.info()["sha256"]
    victim = next(made.ted.glob("legacy/test/sph/*.sph"))
    victim.write_bytes(victim.read_bytes()[:5000])
    (made.ted / "left-over").write_text("x")
    assert prepare_mini(tmp_path / "mini").info()["sha256"] == before
    assert mini.digest(made.root) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mini", "mini.lock"]


def test_a_kill_half_way_leaves_no_corpora(tmp_path: Path) -> None:
    root = tmp_path / "mini"
    code = (
        "import sys, pathlib; from audio_lottery.data.corpora import mini; mini.prepare_mini(pathlib.Path(sys.argv[1]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(root)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not any(tmp_path.glob("mini.tmp-*/LibriSpeech/*/*/*/*.flac")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    half = list(tmp_path.glob("mini.tmp-*"))
    assert len(half) == 1
    assert not root.exists()
    assert not (half[0] / MARKER).exists()
    time.sleep(1)  # the orphans end at their next recording, for nobody reads what they say
    count = len(mini._files(half[0]))
    time.sleep(0.5)
    assert len(mini._files(half[0])) == count


@pytest.mark.usefixtures("quick")
def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "mini.tmp-dead" / "LibriSpeech").mkdir(parents=True)
    prepare_mini(tmp_path / "mini")
    assert not (tmp_path / "mini.tmp-dead").exists()


@pytest.mark.usefixtures("quick")
def test_a_waiting_process_takes_what_the_first_one_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, make = tmp_path / "mini", mini._make
    made = prepare_mini(root)
    answers = iter([False, True])  # not there at the first look, there once the lock is held
    monkeypatch.setattr(mini, "_whole", lambda path: next(answers))
    monkeypatch.setattr(mini, "_make", lambda path: pytest.fail("made twice") or make(path))
    assert prepare_mini(root) == made


# ---- errors


def test_a_missing_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mini.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CorpusError, match=r"need the extra 'mini': pip install 'audio-lottery\[mini\]'"):
        prepare_mini(tmp_path / "mini")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_of_somebody_else_is_never_deleted(tmp_path: Path, force: bool) -> None:
    real = tmp_path / "LibriSpeech" / "SPEAKERS.TXT"
    real.parent.mkdir()
    real.write_text("a real corpus")
    with pytest.raises(CorpusError, match="holds other files"):
        prepare_mini(tmp_path, force=force)
    assert real.read_text() == "a real corpus"


def test_a_failed_process_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_BOOT", "import sys; sys.exit('first line\\nno voice today')")
    with pytest.raises(CorpusError, match="the synthesis process failed: no voice today"):
        prepare_mini(tmp_path / "mini")
    assert [path.name for path in tmp_path.iterdir()] == ["mini.lock"]


def test_a_full_disk_is_a_storage_error_and_leaves_nothing(tmp_path: Path) -> None:
    # A limit on the size of files stands in for a full disk: the children inherit it, and the write fails for real.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*mini\.tmp-.*: no space left for it"):
            prepare_mini(tmp_path / "mini")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["mini.lock"]


def test_an_unwritable_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        prepare_mini(tmp_path / "file" / "mini")


# ---- its parts


def test_neither_espeak_here_nor_torch_there() -> None:
    assert "espeakng_loader" not in sys.modules
    boot = launch._BOOT.replace("main()", "print(*sys.modules)")
    here = Path(mini.__file__).resolve().parent
    command = [sys.executable, "-P", "-c", boot, str(here.parent), str(here.parents[3])]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "mini.espeak" in loaded
    assert {"torch", "transformers", "datasets"}.isdisjoint(loaded)


@pytest.mark.parametrize("target", [16000, 32000])
def test_resampling_keeps_a_tone_and_drops_what_the_new_rate_cannot_hold(target: int) -> None:
    time_in, time_out = np.arange(22050) / 22050, np.arange(target) / target
    tone = np.rint(10000 * np.sin(2 * np.pi * 1000 * time_in)).astype(np.int16)
    out = resample(tone, 22050, target)
    assert len(out) == target
    inner = slice(200, -200)
    assert np.abs(out - 10000 * np.sin(2 * np.pi * 1000 * time_out))[inner].max() < 20
    if target < 22050:
        high = np.rint(10000 * np.sin(2 * np.pi * 9500 * time_in)).astype(np.int16)
        assert np.abs(resample(high, 22050, target))[inner].max() < 100


def test_levels_and_silences() -> None:
    samples = np.array([0] * 50 + [5000, -5000] * 100 + [0] * 50, dtype=np.int16)
    assert len(trim(samples)) == 200
    assert level(trim(samples).astype(float), 1000.0).std() == pytest.approx(1000)
    assert np.abs(level(trim(samples).astype(float), 1e6)).max() == pytest.approx(29000)


def test_the_marker_is_json(corpora: MiniCorpora) -> None:
    info = json.loads((corpora.root / MARKER).read_text())
    assert info["version"] == mini.VERSION
    assert info["files"] == len(mini._files(corpora.root))
