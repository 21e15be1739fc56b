"""A loopback server of archives, with the faults that real ones have."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.http_server import Handler, serving


@dataclass
class Server:
    """What is served and how badly.

    Attributes:
        files: name → bytes.
        ranges: whether Range requests are understood.
        if_range: whether If-Range is respected where they are.
        etag: of every file.
        cuts: after how many body bytes the connection of the first, second ... request is cut; None for never.
        errors: status codes that the first requests are answered with.
        pause: seconds between blocks of 4 kB.
        seen: Range header (or an empty string) of every request.
    """

    files: dict[str, bytes]
    ranges: bool = True
    if_range: bool = True
    etag: str | None = '"v1"'
    cuts: list[int | None] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    pause: float = 0.0
    seen: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serve(files: dict[str, bytes], **options) -> Iterator[Server]:
    """Serve ``files`` on the loopback interface."""
    server = Server(files, **options)

    class Archives(Handler):
        protocol_version = "HTTP/1.0"  # a connection that is cut ends the body

        def answer(self) -> None:
            answer(server, self)

    with serving(Archives, poll_interval=0.01) as server.url:
        yield server


def answer(server: Server, request: BaseHTTPRequestHandler) -> None:
    wanted = request.headers.get("Range", "")
    server.seen.append(wanted)
    if server.errors:
        request.send_error(server.errors.pop(0))
        return
    body = server.files.get(request.path.lstrip("/"))
    if body is None:
        request.send_error(404)
        return
    condition = request.headers.get("If-Range")
    fresh = condition is None or not server.if_range or condition == server.etag
    start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges and fresh else 0
    if start >= len(body) > 0:
        request.send_error(416)
        return
    request.send_response(206 if start else 200)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    if server.etag:
        request.send_header("ETag", server.etag)
    request.send_header("Content-Length", str(len(body) - start))
    request.end_headers()
    cut = server.cuts.pop(0) if server.cuts else None
    body = body[start : None if cut is None else start + cut]
    try:
        for begin in range(0, len(body), 4096):
            request.wfile.write(body[begin : begin + 4096])
            time.sleep(server.pause)
    except ConnectionError:
        pass  # the client was killed
