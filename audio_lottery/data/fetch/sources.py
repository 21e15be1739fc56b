"""From what the user has (a folder, an archive, a network) to folders that hold a corpus.

Under the output folder: ``downloads/<archive>``, and ``extracted/<archive's stem>`` with its marker.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio_lottery.data.corpora._files import absolute
from audio_lottery.data.corpora.catalogue import Archive, known_checksum
from audio_lottery.data.fetch.download import download, verify
from audio_lottery.data.fetch.extract import ENDINGS, Extracted, archive_stem, extract, read_marker
from audio_lottery.errors import CorpusError

logger = logging.getLogger(__name__)

Keep = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Source:
    """A folder that holds (part of) a corpus.

    Attributes:
        path: the folder.
        origin: what it is, for the summary of a manifest: ``{"folder": ...}`` or ``{"archive": ..., "sha256": ...}``.
        owned: it was extracted here, so that its files may be moved.
    """

    path: Path
    origin: dict[str, Any]
    owned: bool


def everything(name: str) -> bool:
    """Keep every member of an archive."""
    return True


def open_sources(paths: Iterable[Path], out: Path, keep: Keep = everything) -> list[Source]:
    """Folders as they are, archives extracted to ``out`` unless that was done before.

    Raises:
        CorpusError: a path is missing, or neither a folder nor an archive; an archive is not what it should be.
        StorageError: a file cannot be written.
    """
    sources: list[Source] = []
    for path in map(absolute, paths):
        if path.is_dir():
            sources.append(Source(path, {"folder": str(path)}, owned=False))
        else:
            sources.append(_open_archive(path, out, keep))
        if [source.path for source in sources].count(sources[-1].path) > 1:
            raise CorpusError(f"{path}: two sources would be extracted to {sources[-1].path}; rename one of them")
    return sources


def fetch_source(archive: Archive, out: Path, mirror: str | None, keep: Keep = everything) -> Source:
    """Download and extract a published archive, each unless that was done before.

    Raises:
        CorpusError: the download or the archive is not what it should be.
        StorageError: not enough space, or a file cannot be written.
    """
    folder = _folder(archive.name, out)
    made = read_marker(folder)
    if made is None or made.archive != archive.name:
        file = out / "downloads" / archive.name
        base = (mirror or archive.base).rstrip("/")
        sha256 = download(f"{base}/{archive.name}", file, archive.checksum)
        made = extract(file, folder, sha256, keep)
        logger.info("%s is extracted; %s may be deleted", folder, file)
    return _extracted(folder, made)


def _open_archive(path: Path, out: Path, keep: Keep) -> Source:
    if not path.exists():
        raise CorpusError(f"source {path}: no such file or folder; correct the path")
    if not path.is_file() or archive_stem(path.name) is None:
        raise CorpusError(f"source {path} is neither a folder nor an archive ({', '.join(ENDINGS)})")
    folder = _folder(path.name, out)
    made, status = read_marker(folder), path.stat()
    if made is not None and (made.bytes, made.modified_ns) == (status.st_size, status.st_mtime_ns):
        return _extracted(folder, made)
    sha256 = verify(path, known_checksum(path.name), remedy="half a download? fetch it again")
    if made is None or made.sha256 != sha256:
        made = extract(path, folder, sha256, keep)
    return _extracted(folder, made)


def _folder(name: str, out: Path) -> Path:
    return out / "extracted" / (archive_stem(name) or name)


def _extracted(folder: Path, made: Extracted) -> Source:
    return Source(folder, {"archive": made.archive, "sha256": made.sha256}, owned=True)
