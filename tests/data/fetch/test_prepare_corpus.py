"""`prepare_corpus`: archives, folders and a server become splits that a configuration names; and all that can fail."""

import json
import shutil
import time
from pathlib import Path

import pytest

from audio_lottery.commands.prepare import main
from audio_lottery.data.audio import read_audio
from audio_lottery.data.corpora import CORPORA, catalogue
from audio_lottery.data.corpora.catalogue import Archive
from audio_lottery.data.corpora.prepared import load_prepared
from audio_lottery.data.fetch import prepare_corpus
from audio_lottery.data.fetch.noise import NOISES
from audio_lottery.errors import AudioError, CorpusError
from tests.data.fetch.corpora import common_voice, libri, packed, ted, write_wav
from tests.data.fetch.server import serve


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def files(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def picked(summary: dict, *names: str) -> tuple:
    return tuple(summary[name] for name in names)


def test_librispeech_from_archives(tmp_path: Path, out: Path) -> None:
    archives = [
        write(tmp_path / f"my-{split}{end}", packed(libri(tmp_path / split, [split]), end))
        for split, end in (("dev-other", ".tar.gz"), ("test-other", ".zip"))
    ]
    summaries = prepare_corpus("librispeech", out, archives)
    assert [picked(s, "corpus", "split", "utterances", "seconds", "speakers") for s in summaries] == [
        ("librispeech", "dev-other", 3, 1.5, 1),
        ("librispeech", "test-other", 3, 1.5, 1),
    ]
    assert summaries[0]["converted"] == 0
    manifest = load_prepared(out, "test-other")
    assert manifest["text"][:] == ["SOME WORDS"] * 3
    assert len(read_audio(manifest[0]["audio"])) == 8000
    before = files(out)
    begin = time.perf_counter()
    assert prepare_corpus("librispeech", out, archives) == summaries
    assert time.perf_counter() - begin < 0.5
    assert files(out) == before
    assert not [name for name in before if ".tmp" in name or ".old" in name]


def test_a_changed_archive_and_force_make_it_again(tmp_path: Path, out: Path) -> None:
    archive = write(tmp_path / "libri.tar.gz", packed(libri(tmp_path / "a", utterances=2)))
    assert prepare_corpus("librispeech", out, [archive])[0]["utterances"] == 2
    write(archive, packed(libri(tmp_path / "b", utterances=4)))
    assert prepare_corpus("librispeech", out, [archive])[0]["utterances"] == 4
    assert len(load_prepared(out, "dev-clean")) == 4
    seal = out / "manifests" / "librispeech-dev-clean" / "done"
    before = seal.stat().st_mtime_ns
    prepare_corpus("librispeech", out, [archive], force=True)
    assert seal.stat().st_mtime_ns > before


def test_a_folder_is_used_where_it_is(tmp_path: Path, out: Path) -> None:
    root = libri(tmp_path / "corpora", ["dev-clean", "dev-other"])
    assert [s["split"] for s in prepare_corpus("librispeech", out, [root], ["dev-other"])] == ["dev-other"]
    assert [s["split"] for s in prepare_corpus("librispeech", out, [root.parent])] == ["dev-clean", "dev-other"]
    assert load_prepared(out, "dev-other")[0]["audio"].startswith(str(root))
    assert not (out / "extracted").exists()


def test_a_moved_folder_is_prepared_again_without_extracting(tmp_path: Path, out: Path) -> None:
    archive = write(tmp_path / "libri.tar.gz", packed(libri(tmp_path / "a")))
    prepare_corpus("librispeech", out, [archive])
    moved = out.rename(tmp_path / "moved")
    marker = moved / "extracted" / "libri" / ".completed"
    before = marker.stat().st_mtime_ns
    prepare_corpus("librispeech", moved, [archive])
    assert marker.stat().st_mtime_ns == before
    assert load_prepared(moved, "dev-clean")[0]["audio"].startswith(str(moved))


def test_common_voice_counts_conversions_and_empty_transcripts(tmp_path: Path, out: Path) -> None:
    archive = write(tmp_path / "cv-corpus-99-en.tar.gz", packed(common_voice(tmp_path / "a")))
    train, test = prepare_corpus("common-voice", out, [archive])
    assert picked(train, "corpus", "split", "utterances", "empty_transcripts", "speakers", "converted") == (
        *("common_voice", "train", 2, 1, 2, 2),
    )
    assert (train["sample_rates"], train["channels"]) == ({"32000": 2}, {"1": 2})
    assert picked(test, "split", "utterances") == ("test", 1)
    assert prepare_corpus("common-voice", out, [archive], ["validated"])[0]["utterances"] == 3


def test_common_voice_of_an_unseen_release_and_with_a_missing_column(tmp_path: Path, out: Path) -> None:
    locale = common_voice(tmp_path / "a") / "en"
    table = locale / "test.tsv"
    header, row = (line.split("\t") for line in table.read_text().splitlines())
    cells = dict(zip(header, row, strict=True))
    table.write_text(f"new\tsentence\tpath\nx\t{cells['sentence']}\t{cells['path']}\n")
    assert prepare_corpus("common-voice", out, [locale], ["test"])[0]["utterances"] == 1
    table.write_text(f"new\ttext\tpath\nx\t{cells['sentence']}\t{cells['path']}\n")
    with pytest.raises(CorpusError, match=r"test\.tsv:1: no column 'sentence'; columns there: new, text, path"):
        prepare_corpus("common-voice", out, [locale], ["test"], force=True)
    assert len(load_prepared(out, "test")) == 1  # what was there is still there


def test_common_voice_with_several_locales(tmp_path: Path, out: Path) -> None:
    corpus = common_voice(tmp_path / "a")
    shutil.copytree(corpus / "en", corpus / "xx")
    with pytest.raises(CorpusError, match="several Common Voice locales; name the folder of one with --source: en, xx"):
        prepare_corpus("common-voice", out, [corpus])
    assert len(prepare_corpus("common-voice", out, [corpus / "xx"])) == 2


def test_tedlium_3_with_its_links(tmp_path: Path, out: Path) -> None:
    archive = write(tmp_path / "ted3.tgz", packed(ted(tmp_path / "a")))
    summaries = prepare_corpus("tedlium", out, [archive])
    assert [picked(s, "split", "utterances", "speakers") for s in summaries] == [
        ("train", 2, 1),
        ("dev", 2, 1),
        ("test", 2, 1),
    ]
    assert load_prepared(out, "tedlium-dev")["text"][:] == ["it's", "some words"]


def test_jsonl_is_checked(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "mine"
    write_wav(folder / "a.wav", 1.0, rate=8000)
    write_wav(folder / "b.wav", 1.0, rate=44_100, channels=2)
    lines = [{"audio_filepath": f"{name}.wav", "text": "x", "duration": 1.0, "speaker": "s"} for name in "ab"]

    def manifest() -> Path:
        return write(folder / "train.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())

    (summary,) = prepare_corpus("jsonl", out, [manifest()])
    assert summary["sample_rates"] == {"8000": 1, "44100": 1}
    assert summary["channels"] == {"1": 1, "2": 1}
    assert picked(summary, "split", "utterances", "converted", "speakers") == ("train", 2, 2, 1)
    assert prepare_corpus("jsonl", out, [folder])[0] == summary
    lines[1]["duration"] = 1.2
    with pytest.raises(CorpusError, match=r"utterance 'b' ends at 1\.2 s, but .*b\.wav ends at 1\.000 s"):
        prepare_corpus("jsonl", out, [manifest()])
    lines[1]["duration"] = 1.0
    audio = (folder / "b.wav").read_bytes()
    (folder / "b.wav").write_bytes(audio[: len(audio) // 2])
    lines[0]["speaker"] = "other"
    with pytest.raises(AudioError, match=r"b\.wav: truncated"):
        prepare_corpus("jsonl", out, [manifest()])


def test_download_extract_and_do_nothing_again(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    body = packed(libri(tmp_path / "a"))
    monkeypatch.setitem(catalogue.LIBRISPEECH, "dev-clean", Archive("dev-clean.tar.gz", "https://x.invalid", None, 1.0))
    with serve({"dev-clean.tar.gz": body}) as server:
        options = {"splits": ["dev-clean"], "download": True, "mirror": f"{server.url}/"}
        first = prepare_corpus("librispeech", out, **options)
        (out / "downloads" / "dev-clean.tar.gz").unlink()
        assert prepare_corpus("librispeech", out, **options) == first
    assert server.seen == [""]
    assert first[0]["source"]["archive"] == "dev-clean.tar.gz"
    assert first[0]["source"]["sha256"] in caplog.text


def test_published_checksum_holds_for_downloads_and_for_own_files(tmp_path: Path, out: Path) -> None:
    body = packed(libri(tmp_path / "a"))
    expected = catalogue.LIBRISPEECH["dev-clean"].checksum.replace(":", " ")
    with serve({"dev-clean.tar.gz": body}) as server, pytest.raises(CorpusError, match=f"expected {expected}, got"):
        prepare_corpus("librispeech", out, splits=["dev-clean"], download=True, mirror=server.url)
    archive = write(tmp_path / "dev-clean.tar.gz", body)
    with pytest.raises(CorpusError, match=f"expected {expected}, got .*half a download"):
        prepare_corpus("librispeech", out, [archive])
    assert not list((out / "downloads").iterdir())


BAD_CALLS = [
    ("librispeech", {}, "librispeech: give either --source .* or --download"),
    ("librispeech", {"sources": ["x"], "download": True}, "give either --source"),
    ("librispeech", {"sources": ["x"], "mirror": "http://x"}, "--mirror goes with --download"),
    ("librispeech", {"download": True}, r"say which splits to download with --split: .*dev-clean \(0\.34 GB\)"),
    ("librispeech", {"download": True, "splits": ["dev"]}, "unknown split 'dev'; splits there: train-clean-100, "),
    ("tedlium", {"download": True, "release": 4}, "no release 4; there are 1, 2, 3"),
    ("tedlium", {"download": True, "splits": ["eval"]}, "unknown split 'eval'; splits there: train, dev, test"),
    ("demand", {"download": True, "splits": ["SCAFE"]}, "unknown split 'SCAFE'; splits there: DKITCHEN, "),
    ("musan", {"download": True, "splits": ["noise"]}, "musan: --split names nothing here"),
    ("common-voice", {"download": True}, r"https://datacollective\.mozillafoundation\.org and run .* --source"),
    ("jsonl", {"download": True}, "jsonl: there is nothing to download"),
]


@pytest.mark.parametrize(("corpus", "options", "message"), BAD_CALLS)
def test_calls_that_cannot_work_say_so_before_any_work(out: Path, corpus: str, options: dict, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        prepare_corpus(corpus, out, **options)
    assert not out.exists()


def test_sources_that_are_no_sources(tmp_path: Path, out: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    root = libri(tmp_path / "a")
    cases = {
        ("librispeech", "nowhere"): "source .*nowhere: no such file or folder",
        ("librispeech", "notes.txt"): r"notes\.txt is neither a folder nor an archive \(\.tar\.gz, ",
        ("librispeech", "empty"): "no LibriSpeech splits in it",
        ("common-voice", "empty"): "no Common Voice locale in it",
        ("tedlium", "empty"): "no TED-LIUM release in it",
        ("musan", "empty"): "no musan recordings in it",
        ("jsonl", "empty"): "jsonl: no .jsonl or .json file in",
        ("jsonl", "notes.txt"): "is neither a .jsonl or .json file nor a folder",
    }
    for (corpus, name), message in cases.items():
        with pytest.raises(CorpusError, match=message):
            prepare_corpus(corpus, out, [tmp_path / name])
    with pytest.raises(CorpusError, match="unknown split 'dev'; splits there: dev-clean"):
        prepare_corpus("librispeech", out, [root], ["dev"])
    with pytest.raises(CorpusError, match=r"split 'dev-clean' is in .* and in .*; name one source"):
        prepare_corpus("librispeech", out, [root, libri(tmp_path / "b")])
    for folder in ("x", "y"):
        write(tmp_path / folder / "c.tgz", packed(root))
    with pytest.raises(CorpusError, match=r"two sources would be extracted to .*; rename one"):
        prepare_corpus("librispeech", out, [tmp_path / "x" / "c.tgz", tmp_path / "y" / "c.tgz"])
    assert not (out / "manifests").exists()


def test_a_reader_that_fails_leaves_no_manifest(tmp_path: Path, out: Path) -> None:
    root = libri(tmp_path / "a")
    flac = next(root.rglob("*.flac"))
    flac.write_bytes(b"fLaC")
    with pytest.raises(AudioError, match=flac.name):
        prepare_corpus("librispeech", out, [root])
    assert list((out / "manifests").iterdir()) == []


def test_the_table_that_is_printed(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture) -> None:
    write_wav(tmp_path / "a.wav", 1.0, rate=44_100, channels=2)
    source = write(tmp_path / "train.jsonl", b'{"audio_filepath": "a.wav", "text": " "}\n')
    main(["jsonl", "--out", str(out), "--source", str(source)])
    header, ruler, line, use = capsys.readouterr().out.splitlines()
    assert set(ruler) == {"-", " "}
    assert " ".join(header.split()) == "corpus split utterances hours speakers empty converted source audio"
    assert " ".join(line.split()) == "jsonl train 1 0.00 1 1 1 44.1 kHz: 1; more than one channel: 1"
    assert use == f"jsonl/train: {{corpus: prepared, path: {out}, split: jsonl-train}}"


def test_every_corpus_has_a_place_in_the_command(capsys: pytest.CaptureFixture) -> None:
    for corpus in (*CORPORA, *NOISES, "common-voice", "mini", "hub"):
        with pytest.raises(SystemExit) as caught:
            main([corpus.replace("_", "-"), "--help"])
        assert caught.value.code == 0
    with pytest.raises(SystemExit):
        main(["hub", "x", "--split", "y", "--out", "z", "--column", "text"])
    assert "'text' is not of the form OURS=THEIRS" in capsys.readouterr().err
