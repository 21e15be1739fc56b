"""Functions that take a path take a string too."""

from pathlib import Path

import pytest

from audio_lottery import storage
from audio_lottery.errors import RunError


@pytest.mark.parametrize("kind", [str, Path])
def test_strings_and_paths_do_the_same(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    storage.write_bytes(kind("file"), b"bytes")
    assert Path("file").read_bytes() == b"bytes"
    assert len(storage.file_sha256(kind("file"))) == 64
    storage.write_json(kind("new/file.json"), {"a": 1})
    assert storage.read_json(kind("new/file.json")) == {"a": 1}
    with pytest.raises(RunError, match=r"none\.json cannot be read"):
        storage.read_json(kind("none.json"))
    assert not storage.is_sealed(kind("sealed"))
    with storage.sealed_folder(kind("sealed")) as folder:
        (folder / "inside").write_bytes(b"x")
    assert storage.is_sealed(kind("sealed"))
    storage.verify_sealed(kind("sealed"), "remove it")
    Path("sealed/inside").write_bytes(b"y")
    with pytest.raises(RunError, match=r"inside does not hold the bytes that were written; remove it"):
        storage.verify_sealed(kind("sealed"), "remove it")
    Path("sealed").rename(".sealed.old")
    storage.recover_retired(kind("sealed"))
    assert storage.is_sealed(kind("sealed"))
    with storage.file_lock(kind("lock")):
        assert Path("lock").is_file()
