"""A real Mayday on a simulated fleet, with its web pages on a free port."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp

from exporter.app import App
from exporter.clock import SystemClock
from exporter.runtime.simulated import SimulatedRuntime
from exporter.runtime.simulated_host import SimulatedHost
from exporter.settings.settings import from_environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from exporter.core.model import Engine

KEY = "a-key-of-the-tests"


class Watched:
    """The fleet, the Mayday, and its operator. `async with` starts and ends it; `stop` and `start` besides."""

    def __init__(self, *, vpns: int = 2, stabilization_s: float = 10.0) -> None:
        self.names = ["gluetun", *(f"gluetun_{number}" for number in range(2, vpns + 1))]
        self._stabilization_s = stabilization_s
        self.host = SimulatedHost(SystemClock(), random.Random(0))
        for name in self.names:
            self.host.add_vpn(name, interval_s=0.2, retries=2)
        self.app: App
        self._port = 0
        self.url = ""

    async def __aenter__(self) -> Self:
        await self.start()
        await self.until(lambda: len(self.app.controller.fleet.engines) == 2 * len(self.names))
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start a Mayday, on the same port as the last."""
        environment = {
            "GLUETUN_CONTAINER_NAME": self.names[0],
            **{f"GLUETUN_CONTAINER_NAME_{i}": name for i, name in enumerate(self.names[1:], start=2)},
            "MIN_REPLICAS": str(2 * len(self.names)),
            "VPN_STABILIZATION_PERIOD_S": str(self._stabilization_s),
            "APP_HOST": "127.0.0.1",
            "APP_PORT": str(self._port),
            "API_KEY": KEY,
            "WEBHOOK_TOKEN": KEY,
        }
        settings = replace(from_environment(environment), autoscale_interval_s=0.5, engine_health_interval_s=0.5)
        self.app = App(
            settings,
            lambda _settings, on_request: SimulatedRuntime(self.host, on_request=on_request),
            probe=self._probe,
        )
        await self.app.__aenter__()
        assert self.app.web is not None
        assert self.app.web.address is not None
        self._port = self.app.web.address[1]
        self.url = f"http://127.0.0.1:{self._port}/"

    async def stop(self) -> None:
        """End it."""
        await self.app.__aexit__()

    async def _probe(self, engine: Engine, _address: str, /) -> bool:
        return self.host.answers(engine.id)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to become true."""
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.02)

    async def call(self, method: str, path: str, body: object = None) -> int:
        """An operator's call, with the key; the status."""
        headers = {"Authorization": f"Bearer {KEY}"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, json=body, headers=headers) as response,
        ):
            return response.status

    async def alert(self, name: str, vpn: str) -> None:
        """An alert by webhook that names a VPN."""
        alert = {
            "status": "firing",
            "labels": {"alertname": name, "vpn": vpn},
            "startsAt": "2026-03-04T05:06:07Z",
            "fingerprint": "00c0ffee12345678",
        }
        assert await self.call("POST", "webhook/alertmanager", {"version": "4", "alerts": [alert]}) == 200
