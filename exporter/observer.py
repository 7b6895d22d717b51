"""Gathers facts: follows Docker's event stream, re-reads after every gap, audits slowly, polls without a stream.

An event is a hint to read again. The one event that is a fact by itself is `destroy`: Docker never gives an id twice.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from exporter.core.model import ContainerState
from exporter.errors import RuntimeFailure
from exporter.fleet.results import Inspected, Unreadable
from exporter.inspections import Inspections
from exporter.work import Work

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from exporter.controller import Controller
    from exporter.peers.host import Siblings
    from exporter.runtime.base import ContainerEvent, EventStream, Runtime

log = logging.getLogger("mayday")

T = TypeVar("T")

RECONNECT_FIRST_S = 0.1
RECONNECT_MOST_S = 5.0
EVENT_LATE_S = 1.0
"""How much later than a reading that shows a change its event may come."""
ENDING_SIGNALS = frozenset({"2", "3", "9", "15"})
"""The signals that end a container, as Docker's `kill` events number them: INT, QUIT, KILL, TERM."""
SLOW_S = 1.0
"""After so long without an answer to an inspection a list is asked for besides, seconds: it tells what has stopped."""
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
        self._inspections = Inspections(runtime, controller.clock)
        self._shown: str | None = None
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
        # What happened while there was no stream is found by reading everything now; events that come meanwhile wait
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
            if event.action == "kill" and event.labels.get("signal") in ENDING_SIGNALS:
                controller.vpn_told_to_stop(event.name)  # milliseconds before it dies: a shutdown, or compose
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
            if self._inspections.failing(name):
                self._relist_soon()  # its inspection may hang; what a list shows of it still counts
            return
        self._vpn_reading.add(name)
        try:
            while name in self._vpn_dirty:
                event_at = self._vpn_dirty.pop(name)
                asking = asyncio.get_running_loop().create_task(self._inspections.ask([name]))
                await asyncio.wait({asking}, timeout=0 if self._inspections.failing(name) else SLOW_S)
                if not asking.done():
                    self._relist_soon()
                for inspection in await asking:
                    self._controller.take_vpn(name, inspection.container, inspection.asked_at, event_at)
                if self._inspections.failing(name):
                    self._controller.vpn_unreadable(name)
                    await self.audit()  # is it that container, or Docker?
        finally:
            self._vpn_reading.discard(name)
            self._show_failing()
        if self._inspections.due(self._controller.facts.to_inspect()):
            self._relist_soon()

    def _show_failing(self) -> None:
        problem = self._inspections.problem
        if problem != self._shown:
            self._shown = problem
            self._controller.note(Unreadable(len(self._inspections)))
            self._controller.trouble("inspections", problem)

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

        A container that cannot be inspected is that container's own trouble.

        Raises:
            RuntimeFailure: there is no list; the controller knows.
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
                known = [name for name in controller.policy.vpns if name in found]
                asked = [name for name in names if name in found]
                inspected = await self._inspections.ask(asked if whole else self._inspections.due(asked))
                unreadable = [name for name in known if self._inspections.failing(name)]
                read = [(i.ref, i.container, i.asked_at) for i in inspected]
                changed = controller.take_all(listing, asked_at, read, unreadable)
                unclear = controller.facts.to_inspect()
                if asking := unclear if whole else self._inspections.due(unclear):
                    engines = await self._inspections.ask(asking)
                    controller.take(*(Inspected(i.ref, i.container, i.asked_at) for i in engines))
                self._inspections.keep({*known, *unclear})
                self._show_failing()
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
