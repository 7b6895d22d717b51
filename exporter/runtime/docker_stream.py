"""One connection to Docker's event stream, read by a thread of its own through a client of the SDK.

The SDK's public `events` cannot be used: it checks the answer's status only when the first event is asked for, waits
for the answer without a limit, and gives no access to the socket, without which a pending read cannot be ended. So
private parts of the SDK are called here, all of them in `_connect`, `_bodies` and `_socket_of`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from exporter.runtime import docker_wire as wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from exporter.runtime.base import ContainerEvent

log = logging.getLogger("mayday")

EVENTS = ("start", "kill", "die", "stop", "destroy", "create", "rename", "pause", "unpause", "restart", "health_status")
"""Asked for by name: without a filter every health probe of every container would send three. `health_status` without
its colon makes Docker take all of these as beginnings of names; none of them begins another action."""
EVENT_BACKLOG = 10_000
"""Events that wait for their consumer at most. A daemon sends some hundreds a second."""
KEEPALIVE_S = 30
"""A TCP connection that is silent for so long is probed, and given up after three probes of a third of it."""


class DockerEventStream:
    """One connection to `GET /events`. Events are queued here from `open` on, before iteration begins."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_close: Callable[[DockerEventStream], None]) -> None:
        self._loop = loop
        self._on_close = on_close
        self._queue: asyncio.Queue[ContainerEvent | None] = asyncio.Queue()
        self._lock = threading.Lock()  # guards the two below: `open` runs in a thread, and `close` may overtake it
        self._socket: socket.socket | None = None
        self._closed = False

    def open(self, client: Any) -> None:
        """Connect; blocks, and raises what the SDK raises. The stream closes the client when it ends."""
        try:
            response = _connect(client)
            connection = _socket_of(client, response)
            connection.settimeout(None)
            _keep_alive(connection)
            with self._lock:
                if not self._closed:
                    self._socket = connection
                    threading.Thread(
                        target=self._read, args=(client, response), name="docker-events", daemon=True
                    ).start()
                    return
            response.close()
        except BaseException:
            client.close()
            raise
        client.close()

    def _read(self, client: Any, response: Any) -> None:
        try:
            for body in _bodies(client, response):
                event = wire.event(body)
                if event is not None:
                    self._loop.call_soon_threadsafe(self._deliver, event)
        except Exception as error:  # noqa: BLE001 - however a stream ends, it has ended
            log.debug("the event stream ended: %r", error)
        # Closed here and not in `close`: closing waits for a read that is under way.
        with suppress(Exception):
            response.close()
            client.close()
        with suppress(RuntimeError):  # the event loop ended first
            self._loop.call_soon_threadsafe(self._queue.put_nowait, None)

    def _deliver(self, event: ContainerEvent) -> None:
        if self._queue.qsize() >= EVENT_BACKLOG:
            # The consumer hangs: what is lost here is found by the reading that follows the end of a stream.
            self._shut()
        elif not self._closed:
            self._queue.put_nowait(event)

    async def __aiter__(self) -> AsyncIterator[ContainerEvent]:
        """Events until the connection is gone."""
        while not self._closed:
            event = await self._queue.get()
            if event is None:
                self._queue.put_nowait(None)  # for the next iteration
                return
            yield event

    async def close(self) -> None:
        """Drop the connection; the thread and a pending iteration end."""
        self._shut()
        self._on_close(self)

    def _shut(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            connection, self._socket = self._socket, None
        self._queue.put_nowait(None)
        if connection is not None:
            # It may be gone in many ways already; the reading thread closes what is left.
            with suppress(Exception):
                connection.shutdown(socket.SHUT_RDWR)


def _connect(client: Any) -> Any:
    """The answer, with its status checked and its body unread; the client's time-out holds until it is there."""
    filters = json.dumps({"type": ["container"], "event": list(EVENTS)})
    response = client._get(client._url("/events"), params={"filters": filters}, stream=True)  # noqa: SLF001
    client._raise_for_status(response)  # noqa: SLF001
    if not response.raw.chunked:
        response.close()
        raise ValueError("the answer is no stream: a proxy in between holds events back")
    return response


def _bodies(client: Any, response: Any) -> Iterator[dict[str, Any]]:
    bodies: Iterator[dict[str, Any]] = client._stream_helper(response, decode=True)  # noqa: SLF001
    return bodies


def _socket_of(client: Any, response: Any) -> socket.socket:
    found = client._get_raw_response_socket(response)  # noqa: SLF001
    connection: socket.socket = getattr(found, "_sock", found)  # over plain HTTP the SDK gives Python's wrapper
    return connection


def _keep_alive(connection: socket.socket) -> None:
    """Let the kernel notice a peer that is gone without having closed the connection."""
    if getattr(connection, "family", None) not in {socket.AF_INET, socket.AF_INET6}:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", KEEPALIVE_S), ("TCP_KEEPINTVL", KEEPALIVE_S // 3), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
