"""A proxy before Docker's socket that lets calls through, refuses them, delays them, cuts them, or answers itself."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self


@dataclass(frozen=True)
class Deed:
    """What becomes of one call."""

    name: str
    delay_s: float = 0.0
    status: str | None = None
    """Answered by the proxy itself, with some HTML."""
    forward: bool = True
    """Whether Docker gets to see it."""
    answer: bool = True
    """Whether the caller gets to see Docker's answer."""


PASS = Deed("pass")
DELAY = Deed("delay", delay_s=1.0)
CUT = Deed("cut before Docker", forward=False)
LOST = Deed("answer lost", answer=False)
ERROR = Deed("500", status="500 Internal Server Error", forward=False)
NOT_OURS = Deed("404 of a web server", status="404 Not Found", forward=False)
REFUSED = Deed("403", status="403 Forbidden", forward=False)
Behaviour = Callable[[str, str], Deed]
"""Method and path (without query) → what becomes of it."""


class Proxy:
    """Listens on a port of `address`; `behave` may be changed at any time. Every call is noted in `calls`."""

    def __init__(
        self, docker: Path, behave: Behaviour = lambda _method, _path: PASS, address: str = "127.0.0.1"
    ) -> None:
        self.behave = behave
        self.calls: list[tuple[str, str, Deed]] = []
        self._streams: set[socket.socket] = set()
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError, ValueError):
                    proxy._serve(self.request, docker)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

        self._server = Server((address, 0), Handler)
        self.url = f"tcp://{address}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def cut_streams(self) -> None:
        """Cut every connection that is open to Docker now."""
        for upstream in list(self._streams):
            with suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)

    def _serve(self, caller: socket.socket, docker: Path) -> None:
        """One call per connection: whoever calls has to connect anew for the next."""
        head, body = _request(caller)
        lines = head.split(b"\r\n")
        method, target, _ = lines[0].decode().split(" ", 2)
        deed = self.behave(method, target.partition("?")[0])
        self.calls.append((method, target.partition("?")[0], deed))
        time.sleep(deed.delay_s)
        if deed.status is not None:
            page = b"<html><body>something stands in between</body></html>"
            caller.sendall(
                f"HTTP/1.1 {deed.status}\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + page
            )
        if not deed.forward:
            return
        with socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(str(docker))
            self._streams.add(upstream)
            kept = [line for line in lines if not line.lower().startswith(b"connection:")]
            upstream.sendall(b"\r\n".join([*kept, b"Connection: close"]) + b"\r\n\r\n" + body)
            if deed.answer:
                # A caller that goes away ends the stream of events, too.
                threading.Thread(target=_end_with, args=(caller, upstream), daemon=True).start()
            try:
                while chunk := upstream.recv(65536):
                    if deed.answer:
                        caller.sendall(chunk)
            finally:
                self._streams.discard(upstream)


def _request(caller: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += (chunk := caller.recv(65536))
        if not chunk:
            raise ValueError("no request")
    head, _, body = data.partition(b"\r\n\r\n")
    match = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    while match and len(body) < int(match[1]):
        body += caller.recv(65536)
    return head, body


def _end_with(caller: socket.socket, upstream: socket.socket) -> None:
    with suppress(OSError):
        caller.recv(1)
        upstream.shutdown(socket.SHUT_RDWR)
