"""A Docker host in memory: containers, health checks, namespaces, events, as Docker Engine behaves.

Pure asyncio: all waiting is the event loop's, all time the clock's, all chance the given generator's, so that a seed in
virtual time gives the same history each time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.core.dependents import HTTP_PORT_LABEL, SIDECAR_LABEL, VPN_LABEL
from exporter.core.model import Container, ContainerHealth, ContainerState
from exporter.core.spec import EngineSpec
from exporter.errors import ConflictError, MissingError
from exporter.runtime.base import ContainerEvent

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping

    from exporter.clock import Clock

CRASH_BACKOFF_S = 1.0


@dataclass(slots=True)
class Box:
    """One simulated container."""

    id: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    spec: EngineSpec | None = None
    state: ContainerState = ContainerState.CREATED
    health: ContainerHealth = ContainerHealth.NONE
    created_at: float = 0.0
    started_at: float | None = None
    interval_s: float | None = None
    """Health check interval, None: no health check."""
    retries: int = 1
    truth: bool = True
    """Whether its health check would pass now."""
    namespace: int = 0
    """Number of the namespace it is in; a VPN gets a new one at each start."""
    restarts_itself: bool = False
    broken: bool = False
    """An engine whose HTTP API does not answer."""
    stubborn: bool = False
    """An engine that ignores SIGTERM."""
    epoch: int = 0
    """Counts starts and stops, so that a timer of an earlier run does nothing."""
    address: str | None = None
    watches: frozenset[str] = frozenset()
    """Where it is a Mayday: the VPNs that it acts on."""
    frozen: float | None = None
    """Docker's time at which its health checks ceased without an event, as after a restart with live-restore."""


