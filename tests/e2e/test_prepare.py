"""``audio-lottery prepare`` as a process: killed in mid-download and in mid-extraction; the same command ends alike."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from audio_lottery.data.corpora.prepared import load_prepared
from tests.data.fetch.corpora import libri, packed
from tests.data.fetch.server import serve
from tests.e2e.conftest import environment, execute

# The published archive is too large for a test: its entry of the catalogue becomes that of a small one.
_PROGRAM = """
import sys
from audio_lottery.cli import main
from audio_lottery.data.corpora.catalogue import LIBRISPEECH, Archive
LIBRISPEECH["dev-clean"] = Archive("dev-clean.tar.gz", "https://nowhere.invalid", sys.argv[1], 0.1)
sys.exit(main(sys.argv[2:]))
"""


def kill_when(command: list[str], condition: Callable[[], bool]) -> None:
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not condition():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.kill()


def test_kill_and_the_same_command_again(tmp_path: Path) -> None:
    body = packed(libri(tmp_path / "source", utterances=40))
    out = tmp_path / "out"
    part = out / "downloads" / "dev-clean.tar.gz.part"
    with serve({"dev-clean.tar.gz": body}, pause=0.02) as server:
        checksum = f"sha256:{hashlib.sha256(body).hexdigest()}"
        command = [sys.executable, "-c", _PROGRAM, checksum, "prepare", "librispeech", "--out", str(out), "--download"]
        command += ["--mirror", server.url, "--split", "dev-clean"]
        kill_when(command, lambda: part.is_file() and part.stat().st_size > 50_000)
        got = part.stat().st_size
        assert got < len(body)
        assert part.read_bytes() == body[:got]
        server.pause = 0.0
        kill_when(command, lambda: any(out.glob("extracted/*dev-clean*")))
        result = execute(command)
        assert server.seen == ["", f"bytes={got}-"]
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[2].split()[:4] == ["librispeech", "dev-clean", "40", "0.01"]
    assert len(load_prepared(out, "dev-clean")) == 40
    assert (out / "downloads" / "dev-clean.tar.gz").read_bytes() == body
    source = tmp_path / "source" / "LibriSpeech"
    extracted = out / "extracted" / "dev-clean" / "LibriSpeech"
    for file in source.rglob("*.*"):
        assert (extracted / file.relative_to(source)).read_bytes() == file.read_bytes()
    assert not [path for path in out.rglob("*") if path.name.endswith((".tmp", ".old", ".part", ".part.json"))]
