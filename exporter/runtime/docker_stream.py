"""One connection to Docker's event stream, read by a thread of its own. The client it is given is the SDK's."""

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
    from collections.abc import AsyncIterator, Callable

    from exporter.runtime.base import ContainerEvent

log = logging.getLogger("mayday")

EVENTS = ("start", "die", "stop", "destroy", "create", "rename", "pause", "unpause", "restart", "health_status")
"""Asked for by name: without a filter every health probe of every container would send three. `health_status` without
its colon makes Docker take all of these as beginnings of names; none of them begins another action."""
EVENT_BACKLOG = 10_000
"""Events that may wait for their consumer. A daemon sends some hundreds a second at most."""
KEEPALIVE_S = 30
"""A TCP connection that is silent for so long is probed, and given up after three probes of a third of it."""


class DockerEventStream:
    """One connection to `GET /events`. Events wait here from `open` on, whether or not anybody iterates yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_close: Callable[[DockerEventStream], None]) -> None:
        self._loop = loop
        self._on_close = on_close
        self._queue: asyncio.Queue[ContainerEvent | None] = asyncio.Queue()
        self._lock = threading.Lock()  # guards the two below: `open` runs in a thread, and `close` may overtake it
        self._socket: Any = None
        self._closed = False

    def open(self, client: Any) -> None:
        """Connect, in a thread of the caller's; raises what the SDK raises. The client is closed at the end."""
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
            for body in client._stream_helper(response, decode=True):  # noqa: SLF001
                event = wire.event(body)
                if event is not None:
                    self._loop.call_soon_threadsafe(self._deliver, event)
        except Exception as error:  # noqa: BLE001 - however a stream ends, it has ended
            log.debug("the event stream ended: %r", error)
        # Closed here and not by whoever calls `close`: closing waits for a read that is under way.
        with suppress(Exception):
            response.close()
            client.close()
        with suppress(RuntimeError):  # the event loop ended first
            self._loop.call_soon_threadsafe(self._queue.put_nowait, None)

    def _deliver(self, event: ContainerEvent) -> None:
        if self._queue.qsize() >= EVENT_BACKLOG:
            # Nobody reads: what is lost here is found by the re-reading that follows the end of a stream.
            self._shut()
        elif not self._closed:
            self._queue.put_nowait(event)

    async def __aiter__(self) -> AsyncIterator[ContainerEvent]:
        """Events until the connection is gone."""
        while not self._closed:
            event = await self._queue.get()
            if event is None:
                self._queue.put_nowait(None)  # for whoever iterates again
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
    """The answer, with its status checked and its body unread.

    The SDK's own `events` looks at the status only when the first event is asked for, and waits for the answer without
    a limit; here the client's time-out holds until the stream stands.
    """
    filters = json.dumps({"type": ["container"], "event": list(EVENTS)})
    response = client._get(client._url("/events"), params={"filters": filters}, stream=True)  # noqa: SLF001
    client._raise_for_status(response)  # noqa: SLF001
    if not response.raw.chunked:
        response.close()
        raise ValueError("the answer is no stream; a proxy in between holds events back")
    return response


def _socket_of(client: Any, response: Any) -> Any:
    found = client._get_raw_response_socket(response)  # noqa: SLF001
    return getattr(found, "_sock", found)


def _keep_alive(connection: Any) -> None:
    """Let the kernel notice a peer that vanished without a word."""
    if getattr(connection, "family", None) not in {socket.AF_INET, socket.AF_INET6}:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", KEEPALIVE_S), ("TCP_KEEPINTVL", KEEPALIVE_S // 3), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
