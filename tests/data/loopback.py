"""A Hub on this machine's loopback that serves one dataset repository, as huggingface_hub and datasets ask for it."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.http_server import Handler, serving

REPOSITORY = "someone/speech"
GATED = "someone/gated"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Log:
    """What was asked for."""

    commit: str = COMMIT
    paths: list[str] = field(default_factory=list)
    parquet_bytes: int = 0


@contextmanager
def dataset_server(folder: Path) -> Iterator[tuple[str, Log]]:
    """Serve ``folder`` as `REPOSITORY` at one commit; `GATED` is gated and all else does not exist."""
    log = Log()

    class Hub(Handler):
        def answer(self) -> None:
            posted = self.body()
            path = unquote(self.path.partition("?")[0])
            log.paths.append(f"{self.command} {path}")
            files, api = f"/datasets/{REPOSITORY}/resolve/", f"/api/datasets/{REPOSITORY}"
            if path.startswith(files):
                self.send_file(folder / path.removeprefix(files).partition("/")[2])
            elif path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
                names = [{"rfilename": entry["path"]} for entry in listing(folder) if entry["type"] == "file"]
                self.send_json({"id": REPOSITORY, "sha": COMMIT, "private": False, "tags": [], "siblings": names})
            elif path.startswith(f"{api}/revision/"):
                self.send(404, {"X-Error-Code": "RevisionNotFound"})
            elif path.startswith(f"{api}/tree/{COMMIT}"):
                inside = path.removeprefix(f"{api}/tree/{COMMIT}").strip("/")
                self.send_json([e for e in listing(folder) if Path(e["path"]).parent == Path(inside)])
            elif path.startswith(f"{api}/paths-info/"):
                wanted = parse_qs(posted.decode())["paths"] if b"=" in posted else json.loads(posted)["paths"]
                self.send_json([entry for entry in listing(folder) if entry["path"] in wanted])
            elif path.startswith(f"/api/datasets/{GATED}"):
                message = f"Access to dataset {GATED} is restricted: gated."
                self.send(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": message})
            else:
                self.send(404, {"X-Error-Code": "RepoNotFound" if "nobody" in path else "EntryNotFound"})

        def send_file(self, file: Path) -> None:
            if not file.is_file():
                self.send(404, {"X-Error-Code": "EntryNotFound"})
                return
            size = file.stat().st_size
            first, last, headers = 0, size - 1, {"ETag": f'"{etag(file)}"', "X-Repo-Commit": COMMIT}
            asked = self.headers.get("Range")
            if asked:
                begin, _, end = asked.removeprefix("bytes=").partition("-")
                first, last = int(begin), min(int(end) if end else last, last)
                headers["Content-Range"] = f"bytes {first}-{last}/{size}"
            with file.open("rb") as handle:
                handle.seek(first)
                content = handle.read(last - first + 1)
            if file.suffix == ".parquet" and self.command == "GET":
                log.parquet_bytes += len(content)
            self.send(206 if asked else 200, headers, content)

        def send_json(self, value: Any) -> None:
            self.send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    with serving(Hub) as address:
        yield address, log


def listing(folder: Path) -> list[dict[str, Any]]:
    """Every file and folder, as the Hub's tree names them."""
    entries = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        kind = "directory" if path.is_dir() else "file"
        entries.append({"type": kind, "path": name, "oid": etag(path), "size": path.stat().st_size})
    return entries


def etag(path: Path) -> str:
    """A name for the bytes of a file that is cheap to make."""
    return hashlib.sha1(f"{path.name}{path.stat().st_size}".encode()).hexdigest()
