"""The door: a listening socket whose TLS can be changed without closing it, and a bound on connections."""

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


class NoTraces(logging.Filter):
    """One line, instead of aiohttp's error with a trace, for what is no HTTP: anybody can send that, at any rate."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether aiohttp's own record is written."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError | web.RequestPayloadError):
            return True
        log.info("refused what is no HTTP: %s", type(error).__name__)
        return False


http_log = logging.getLogger("aiohttp.server")
NO_TRACES = NoTraces()


class Door:
    """Listens on one address, and hands connections to aiohttp's server."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        http_log.addFilter(NO_TRACES)
        self._socket: socket.socket | None = None
        self._listener: asyncio.Server | None = None

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None) -> tuple[str, int]:
        """Listen; returns host and port.

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
        await self.swap(tls)
        bound = listening.getsockname()
        return str(bound[0]), int(bound[1])

    async def swap(self, tls: ssl.SSLContext | None) -> None:
        """Answer new connections with this TLS, or none; those that stand go on with theirs. Nobody is turned away.

        Each listener accepts from a copy of the same socket: while they change places, connections wait in its queue.
        """
        if self._socket is None:
            return
        listener = await asyncio.get_running_loop().create_server(self._protocol, sock=self._socket.dup(), ssl=tls)
        if self._listener is not None:
            self._listener.close()
        self._listener = listener

    def _protocol(self) -> asyncio.Protocol:
        if len(self._server.connections) >= CONNECTIONS_LIMIT:
            return _Refusal()
        return cast("asyncio.Protocol", self._server())

    def close(self) -> None:
        """Stop listening; connections that stand are not touched."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Refusal(asyncio.Protocol):
    """Closes its connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give up."""
        cast("asyncio.Transport", transport).abort()
