"""Windows of a parquet speech set, and a Hub on this machine's loopback."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from audio_lottery.data.audio import read_audio
from audio_lottery.data.corpora.hub import load_hub, source, stream_rows
from audio_lottery.data.corpora.hub import rows as rows_module
from audio_lottery.data.corpora.hub import stream_windows as windows
from audio_lottery.errors import CorpusError
from tests.data.hub.sets import LIBRISPEECH, encoded, hub, librispeech_row, write
from tests.data.loopback import REPOSITORY, dataset_server

# --- windows ------------------------------------------------------------------------------------------------------


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def audio_files(scratch: Path) -> int:
    return sum(file.suffix == ".flac" for file in scratch.rglob("*"))


def test_windows_hold_one_window(parquet: Path, scratch: Path) -> None:
    sizes, rows = [], []
    for window in windows(hub("set"), parquet.parent, size=4):
        assert isinstance(window, Dataset)
        assert audio_files(scratch) == len(window)
        sizes.append(len(window))
        rows += [{k: row[k] for k in ("id", "text", "speaker", "duration", "corpus")} for row in window]
        assert all(len(read_audio(row["audio"], row["start"], row["end"])) for row in window)
    assert sizes == [4, 4, 2]
    assert list(scratch.iterdir()) == []
    kept = load_hub(hub("set"), parquet.parent)
    assert rows == [{k: row[k] for k in ("id", "text", "speaker", "duration", "corpus")} for row in kept]


def test_windows_are_removed_when_left(parquet: Path, scratch: Path) -> None:
    stream: Iterator[Dataset] = windows(hub("set", text="lower"), parquet.parent, size=4)
    assert next(stream)["text"][0] == "word 0"
    assert audio_files(scratch) == 4
    stream.close()  # type: ignore[attr-defined]
    assert list(scratch.iterdir()) == []


def test_windows_of_nothing_and_repeated_ids(parquet: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="a window of 0 utterances is none"):
        windows(hub("set"), parquet.parent, size=0)
    file = write(tmp_path / "t.parquet", [librispeech_row(n % 3) for n in range(6)], LIBRISPEECH)
    stream = windows(hub(file), tmp_path, size=3)
    assert len(next(stream)) == 3
    with pytest.raises(CorpusError, match=r"row 3: utterance id '84-121-0000' occurs twice; .* \{id: ''\}"):
        next(stream)


# --- the Hub ------------------------------------------------------------------------------------------------------

CLIENT = """
import json, sys
from pathlib import Path
from audio_lottery.config import CorpusConfig
from audio_lottery.data.corpora.hub import load_hub, prepare_hub, stream_rows, stream_windows
from audio_lottery.errors import AudioLotteryError

def line(call):
    try:
        return repr(call())
    except AudioLotteryError as error:
        return f"{type(error).__name__} {error}"

repo, out = sys.argv[1], Path(sys.argv[2])
corpus = CorpusConfig(corpus="hub", path=repo, split="test", subset="clean", limit=3)
print(json.dumps({
    "rows": [(r.id, r.text, r.speaker, len(r.audio)) for r in stream_rows(repo, "test", subset="clean", limit=3)],
    "prepared": prepare_hub(repo, "test", out, subset="clean", limit=2, revision="main").read_text(),
    "origin": json.loads((out / "source.json").read_text())["commit"],
    "again": line(lambda: prepare_hub(repo, "test", out, subset="clean", limit=2, revision="main").name),
    "loaded": load_hub(corpus, out)["corpus"][:],
    "windows": [len(w) for w in stream_windows(corpus, out, size=2)],
    "split": line(lambda: stream_rows(repo, "dev", subset="clean")),
    "subset": line(lambda: stream_rows(repo, "test", subset="cleen")),
    "revision": line(lambda: stream_rows(repo, "test", subset="clean", revision="v9")),
    "missing": line(lambda: stream_rows("nobody/nothing", "test")),
    "gated": line(lambda: stream_rows("someone/gated", "test")),
}))
"""


@pytest.mark.slow
def test_a_hub_on_the_loopback(tmp_path: Path) -> None:
    audio = encoded(30.0, ending="WAV")  # about 1 MB
    served = tmp_path / "served"
    rows = [librispeech_row(n, audio={"bytes": audio, "path": f"{n}.wav"}) for n in range(60)]
    file = write(served / "clean" / "test" / "0000.parquet", rows, LIBRISPEECH, row_group_size=10, use_dictionary=False,
                 compression="none")  # fmt: skip
    (served / "README.md").write_text(
        "---\nconfigs:\n- config_name: clean\n  data_files:\n  - split: test\n    path: clean/test/*.parquet\n---\n"
    )
    assert file.stat().st_size > 50e6
    with dataset_server(served) as (address, log):
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, REPOSITORY, str(tmp_path / "out")],
            env=os.environ
            | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
            | {
                "HF_TOKEN": "hf_secretsecretsecret",
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "CUDA_VISIBLE_DEVICES": "",
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "hf_secret" not in done.stdout + done.stderr
    got = json.loads(done.stdout)
    assert got["rows"] == [[f"84-121-{n:04d}", f"WORD {n}", str(84 + n % 2), len(audio)] for n in range(3)]
    lines = [json.loads(line) for line in got["prepared"].splitlines()]
    assert [(line["id"], line["duration"]) for line in lines] == [("84-121-0000", 30.0), ("84-121-0001", 30.0)]
    assert got["origin"] == log.commit
    assert got["again"] == "'manifest.jsonl'"
    assert got["loaded"] == [f"hub:{REPOSITORY}/clean/test"] * 3
    assert got["windows"] == [2, 1]
    assert got["split"] == f"CorpusError hub:{REPOSITORY}/clean/dev: no split 'dev'; splits there: test"
    assert "BuilderConfig 'cleen' not found. Available: ['clean']" in got["subset"]
    assert got["revision"].endswith(f"{REPOSITORY} has no revision 'v9'; name a branch, tag or commit that it has")
    assert got["missing"].endswith(
        "the Hub has no dataset nobody/nothing; check the name; a private one needs `hf auth login`"
    )
    assert got["gated"].endswith("someone/gated is gated; accept its terms on the Hub, then `hf auth login`")
    assert all(
        "\n" not in got[key] and len(got[key]) < 500 for key in ("split", "subset", "revision", "missing", "gated")
    )
    # Four streams of at most three rows: each fetches a piece or two of about 9 MB, and none the file.
    assert log.parquet_bytes < 4 * 20e6


def test_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Api:
        def dataset_info(self, *_: Any, **__: Any) -> None:
            raise ConnectionError("no route to https://host/file?Signature=abc with hf_token1\nsecond line")

    monkeypatch.setattr(source.huggingface_hub, "HfApi", Api)
    with pytest.raises(CorpusError) as caught:
        stream_rows("someone/speech", "test")
    assert str(caught.value) == (
        "hub:someone/speech/test: no route to https://host/file with second line; check the network and HF_ENDPOINT, "
        "then run the command again"
    )


def test_a_dataset_of_the_hub_cannot_name_files_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(encoded())
    file = write(tmp_path / "t.parquet", [{"audio": {"bytes": None, "path": str(secret)}, "text": "x"}])
    monkeypatch.setattr(rows_module, "find_files", lambda *_: [str(file)])
    with pytest.raises(CorpusError, match="holds no bytes, only the path"):
        list(stream_rows("someone/speech", "test"))


def test_a_folder_of_the_same_name_is_not_taken_for_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "someone" / "speech").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match=r"not a folder in .*root, but one in the working directory"):
        load_hub(hub("someone/speech"), tmp_path / "root")
