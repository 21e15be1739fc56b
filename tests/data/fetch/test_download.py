"""Downloads: resumed where they stopped, never of two files, and never with wrong bytes under the right name."""

import hashlib
import logging
import resource
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from audio_lottery.data.corpora.catalogue import DEMAND, LIBRISPEECH, MUSAN, RIRS, TEDLIUM, known_checksum
from audio_lottery.data.fetch.download import download
from audio_lottery.errors import CorpusError, StorageError
from tests.data.fetch.server import serve

BODY = np.random.default_rng(0).bytes(100_000)
OTHER = np.random.default_rng(1).bytes(100_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
CHECKSUM = f"sha256:{SHA256}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "a.tgz"


def fetch(server, path: Path, checksum: str | None = CHECKSUM, tries: int = 3) -> str:
    return download(f"{server.url}/a.tgz", path, checksum, tries=tries, pause=0.0)


def left(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


@pytest.mark.parametrize("checksum", [CHECKSUM, f"md5:{hashlib.md5(BODY).hexdigest()}"])
def test_whole_download_is_checked_and_made_once(path: Path, checksum: str) -> None:
    with serve({"a.tgz": BODY}) as server:
        assert fetch(server, path, checksum) == SHA256
        assert fetch(server, path, checksum) == SHA256
    assert path.read_bytes() == BODY
    assert left(path) == ["a.tgz"]
    assert server.seen == [""]


def test_lost_connections_continue_where_they_broke(path: Path) -> None:
    with serve({"a.tgz": BODY}, cuts=[30_000, 0, 50_000]) as server:
        assert fetch(server, path) == SHA256
    assert path.read_bytes() == BODY
    assert server.seen == ["", "bytes=30000-", "bytes=30000-", "bytes=80000-"]


def test_a_second_call_continues_the_first(path: Path) -> None:
    with serve({"a.tgz": BODY}, cuts=[30_000, 0]) as server:
        with pytest.raises(CorpusError, match=r"connection lost at byte 30000 of 100000; 30000 bytes are kept"):
            fetch(server, path, tries=1)
        assert not path.exists()
        assert fetch(server, path) == SHA256
    assert server.seen[-1] == "bytes=30000-"


def test_server_without_ranges_starts_again_and_is_given_up_at_last(path: Path) -> None:
    with serve({"a.tgz": BODY}, ranges=False, cuts=[30_000, None]) as server:
        assert fetch(server, path) == SHA256
    assert server.seen == ["", "bytes=30000-"]
    path.unlink()
    with (
        serve({"a.tgz": BODY}, ranges=False, cuts=[30_000] * 9) as server,
        pytest.raises(CorpusError, match="download failed 3 times in a row"),
    ):
        fetch(server, path)
    assert len(server.seen) == 4  # the first got further than nothing


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_is_fetched_from_its_beginning(path: Path, if_range: bool) -> None:
    with serve({"a.tgz": OTHER}, cuts=[30_000, 0], if_range=if_range) as server:
        with pytest.raises(CorpusError):
            fetch(server, path, tries=1)
        server.files["a.tgz"], server.etag, server.cuts = BODY, '"v2"', []
        assert fetch(server, path) == SHA256
    assert path.read_bytes() == BODY
    assert len(server.seen) == (3 if if_range else 4)  # where If-Range is respected, one request settles it


def test_bytes_of_another_url_or_of_unknown_origin_are_not_continued(path: Path) -> None:
    path.parent.mkdir()
    part = path.with_name("a.tgz.part")
    part.write_bytes(OTHER[:500])
    with serve({"a.tgz": BODY}) as server:
        assert fetch(server, path) == SHA256
    assert server.seen == [""]


def test_wrong_checksum_names_both_and_is_not_resumed_from(path: Path) -> None:
    with serve({"a.tgz": OTHER}) as server:
        with pytest.raises(CorpusError) as caught:
            fetch(server, path)
        got = hashlib.sha256(OTHER).hexdigest()
        assert f"wrong checksum: expected sha256 {SHA256}, got {got}" in str(caught.value)
        assert left(path) == []
        server.files["a.tgz"] = BODY
        assert fetch(server, path) == SHA256
    assert server.seen == ["", ""]


def test_damaged_file_under_the_final_name_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(BODY[:-1])
    with serve({"a.tgz": BODY}) as server, pytest.raises(CorpusError, match=r"a\.tgz: wrong checksum.*99999 bytes"):
        fetch(server, path)


def test_without_a_checksum_the_size_is_checked_and_the_hash_is_told(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serve({"a.tgz": BODY}, cuts=[10]) as server:
        assert fetch(server, path, checksum=None) == SHA256
    assert SHA256 in caplog.text
    assert "no checksum is published" in caplog.text
    assert [record.levelno for record in caplog.records if SHA256 in record.message] == [logging.WARNING]


def test_server_that_fails_for_a_while_and_one_that_refuses(path: Path) -> None:
    with serve({"a.tgz": BODY}, errors=[503, 500]) as server:
        assert fetch(server, path) == SHA256
    with serve({}) as server:
        with pytest.raises(CorpusError, match=r"/a\.tgz: the server answers 404 Not Found"):
            fetch(server, path.with_name("b.tgz"))
        assert len(server.seen) == 1
    with pytest.raises(CorpusError, match="no connection"):
        fetch(server, path.with_name("b.tgz"))


def test_not_a_url(path: Path) -> None:
    with pytest.raises(CorpusError, match="file:///etc/passwd: not a URL to download from"):
        download("file:///etc/passwd", path, None)


def test_too_small_a_disk_is_said_before_anything_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 99_999, 99_999))
    with serve({"a.tgz": BODY}) as server, pytest.raises(StorageError, match=r"0\.0001 GB are needed"):
        fetch(server, path)
    assert left(path) == []


def test_disk_that_fills_up_meanwhile(path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serve({"a.tgz": BODY}) as server:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            with pytest.raises(StorageError, match=r"cannot write .*no space left for it"):
                fetch(server, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert fetch(server, path) == SHA256
    assert server.seen == ["", "bytes=50000-"]


def test_file_that_cannot_be_written(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("a.tgz.part.json").mkdir()  # cannot be replaced by a file
    with serve({"a.tgz": BODY}) as server, pytest.raises(StorageError, match="cannot write"):
        fetch(server, path)


def test_every_published_archive_has_a_well_formed_checksum() -> None:
    archives = [*LIBRISPEECH.values(), *TEDLIUM.values(), MUSAN, RIRS, *DEMAND.values()]
    assert len({archive.name for archive in archives}) == len(archives) == 9 + 3 + 2 + 17
    for archive in archives:
        kind, _, digest = archive.checksum.partition(":")
        assert len(digest) == {"sha256": 64, "md5": 32}[kind]
        assert int(digest, 16)
        assert archive.base.startswith("https://")
        assert not archive.base.endswith("/")
        assert known_checksum(archive.name) == archive.checksum
    assert len({archive.checksum for archive in archives}) == len(archives)
    assert known_checksum("mine.tar.gz") is None
