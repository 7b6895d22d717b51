"""The simulated host as a container runtime: latencies of a real engine, and faults on demand."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn, TypeVar

from exporter.core.model import ContainerState
from exporter.errors import ConflictError, MissingError, RejectedError, RuntimeFailure, UnreachableError
from exporter.runtime.base import CallResult, Operation
from exporter.runtime.simulated_box import Trouble
from exporter.runtime.simulated_stream import SimulatedStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.core.model import Container
    from exporter.core.spec import EngineSpec
    from exporter.runtime.base import OnRequest
    from exporter.runtime.simulated_host import Box, SimulatedHost

T = TypeVar("T")

LATENCY_S = {
    "list": 0.005,
    "inspect": 0.003,
    "create": 0.06,
    "start": 0.12,
    "stop": 0.1,
    "restart": 0.2,
    "remove": 0.1,
    "rename": 0.01,
    "events": 0.002,
}
"""About what one call takes on Docker Engine 20.10 on two cores, seconds."""
OWN_GRACE_S = 10.0
"""The stop timeout of a container that was given none."""
AT_ONCE = 4
"""Calls that change something and are carried out at the same time; the daemon saturates at a few."""


@dataclass(slots=True)
class Faults:
    """What goes wrong, each as a probability from 0 to 1, or a switch."""

    unanswered: float = 0.0
    """A call gets no answer and has no effect."""
    late: float = 0.0
    """A call gets no answer in time, and takes effect after the caller has given up."""
    refused: float = 0.0
    """A call that changes something is answered with an error."""
    misread: float = 0.0
    """A call that reads is answered with an error."""
    lost_events: float = 0.0
    repeated_events: float = 0.0
    delayed_events_s: float = 0.0
    """Events come up to so many seconds late, and so out of order."""
    deaf: bool = False
    """Streams stand and deliver nothing: half open."""
    image_missing: bool = False
    slow: float = 1.0
    """Factor on every latency."""
    refuses: frozenset[str] = frozenset()
    """Operations that are always answered with an error."""
    ignores: frozenset[str] = frozenset()
    """Operations that never get an answer, and have no effect."""


@dataclass(slots=True)
class Effect:
    """One call that changed something, for tests that check what was done: when, what, to which container."""

    mono: float
    operation: str
    name: str
    vpn: str | None
    begun: float
    """When the caller issued it, monotonic seconds."""


class SimulatedRuntime:
    """A container runtime over a simulated host."""

    def __init__(
        self,
        host: SimulatedHost,
        *,
        timeout_s: float = 10.0,
        on_request: OnRequest = lambda _operation, _result, _seconds: None,
        on_effect: Callable[[Effect], None] = lambda _effect: None,
        before_effect: Callable[[str, Box, float], None] = lambda _operation, _box, _begun: None,
    ) -> None:
        """`before_effect` is told of an operation on a container, and when it was asked for, right before it acts."""
        self.host = host
        self.faults = Faults()
        self.happened: Counter[str] = Counter()
        """How often each fault has really struck."""
        self._timeout_s = timeout_s
        self._on_request = on_request
        self._on_effect = on_effect
        self._before_effect = before_effect
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._calls: set[asyncio.Task[object]] = set()
        self._streams: list[SimulatedStream] = []

    async def containers(self) -> list[Container]:
        """All containers, as a list call shows them."""
        host = self.host
        return await self._call("list", lambda: [host.shown(box, inspected=False) for box in host.boxes.values()])

    async def inspect(self, ref: str) -> Container | None:
        """One container, whole."""
        try:
            return await self._call("inspect", lambda: self.host.shown(self.host.find(ref), inspected=True), about=ref)
        except MissingError:
            return None

    async def create(self, spec: EngineSpec) -> str:
        """Create a container."""

        def create() -> str:
            if self.faults.image_missing:
                self.happened["call: the image is missing"] += 1
                raise MissingError(f"No such image: {spec.image}", image=True)
            return self.host.create(spec).id

        return await self._call("create", create, spec.name)

    async def start(self, container_id: str) -> None:
        """Start a container."""
        await self._call("start", lambda: self.host.start(self.host.find(container_id)), container_id)

    async def stop(self, container_id: str, grace_s: int | None) -> None:
        """Stop a container."""
        seconds = OWN_GRACE_S if grace_s is None else grace_s
        await self._call("stop", lambda: self.host.stop(self.host.find(container_id)), container_id, seconds)

    async def restart(self, container_id: str, grace_s: int) -> None:
        """Restart a container."""
        await self._call("restart", lambda: self.host.restart(self.host.find(container_id)), container_id, grace_s)

    async def remove(self, container_id: str, *, volumes: bool = False) -> None:  # noqa: ARG002 - there are none
        """Remove a container."""
        await self._call("remove", lambda: self.host.remove(self.host.find(container_id)), container_id)

    async def rename(self, container_id: str, name: str) -> None:
        """Rename a container."""
        await self._call("rename", lambda: self.host.rename(self.host.find(container_id), name), container_id)

    async def blueprint(self, container_id: str) -> EngineSpec:
        """A container's own configuration."""

        def read() -> EngineSpec:
            box = self.host.find(container_id)
            if box.spec is None:
                raise RejectedError(f"{box.name} is no engine")
            return replace(box.spec, name=box.name, labels=box.labels)

        return await self._call("inspect", read, about=container_id)

    async def events(self) -> SimulatedStream:
        """Open the event stream."""
        return await self._call("events", self._open_stream)

    def _open_stream(self) -> SimulatedStream:
        stream = SimulatedStream(self)
        self._streams.append(stream)
        self.host.listeners.append(stream.deliver)
        return stream

    async def close(self) -> None:
        """End the streams. Calls under way go on without us, as they would on a real engine."""
        for stream in list(self._streams):
            await stream.close()

    def forget_stream(self, stream: SimulatedStream) -> None:
        """A stream has ended."""
        if stream in self._streams:
            self._streams.remove(stream)
            self.host.listeners.remove(stream.deliver)

    def daemon_down(self) -> None:
        """The daemon stops answering; its containers run on, as with live-restore."""
        self.host.up = False
        for stream in list(self._streams):
            stream.cut()

    def daemon_up(self) -> None:
        """It answers again."""
        self.host.up = True

    # --- how a call is made ------------------------------------------------------------------------------------------

    async def _call(
        self,
        operation: str,
        effect: Callable[[], T],
        target: str | None = None,
        grace_s: float = 0.0,
        *,
        about: str | None = None,
    ) -> T:
        """Make a call: `target` is what it changes, `about` what it reads; None: no container in particular."""
        began = self.host.clock.mono()
        # A caller that gives up does not take the call back: it is the daemon's, once it was sent.
        carried_out = self._carry_out(operation, effect, target, grace_s, began, about)
        task = asyncio.get_running_loop().create_task(carried_out)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        result = CallResult.OK
        try:
            return await asyncio.shield(task)
        except RuntimeFailure as error:
            result = CallResult.of(error)
            raise
        finally:
            self._on_request(Operation(operation), result, self.host.clock.mono() - began)

    async def _carry_out(
        self,
        operation: str,
        effect: Callable[[], T],
        target: str | None,
        grace_s: float,
        began: float,
        about: str | None,
    ) -> T:
        faults, rng = self.faults, self.host.rng
        seconds = LATENCY_S[operation] * faults.slow * rng.uniform(0.7, 1.5)
        if not self.host.up:
            self.happened["call: the daemon is away"] += 1
            await asyncio.sleep(0.001)
            raise UnreachableError(f"{operation}: the daemon gives no answer")
        if faults.slow > 1:
            self.happened["call: slow"] += 1
        if rng.random() < faults.unanswered or operation in faults.ignores:
            self.happened["call: unanswered"] += 1
            await self._no_answer(operation)
        await self._trouble(operation, target or about)
        if target is None:
            await asyncio.sleep(seconds)
            if rng.random() < faults.misread or operation in faults.refuses:
                self.happened["call: a reading is answered with an error"] += 1
                raise RejectedError(f"{operation}: Docker answered 500: a fault was asked for")
            return self._finish(operation, effect, None, began)
        if rng.random() < faults.late:
            asyncio.get_running_loop().call_later(
                self._timeout_s * rng.uniform(0.5, 2.0), self._finish_late, operation, effect, target, began
            )
            await self._no_answer(operation)
        async with self._gate:
            await asyncio.sleep(seconds + self._farewell(target, grace_s))
        if rng.random() < faults.refused or operation in faults.refuses:
            self.happened["call: refused"] += 1
            raise RejectedError(f"{operation}: Docker answered 500: a fault was asked for")
        return self._finish(operation, effect, target, began)

    async def _no_answer(self, operation: str) -> NoReturn:
        await asyncio.sleep(self._timeout_s)
        raise UnreachableError(f"{operation}: no answer within {self._timeout_s:g} s")

    async def _trouble(self, operation: str, ref: str | None) -> None:
        """What is wrong with this one container."""
        try:
            box = self.host.find(ref or "")
        except MissingError:
            return
        trouble = box.troubles.get(operation)
        if trouble is None:
            return
        self.happened[f"call: {operation} of one container {trouble}"] += 1
        if trouble is Trouble.HANGS:
            await self._no_answer(f"{operation} {box.name}")
        await asyncio.sleep(LATENCY_S[operation])
        if trouble is Trouble.CONFLICT:
            raise ConflictError(f"{operation} {box.name}: Docker answered 409: it is already in progress")
        raise RejectedError(f"{operation} {box.name}: Docker answered 500: device or resource busy")

    def _farewell(self, target: str, grace_s: float) -> float:
        box = self.host.boxes.get(target)
        running = box is not None and box.state is ContainerState.RUNNING
        return grace_s if box is not None and running and box.stubborn else 0.0

    def _finish(self, operation: str, effect: Callable[[], T], target: str | None, began: float) -> T:
        if not self.host.up:
            self.happened["call: the daemon went away under it"] += 1
            raise UnreachableError(f"{operation}: the daemon went away")
        box = self.host.boxes.get(target) if target else None
        vpn = box.labels.get("acestream.vpn_container") if box else None
        if box is not None:
            self._before_effect(operation, box, began)
        result = effect()
        if target is not None:
            if box is None and isinstance(result, str):
                vpn = self.host.boxes[result].labels.get("acestream.vpn_container")
            name = box.name if box else target
            self._on_effect(Effect(self.host.clock.mono(), operation, name, vpn, began))
        return result

    def _finish_late(self, operation: str, effect: Callable[[], object], target: str, began: float) -> None:
        try:
            self._finish(operation, effect, target, began)
        except RuntimeFailure:
            return
        self.happened["call: took effect after the caller had given up"] += 1
