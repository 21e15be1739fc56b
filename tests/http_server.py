"""What the tests' servers on the loopback share: a quiet handler, and a server for the time of a block."""

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Handler(http.server.BaseHTTPRequestHandler):
    """Every request goes to `answer`, which calls `send` once."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        raise NotImplementedError

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def body(self) -> bytes:
        """What the client sent."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, status: int, headers: Mapping[str, str], content: bytes = b"") -> None:
        """A whole answer; of a HEAD, without its content."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            try:
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client had what it wanted

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler], poll_interval: float = 0.5) -> Iterator[str]:
    """Serve in a thread; yields the address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(poll_interval,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
