"""The listening socket: its TLS can be replaced without closing it, and its connections are bounded."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("mayday")

CONNECTIONS_LIMIT = 256
"""Connections at once; a further one is closed at once, so that slow or many clients cannot use up memory and files."""
KEEPALIVE_S = 30.0
"""How long a connection may take for its first request's head, or stay silent between two requests."""
BACKLOG = 128


class MalformedRequestFilter(logging.Filter):
    """Replaces aiohttp's traceback for bytes that are not HTTP by one line: clients can send those at any rate."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether aiohttp's own record is written."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError | web.RequestPayloadError):
            return True
        log.info("refused a request that is not valid HTTP (%s); nothing was changed", type(error).__name__)
        return False


http_log = logging.getLogger("aiohttp.server")
MALFORMED_REQUEST_FILTER = MalformedRequestFilter()


class Listener:
    """Listens on one address, and hands accepted connections to aiohttp's server."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        http_log.addFilter(MALFORMED_REQUEST_FILTER)
        self._socket: socket.socket | None = None
        self._acceptor: asyncio.Server | None = None

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> tuple[str, int]:
        """Bind the address and accept connections; returns the host and port that are bound.

        Raises:
            OSError: the port is taken, or may not be used.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = found[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
        self._socket = listening
        await self.replace_tls(tls)
        bound = listening.getsockname()
        return str(bound[0]), int(bound[1])

    async def replace_tls(self, tls: ssl.SSLContext | None) -> None:
        """Accept new connections with this TLS, or with none; established ones keep theirs, and none is refused.

        The old and the new acceptor take connections from copies of the same socket: while one replaces the other, new
        connections wait in the socket's backlog.
        """
        if self._socket is None:
            return
        acceptor = await asyncio.get_running_loop().create_server(self._protocol, sock=self._socket.dup(), ssl=tls)
        if self._acceptor is not None:
            self._acceptor.close()
        self._acceptor = acceptor

    def _protocol(self) -> asyncio.Protocol:
        if len(self._server.connections) >= CONNECTIONS_LIMIT:
            return _Abort()
        return cast("asyncio.Protocol", self._server())

    def close(self) -> None:
        """Stop listening; established connections are not touched."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Abort(asyncio.Protocol):
    """Closes its connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Abort the connection."""
        cast("asyncio.Transport", transport).abort()
