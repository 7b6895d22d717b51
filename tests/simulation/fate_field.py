"""What was met in the field, drawn from the seed: common causes, single containers, daemons, hosts, owners, names."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from exporter.core.model import ContainerState
from exporter.core.spec import EngineSpec
from exporter.errors import ConflictError, MissingError
from exporter.runtime.simulated_box import Trouble
from tests.simulation.engines import MANAGED, ON_FAILURE, own
from tests.simulation.fate import Action, Fate
from tests.simulation.truth import BY_HAND, VPN

if TYPE_CHECKING:
    from exporter.runtime.simulated_host import Box

OPERATIONS = ("inspect", "stop", "start", "restart", "remove")
FEW = 4
"""Engines of others at once, at most: each takes a place of the limit."""


class FieldFate(Fate):
    """Acts on one world, with everything."""

    def actions(self) -> list[Action]:
        """What may happen, each with its weight."""
        return [
            *super().actions(),
            (4, self._common_cause),
            (3, self._one_container),
            (3, self._restart_loop),
            (2, self._unhealthy),
            (2, self._stuck),
            (4, self._owner),
            (3, self._daemon_of_today),
            (2, self._shutdown),
            (2, self._way_breaks),
            (2, self._name_is_taken),
            (2, self._no_image),
            (2, self._other_settings),
        ]

    # --- VPNs --------------------------------------------------------------------------------------------------------

    async def _common_cause(self) -> None:
        """Two VPNs fail within seconds, for a while, and come back within seconds."""
        names = self.rng.sample(list(self.oracle.truth.vpns), 2)
        how = self.rng.choice(["health", "process", "alerts"])
        self._did(f"common cause: {how}", f"{names} fail together by {how}")
        for name in names:
            await self.world.pass_(3.0 * self.rng.random())
            self._common(name, how, good=False)
        await self.world.pass_(self.rng.uniform(10, 60))
        self.oracle.tell(f"{names} are back")
        for name in names:
            self._common(name, how, good=True)
            await self.world.pass_(3.0 * self.rng.random())

    def _common(self, name: str, how: str, *, good: bool) -> None:
        with suppress(MissingError, ConflictError):
            if how == "health":
                self.host.set_truth(name, good=good)
            elif how == "process":
                self._to_vpn(name, "unpause" if good else "pause")
            elif f"ProbeFailed-{name}" in self.world.alertmanager.firing or not good:
                self.oracle.tell(self.world.alertmanager.set(name, firing=not good))

    async def _way_breaks(self) -> None:
        """Mayday's way to the engines of a VPN is broken, for a good while."""
        name = self._vpn()
        self.oracle.unreachable.add(name)
        self._did("probe: the way breaks for long", f"no way to the engines of {name}")
        delay = self.rng.uniform(100, 1500)
        asyncio.get_running_loop().call_later(delay, self.oracle.unreachable.discard, name)

    # --- single containers -------------------------------------------------------------------------------------------

    def _some_engine(self) -> Box | None:
        engines = self.oracle.truth.engines()
        return self.rng.choice(engines) if engines else None

    async def _one_container(self) -> None:
        """One container hangs, or is answered for with errors, for a while."""
        box = self._some_engine() if self.rng.random() < 0.7 else self.oracle.truth.named(self._vpn())
        if box is None:
            return
        trouble = self.rng.choice([Trouble.HANGS, Trouble.FAILS])
        operations = OPERATIONS if self.rng.random() < 0.5 else ("inspect",)
        box.troubles.update(dict.fromkeys(operations, trouble))
        self._did(f"one container: {trouble}", f"{box.name}: {', '.join(operations)} {trouble}")
        delay = self.rng.choice([20.0, 120.0, 600.0]) * self.rng.random()
        asyncio.get_running_loop().call_later(delay, box.troubles.clear)

    async def _restart_loop(self) -> None:
        box = self._some_engine()
        if box is not None and box.state is ContainerState.RUNNING:
            self._did("engine: restart loop", f"{box.name} crashes after each start")
            self.host.loop(box)

    async def _unhealthy(self) -> None:
        box = self._some_engine()
        if box is not None and box.state is ContainerState.RUNNING:
            self._did("engine: unhealthy for Docker", f"{box.name} becomes unhealthy for Docker")
            self.host.give_health_check(box)
            self.host.set_truth(box.name, good=False)

    async def _stuck(self) -> None:
        """A removal that does not end, and, after a while, can."""
        box = self._some_engine()
        if box is None or not own(box):
            return
        self._did("engine: stuck in its removal", f"{box.name} is being removed for ever")
        self.host.stick(box)
        delay = self.rng.choice([30.0, 900.0]) * self.rng.random()
        asyncio.get_running_loop().call_later(delay, self.host.come_loose, box)

    # --- Docker and the host -----------------------------------------------------------------------------------------

    async def _daemon_of_today(self) -> None:
        """A daemon of version 25 or later with live-restore, or any without, which stops its containers first."""
        how = self.rng.choice(["health begins anew", "health begins anew", "containers end"])
        self._did(f"Docker: restarted, {how}", f"Docker goes away ({how})")
        if how == "containers end":
            await self.host.containers_end()
        self.world.runtime.daemon_down()
        await self.world.pass_(self.rng.choice([0.5, 20.0]) * self.rng.random())
        if how == "containers end":
            self.host.containers_resume()
        else:
            self.host.reset_health()
        self.world.runtime.daemon_up()
        self.oracle.tell("Docker is back")

    async def _shutdown(self) -> None:
        """The host shuts down: all containers are told to stop, Mayday last; then it boots."""
        self._did("host: Mayday is told last", "the host shuts down, and Mayday is told last")
        ending = asyncio.ensure_future(self.host.containers_end())
        await asyncio.sleep(self.rng.uniform(0.001, 0.1))
        await self.world.stop()
        await ending
        self.world.runtime.daemon_down()
        await self.world.pass_(self.rng.choice([20.0, 90.0]) * self.rng.random())
        self.world.clock.reboot()
        self.oracle.truth.rebooted_at = self.world.clock.age()
        self.host.containers_resume()
        self.world.runtime.daemon_up()
        await self.world.start()

    async def _no_image(self) -> None:
        """The image is missing for a while."""
        faults = self.world.runtime.faults
        faults.image_missing = True
        self._did("image: missing for long", "the image is missing")
        delay = self.rng.choice([60.0, 900.0]) * self.rng.random()
        asyncio.get_running_loop().call_later(delay, setattr, faults, "image_missing", False)

    # --- other people ------------------------------------------------------------------------------------------------

    def _theirs(self) -> list[Box]:
        return [b for b in self.host.boxes.values() if b.name.startswith(f"{BY_HAND}-media")]

    async def _owner(self) -> None:
        """Compose makes an engine or another dependent, or the owner does something to one."""
        theirs = self._theirs()
        if not theirs or (len(theirs) < FEW and self.rng.random() < 0.4):
            self._compose_makes()
            return
        box = self.rng.choice(theirs)
        word = self.rng.choice(["stop", "start", "remove", "recreate"])
        self._did(f"owner: {word}", f"the owner of {box.name}: {word}")
        self.oracle.owners_again.add(box.id)
        with suppress(MissingError, ConflictError):
            self.oracle.stopped_by_owner.discard(box.id)
            if word == "start":
                self.host.start(box)
            elif word == "stop":
                self.oracle.stopped_by_owner.add(box.id)
                self.host.stop(box)
            else:
                self.host.remove(box)
                vpn = self.oracle.truth.named(self.oracle.truth.ids.get(box.network or "", ""))
                if word == "recreate" and vpn is not None:
                    self.host.start(self.host.create(EngineSpec(box.name, "simulated", vpn.id, dict(box.labels))))

    def _compose_makes(self) -> None:
        vpn = self.oracle.truth.named(self._vpn())
        if vpn is None:
            return
        self._by_hand += 1
        labels = {"com.docker.compose.project": "media"}
        kind = self.rng.choice(["an engine", "an engine", "a dependent"])
        if kind == "an engine":
            labels |= {MANAGED: "acestream", VPN: vpn.name, "acestream.http_port": str(self.rng.randint(20000, 29999))}
        response = self.rng.choice([None, None, "park", "leave", "remove"])
        if response is not None:
            labels[ON_FAILURE] = response
        with suppress(MissingError, ConflictError):
            box = self.host.create(EngineSpec(f"{BY_HAND}-media-{self._by_hand}", "simulated", vpn.id, labels))
            self._did(f"compose: makes {kind}", f"compose makes {box.name} on {vpn.name}: {response}")
            self.host.start(box)

    async def _name_is_taken(self) -> None:
        """A stranger makes a container under the name of a creation that got no answer."""
        life, vpn = self.oracle.life, self.oracle.truth.named(self._vpn())
        if life is None or vpn is None:
            return
        there = {box.name for box in self.host.boxes.values()}
        names = sorted(set(life.undo) - there)
        if not names:
            return
        name = self.rng.choice(names)
        labels = {MANAGED: "acestream", VPN: vpn.name, "acestream.http_port": str(self.rng.randint(20000, 29999))}
        with suppress(MissingError, ConflictError):
            box = self.host.create(EngineSpec(name, "simulated", vpn.id, labels))
            self._did("name: taken by a stranger", f"a stranger makes {name} on {vpn.name}")
            self.host.start(box)

    # --- settings ----------------------------------------------------------------------------------------------------

    async def _other_settings(self) -> None:
        """Mayday is started anew with another MIN_REPLICAS."""
        policy = self.world.settings.policy
        room = min(len(ports) for ports in policy.ports.values()) * len(policy.vpns)
        minimum = min(self.rng.choice([1, 2, 4, 7]), room, policy.max_replicas)
        self._did("settings: another MIN_REPLICAS", f"MIN_REPLICAS becomes {minimum}")
        await self.world.stop()
        self.world.set_minimum(minimum)
        await self.world.start()
