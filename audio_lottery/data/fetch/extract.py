"""Archives to folders, without trusting them: nothing is written elsewhere, and a folder appears whole or not at all.

Links that stay inside the folder are kept, because TED-LIUM 3 has them (``legacy/train/sph`` points into ``data``);
they are made after everything else, so that no member is written through one.
"""

import json
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from audio_lottery.data.fetch.download import require_space
from audio_lottery.errors import CorpusError, storage_error
from audio_lottery.storage import write_json

MARKER = ".completed"

ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar", ".zip")

# RuntimeError is what encrypted zip members raise, and, by a subclass of it, those of an unknown compression.
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True)
class Extracted:
    """What a marker says: which archive a folder was extracted from, and how much came out."""

    archive: str
    bytes: int
    modified_ns: int
    sha256: str
    files: int
    links: int


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    open: Callable[[], IO[bytes]] | None  # None for a link
    link: str = ""


def archive_stem(name: str) -> str | None:
    """The name of an archive without its ending; None for what is not an archive by its name."""
    return next((name[: -len(end)] for end in ENDINGS if name.lower().endswith(end)), None)


def read_marker(folder: Path) -> Extracted | None:
    """What was extracted to ``folder``, or None where that was not finished."""
    try:
        return Extracted(**json.loads((folder / MARKER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def extract(archive: Path, folder: Path, sha256: str, keep: Callable[[str], bool] = lambda name: True) -> Extracted:
    """Extract a tar (plain, gzip, bzip2 or xz) or zip archive to ``folder``, replacing what is there.

    Every member is checked, also those that are not kept. The members go to a temporary folder beside ``folder``,
    which is renamed once they are all there and synced; the marker ``.completed`` says from which archive they came.

    Args:
        archive: the file.
        folder: what appears when all is done.
        sha256: of the archive, for the marker.
        keep: name of a member → whether to write it.

    Raises:
        CorpusError: the archive is damaged or cut short, empty, or has a member that must not be extracted: an
            absolute path, a path or link that leaves the folder, a device. Nothing is left behind.
        StorageError: not enough space, or a file cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        status = archive.stat()
        # What is extracted is larger than its archive; how much, a zip file says and a tar file does not.
        require_space(temporary, _unpacked_size(archive, keep) or status.st_size)
        files, links = _write_members(archive, temporary, keep)
        if files == 0:
            raise CorpusError(f"{archive}: holds no files to extract; check that it is the right archive")
        made = Extracted(archive.name, status.st_size, status.st_mtime_ns, sha256, files, links)
        os.sync()  # once, and not file by file, which would take longer than extracting them
        write_json(temporary / MARKER, asdict(made))
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    except OSError as error:
        raise storage_error(error.filename or folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return made


def _write_members(archive: Path, folder: Path, keep: Callable[[str], bool]) -> tuple[int, int]:
    links: dict[Path, str] = {}
    files = 0
    for member in tqdm(_members(archive), desc=f"extracting {archive.name}", unit="file", disable=None, leave=False):
        target = folder / _safe(member.name, archive)
        if not keep(member.name):
            continue
        if member.open is None:
            links[target] = member.link
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with _Damage(archive, member.name), member.open() as source, target.open("wb") as file:
            shutil.copyfileobj(_Reading(source), file, 1 << 20)
        files += 1
    for target, to in links.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(to)
    # Links may pass through links: only now is it known where they lead.
    root = folder.resolve()
    for target, to in links.items():
        name = target.relative_to(folder)
        try:
            end = target.resolve(strict=True)
        except (OSError, RuntimeError) as error:  # a loop
            raise CorpusError(f"{archive}: member '{name}' is a link to '{to}', which is not in the archive") from error
        if not end.is_relative_to(root):
            raise CorpusError(_leaves(archive, str(name), to))
    return files, len(links)


def _members(archive: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        yield from _zip_members(archive)
    else:
        yield from _tar_members(archive)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with _Damage(archive), tarfile.open(archive, "r:*") as tar:
        while (member := _next(tar, archive)) is not None:
            if member.isfile():
                yield _Member(member.name, partial(_open_tar, tar, member))
            elif member.issym():
                _safe_link(archive, member.name, member.linkname, PurePosixPath(member.name).parent)
                yield _Member(member.name, None, member.linkname)
            elif member.islnk():  # the path of a hard link starts at the top of the archive
                _safe_link(archive, member.name, member.linkname, PurePosixPath("."))
                depth = len(PurePosixPath(member.name).parts) - 1
                yield _Member(member.name, None, "../" * depth + member.linkname)
            elif member.isdir():
                _safe(member.name, archive)
            else:
                raise CorpusError(f"{archive}: member '{member.name}' is a device or pipe; it is not extracted")
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all, a kilobyte each
        _read_to_end(tar, archive)


def _open_tar(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    if file is None:
        raise tarfile.ReadError(f"'{member.name}' is not a regular file")
    return file


def _next(tar: tarfile.TarFile, archive: Path) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except OSError as error:
        raise _damaged(archive, error) from error


def _read_to_end(tar: tarfile.TarFile, archive: Path) -> None:
    """Prove that the archive is whole: tarfile stops at the end mark, and the compressor's checksum comes after it."""
    file = tar.fileobj
    if file is None:
        return
    if archive.name.lower().endswith(".tar"):
        # A plain tar that was cut between two members reads like a whole one, but for the empty block at its end.
        file.seek(tar.offset)
        if len(file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
            raise _damaged(archive, EOFError("it has no end mark"))
    try:
        while file.read(1 << 20):
            pass
    except OSError as error:  # gzip and bz2 raise it for damaged data
        raise _damaged(archive, error) from error


def _zip_members(archive: Path) -> Iterator[_Member]:
    with _Damage(archive), zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if stat.S_ISLNK(kind):
                link = file.read(info).decode("utf-8", "replace")
                _safe_link(archive, info.filename, link, PurePosixPath(info.filename).parent)
                yield _Member(info.filename, None, link)
            elif info.is_dir():
                _safe(info.filename, archive)
            elif kind not in (0, stat.S_IFREG):
                raise CorpusError(f"{archive}: member '{info.filename}' is a device or pipe; it is not extracted")
            else:
                yield _Member(info.filename, partial(file.open, info))


def _safe(name: str, archive: Path) -> PurePosixPath:
    """The relative path of a member, if it stays inside."""
    path = PurePosixPath(name)
    if path.is_absolute() or "\\" in name or "\0" in name or name[1:2] == ":":
        raise CorpusError(f"{archive}: member '{name}' has an absolute or foreign path; nothing was extracted")
    if ".." in path.parts:
        raise CorpusError(f"{archive}: member '{name}' leaves the folder through '..'; nothing was extracted")
    if path == PurePosixPath(MARKER):
        raise CorpusError(f"{archive}: member '{name}' has the name of the mark of completion; nothing was extracted")
    return path


def _safe_link(archive: Path, name: str, to: str, start: PurePosixPath) -> None:
    if not to or PurePosixPath(to).is_absolute() or os.path.normpath(start / to).split("/")[0] == "..":
        raise CorpusError(_leaves(archive, name, to))


def _leaves(archive: Path, name: str, to: str) -> str:
    return f"{archive}: member '{name}' is a link to '{to}', which leaves the folder; nothing was extracted"


def _unpacked_size(archive: Path, keep: Callable[[str], bool]) -> int:
    if not zipfile.is_zipfile(archive):
        return 0
    with _Damage(archive), zipfile.ZipFile(archive) as file:
        return sum(info.file_size for info in file.infolist() if keep(info.filename))


def _damaged(archive: Path, error: BaseException, member: str = "") -> CorpusError:
    at = f" at member '{member}'" if member else ""
    return CorpusError(
        f"{archive}: not a whole archive{at} ({error or type(error).__name__}); half a download? fetch it again"
    )


class _Damage:
    """Puts what the archive's readers raise in our words."""

    def __init__(self, archive: Path, member: str = "") -> None:
        self._archive, self._member = archive, member

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _DAMAGE):
            raise _damaged(self._archive, error, self._member) from error


class _Reading:
    """A file whose read errors are told apart from those of the disk that is written to."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        """Read, raising EOFError where the decompressor raises OSError."""
        try:
            return self._source.read(size)
        except OSError as error:  # gzip and bz2 raise it for damaged data
            raise EOFError(str(error)) from error
