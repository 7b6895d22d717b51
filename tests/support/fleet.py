"""Mayday on a simulated fleet of any size, in virtual or in real time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from exporter.app import App
from exporter.core.model import ContainerHealth
from exporter.errors import ConflictError, MissingError
from exporter.runtime import simulated
from exporter.runtime.simulated import SimulatedRuntime
from exporter.runtime.simulated_host import Box, SimulatedHost
from exporter.settings.settings import from_environment
from tests.support.settings import vpn_names, vpn_variables
from tests.support.simulated import populate
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exporter.clock import Clock
    from exporter.core.model import Engine
    from exporter.core.spec import EngineSpec
    from exporter.runtime.base import CallResult, OnRequest, Operation
    from exporter.runtime.simulated import Effect
    from exporter.settings.settings import Settings


def settings_for(vpns: int, engines: int, **environment: str) -> Settings:
    """Settings of a fleet with so many VPNs and MIN_REPLICAS; every VPN publishes as many ports as it may need."""
    each = -(-engines // vpns)
    size = max(2, min(2 * each, 15_000 // vpns))
    ranges = {f"GLUETUN_PORT_RANGE_{n + 1}": f"{19000 + n * size}-{19000 + n * size + size - 1}" for n in range(vpns)}
    return from_environment(
        {
            **vpn_variables(*vpn_names(vpns)),
            **ranges,
            "MIN_REPLICAS": str(engines),
            "APP_HOST": "127.0.0.1",
            "APP_PORT": "0",
            **environment,
        }
    )


class IndexedHost(SimulatedHost):
    """The simulated host, finding containers by an index: with thousands it would take more time than Mayday does."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        super().__init__(clock, rng)
        self._by_name: dict[str, str] = {}

    def find(self, ref: str) -> Box:
        box = self.boxes.get(ref) or self.boxes.get(self._by_name.get(ref, ""))
        if box is None:
            raise MissingError(f"No such container: {ref}")
        return box

    def create(self, spec: EngineSpec) -> Box:
        if spec.name in self._by_name:
            raise ConflictError(f"the name '{spec.name}' is in use")
        box = Box(self._id(), spec.name, dict(spec.labels), self.find(spec.network).id, spec)
        box.created_at = self.docker_time()
        self.boxes[box.id] = box
        self._by_name[box.name] = box.id
        self._emit(box, "create")
        return box

    def remove(self, box: Box) -> None:
        super().remove(box)
        self._by_name.pop(box.name, None)

    def add_vpn(self, name: str, *, interval_s: float | None = 5.0, retries: int = 3, healthy: bool = True) -> Box:
        box = super().add_vpn(name, interval_s=interval_s, retries=retries, healthy=healthy)
        self._by_name[name] = box.id
        return box

    def tell_health(self, name: str, *, good: bool) -> None:
        """The health of a VPN changes at this moment, with its event."""
        box = self.find(name)
        box.truth = good
        box.health = ContainerHealth.HEALTHY if good else ContainerHealth.UNHEALTHY
        self._emit(box, f"health_status: {box.health}")


class SimulatedFleet:
    """The host, its runtime, and what was asked of it."""

    def __init__(self, settings: Settings, clock: Clock, *, at_once: int = simulated.AT_ONCE) -> None:
        self.settings = settings
        self.host = IndexedHost(clock, random.Random(1))
        self.calls: Counter[str] = Counter()
        self.effects: list[Effect] = []
        self.runtime = SimulatedRuntime(self.host, on_request=self._count, on_effect=self.effects.append)
        self.runtime._gate = asyncio.Semaphore(at_once)
        self._on_request: OnRequest = lambda _operation, _result, _seconds: None
        for vpn in settings.policy.vpns:
            self.host.add_vpn(vpn, interval_s=5.0, retries=1)

    def _count(self, operation: Operation, result: CallResult, seconds: float) -> None:
        self.calls[operation] += 1
        self._on_request(operation, result, seconds)

    def populate(self, engines: int) -> None:
        """Engines that are there already, evenly on all VPNs."""
        populate(self.host, self.settings, engines)

    def app(self, clock: Clock, *, serve: bool = False, threaded: bool = False) -> App:
        """A Mayday on it."""

        def runtime(_settings: Settings, on_request: OnRequest) -> SimulatedRuntime:
            self._on_request = on_request
            return self.runtime

        async def probe(engine: Engine, _address: str, /) -> bool:
            await asyncio.sleep(0.001)
            return self.host.answers(engine.id)

        return App(self.settings, runtime, clock=clock, probe=probe, serve=serve, threaded=threaded)

    @asynccontextmanager
    async def running(self, clock: Clock, *, serve: bool = False, threaded: bool = False) -> AsyncIterator[App]:
        """A Mayday on it that has read everything and is ready."""
        async with self.app(clock, serve=serve, threaded=threaded) as app:
            await until(lambda: app.controller.snapshot.ready)
            yield app
