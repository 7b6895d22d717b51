"""Mayday on a simulated fleet between a real Prometheus and a real Alertmanager, an operator and a probe."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from exporter.settings.settings import from_environment
from tests.stack.programs import Alertmanager, Prometheus, free_port, until
from tests.support.settings import TWO_VPNS, vpn_names
from tests.support.simulated import host_with, mayday_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import Self

    from exporter.app import App


TOKEN = "a-token-of-the-tests"


@dataclass
class Told:
    """One alert of a message to the operator."""

    at: float
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]


@dataclass
class Neighbours:
    """What the test itself runs: the operator's receiver, a probe through each VPN, and the VPNs' forwarded ports."""

    told: list[Told] = field(default_factory=list)
    probes: dict[str, int] = field(default_factory=lambda: {"gluetun": 1, "gluetun_2": 1})
    forwarded: dict[str, int] = field(default_factory=dict)
    """By VPN; one that is not named does not say."""
    port: int = 0

    async def listen(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/operator", self._operator)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    async def _operator(self, request: web.Request) -> web.Response:
        for alert in (await request.json())["alerts"]:
            self.told.append(Told(time.monotonic(), alert["status"], alert["labels"], alert["annotations"]))
        return web.Response()

    async def _metrics(self, _request: web.Request) -> web.Response:
        lines = ["# TYPE probe_success gauge"]
        lines += [f'probe_success{{vpn="{vpn}"}} {value}' for vpn, value in self.probes.items()]
        return web.Response(text="\n".join(lines) + "\n", headers={"Content-Type": "text/plain; version=0.0.4"})

    async def forwarded_port(self, vpn: str) -> int | None:
        """What a VPN says when it is asked for its port."""
        return self.forwarded.get(vpn)

    async def hears(self, status: str, name: str, since: float = 0.0) -> Told:
        """Wait for an alert of that status and name, told after `since` (monotonic)."""

        async def found() -> Told | None:
            return next(
                (t for t in self.told if t.at > since and t.status == status and t.labels["alertname"] == name), None
            )

        told = await until(found, f"the operator hears {status} {name}; heard: {self._summary()}")
        assert told is not None
        return told

    def _summary(self) -> list[str]:
        return [f"{told.status} {told.labels['alertname']}" for told in self.told]


class Link:
    """The way from Prometheus to Alertmanager, which can be cut."""

    def __init__(self) -> None:
        self.up = True
        self.port = free_port()
        self._session: aiohttp.ClientSession | None = None
        self._target = ""

    async def open(self, target: str) -> web.AppRunner:
        """Hand everything on to an address."""
        self._target = target
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._hand_on)
        app.cleanup_ctx.append(self._connected)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        return runner

    async def _connected(self, _app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as self._session:
            yield

    async def _hand_on(self, request: web.Request) -> web.Response:
        if not self.up:
            raise web.HTTPServiceUnavailable
        assert self._session is not None
        headers = {"Content-Type": request.headers.get("Content-Type", "")}
        url = self._target + request.path_qs
        async with self._session.request(request.method, url, data=await request.read(), headers=headers) as answer:
            # An answer without a body names no type.
            kept = {"Content-Type": named} if (named := answer.headers.get("Content-Type")) else {}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)


class Stack:
    """All of it. `async with` starts and stops it."""

    def __init__(
        self, directory: Path, *, own_alerts_to_mayday: bool = False, webhook: bool = True, link: Link | None = None
    ) -> None:
        """`link` is put between Prometheus and Alertmanager."""
        self._directory = directory
        self.link = link
        self._own_alerts_to_mayday = own_alerts_to_mayday
        self._webhook = webhook
        self.neighbours = Neighbours()
        self.host = host_with(vpn_names(2), interval_s=0.2, retries=2)
        self._exit = AsyncExitStack()
        self.prometheus: Prometheus
        self.alertmanager: Alertmanager
        self.mayday: App

    async def __aenter__(self) -> Self:
        runner = await self.neighbours.listen()
        self._exit.push_async_callback(runner.cleanup)
        token = self._directory / "token"
        token.write_text(TOKEN)
        port = free_port()
        mayday = f"127.0.0.1:{port}"
        neighbours = f"127.0.0.1:{self.neighbours.port}"
        self.alertmanager = Alertmanager(
            self._directory,
            mayday=mayday if self._webhook else f"127.0.0.1:{free_port()}",
            operator=f"http://{neighbours}/operator",
            token_file=token,
            own_alerts_to_mayday=self._own_alerts_to_mayday,
        )
        self.prometheus = Prometheus(
            self._directory,
            {
                "mayday:8000": mayday,
                "alertmanager:9093": f"127.0.0.1:{self.link.port if self.link else self.alertmanager.port}",
                "probe:9115": neighbours,
            },
            local_rules="vpn-probe.yml",
        )
        if self.link is not None:
            link = await self.link.open(self.alertmanager.url)
            self._exit.push_async_callback(link.cleanup)
        self.mayday = self.new_mayday(port)
        await self.mayday.__aenter__()
        self._exit.push_async_callback(self._end_mayday)
        await self._exit.enter_async_context(self.alertmanager)
        await self._exit.enter_async_context(self.prometheus)
        await until(self._settled, "the fleet is whole, and Prometheus has seen it")
        return self

    async def _settled(self) -> bool:
        full = await self.prometheus.value('sum(mayday_engines{state="working"})') == 4
        return full and await self.prometheus.value("instance:mayday_redundant:min") == 1

    async def __aexit__(self, *error: object) -> None:
        await self._exit.aclose()

    async def _end_mayday(self) -> None:
        await self.mayday.__aexit__()

    async def restart_mayday(self) -> None:
        """End Mayday, and start another on the same port and the same state."""
        await self._end_mayday()
        self.mayday = self.new_mayday(self.mayday.settings.app_port)
        await self.mayday.__aenter__()

    def new_mayday(self, port: int) -> App:
        """A Mayday with every feature on, at test speed."""
        environment = {
            **TWO_VPNS,
            "MIN_REPLICAS": "4",
            "VPN_STABILIZATION_PERIOD_S": "2",
            "EVACUATION_DELAY_S": "0",
            "APP_HOST": "127.0.0.1",
            "APP_PORT": str(port),
            "WEBHOOK_TOKEN": TOKEN,
            "ALERTMANAGER_URL": self.alertmanager.url,
            "ALERTMANAGER_INTERVAL_S": "1",
            "STATE_DIR": str(self._directory / "state"),
        }
        settings = replace(from_environment(environment), autoscale_interval_s=0.5, engine_health_interval_s=0.5)
        return mayday_on(self.host, settings, forwarded_port=self.neighbours.forwarded_port)

    async def in_emergency(self, *, yes: bool) -> None:
        """Wait until Mayday is, or is not, in emergency mode."""

        async def reached() -> bool:
            return self.mayday.controller.is_emergency_mode() is yes

        await until(reached, f"emergency mode is {yes}")
