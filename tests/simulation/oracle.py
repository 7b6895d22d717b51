"""What must hold, checked from outside: by what Mayday shows, what it calls, and what the simulated host knows.

Nothing of the program's rules is used here; each rule is stated anew, in the words of the contract.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from exporter.core.model import Container, ContainerState
from exporter.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.app import App
    from exporter.runtime.base import EngineSpec
    from exporter.runtime.simulated import SimulatedRuntime, SimulatedStream
    from exporter.runtime.simulated_host import Box, SimulatedHost

T = TypeVar("T")

LOOKS_EVERY_S = 1.0
"""How late the oracle may notice a phase, seconds."""
MANAGED = "orchestrator.managed"
VPN = "acestream.vpn_container"


class ViolationError(AssertionError):
    """An invariant does not hold."""


@dataclass
class Oracle:
    """Watches one fleet through all lives of Mayday."""

    host: SimulatedHost
    vpns: tuple[str, ...]
    maximum: int
    stabilization_s: float
    story: list[str] = field(default_factory=list)
    """What happened, for people."""
    app: App | None = None
    calls: int = 0
    changes: int = 0
    """Calls that change a container."""
    doubtful: set[str] = field(default_factory=set)
    """Names of engines whose creation is not finished, or got no answer: they may be undone at any time."""
    phases: dict[str, str] = field(default_factory=dict)
    left_failed: dict[str, float] = field(default_factory=dict)
    violation: ViolationError | None = None

    def tell(self, text: str) -> None:
        """Add to the story."""
        self.story.append(f"{self.host.clock.mono():12.3f}  {text}")

    def require(self, holds: bool, claim: str) -> None:  # noqa: FBT001
        """Stop if a claim is false. A job catches what is raised in it, so the violation is kept as well."""
        if not holds:
            self.tell(f"VIOLATED: {claim}")
            self.violation = self.violation or ViolationError(claim)
            raise self.violation

    def engines(self, vpn: str | None = None) -> list[Box]:
        """The engines on the host, by their labels."""
        return [b for b in self.host.boxes.values() if MANAGED in b.labels and vpn in {None, b.labels.get(VPN)}]

    def look(self) -> None:
        """Follow the phases: a VPN that failed is healthy again only after its stabilization."""
        if self.app is None:
            return
        now = self.host.clock.mono()
        for name, vpn in self.app.controller.snapshot.state.vpns.items():
            before, after = self.phases.get(name), str(vpn.phase)
            if before == after:
                continue
            self.tell(f"{name}: {before} -> {after} ({vpn.reason}), mode {self.app.controller.snapshot.state.mode}")
            if before == "failed":
                self.require(after == "stabilizing", f"{name} went from failed to {after}")
                self.left_failed[name] = now
            if before == "stabilizing" and after == "healthy":
                lasted = now - self.left_failed.get(name, -1e9)
                self.require(
                    lasted >= self.stabilization_s - LOOKS_EVERY_S, f"{name} stabilized for only {lasted:.1f} s"
                )
            self.phases[name] = after

    # --- before each call that changes something ---------------------------------------------------------------------

    def before_change(self, operation: str, vpn: str | None) -> tuple[str, str]:
        """What holds for every such call; returns the phase of the VPN and the mode, as Mayday shows them."""
        assert self.app is not None
        self.look()
        snapshot = self.app.controller.snapshot
        self.require(snapshot.docker_up, f"{operation} while Docker was unreachable (invariant 5)")
        self.require(not snapshot.closing, f"{operation} after the end had begun (invariant 7)")
        phase = str(snapshot.state.vpns[vpn].phase) if vpn is not None and vpn in snapshot.state.vpns else "none"
        return phase, str(snapshot.state.mode)

    def before_create(self, spec: EngineSpec) -> None:
        """Invariants 1 and 6."""
        vpn = spec.labels.get(VPN)
        phase, mode = self.before_change("create", vpn)
        self.tell(f"create {spec.name} on {vpn} ({phase}, {mode})")
        self.require(phase == "healthy", f"creation on {vpn} in phase {phase} (invariant 1)")
        self.require(mode != "outage", "creation in an outage")

    def before_remove(self, container_id: str) -> None:
        """Invariants 3 and 4."""
        box = self.host.boxes.get(container_id)
        if box is None:
            return
        vpn = box.labels.get(VPN)
        phase, mode = self.before_change("remove", vpn)
        works = self.host.answers(box.id)
        self.tell(f"remove {box.name} on {vpn} ({phase}, {mode}, {'works' if works else 'does not work'})")
        self.require(MANAGED in box.labels, f"removal of {box.name}, which is no engine")
        if box.name in self.doubtful:
            return
        if phase != "failed":
            self.require(not works, f"a working engine was removed from {vpn} in phase {phase} (invariant 3)")
        self.require(mode != "outage", f"{box.name} was removed in an outage (invariant 4)")
        if phase == "failed":
            self.require(mode == "emergency", f"{box.name} was removed from a failed VPN in mode {mode}")

    def before_restart(self, container_id: str) -> None:
        """A restart cuts streams: only engines without a network are restarted."""
        box = self.host.boxes.get(container_id)
        if box is None:
            return
        phase, mode = self.before_change("restart", box.labels.get(VPN))
        connected = self.host.connected(box)
        self.tell(f"restart {box.name} on {box.labels.get(VPN)} ({phase}, {mode}, connected {connected})")
        self.require(phase == "healthy", f"repair on a VPN in phase {phase}")

    def after_change(self) -> None:
        """The total stays within its bound, whoever created what."""
        total = len(self.engines())
        self.require(total <= self.maximum, f"{total} engines, the limit is {self.maximum} (invariant 6)")


class AuditedRuntime:
    """The simulated runtime, with every call shown to the oracle first."""

    def __init__(self, runtime: SimulatedRuntime, oracle: Oracle) -> None:
        self._runtime = runtime
        self._oracle = oracle

    async def containers(self) -> list[Container]:
        return await self._count(self._runtime.containers())

    async def inspect(self, ref: str) -> Container | None:
        return await self._count(self._runtime.inspect(ref))

    async def blueprint(self, container_id: str) -> EngineSpec:
        return await self._count(self._runtime.blueprint(container_id))

    async def create(self, spec: EngineSpec) -> str:
        self._oracle.before_create(spec)
        self._oracle.doubtful.add(spec.name)
        return await self._change(lambda: self._runtime.create(spec), spec.name)

    async def start(self, container_id: str) -> None:
        box = self._oracle.host.boxes.get(container_id)
        vpn = box.labels.get(VPN) if box else None
        self._oracle.before_change("start", vpn)
        await self._change(lambda: self._runtime.start(container_id), box.name if box else "")
        app = self._oracle.app
        if box is not None and app is not None and str(app.controller.state.vpns[str(vpn)].phase) == "healthy":
            self._oracle.doubtful.discard(box.name)

    async def stop(self, container_id: str, grace_s: int) -> None:
        self._oracle.before_remove(container_id)
        await self._change(lambda: self._runtime.stop(container_id, grace_s), "")

    async def restart(self, container_id: str, grace_s: int) -> None:
        self._oracle.before_restart(container_id)
        await self._change(lambda: self._runtime.restart(container_id, grace_s), "")

    async def remove(self, container_id: str) -> None:
        self._oracle.before_remove(container_id)
        await self._change(lambda: self._runtime.remove(container_id), "")

    async def events(self) -> SimulatedStream:
        return await self._count(self._runtime.events())

    async def close(self) -> None:
        await self._runtime.close()

    async def _count(self, call: Awaitable[T]) -> T:
        self._oracle.calls += 1
        return await call

    async def _change(self, call: Callable[[], Awaitable[T]], name: str) -> T:
        self._oracle.changes += 1
        try:
            return await self._count(call())
        except UnreachableError:
            self._oracle.doubtful.add(name)
            raise
        finally:
            self._oracle.after_change()


def running(box: Box) -> bool:
    """Whether a container runs."""
    return box.state is ContainerState.RUNNING
