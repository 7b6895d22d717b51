"""What scenarios of field faults share: who works, what Mayday did to containers, and lives that end at any moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exporter.core.model import ContainerState, Mode, Phase
from exporter.core.spec import EngineSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.runtime.simulated import Effect
    from exporter.runtime.simulated_host import Box, SimulatedHost
    from tests.support.sidecar import Sidecar

MANAGED = "orchestrator.managed"
MADE = "mayday.made"
VPN = "acestream.vpn_container"
PORT = "acestream.http_port"
LABELS = {MANAGED: "acestream"}
COMPOSE = {**LABELS, "com.docker.compose.project": "media"}
FIRST, SECOND = "gluetun", "gluetun_2"


class Deeds:
    """Every call by which Mayday changed a container, from now on."""

    def __init__(self, s: Sidecar) -> None:
        self.effects: list[Effect] = []
        s.runtime._on_effect = self.effects.append

    def names(self, *operations: str) -> list[str]:
        """The containers that such calls were made on, one entry for each."""
        return [effect.name for effect in self.effects if effect.operation in operations]

    @property
    def removed(self) -> list[str]:
        return self.names("remove")


def on(host: SimulatedHost, vpn: str) -> list[Box]:
    """The engines of a VPN, whoever made them."""
    ids = {box.id for box in host.boxes.values() if box.name == vpn}
    return [b for b in host.boxes.values() if MANAGED in b.labels and (b.network in ids or b.labels.get(VPN) == vpn)]


def own(host: SimulatedHost, vpn: str) -> list[Box]:
    """The engines of a VPN that Mayday made."""
    return [box for box in on(host, vpn) if MADE in box.labels]


def works(host: SimulatedHost, box: Box) -> bool:
    """Whether an engine serves: it runs in the present network of a VPN whose tunnel is good."""
    vpn = host.boxes.get(box.network or "")
    if vpn is None or box.id not in host.boxes or box.broken or box.crashes or not box.truth:
        return False
    running = box.state is ContainerState.RUNNING is vpn.state
    return running and box.namespace == vpn.namespace and vpn.truth


def working(host: SimulatedHost, *vpns: str) -> int:
    """How many engines serve on these VPNs."""
    return sum(works(host, box) for vpn in vpns for box in on(host, vpn))


def ids(host: SimulatedHost, *vpns: str) -> set[str]:
    """The engines of these VPNs, by container id."""
    return {box.id for vpn in vpns for box in on(host, vpn)}


def run_by_others(s: Sidecar, vpn: str, count: int, **labels: str) -> list[Box]:
    """Engines that compose made on a VPN."""
    first = 19400 if vpn == FIRST else 19900
    return [s.host.add_engine(vpn, first + n, f"media-{vpn}-{n}", {**COMPOSE, **labels}) for n in range(count)]


def made_with(s: Sidecar, name: str, vpn: str, port: int, **environment: str) -> Box:
    """An engine of Mayday's own with a configuration that its template does not have any more."""
    labels = {**LABELS, MADE: "true", VPN: vpn, PORT: str(port)}
    box = s.host.create(EngineSpec(name, "tuned", s.host.find(vpn).id, labels, dict(environment)))
    s.host.start(box)
    return box


async def sampled(seconds: float, look: Callable[[], float], every_s: float = 0.5) -> list[float]:
    """What a look shows, again and again."""
    shown = []
    for _ in range(round(seconds / every_s)):
        await asyncio.sleep(every_s)
        shown.append(look())
    return shown


def calm(s: Sidecar) -> bool:
    """Whether nothing has failed for Mayday."""
    healthy = all(vpn.phase is Phase.HEALTHY for vpn in s.app.controller.state.vpns.values())
    return healthy and s.app.controller.state.mode is Mode.NORMAL


async def kill(s: Sidecar) -> None:
    """Kill Mayday between two steps: its tasks are gone, the calls it sent are carried out all the same."""
    app = s.app
    app.journal._closed = True
    app.journal._store.close()
    app.jobs._closing = True
    app.jobs._scheduler.shutdown(wait=False)
    ours = {asyncio.current_task(), *s.runtime._calls}
    tasks = [task for task in asyncio.all_tasks() if task not in ours]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await s.runtime.close()
