"""Archives: every format, nothing outside the folder, and all or nothing."""

import io
import shutil
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from audio_lottery.data.fetch.extract import MARKER, archive_stem, extract, read_marker
from audio_lottery.errors import CorpusError, StorageError

NOISE = np.random.default_rng(0).bytes(50_000)
FILES = {"corpus/README": b"hello", "corpus/data/a.wav": NOISE, "corpus/data/empty": b""}
KINDS = {"tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}


def tar_member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


def write_tar(path: Path, members: list[tuple], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def good(path: Path, extra: list[tuple] = []) -> Path:  # noqa: B006 - never changed
    return write_tar(path, [*(tar_member(*item) for item in FILES.items()), *extra])


def tree(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != MARKER
    }


@pytest.mark.parametrize("ending", [*KINDS, "zip"])
def test_every_format_round_trips(tmp_path: Path, ending: str) -> None:
    archive = tmp_path / f"corpus.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.mkdir("corpus")
            for name, data in FILES.items():
                file.writestr(name, data)
    else:
        members = [tar_member("corpus", kind=tarfile.DIRTYPE), *(tar_member(*item) for item in FILES.items())]
        write_tar(archive, members, KINDS[ending])
    made = extract(archive, tmp_path / "out" / "corpus", "abc")
    assert tree(tmp_path / "out" / "corpus") == FILES
    assert (made.archive, made.bytes, made.sha256, made.files) == (archive.name, archive.stat().st_size, "abc", 3)
    assert read_marker(tmp_path / "out" / "corpus") == made
    assert archive_stem(archive.name) == "corpus"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["corpus"]


def test_only_what_is_kept(tmp_path: Path) -> None:
    extract(good(tmp_path / "a.tgz"), tmp_path / "a", "", keep=lambda name: name.endswith(".wav"))
    assert list(tree(tmp_path / "a")) == ["corpus/data/a.wav"]


def test_links_inside_are_kept_as_ted_lium_3_has_them(tmp_path: Path) -> None:
    links = [
        tar_member("corpus/legacy/sph/a.wav", kind=tarfile.SYMTYPE, link="../../data/a.wav"),
        tar_member("corpus/again", kind=tarfile.LNKTYPE, link="corpus/data/a.wav"),
        tar_member("corpus/folder", kind=tarfile.SYMTYPE, link="data"),
    ]
    made = extract(good(tmp_path / "a.tgz", links), tmp_path / "a", "")
    assert (made.files, made.links) == (3, 3)
    for name in ("legacy/sph/a.wav", "again", "folder/a.wav"):
        assert (tmp_path / "a" / "corpus" / name).read_bytes() == NOISE


HARDLY = [
    ("../evil", b"x", tarfile.REGTYPE, "", r"member '\.\./evil' leaves the folder through '\.\.'"),
    ("corpus/../../evil", b"x", tarfile.REGTYPE, "", r"leaves the folder through '\.\.'"),
    ("../evil", b"", tarfile.DIRTYPE, "", r"leaves the folder through '\.\.'"),
    ("/tmp/evil", b"x", tarfile.REGTYPE, "", "member '/tmp/evil' has an absolute or foreign path"),
    ("C:\\evil", b"x", tarfile.REGTYPE, "", "has an absolute or foreign path"),
    ("corpus/l", b"", tarfile.SYMTYPE, "/etc/passwd", "member 'corpus/l' is a link to '/etc/passwd', which leaves"),
    ("corpus/l", b"", tarfile.SYMTYPE, "../../evil", r"is a link to '\.\./\.\./evil', which leaves the folder"),
    ("corpus/l", b"", tarfile.LNKTYPE, "../evil", r"is a link to '\.\./evil', which leaves the folder"),
    ("corpus/l", b"", tarfile.SYMTYPE, "nothing", "is a link to 'nothing', which is not in the archive"),
    ("corpus/l", b"", tarfile.SYMTYPE, "l", "is a link to 'l', which is not in the archive"),
    ("corpus/null", b"", tarfile.CHRTYPE, "", "member 'corpus/null' is a device or pipe"),
    ("corpus/pipe", b"", tarfile.FIFOTYPE, "", "is a device or pipe"),
    (MARKER, b"{}", tarfile.REGTYPE, "", "has the name of the mark of completion"),
]


@pytest.mark.parametrize(("name", "data", "kind", "link", "message"), HARDLY)
def test_hostile_tar(tmp_path: Path, name: str, data: bytes, kind: bytes, link: str, message: str) -> None:
    archive = good(tmp_path / "a.tgz", [tar_member(name, data, kind, link)])
    with pytest.raises(CorpusError, match=message) as caught:
        extract(archive, tmp_path / "out" / "a", "")
    assert str(archive) in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "evil").exists()


def test_link_through_a_link(tmp_path: Path) -> None:
    """Neither link leaves the folder by its own text; together they would."""
    links = [
        tar_member("corpus/deep/up", kind=tarfile.SYMTYPE, link="../.."),
        tar_member("out", kind=tarfile.SYMTYPE, link="corpus/deep/up/../x"),
    ]
    (tmp_path / "out" / "x").mkdir(parents=True)
    archive = good(tmp_path / "a.tgz", links)
    with pytest.raises(CorpusError, match="member 'out' is a link to"):
        extract(archive, tmp_path / "out" / "a", "")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("name", "mode", "data", "message"),
    [
        ("../evil", 0o100644, b"x", "leaves the folder through"),
        ("/evil", 0o100644, b"x", "absolute or foreign path"),
        ("a\\..\\evil", 0o100644, b"x", "absolute or foreign path"),
        ("link", 0o120777, b"/etc/passwd", "member 'link' is a link to '/etc/passwd', which leaves the folder"),
        ("pipe", 0o010644, b"", "is a device or pipe"),
    ],
)
def test_hostile_zip(tmp_path: Path, name: str, mode: int, data: bytes, message: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("good", b"x")
        info = zipfile.ZipInfo(name)
        info.filename, info.external_attr = name, mode << 16
        file.writestr(info, data)
    with pytest.raises(CorpusError, match=message):
        extract(tmp_path / "a.zip", tmp_path / "out" / "a", "")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("ending", [*KINDS, "zip"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_half_a_download(tmp_path: Path, ending: str, share: float) -> None:
    archive = tmp_path / f"a.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("a", NOISE)
    else:
        write_tar(archive, [tar_member("a", NOISE), tar_member("b", NOISE)], KINDS[ending])
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    with pytest.raises(CorpusError, match=rf"a\.{ending}: not a whole archive.*half a download\? fetch it again"):
        extract(archive, tmp_path / "out" / "a", "")
    assert list((tmp_path / "out").iterdir()) == []


def test_plain_tar_cut_between_two_members(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", [tar_member("a", bytes(512)), tar_member("b", bytes(512))], "w")
    archive.write_bytes(archive.read_bytes()[:1024])
    with pytest.raises(CorpusError, match="not a whole archive"):
        extract(archive, tmp_path / "a", "")


@pytest.mark.parametrize("ending", ["tgz", "tar.bz2", "zip"])
def test_damaged_in_the_middle(tmp_path: Path, ending: str) -> None:
    archive = tmp_path / f"a.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("a", NOISE)
    else:
        write_tar(archive, [tar_member("a", NOISE), tar_member("b", NOISE)], KINDS[ending])
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(CorpusError, match="not a whole archive"):
        extract(archive, tmp_path / "a", "")


def test_archive_without_files(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tgz", [tar_member("corpus", kind=tarfile.DIRTYPE)])
    with pytest.raises(CorpusError, match="holds no files to extract"):
        extract(archive, tmp_path / "a", "")


def test_what_was_there_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    extract(good(tmp_path / "a.tgz"), tmp_path / "a", "old")
    bad = good(tmp_path / "b.tgz", [tar_member("../evil", b"x")])
    with pytest.raises(CorpusError):
        extract(bad, tmp_path / "a", "new")
    assert read_marker(tmp_path / "a").sha256 == "old"
    (tmp_path / ".a.tmp").mkdir()  # left by a kill
    (tmp_path / ".a.tmp" / "stale").write_text("")
    extract(good(tmp_path / "c.tgz"), tmp_path / "a", "new")
    assert read_marker(tmp_path / "a").sha256 == "new"
    assert tree(tmp_path / "a") == FILES


def test_too_small_a_disk_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = good(tmp_path / "a.tgz")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1))
    with pytest.raises(StorageError, match="GB are needed"):
        extract(archive, tmp_path / "a", "")


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        extract(good(tmp_path / "a.tgz"), tmp_path / "file" / "a", "")


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.b.TAR.GZ", "a.b"), ("cv-corpus-6.1-en.tar.gz", "cv-corpus-6.1-en"), ("x-1.0.zip", "x-1.0"), ("a.rar", None)],
)
def test_archive_stem(name: str, stem: str | None) -> None:
    assert archive_stem(name) == stem
