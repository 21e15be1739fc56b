"""Files, folders and patterns: which recordings are meant, and what their transcripts are called."""

from pathlib import Path

import pytest

from audio_lottery.errors import ConfigError
from audio_lottery.transcribe.files import check_names, find_audio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.wav", "a.flac", "deep/er/c.MP3", "deep/b.ogg", "notes.txt", "._a.flac", ".hidden/d.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "odd[1].wav").touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("named", "names"),
    [
        (["b.wav", "a.flac"], ["b", "a"]),
        (["."], ["a", "b", "deep/b", "deep/er/c", "odd[1]"]),
        (["deep"], ["b", "er/c"]),
        (["*.wav"], ["b", "odd[1]"]),
        (["**/*.[Mo]*"], ["b", "c"]),
        (["odd[1].wav"], ["odd[1]"]),
        (["b.wav", "deep/../b.wav", "*.wav"], ["b", "odd[1]"]),
        (["gone.wav"], ["gone"]),
        (["notes.txt"], ["notes"]),
        (["dee*"], ["b", "er/c"]),
    ],
)
def test_what_is_meant(folder, named, names, monkeypatch):
    monkeypatch.chdir(folder)
    found = find_audio(named)
    assert [file.name.as_posix() for file in found] == names
    check_names(found)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["empty"], r"^empty holds no recording \(\.flac, \.mp3, .*\); name files of other kinds themselves$"),
        (["*.aiff"], r"^nothing matches \*\.aiff$"),
        (
            ["b.wav", "deep/b.ogg"],
            r"^the transcripts of b\.wav and deep/b\.ogg would both be called b; give the folder",
        ),
    ],
)
def test_what_is_refused(folder, named, message, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match=message):
        check_names(find_audio(named))
