"""One connection to the simulated event stream, and what becomes of events on their way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exporter.runtime.base import ContainerEvent
    from exporter.runtime.simulated import SimulatedRuntime


class SimulatedStream:
    """One connection to the event stream."""

    def __init__(self, runtime: SimulatedRuntime) -> None:
        self._runtime = runtime
        self._queue: asyncio.Queue[ContainerEvent | None] = asyncio.Queue()
        self._ended = False
        self._sent = self._newest = 0

    def deliver(self, event: ContainerEvent) -> None:
        """Hand an event over, unless fate is against it."""
        faults, rng, happened = self._runtime.faults, self._runtime.host.rng, self._runtime.happened
        if self._ended:
            return
        if faults.deaf:
            happened["event: not told by a half-open stream"] += 1
            return
        if rng.random() < faults.lost_events:
            happened["event: lost"] += 1
            return
        self._sent += 1
        copies = 2 if rng.random() < faults.repeated_events else 1
        happened["event: repeated"] += copies - 1
        for _ in range(copies):
            if faults.delayed_events_s:
                happened["event: late"] += 1
                delay = rng.uniform(0, faults.delayed_events_s)
                asyncio.get_running_loop().call_later(delay, self._put, event, self._sent)
            else:
                self._put(event, self._sent)

    def _put(self, event: ContainerEvent, number: int) -> None:
        if number < self._newest:
            self._runtime.happened["event: overtaken by a later one"] += 1
        self._newest = max(self._newest, number)
        self._queue.put_nowait(event)

    def cut(self) -> None:
        """The connection is gone."""
        if not self._ended:
            self._ended = True
            self._runtime.forget_stream(self)
            self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[ContainerEvent]:
        """Events until the connection is gone."""
        while (event := await self._queue.get()) is not None:
            yield event

    async def close(self) -> None:
        """Drop the connection."""
        self.cut()
