"""A small service with the standard library alone: recordings over HTTP, and speech over a socket while it is spoken.

    python scripts/serve.py ticket --port 8000
    curl --data-binary @talk.flac localhost:8000            # {"text": ..., "chunks": [{"text": ..., "timestamp": ...}]}

    python scripts/serve.py streaming-ticket --port 8000 --live 8001       # models that stream: docs/transcribe.md
    arecord -f S16_LE -r 16000 | nc localhost 8001          # a line of JSON whenever something was said

To be read and changed: there is no encryption and no login, so it belongs behind a server that has both.
"""

import argparse
import io
import json
import socket
import threading
from contextlib import suppress
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import soundfile

from audio_lottery.cli import run
from audio_lottery.errors import AudioLotteryError
from audio_lottery.transcribe import Recogniser
from audio_lottery.transcribe.recogniser import PRECISIONS

# Seconds that a speaker who was refused may stay silent before the socket is closed.
_PATIENCE = 10
# Bytes of a recording: an hour of 16 kHz WAV.
_LARGEST = 120_000_000


class Service(ThreadingHTTPServer):
    """Recordings in, JSON out. Requests wait for their turn: more at once would share the same cores."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], recogniser: Recogniser) -> None:
        super().__init__(address, Request)
        self.recogniser = recogniser
        self.turn = threading.Lock()


class Request(BaseHTTPRequestHandler):
    """One recording, in any format that soundfile reads."""

    server: Service

    def do_GET(self) -> None:
        """Whether the service is up."""
        self.answer(200, {"ready": True})

    def do_POST(self) -> None:
        """The text, with the times of words."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _LARGEST:
            self.answer(413, {"error": f"give a recording of at most {_LARGEST} bytes, with its Content-Length"})
            return
        data = self.rfile.read(int(length))
        try:
            samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
            with self.server.turn:
                found = self.server.recogniser.transcribe(samples, sample_rate=rate)
        except (AudioLotteryError, soundfile.LibsndfileError) as error:
            self.answer(400, {"error": str(error)})
            return
        self.answer(200, found.to_dict())

    def answer(self, status: int, content: dict[str, Any]) -> None:
        """Send JSON."""
        data = json.dumps(content, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class LiveService(ThreadingTCPServer):
    """Raw 16 kHz 16-bit mono speech in, lines of JSON out."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, address: tuple[str, int], recogniser: Recogniser) -> None:
        super().__init__(address, Speaker)
        self.recogniser = recogniser


class Speaker(StreamRequestHandler):
    """One who speaks."""

    server: LiveService

    def handle(self) -> None:
        """A line whenever something was said, until the other side ends."""
        try:
            for line in self.server.recogniser.live(self.request.recv):
                self.wfile.write(json.dumps(asdict(line), ensure_ascii=False).encode() + b"\n")
        except AudioLotteryError as error:
            self.wfile.write(json.dumps({"error": str(error)}).encode() + b"\n")
            self.request.shutdown(socket.SHUT_WR)
            # a socket that is closed with unread speech in it takes the line back
            self.request.settimeout(_PATIENCE)
            with suppress(TimeoutError):
                while self.request.recv(1 << 16):
                    pass


def main() -> None:
    """Load once, serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="folder (also with model.sparse.safetensors) or Hub id")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--live", type=int, metavar="PORT", help="also take speech while it is spoken")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    options = parser.parse_args()
    recogniser = Recogniser.load(options.model, threads=options.threads, precision=options.precision)
    if options.live is not None:
        live = LiveService((options.host, options.live), recogniser)
        threading.Thread(target=live.serve_forever, daemon=True).start()
    with Service((options.host, options.port), recogniser) as service:
        print(f"http://{options.host}:{service.server_address[1]}", flush=True)
        service.serve_forever()


if __name__ == "__main__":
    raise SystemExit(run(main))
