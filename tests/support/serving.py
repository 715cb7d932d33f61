"""A web server on this machine that does what a test wants: cuts answers off, knows no ranges, changes its mind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What the server has, by path, and what it was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    """Answered before anything else, one after the other."""
    cuts: list[int] = field(default_factory=list)
    """After how many bytes each of the next answers breaks off."""
    ranges: bool = True
    marked: bool = False
    """Answers have an ETag, and are 304 to who knows it."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Path and range of each request."""


@contextmanager
def serving() -> Iterator[Served]:
    """The server, while the context lasts."""
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            served.asked.append((self.path, wanted))
            status = served.statuses[self.path].pop(0) if served.statuses.get(self.path) else 200
            data = served.files.get(self.path)
            if status == 200 and data is None:
                status = 404
            if status != 200:
                self._answer(status, b"")
                return
            assert data is not None
            mark = f'"{hash(data)}"'
            if served.marked and self.headers.get("If-None-Match") == mark:
                self._answer(304, b"")
            elif wanted and served.ranges:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(data):
                    self._answer(416, b"", ("Content-Range", f"bytes */{len(data)}"))
                else:
                    self._answer(206, data[start:], ("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}"))
            else:
                self._answer(200, data, *([("ETag", mark)] if served.marked else []))

        def _answer(self, status: int, data: bytes, *headers: tuple[str, str]) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if status != 304:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            cut = served.cuts.pop(0) if data and served.cuts else len(data)
            self.wfile.write(data[:cut])
            if cut < len(data):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
