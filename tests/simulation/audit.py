"""Between Mayday and the simulated runtime: every call is shown to the oracle, and what came of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from exporter.errors import ConflictError, MissingError, RejectedError, RuntimeFailure, UnreachableError
from tests.simulation.truth import REQUESTED, VPN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.core.model import Container
    from exporter.core.spec import EngineSpec
    from exporter.runtime.simulated import SimulatedRuntime
    from exporter.runtime.simulated_stream import SimulatedStream
    from tests.simulation.oracle import Oracle
    from tests.simulation.watch import Life

T = TypeVar("T")


class Snare:
    """Springs after so many steps of Mayday, to kill it between any two of them."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.sprung = asyncio.Event()

    def set(self, steps: int) -> None:
        self.left = steps
        self.sprung.clear()

    def step(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                self.left = None
                self.sprung.set()


class AuditedRuntime:
    """The simulated runtime for one life of Mayday."""

    def __init__(self, runtime: SimulatedRuntime, oracle: Oracle, snare: Snare) -> None:
        self._runtime = runtime
        self._oracle = oracle
        self._snare = snare
        self.life: Life | None = None
        """Whose calls these are; none once it is dead."""

    async def containers(self) -> list[Container]:
        asked_at, life = self._oracle.clock.age(), self.life
        listing = await self._read("list", self._runtime.containers())
        if life is not None:
            life.read = True
            if life.lost_at is not None and asked_at >= life.lost_at:
                life.lost_at = None
        return listing

    async def inspect(self, ref: str) -> Container | None:
        self._oracle.uninspected.add(ref)
        found = await self._read(f"inspect {ref[:12]}", self._runtime.inspect(ref))
        self._oracle.uninspected.discard(ref)
        return found

    async def blueprint(self, container_id: str) -> EngineSpec:
        return await self._count(self._runtime.blueprint(container_id))

    async def create(self, spec: EngineSpec) -> str:
        oracle, life = self._oracle, self._living()
        oracle.before_create(spec)
        vpn = oracle.truth.ids.get(spec.network, spec.labels.get(VPN, ""))
        life.making[spec.name] = vpn, oracle.episode[vpn]
        undone_since = life.undo.pop(spec.name, None)
        automatic = spec.labels.get(REQUESTED) != "true"
        life.under_way[vpn] += automatic
        try:
            made = await self._change(lambda: self._runtime.create(spec))
        except UnreachableError:
            life.undo[spec.name] = oracle.clock.age()
            raise
        except (ConflictError, MissingError, RejectedError):
            # Nothing was made; what has that name is somebody else's, or was to be undone before.
            del life.making[spec.name]
            if undone_since is not None:
                life.undo[spec.name] = undone_since
            raise
        except asyncio.CancelledError:
            oracle.beyond += 1
            raise
        else:
            life.made.add(spec.name)
            return made
        finally:
            life.under_way[vpn] -= automatic

    async def start(self, container_id: str) -> None:
        oracle, life = self._oracle, self._living()
        box = oracle.host.boxes.get(container_id)
        vpn = oracle.truth.vpn_of(box) if box else None
        phase, _ = oracle.before_change("start", vpn)
        oracle.require(box is None or phase == "healthy", f"start on {vpn} in phase {phase} (invariant 1)")
        name = box.name if box else ""
        try:
            await self._change(lambda: self._runtime.start(container_id))
        except RuntimeFailure:
            life.undo.setdefault(name, oracle.clock.age())
            raise
        of, episode = life.making.get(name, ("", 0))
        if episode == oracle.episode[of]:
            life.making.pop(name, None)

    async def rename(self, container_id: str, name: str) -> None:
        await self._change(lambda: self._runtime.rename(container_id, name))

    async def stop(self, container_id: str, grace_s: int | None) -> None:
        self._oracle.before_stop(container_id)
        await self._change(lambda: self._runtime.stop(container_id, grace_s))

    async def restart(self, container_id: str, grace_s: int) -> None:
        self._oracle.before_restart(container_id)
        await self._change(lambda: self._runtime.restart(container_id, grace_s))

    async def remove(self, container_id: str, *, volumes: bool = False) -> None:
        self._oracle.before_remove(container_id)
        await self._change(lambda: self._runtime.remove(container_id, volumes=volumes))

    async def events(self) -> SimulatedStream:
        return await self._count(self._runtime.events())

    async def close(self) -> None:
        await self._runtime.close()

    def _living(self) -> Life:
        """The life that calls; the dead make no calls."""
        if self.life is None or self.life.dead:
            raise asyncio.CancelledError
        return self.life

    async def _read(self, what: str, call: Awaitable[T]) -> T:
        began = self._oracle.clock.age()
        try:
            return await self._count(call)
        except UnreachableError:
            # Of several questions that were asked together the first without an answer tells it. One container that
            # Docker tells nothing of is no Docker that is lost.
            lost = what == "list" or not self._oracle.host.up
            if lost and self.life is not None and began >= self.life.last_loss:
                self.life.lost_at = self.life.last_loss = self._oracle.clock.age()
                self._oracle.tell(f"{what} got no answer")
            raise

    async def _count(self, call: Awaitable[T]) -> T:
        self._living()
        self._oracle.calls += 1
        self._snare.step()
        return await call

    async def _change(self, call: Callable[[], Awaitable[T]]) -> T:
        self._living()
        self._oracle.changes += 1
        try:
            return await self._count(call())
        finally:
            self._snare.step()
            self._oracle.count()
