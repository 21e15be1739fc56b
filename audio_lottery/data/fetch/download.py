"""Downloads that continue where they stopped, and end with the right bytes or with none.

The bytes go to ``<name>.part``; beside it ``<name>.part.json`` says what they are the beginning of (URL, ETag,
Last-Modified, length). The file gets its name after its checksum was compared.
"""

import hashlib
import http.client
import json
import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from audio_lottery.errors import CorpusError, StorageError, storage_error
from audio_lottery.storage import write_json

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class _Version:
    """Which file, in which state, the bytes on disk are the beginning of."""

    url: str
    etag: str | None
    modified: str | None
    length: int | None

    def validator(self) -> str | None:
        """What If-Range may hold: a strong ETag, else the date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class _Broken(Exception):
    """An attempt that ended early for a reason that may pass."""


def download(url: str, path: Path, checksum: str | None, *, tries: int = 5, pause: float = 2.0) -> str:
    """Fetch ``url`` to ``path``; a start after a kill or a lost connection continues with an HTTP range request.

    Where the server knows no ranges, or the file there has changed, the download starts from its beginning.

    Args:
        url: http or https.
        path: the file to make; its folder is made too. A file that is there already is checked, not fetched.
        checksum: ``sha256:...`` or ``md5:...``; with None only the size is checked, and a warning gives the SHA-256.
        tries: attempts in a row without a new byte before giving up.
        pause: seconds before the second attempt; doubled for each one after.

    Returns:
        The SHA-256 of the file.

    Raises:
        CorpusError: the server refuses or cannot be reached, or the bytes have another checksum (they are removed).
        StorageError: not enough space for the whole file (said before it starts), or a file cannot be written.
    """
    if not url.startswith(("http://", "https://")):
        raise CorpusError(f"{url}: not a URL to download from; give one that starts with http:// or https://")
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            return verify(path, checksum, remedy="remove it and run the command again")
        _fetch(url, part, tries, pause)
        try:
            sha256 = verify(part, checksum, remedy="it was removed; run the command again, or take another --mirror")
        except CorpusError:
            part.unlink()
            _state(part).unlink(missing_ok=True)
            raise
        os.replace(part, path)
        _state(part).unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
    if checksum is None:
        logger.warning("%s: no checksum is published for it; only its size was checked. SHA-256: %s", path, sha256)
    return sha256


def verify(path: Path, checksum: str | None, remedy: str) -> str:
    """Compare a file with its checksum, in one pass over it.

    Returns:
        Its SHA-256.

    Raises:
        CorpusError: another checksum; the line has both, and ``remedy``.
        OSError: the file cannot be read.
    """
    kind, _, expected = (checksum or "sha256:").partition(":")
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", kind}}
    size = path.stat().st_size
    with path.open("rb") as file, _progress(f"checking {path.name}", size) as bar:
        while chunk := file.read(_CHUNK):
            for digest in digests.values():
                digest.update(chunk)
            bar.update(len(chunk))
    got = digests[kind].hexdigest()
    if expected and got != expected:
        raise CorpusError(f"{path}: wrong checksum: expected {kind} {expected}, got {got} ({size} bytes); {remedy}")
    return digests["sha256"].hexdigest()


def _fetch(url: str, part: Path, tries: int, pause: float) -> None:
    furthest, failures = _size(part), 0
    while True:
        try:
            _attempt(url, part)
            return
        except _Broken as error:
            # A server without ranges starts over each time: what counts is to get further than ever before.
            failures = 0 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            if failures >= tries:
                raise CorpusError(
                    f"{url}: download failed {tries} times in a row, last with: {error}; {_size(part)} bytes are kept "
                    "and the same command continues from there; --mirror URL takes another server"
                ) from error
            logger.info("%s: %s; trying again", url, error)
            time.sleep(pause * 2 ** max(0, failures - 1))


def _attempt(url: str, part: Path) -> None:
    known = _recorded(part, url)
    have = _size(part) if known else 0
    if known and known.length is not None and have == known.length:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "audio-lottery"})
    if known and have:
        request.add_header("Range", f"bytes={have}-")
        if validator := known.validator():
            request.add_header("If-Range", validator)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            version, begin = _what_comes(url, response.status, response.headers)
            if begin != 0 and (known is None or begin != have or _differs(version, known)):
                _forget(part)  # another file by now, from a server that ignores If-Range
                raise _Broken("the file changed on the server; starting again")
            _receive(response, part, version, begin)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            _forget(part)
            raise _Broken("the server has no such range; starting again") from error
        if error.code not in _TRY_AGAIN:
            raise CorpusError(
                f"{url}: the server answers {error.code} {error.reason}; check the URL, or take another --mirror"
            ) from error
        raise _Broken(f"the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _Broken(f"no connection ({error.reason})") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Broken(f"no answer ({error or type(error).__name__})") from error


def _what_comes(url: str, status: int, headers: Mapping[str, str]) -> tuple[_Version, int]:
    """The version of the file that the answer belongs to, and the byte that the answer begins with."""
    begin, length = 0, _number(headers.get("Content-Length"))
    if status == 206:  # Content-Range: bytes 100-199/200
        span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        start, length = _number(span.partition("-")[0]), _number(total)
        if start is None:
            raise _Broken(f"unreadable Content-Range {headers.get('Content-Range')!r}")
        begin = start
    return _Version(url, headers.get("ETag"), headers.get("Last-Modified"), length), begin


def _differs(version: _Version, known: _Version) -> bool:
    pairs = zip(asdict(version).values(), asdict(known).values(), strict=True)
    return any(new != old for new, old in pairs if new is not None and old is not None)


def _receive(response: http.client.HTTPResponse, part: Path, version: _Version, begin: int) -> None:
    if version.length is not None:
        require_space(part, version.length - begin)
    if begin == 0:
        part.unlink(missing_ok=True)
        write_json(_state(part), asdict(version))
    name = part.name.removesuffix(".part")
    with part.open("ab") as file, _progress(name, version.length, begin) as bar:
        while chunk := _read(response):
            file.write(chunk)
            file.flush()  # a kill keeps what was received
            bar.update(len(chunk))
        os.fsync(file.fileno())
    have = _size(part)
    if version.length is not None and have < version.length:
        raise _Broken(f"connection lost at byte {have} of {version.length}")
    if version.length is not None and have > version.length:
        _forget(part)
        raise _Broken(f"the server sent {have} bytes where it announced {version.length}; starting again")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(f"connection lost ({error or type(error).__name__})") from error


def require_space(path: Path, needed: int) -> None:
    """Refuse to begin what cannot be finished.

    Raises:
        StorageError: fewer than ``needed`` bytes are free where ``path`` will be.
    """
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise StorageError(
            f"cannot write {path}: {needed / 1e9:.3g} GB are needed and {free / 1e9:.3g} GB are free; free some space "
            "or choose another folder and run the command again"
        )


def _state(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _recorded(part: Path, url: str) -> _Version | None:
    try:
        known = _Version(**json.loads(_state(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return known if known.url == url else None


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state(part).unlink(missing_ok=True)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdigit() else None


def _progress(what: str, total: int | None, done: int = 0) -> tqdm:
    return tqdm(
        total=total, initial=done, desc=what, unit="B", unit_scale=True, unit_divisor=1000, disable=None, leave=False
    )
