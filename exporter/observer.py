"""Gathers facts: follows Docker's event stream, re-reads after every gap, audits slowly, polls without a stream.

An event is a hint to read again. The one event that is a fact by itself is `destroy`: Docker never gives an id twice.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from exporter.core.model import ContainerState
from exporter.errors import RuntimeFailure
from exporter.fleet.results import Inspected
from exporter.work import Work

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from typing import Any

    from exporter.controller import Controller
    from exporter.core.model import Container
    from exporter.peers.host import Siblings
    from exporter.runtime.base import ContainerEvent, EventStream, Runtime

log = logging.getLogger("mayday")

T = TypeVar("T")

RECONNECT_FIRST_S = 0.1
RECONNECT_MOST_S = 5.0
EVENT_LATE_S = 1.0
"""How much later than a reading that shows a change its event may come."""
RELIST_DELAY_S = 0.25
"""Engine events within this time lead to one list call: a fleet that is torn down makes hundreds of them."""


class Observer:
    """Reads from the runtime and gives what it read to the controller."""

    def __init__(self, controller: Controller, runtime: Runtime, siblings: Siblings) -> None:
        self._controller = controller
        self._runtime = runtime
        self._siblings = siblings
        self._audit_lock = asyncio.Lock()
        self._stream: EventStream | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._vpn_dirty: dict[str, float] = {}
        self._vpn_reading: set[str] = set()
        self._vpn_heard: dict[str, float] = {}
        """When an event last told of a VPN, monotonic seconds."""
        self._relist_due = False
        self._turn = 0

    @property
    def connected(self) -> bool:
        """Whether the event stream stands."""
        return self._stream is not None

    async def follow(self) -> None:
        """Follow the event stream for ever, reconnecting with a back-off."""
        delay = RECONNECT_FIRST_S
        while True:
            began = self._controller.clock.mono()
            try:
                await self._follow_once()
            except RuntimeFailure as error:
                log.debug("event stream: %s", error)
            finally:
                await self._disconnected()
            if self._controller.clock.mono() - began > RECONNECT_MOST_S:
                delay = RECONNECT_FIRST_S
            await asyncio.sleep(delay)
            delay = min(2 * delay, RECONNECT_MOST_S)

    async def _follow_once(self) -> None:
        stream = await self._runtime.events()
        self._stream = stream
        # Whatever happened while nobody listened is found by reading everything now; events that come meanwhile wait
        # in the stream.
        await self.audit(whole=True)
        self._controller.stream_connected(connected=True)
        async for event in stream:
            self._notice(event)

    async def _disconnected(self) -> None:
        stream, self._stream = self._stream, None
        self._controller.stream_connected(connected=False)
        if stream is not None:
            await stream.close()
        self._controller.request(Work.POLL, None, 0)

    def _notice(self, event: ContainerEvent) -> None:
        controller = self._controller
        if event.name in controller.policy.vpns:
            self._vpn_dirty[event.name] = event.at
            self._vpn_heard[event.name] = controller.clock.mono()
            self._spawn(self._read_vpn(event.name))
        elif controller.take_event(event):
            self._relist_soon()

    def _relist_soon(self) -> None:
        if not self._relist_due:
            self._relist_due = True
            self._spawn(self._relist())

    async def _relist(self) -> None:
        await asyncio.sleep(RELIST_DELAY_S)
        self._relist_due = False
        await self.audit()

    async def _read_vpn(self, name: str) -> None:
        """Read one VPN until no event came while it was being read."""
        if name in self._vpn_reading:
            return
        self._vpn_reading.add(name)
        try:
            while name in self._vpn_dirty:
                event_at = self._vpn_dirty.pop(name)
                asked_at = self._controller.clock.mono()
                container = await self._runtime.inspect(name)
                self._controller.take_vpn(name, container, asked_at, event_at)
        except RuntimeFailure as error:
            self._lost(error)
        finally:
            self._vpn_reading.discard(name)
        if self._controller.facts.to_inspect():
            self._relist_soon()

    def _lost(self, error: RuntimeFailure) -> None:
        """Nothing could be read. Whether Docker is away or answers with errors, what is known grows old from now on."""
        self._controller.docker_lost(error)
        self._controller.request(Work.POLL, None, 0)

    async def poll(self) -> float | None:
        """One reading of everything while the stream is down; seconds until the next, None once it stands."""
        if self.connected and self._controller.snapshot.docker_up:
            return None
        try:
            await self.audit(whole=True)
        except RuntimeFailure as error:
            log.debug("poll: %s", error)
        return self._controller.settings.poll_interval_s

    async def audit(self, *, whole: bool = False) -> None:
        """Read everything in one list call, and inspect where a list is not enough.

        With `whole` every VPN is inspected, otherwise one of them in turn: a health that no longer moves shows in an
        inspection only.

        Raises:
            RuntimeFailure: something could not be read; the controller knows if it was no answer at all.
        """
        async with self._audit_lock:
            controller = self._controller
            whole = whole or not controller.snapshot.docker_up
            try:
                asked_at = controller.clock.mono()
                listing = await self._runtime.containers()
                await self._siblings.look(listing)
                found = {container.name: container for container in listing}
                names = list(controller.policy.vpns)
                if not whole:
                    self._turn += 1
                    names = [
                        name
                        for index, name in enumerate(names)
                        if index == self._turn % len(names) or self._unknown_start(name, found.get(name) is not None)
                    ]
                inspected = await _all(self._inspect_vpn(name) for name in names if name in found)
                changed = controller.take_all(listing, asked_at, inspected)
                unclear = controller.facts.to_inspect()
                if unclear:
                    controller.take(*await _all(self._inspect_engine(ref) for ref in unclear))
            except RuntimeFailure as error:
                self._lost(error)
                raise
        # Of a VPN that is being read an event has told.
        untold = changed - self._vpn_reading
        if untold and self._stream is not None and not whole:
            self._spawn(self._expect_events(self._stream, untold, asked_at))

    async def _expect_events(self, stream: EventStream, names: set[str], since: float) -> None:
        """Open the stream anew if it does not tell, even a little late, of changes that a reading showed."""
        await asyncio.sleep(EVENT_LATE_S)
        missed = sorted(name for name in names if self._vpn_heard.get(name, -1.0) < since)
        if missed and self._stream is stream:
            log.warning("the event stream missed a change of %s and is opened anew", ", ".join(missed))
            await stream.close()

    def _unknown_start(self, name: str, exists: bool) -> bool:  # noqa: FBT001 - read once, right above
        known = self._controller.facts.vpn(name)
        if not exists:
            return False
        return known is None or (known.state is ContainerState.RUNNING and known.started_at is None)

    async def _inspect_vpn(self, name: str) -> tuple[str, Container | None, float]:
        asked_at = self._controller.clock.mono()
        return name, await self._runtime.inspect(name), asked_at

    async def _inspect_engine(self, container_id: str) -> Inspected:
        asked_at = self._controller.clock.mono()
        return Inspected(container_id, await self._runtime.inspect(container_id), asked_at)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except RuntimeFailure as error:
            log.warning("reading from Docker failed, the next audit tries again: %s", error)
        except Exception:
            log.exception("reading from Docker met an unexpected error, the next audit tries again")

    async def close(self) -> None:
        """End all reading."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._stream is not None:
            await self._stream.close()


async def _all(questions: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The answers to several questions; when one fails the others are given up, so that none fails unheard later."""
    tasks = [asyncio.get_running_loop().create_task(question) for question in questions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
