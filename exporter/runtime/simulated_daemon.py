"""A Docker daemon in memory: what its API shows and does, its health checks, restart policies, and events.

Pure asyncio: all waiting is the event loop's, all time the clock's, all chance the given generator's, so that a seed in
virtual time gives the same history each time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exporter.core.model import Container, ContainerHealth, ContainerState
from exporter.errors import ConflictError, MissingError
from exporter.runtime.base import ContainerEvent
from exporter.runtime.simulated_box import ALIVE, Box

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from exporter.clock import Clock
    from exporter.core.spec import EngineSpec

BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.1, 60.0
"""Docker's pauses between restarts by policy: doubled each time, from the first on for one that ran long enough."""
RAN_LONG_S = 10.0
CRASHES_AFTER_S = 0.3


class SimulatedDaemon:
    """The containers of one host."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self.clock = clock
        self.rng = rng
        self.boxes: dict[str, Box] = {}
        self.listeners: list[Callable[[ContainerEvent], None]] = []
        self._namespaces = 0
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
            addresses=dict(box.addresses),
            watches=box.watches if inspected else frozenset(),
        )

    # --- what API calls do -------------------------------------------------------------------------------------------

    def create(self, spec: EngineSpec) -> Box:
        """Create an engine's container."""
        self._require_free(spec.name)
        network = next((box.id for box in self.boxes.values() if spec.network in {box.id, box.name}), spec.network)
        box = Box(self._id(), spec.name, dict(spec.labels), network, spec, created_at=self.docker_time())
        settings = spec.options.get("HostConfig")
        policy = settings.get("RestartPolicy") if isinstance(settings, dict) else None
        box.policy = policy["Name"] if policy else box.policy
        self.boxes[box.id] = box
        self._emit(box, "create")
        return box

    def start(self, box: Box) -> None:
        """Start; joins the namespace that the VPN has now."""
        if box.state in ALIVE or box.state is ContainerState.RESTARTING:
            return
        self._begin(box)

    def stop(self, box: Box) -> None:
        """Stop."""
        if box.state in ALIVE:
            self._emit(box, "kill", signal="15")
            self._die(box)
            self._emit(box, "stop")
        elif box.state is ContainerState.RESTARTING:
            box.state = ContainerState.EXITED
            box.epoch += 1
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
        if box.state in ALIVE:
            self._emit(box, "kill", signal="9")
            self._die(box)
        box.epoch += 1
        self._emit(box, "destroy")

    def rename(self, box: Box, name: str) -> None:
        """Give another name."""
        self._require_free(name)
        old, box.name = box.name, name
        self._emit(box, "rename", oldName=f"/{old}")

    # --- restart policies --------------------------------------------------------------------------------------------

    def crash(self, box: Box) -> None:
        """Its process ends by itself, and its restart policy is followed."""
        if box.state not in ALIVE:
            return
        ran_s = self.docker_time() - (box.started_at or 0.0)
        self._die(box)
        if box.policy == "no":
            return
        longer = min(BACKOFF_MOST_S, 2 * box.backoff_s)
        box.backoff_s = longer if box.backoff_s and ran_s < RAN_LONG_S else BACKOFF_FIRST_S
        box.state = ContainerState.RESTARTING
        asyncio.get_running_loop().call_later(box.backoff_s, self._start_again, box, box.epoch)

    def _start_again(self, box: Box, epoch: int) -> None:
        if box.id not in self.boxes or box.epoch != epoch:
            return
        try:
            self._begin(box)
        except (MissingError, ConflictError):
            box.state = ContainerState.EXITED

    def _crash_soon(self, box: Box, epoch: int) -> None:
        if box.id in self.boxes and box.epoch == epoch:
            self.crash(box)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _begin(self, box: Box) -> None:
        if box.network is not None:
            vpn = self.boxes.get(box.network)
            if vpn is None:
                raise MissingError(f"joining network namespace of container: No such container: {box.network}")
            if vpn.state not in ALIVE:
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
        if box.crashes:
            asyncio.get_running_loop().call_later(CRASHES_AFTER_S, self._crash_soon, box, box.epoch)

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

    def _emit(self, box: Box, action: str, **attributes: str) -> None:
        labels = {**attributes, **box.labels, "name": box.name}
        event = ContainerEvent(box.id, box.name, action, labels, self.docker_time())
        for listener in list(self.listeners):
            listener(event)

    def _require_free(self, name: str) -> None:
        if any(box.name == name for box in self.boxes.values()):
            raise ConflictError(f"the name '{name}' is in use")

    def _id(self) -> str:
        return f"{self.rng.getrandbits(256):064x}"
