"""A real Mayday on a simulated fleet, with its web pages on a free port."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp

from exporter.settings.settings import from_environment
from tests.support.alerts import message, wire_alert
from tests.support.settings import vpn_names, vpn_variables
from tests.support.simulated import address_of, host_with, mayday_on
from tests.support.waiting import until

if TYPE_CHECKING:
    from typing import Self

    from exporter.app import App

KEY = "a-key-of-the-tests"


class Watched:
    """The fleet, the Mayday, and its operator. `async with` starts and ends it; `stop` and `start` besides."""

    def __init__(self, *, vpns: int = 2, stabilization_s: float = 10.0) -> None:
        self.names = vpn_names(vpns)
        self._stabilization_s = stabilization_s
        self.host = host_with(self.names, interval_s=0.2, retries=2)
        self.app: App
        self._port = 0
        self.url = ""

    async def __aenter__(self) -> Self:
        await self.start()
        await until(lambda: len(self.app.controller.fleet.engines) == 2 * len(self.names))
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start a Mayday, on the same port as the last."""
        environment = {
            **vpn_variables(*self.names),
            "MIN_REPLICAS": str(2 * len(self.names)),
            "VPN_STABILIZATION_PERIOD_S": str(self._stabilization_s),
            "APP_HOST": "127.0.0.1",
            "APP_PORT": str(self._port),
            "API_KEY": KEY,
            "WEBHOOK_TOKEN": KEY,
        }
        settings = replace(from_environment(environment), autoscale_interval_s=0.5, engine_health_interval_s=0.5)
        self.app = mayday_on(self.host, settings)
        await self.app.__aenter__()
        self._port = address_of(self.app)[1]
        self.url = f"http://127.0.0.1:{self._port}/"

    async def stop(self) -> None:
        """End it."""
        await self.app.__aexit__()

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
        assert await self.call("POST", "webhook/alertmanager", message(wire_alert(alertname=name, vpn=vpn))) == 200
