"""Whole or absent: files and folders that a crash, a kill or a full disk never leaves half-written.

A *sealed folder* is one whose last-written file, ``done``, lists the size and SHA-256 of every other file in it.
`sealed_folder` makes one; `is_sealed` says whether a folder has been finished; `verify_sealed` proves that it is whole.
`remove_sealed` takes files out of one on purpose: the seal says so before they go, so that what was removed is never
taken for what was lost.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from audio_lottery.errors import RunError, storage_error

SEAL = "done"

# The first line of the file that stands for a large one in a git repository cloned without Git LFS.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_fault(path: str | Path) -> str | None:
    """Why there is nothing to read at ``path``, and what to do, to be put behind its name; None where there is."""
    path = Path(path)
    if path.is_dir():
        return "is a folder where a file should be; get the file again"
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
    except FileNotFoundError:
        return "is missing; get it again"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if not start:
        return "is empty; get it again"
    if start == _LFS_POINTER:
        return f"is a Git LFS pointer and not the file itself; run `git lfs pull` in {path.parent}"
    return None


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path``: temporary name, sync, rename.

    Raises:
        StorageError: the file could not be written; what was at ``path`` before is still there.
    """
    path = Path(path)
    if not path.name:
        raise storage_error(repr(str(path)), IsADirectoryError("it names no file"))
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        with suppress(OSError):  # it may not be there, nor its folder
            temporary.unlink()
        raise storage_error(path, error) from error


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON with `write_bytes`."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        RunError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); remove it and run the command again") from error


@contextmanager
def sealed_folder(path: str | Path) -> Iterator[Path]:
    """A folder that appears at ``path`` whole, or not at all.

    Yields a temporary folder beside ``path``; when the block ends, its files are synced, the seal is written and the
    folder is renamed to ``path``, replacing what was there. When the block raises, the temporary folder is removed.

    Raises:
        StorageError: a file could not be written (disk full, permissions).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        _write_seal(temporary)
        retired = path.with_name(f".{path.name}.old")
        shutil.rmtree(retired, ignore_errors=True)
        if path.exists():
            os.replace(path, retired)
        os.replace(temporary, path)
        _sync(path.parent)
        shutil.rmtree(retired, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise storage_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def file_lock(path: str | Path, busy: str | None = None) -> Iterator[bool]:
    """Hold ``path`` against other processes; False where the file system knows no locks (some network ones).

    Args:
        path: a file that is there for this only; its folder exists.
        busy: what is wrong where another process holds it, for the message; None waits until it does not.

    Raises:
        RunError: another process holds it, and ``busy`` says what that means.
    """
    lock = FileLock(path, timeout=-1 if busy is None else 0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunError(f"{busy}") from error
    except (OSError, NotImplementedError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_sealed(path: str | Path) -> bool:
    """Whether ``path`` is a folder that was finished."""
    return (Path(path) / SEAL).is_file()


def verify_sealed(path: str | Path, remedy: str) -> None:
    """Compare every file of a sealed folder with its seal; one that was removed on purpose may be there or not.

    Args:
        path: the folder.
        remedy: what the user should do about a damaged one, for the message.

    Raises:
        RunError: a file is missing, shorter or longer than it was, or its bytes changed.
    """
    path = Path(path)
    seal = read_json(path / SEAL)
    removed = seal.get("removed", {})
    for name, entry in (seal["files"] | removed).items():
        file = path / name
        if not file.is_file():
            if name in removed:
                continue
            raise RunError(f"{file} is missing; {remedy}")
        if file.stat().st_size != entry["bytes"]:
            raise RunError(f"{file} has {file.stat().st_size} bytes where {entry['bytes']} were written; {remedy}")
        if file_sha256(file) != entry["sha256"]:
            raise RunError(f"{file} does not hold the bytes that were written; {remedy}")


def remove_sealed(path: str | Path, names: Collection[str], reason: str) -> None:
    """Remove files of a sealed folder on purpose.

    The seal is replaced first: from then on the folder is whole with and without the files, so a kill at any moment
    leaves nothing damaged, and calling this again finishes what a kill left. The seal keeps size and SHA-256: a file
    that is made again and put back is known to be the same.

    Args:
        path: the folder.
        names: files in it; those that it never had are passed over.
        reason: why, for whoever looks for them.

    Raises:
        StorageError: the seal could not be written, or a file not be removed; the folder is whole.
    """
    path = Path(path)
    seal = read_json(path / SEAL)
    files, removed = seal["files"], seal.get("removed", {})
    leaving = {name: files.pop(name) | {"reason": reason} for name in names if name in files}
    if leaving:
        write_json(path / SEAL, {"files": files, "removed": removed | leaving})
    try:
        for name in names:
            if name in leaving or name in removed:
                (path / name).unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error


def removal_reason(path: str | Path, name: str) -> str | None:
    """Why a file of a sealed folder is not there; None where it is, or where it was not removed on purpose."""
    path = Path(path)
    if (path / name).is_file():
        return None
    try:
        seal = json.loads((path / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no folder of ours: others may have a file of that name
        return None
    entry = seal.get("removed", {}).get(name) if isinstance(seal, dict) else None
    return None if entry is None else str(entry["reason"])


def recover_retired(path: str | Path) -> None:
    """Undo the first half of a replacement that a kill interrupted: bring back the folder that was being replaced."""
    path = Path(path)
    retired = path.with_name(f".{path.name}.old")
    if retired.is_dir() and not path.exists():
        os.replace(retired, path)


def _write_seal(folder: Path) -> None:
    files = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())
        files[file.relative_to(folder).as_posix()] = {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
    write_json(folder / SEAL, {"files": files})


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
