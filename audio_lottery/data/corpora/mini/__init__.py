"""Three little corpora, spoken by eSpeak NG on first use, in the layouts of three real ones.

`prepare_mini` makes them (about 20 s on two cores) and keeps them; `MINI` says which reader reads which. The readers of
LibriSpeech, Common Voice and TED-LIUM run on them unchanged: every quirk of the real layouts that a reader must survive
is there. The same files, bit for bit, come out wherever eSpeak NG and libsndfile are the same.

No torch here, and no import of the synthesising modules: eSpeak NG is GPL and is only ever loaded in its own process.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio_lottery.errors import CorpusError, storage_error
from audio_lottery.storage import file_lock

VERSION = 2
"""Goes up when a corpus changes; the cache folder's name carries it."""

MINI: dict[str, tuple[str, str]] = {
    "mini-libri": ("librispeech", "libri"),
    "mini-cv": ("common_voice", "cv"),
    "mini-ted": ("tedlium", "ted"),
}
"""Mini corpus -> (the reader that reads it, the attribute of `MiniCorpora` that is its root)."""

MARKER = ".completed"
_OWNED = ".audio-lottery-mini"  # in every folder made here; a folder without it is never deleted


@dataclass(frozen=True, slots=True)
class MiniCorpora:
    """Where the mini corpora are.

    Attributes:
        root: the folder that holds all three.
    """

    root: Path

    @property
    def libri(self) -> Path:
        """The LibriSpeech folder: splits ``train-clean``, ``dev-clean`` and ``test-clean``."""
        return self.root / "LibriSpeech"

    @property
    def cv(self) -> Path:
        """The Common Voice language folder: ``train.tsv``, ``dev.tsv``, ``test.tsv``, ``validated.tsv``, ``clips``."""
        return self.root / "cv-corpus-mini" / "en"

    @property
    def ted(self) -> Path:
        """The TED-LIUM 3 folder: splits ``train``, ``dev`` and ``test`` under ``legacy``."""
        return self.root / "TEDLIUM_release-3"

    def info(self) -> dict[str, Any]:
        """What the marker says: ``version``, ``files``, ``bytes``, ``hours`` by corpus and split, ``sha256``."""
        info: dict[str, Any] = json.loads((self.root / MARKER).read_text(encoding="utf-8"))
        return info


def default_root() -> Path:
    """``~/.cache/audio_lottery/mini-v2``; AUDIO_LOTTERY_CACHE in the environment replaces all but the last part."""
    parent = os.environ.get("AUDIO_LOTTERY_CACHE") or "~/.cache/audio_lottery"
    return Path(parent).expanduser() / f"mini-v{VERSION}"


def prepare_mini(root: Path | None = None, force: bool = False) -> MiniCorpora:
    """The mini corpora, made on the first call and found on every later one.

    They are made in a temporary folder beside ``root`` and renamed when whole, so that a killed process leaves nothing
    that looks finished. Of two processes that start together one makes them and the other waits.

    Args:
        root: the folder to hold them; by default `default_root`.
        force: make them again even if they are there.

    Raises:
        CorpusError: eSpeak NG is not installed or failed, or ``root`` holds something that was not made here.
        StorageError: a file cannot be written; nothing is left behind.
    """
    root = default_root() if root is None else Path(root).expanduser()
    root = Path(os.path.abspath(root))
    if not force and _whole(root):
        return MiniCorpora(root)
    _refuse_strangers(root)
    if importlib.util.find_spec("espeakng_loader") is None:
        raise CorpusError("the mini corpora need the extra 'mini': pip install 'audio-lottery[mini]'")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(root.with_name(f"{root.name}.lock")) as locked:
            if not force and _whole(root):  # made by another process while this one waited
                return MiniCorpora(root)
            if locked:
                for stale in root.parent.glob(f"{root.name}.tmp-*"):
                    shutil.rmtree(stale, ignore_errors=True)
            _make(root)
    except OSError as error:
        raise storage_error(error.filename or root, error) from error
    return MiniCorpora(root)


def digest(folder: Path) -> str:
    """sha256 over the relative path, size and content of every file in ``folder``, its hidden ones left out."""
    total = hashlib.sha256()
    for path in _files(folder):
        content = path.read_bytes()
        total.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def _files(folder: Path) -> list[Path]:
    found = (Path(base) / name for base, _, names in os.walk(folder) for name in names if not name.startswith("."))
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _census(folder: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in _files(folder)]
    return len(sizes), sum(sizes)


def _whole(root: Path) -> bool:
    """Whether ``root`` holds every file that its marker promises, to the byte count."""
    try:
        info = MiniCorpora(root).info()
        return info["version"] == VERSION and (info["files"], info["bytes"]) == _census(root)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _refuse_strangers(root: Path) -> None:
    """Raise CorpusError where making the corpora would delete something that was not made here: a real corpus, say."""
    if root.is_symlink() or (root.exists() and not root.is_dir()):
        raise CorpusError(f"{root}: the mini corpora need a folder of their own, and this is a link or a file")
    if root.is_dir() and any(root.iterdir()) and not (root / _OWNED).exists():
        raise CorpusError(f"{root}: this folder holds other files; choose a new or empty folder for the mini corpora")


def _make(root: Path) -> None:
    from audio_lottery.data.corpora.mini import launch  # here, because the synthesising process imports this file too

    temporary, old = (root.with_name(f"{root.name}.tmp-{uuid.uuid4().hex}") for _ in range(2))
    try:
        temporary.mkdir()  # not mkdtemp, whose folders are closed to everyone else for good
        (temporary / _OWNED).write_text("made by audio_lottery.data.corpora.mini; safe to delete\n", encoding="utf-8")
        hours = launch.synthesise(list(MINI), temporary)
        files, size = _census(temporary)
        info = {"version": VERSION, "files": files, "bytes": size, "hours": hours, "sha256": digest(temporary)}
        os.sync()  # one call: a sync of each of 2,000 files would take longer than making them
        with open(temporary / MARKER, "w", encoding="utf-8") as handle:
            json.dump(info, handle, indent=2)
            handle.flush()
            os.fsync(handle.fileno())
        if root.exists():
            os.rename(root, old)  # aside, for a rename is one step and a deletion is not
        try:
            os.rename(temporary, root)
        except OSError:
            # Where there are no locks, another process may have been first: its corpora are the same, bit for bit.
            if not _whole(root):
                raise
    finally:
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)