class SimulatedHost:
    """The containers, and what a person or fate may do to them."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self.clock = clock
        self.rng = rng
        self.boxes: dict[str, Box] = {}
        self.listeners: list[Callable[[ContainerEvent], None]] = []
        self._namespaces = self._addresses = 0
        self.up = True
        """Whether the daemon answers."""

    # --- looking -----------------------------------------------------------------------------------------------------

    def find(self, ref: str) -> Box:
        """A container by id or name.

        Raises:
            MissingError: there is none.
        """
        box = self.boxes.get(ref) or next((box for box in self.boxes.values() if box.name == ref), None)
        if box is None:
            raise MissingError(f"No such container: {ref}")
        return box

    def docker_time(self) -> float:
        """Docker's clock: the wall clock of its host, Unix seconds."""
        return self.clock.wall().timestamp()

    def shown(self, box: Box, *, inspected: bool) -> Container:
        """A container as a list call, or an inspection, shows it."""
        now = self.docker_time()
        running = box.state is ContainerState.RUNNING
        probed_at = None
        if inspected and box.interval_s is not None and box.started_at is not None and running:
            until = now if box.frozen is None else box.frozen
            probed_at = box.started_at + (until - box.started_at) // box.interval_s * box.interval_s
        up_s = max(0.0, now - box.started_at) if box.started_at is not None and running else None
        return Container(
            id=box.id,
            name=box.name,
            state=box.state,
            health=box.health,
            labels=box.labels,
            network=box.network,
            created_at=box.created_at if inspected else float(int(box.created_at)),
            started_at=box.started_at if inspected else None,
            probed_at=probed_at,
            probe_period_s=2 * box.interval_s if inspected and box.interval_s is not None else None,
            uptime_at_most_s=None if inspected or up_s is None else up_s * 2 + 1,
            address=box.address,
            watches=box.watches if inspected else frozenset(),
        )

    def connected(self, box: Box) -> bool:
        """Whether an engine runs in a namespace that its VPN still has."""
        if box.state is not ContainerState.RUNNING or box.network is None:
            return False
        vpn = self.boxes.get(box.network)
        return vpn is not None and vpn.state is ContainerState.RUNNING and vpn.namespace == box.namespace

    def answers(self, ref: str) -> bool:
        """Whether an engine's HTTP API answers."""
        try:
            box = self.find(ref)
        except MissingError:
            return False
        return self.connected(box) and not box.broken

    # --- what API calls do -------------------------------------------------------------------------------------------

    def create(self, spec: EngineSpec) -> Box:
        """Create an engine's container."""
        if any(box.name == spec.name for box in self.boxes.values()):
            raise ConflictError(f"the name '{spec.name}' is in use")
        network = next((box.id for box in self.boxes.values() if spec.network in {box.id, box.name}), spec.network)
        box = Box(self._id(), spec.name, dict(spec.labels), network, spec, created_at=self.docker_time())
        self.boxes[box.id] = box
        self._emit(box, "create")
        return box

    def start(self, box: Box) -> None:
        """Start; joins the namespace that the VPN has now."""
        if box.state in {ContainerState.RUNNING, ContainerState.PAUSED}:
            return
        if box.network is not None:
            vpn = self.boxes.get(box.network)
            if vpn is None:
                raise MissingError(f"joining network namespace of container: No such container: {box.network}")
            if vpn.state not in {ContainerState.RUNNING, ContainerState.PAUSED}:
                raise ConflictError("cannot join network of a non running container")
            box.namespace = vpn.namespace
        else:
            self._namespaces += 1
            box.namespace = self._namespaces
        box.state, box.started_at, box.frozen = ContainerState.RUNNING, self.docker_time(), None
        box.epoch += 1
        self._emit(box, "start")
        if box.interval_s is not None:
            box.health = ContainerHealth.STARTING
            self._probe_later(box)

    def stop(self, box: Box) -> None:
        """Stop."""
        if box.state in {ContainerState.RUNNING, ContainerState.PAUSED}:
            self._emit(box, "kill")
            self._die(box)
            self._emit(box, "stop")

    def restart(self, box: Box) -> None:
        """Stop and start; where the start fails the container stays stopped."""
        self.stop(box)
        self.start(box)
        self._emit(box, "restart")

    def remove(self, box: Box) -> None:
        """Kill and remove."""
        if self.boxes.pop(box.id, None) is None:
            raise MissingError(f"No such container: {box.id}")
        if box.state in {ContainerState.RUNNING, ContainerState.PAUSED}:
            self._emit(box, "kill")
            self._die(box)
        self._emit(box, "destroy")

    # --- what a person or fate does ----------------------------------------------------------------------------------

    def add_vpn(self, name: str, *, interval_s: float | None = 5.0, retries: int = 3, healthy: bool = True) -> Box:
        """A VPN container, running and, as a rule, long since healthy."""
        box = Box(self._id(), name, created_at=self.docker_time(), interval_s=interval_s, retries=retries)
        self._addresses += 1
        box.address = f"192.0.2.{self._addresses % 254 + 1}"
        self.boxes[box.id] = box
        self.start(box)
        if healthy and interval_s is not None:
            box.health = ContainerHealth.HEALTHY
        return box

    def add_sidecar(self, name: str, watches: Iterable[str]) -> Box:
        """The container of a Mayday that acts on these VPNs, running."""
        labels = {SIDECAR_LABEL: "true"}
        box = Box(self._id(), name, labels, created_at=self.docker_time(), watches=frozenset(watches))
        self.boxes[box.id] = box
        self.start(box)
        return box

    def add_engine(self, vpn: str, port: int, name: str, labels: Mapping[str, str]) -> Box:
        """An engine, running."""
        own = {**labels, VPN_LABEL: vpn, HTTP_PORT_LABEL: str(port)}
        box = self.create(EngineSpec(name, "simulated", self.find(vpn).id, own))
        self.start(box)
        return box

    def set_truth(self, name: str, *, good: bool) -> None:
        """Let a VPN's health check pass or fail from now on."""
        box = self.find(name)
        if box.truth is not good:
            box.truth = good
            box.epoch += 1
            self._probe_later(box)

    def kill(self, name: str) -> None:
        """A container's process ends by itself."""
        box = self.find(name)
        if box.state in {ContainerState.RUNNING, ContainerState.PAUSED}:
            self._die(box)
            if box.restarts_itself:
                epoch = box.epoch
                asyncio.get_running_loop().call_later(CRASH_BACKOFF_S, self._start_again, box, epoch)

    def pause(self, name: str) -> None:
        """Freeze a container; its health is frozen too."""
        box = self.find(name)
        if box.state is ContainerState.RUNNING:
            box.state = ContainerState.PAUSED
            box.epoch += 1
            self._emit(box, "pause")

    def unpause(self, name: str) -> None:
        """Let it go on."""
        box = self.find(name)
        if box.state is ContainerState.PAUSED:
            box.state = ContainerState.RUNNING
            box.epoch += 1
            self._emit(box, "unpause")
            self._probe_later(box)

    def recreate(self, name: str) -> Box:
        """Remove a VPN and create another under its name."""
        old = self.find(name)
        self.remove(old)
        return self.add_vpn(name, interval_s=old.interval_s, retries=old.retries, healthy=False)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _start_again(self, box: Box, epoch: int) -> None:
        if box.id in self.boxes and box.epoch == epoch:
            try:
                self.start(box)
            except (MissingError, ConflictError):
                return

    def _die(self, box: Box) -> None:
        box.state = ContainerState.EXITED
        box.epoch += 1
        self._emit(box, "die")

    def _probe_later(self, box: Box) -> None:
        """The health check notices the truth after as many probes as it needs."""
        if box.interval_s is None or box.state is not ContainerState.RUNNING:
            return
        probes = 1 if box.truth else box.retries
        delay = box.interval_s * (probes - 1 + self.rng.random())
        asyncio.get_running_loop().call_later(delay, self._notice, box, box.epoch)

    def _notice(self, box: Box, epoch: int) -> None:
        if box.epoch != epoch or box.id not in self.boxes or box.frozen is not None:
            return
        health = ContainerHealth.HEALTHY if box.truth else ContainerHealth.UNHEALTHY
        if box.health is not health:
            box.health = health
            self._emit(box, f"health_status: {health}")

    def _emit(self, box: Box, action: str) -> None:
        event = ContainerEvent(box.id, box.name, action, {**box.labels, "name": box.name}, self.docker_time())
        for listener in list(self.listeners):
            listener(event)

    def _id(self) -> str:
        return f"{self.rng.getrandbits(256):064x}"
