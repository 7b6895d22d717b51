"""A Docker host in memory: its daemon, and what a person or fate may do to the containers, to Docker, and to the host.

What daemons of several versions do at a restart is measured: 20.10 leaves health as it was and probes no more, 25 and
later begin anew with `starting` (moby pull request 47051).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from exporter.core.dependents import HTTP_PORT_LABEL, MADE_LABEL, SIDECAR_LABEL, VPN_LABEL
from exporter.core.model import ContainerHealth, ContainerState
from exporter.core.spec import EngineSpec
from exporter.errors import ConflictError, MissingError
from exporter.runtime.simulated_box import ALIVE, Box, Trouble
from exporter.runtime.simulated_daemon import SimulatedDaemon

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping

    from exporter.clock import Clock

__all__ = ["Box", "SimulatedHost", "Trouble"]

DIES_AFTER_S = (0.035, 0.08)
"""How long after its SIGTERM a container dies when several are stopped at once, from and to."""


class SimulatedHost(SimulatedDaemon):
    """The containers, and what a person or fate may do to them."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        super().__init__(clock, rng)
        self._addresses = 0
        self.cut_off: set[str] = set()
        """VPNs to whose engines Mayday has no way, although they work: a network detached, a firewall."""

    # --- what is so --------------------------------------------------------------------------------------------------

    def connected(self, box: Box) -> bool:
        """Whether an engine runs in a namespace that its VPN still has."""
        if box.state is not ContainerState.RUNNING or box.network is None:
            return False
        vpn = self.boxes.get(box.network)
        return vpn is not None and vpn.state is ContainerState.RUNNING and vpn.namespace == box.namespace

    def answers(self, ref: str) -> bool:
        """Whether an engine's HTTP API answers Mayday."""
        try:
            box = self.find(ref)
        except MissingError:
            return False
        vpn = self.boxes.get(box.network or "")
        return self.connected(box) and not box.broken and vpn is not None and vpn.name not in self.cut_off

    # --- containers that are made ------------------------------------------------------------------------------------

    def add_vpn(self, name: str, *, interval_s: float | None = 5.0, retries: int = 3, healthy: bool = True) -> Box:
        """A VPN container, running and, as a rule, long since healthy."""
        box = Box(self._id(), name, created_at=self.docker_time(), interval_s=interval_s, retries=retries)
        self.connect(box, "bridge")
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

    def add_engine(self, vpn: str, port: int, name: str, labels: Mapping[str, str], *, own: bool = False) -> Box:
        """An engine, running; `own`: as if Mayday had made it, in an earlier life."""
        made = {MADE_LABEL: "true"} if own else {}
        return self.add_dependent(vpn, name, {**labels, **made, VPN_LABEL: vpn, HTTP_PORT_LABEL: str(port)})

    def add_dependent(self, vpn: str, name: str, labels: Mapping[str, str]) -> Box:
        """Any container in a VPN's network, running, with these labels and no other."""
        box = self.create(EngineSpec(name, "simulated", self.find(vpn).id, labels))
        self.start(box)
        return box

    def recreate(self, name: str) -> Box:
        """Remove a VPN and create another under its name."""
        old = self.find(name)
        self.remove(old)
        return self.add_vpn(name, interval_s=old.interval_s, retries=old.retries, healthy=False)

    def connect(self, box: Box, network: str) -> None:
        """Connect a container to a Docker network."""
        self._addresses += 1
        box.addresses[network] = f"192.0.2.{self._addresses % 254 + 1}"

    # --- what befalls a container ------------------------------------------------------------------------------------

    def set_truth(self, name: str, *, good: bool) -> None:
        """Let a container's health check pass or fail from now on."""
        box = self.find(name)
        if box.truth is not good:
            box.truth = good
            box.epoch += 1
            self._probe_later(box)

    def give_health_check(self, box: Box, *, interval_s: float = 5.0, retries: int = 3) -> None:
        """Let an engine have a health check of its own, which passes."""
        box.interval_s, box.retries, box.health = interval_s, retries, ContainerHealth.HEALTHY

    def kill(self, name: str) -> None:
        """A container's process ends, for ever unless it restarts itself."""
        box = self.find(name)
        if box.restarts_itself:
            self.crash(box)
        elif box.state in ALIVE:
            self._die(box)

    def loop(self, box: Box) -> None:
        """From now on its process ends moments after each start, and Docker starts it again and again."""
        box.crashes = True
        self.crash(box)

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

    def stick(self, box: Box) -> None:
        """Its removal has begun and does not end: Docker shows it as `removing` and refuses a second one."""
        if box.state in ALIVE:
            self._emit(box, "kill", signal="9")
            self._die(box)
        box.state = ContainerState.REMOVING
        box.epoch += 1
        box.troubles["remove"] = Trouble.CONFLICT

    def come_loose(self, box: Box) -> None:
        """Whatever held it is gone: it is dead, and the next removal succeeds."""
        box.state = ContainerState.DEAD
        box.troubles.clear()

    async def terminate(self, boxes: Iterable[Box]) -> None:
        """Stop several at once, as a shutdown or `compose down` does: SIGTERM for all, and a little later they die."""
        boxes = [box for box in boxes if box.state in ALIVE]
        for box in boxes:
            self._emit(box, "kill", signal="15")
        delays = sorted((self.rng.uniform(*DIES_AFTER_S), index) for index in range(len(boxes)))
        waited = 0.0
        for delay, index in delays:
            await asyncio.sleep(delay - waited)
            waited = delay
            if boxes[index].id in self.boxes and boxes[index].state in ALIVE:
                self._die(boxes[index])
                self._emit(boxes[index], "stop")

    # --- what befalls Docker and the host ----------------------------------------------------------------------------

    def freeze_health(self) -> None:
        """A daemon of version 20.10 was killed and comes back with live-restore: it probes nothing any more."""
        for box in self.boxes.values():
            if box.interval_s is not None and box.state is ContainerState.RUNNING:
                box.frozen = self.docker_time()

    def reset_health(self) -> None:
        """A daemon of version 25 or later comes back with live-restore: health begins anew, without an event."""
        for box in self.boxes.values():
            if box.interval_s is not None and box.state is ContainerState.RUNNING:
                box.health, box.frozen = ContainerHealth.STARTING, None
                box.epoch += 1
                self._probe_later(box)

    async def containers_end(self) -> None:
        """The daemon is stopped without live-restore, or the host shut down: all containers end with it."""
        for box in self.boxes.values():
            box.resumes = box.policy != "no" and (box.state in ALIVE or box.state is ContainerState.RESTARTING)
            if box.state is ContainerState.RESTARTING:
                self.stop(box)
        await self.terminate(list(self.boxes.values()))

    def power_lost(self) -> None:
        """Everything ends at once, without an event."""
        for box in self.boxes.values():
            box.resumes = box.policy != "no" and (box.state in ALIVE or box.state is ContainerState.RESTARTING)
            if box.resumes or box.state in ALIVE:
                box.state = ContainerState.EXITED
                box.epoch += 1

    def containers_resume(self) -> None:
        """The daemon starts: by their restart policies, in no order; who comes before its VPN stays down."""
        resuming = [box for box in self.boxes.values() if box.resumes]
        self.rng.shuffle(resuming)
        for box in resuming:
            box.resumes = False
            with suppress(MissingError, ConflictError):
                self.start(box)
