"""HTTP in the simulation: what Mayday asks of others, and what others ask of Mayday, by its real handlers."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from exporter.core.model import ContainerState
from exporter.web.server import WebServer

if TYPE_CHECKING:
    from collections import Counter

    from aiohttp import web

    from exporter.app import App
    from tests.simulation.alertmanager import Alertmanager
    from tests.simulation.truth import Truth

SECRET = "simulated"
ALERTMANAGER = "http://alertmanager:9093"


class Network:
    """In place of an HTTP session: engines, Gluetun's control server, and Alertmanager's API."""

    def __init__(self, truth: Truth, alertmanager: Alertmanager, tally: Counter[str], unreachable: set[str]) -> None:
        self._truth = truth
        self._alertmanager = alertmanager
        self._tally = tally
        self.unreachable = unreachable
        """VPNs whose addresses Mayday cannot reach."""
        self.forwards: dict[str, int] = {}
        """Ports that VPNs forward."""
        self.forwarded: set[str] = set()
        """VPNs that have told of a port."""
        self.life = 0
        self.clients: set[asyncio.Task[None]] = set()
        """Who waits for an answer of Mayday."""

    def get(self, url: str, *, timeout: aiohttp.ClientTimeout, **_options: Any) -> _Answer:
        return _Answer(self, url, timeout.total or 300.0)

    async def close(self) -> None:
        """Mayday ends: whoever waits for an answer of it gets none, as when its web server closes."""
        for task in list(self.clients):
            task.cancel()
        await asyncio.gather(*self.clients, return_exceptions=True)

    def reaches(self, vpn: str) -> bool:
        """Whether Mayday's probes get to this VPN."""
        return vpn not in self.unreachable

    async def answer(self, url: str) -> tuple[int, bytes]:
        if url.startswith(ALERTMANAGER):
            return await self._alertmanager.list_active(self.life)
        await asyncio.sleep(0.01)
        match = re.fullmatch(r"http://([^:/]+):(\d+)(/.*)", url)
        assert match is not None, url
        box = next((b for b in self._truth.host.boxes.values() if match[1] in {b.address, b.name}), None)
        if box is None or box.state is not ContainerState.RUNNING or not self.reaches(box.name):
            self._tally["probe: no way to the VPN"] += 1
            for engine in self._truth.engines(box.name if box else None):
                self._truth.silent_at[engine.id] = self._truth.clock.age()
            await asyncio.sleep(3600)
        assert box is not None
        if match[3].startswith("/v1/"):
            port = self.forwards.get(box.name)
            self.forwarded |= set() if port is None else {box.name}
            return (404, b"") if port is None else (200, json.dumps({"port": port}).encode())
        asked = [e for e in self._truth.engines(box.name) if e.labels.get("acestream.http_port") == match[2]]
        if any(self._truth.host.answers(engine.id) for engine in asked):
            return 200, b'{"result": {"version": "3"}}'
        for engine in asked:
            self._truth.silent_at[engine.id] = self._truth.clock.age()
        self._tally["probe: the engine does not answer"] += 1
        raise aiohttp.ClientConnectionError("connection refused")


class _Answer:
    def __init__(self, network: Network, url: str, timeout_s: float) -> None:
        self._network, self._url, self._timeout_s = network, url, timeout_s
        self.status = 0
        self._body = b""
        self.content = self

    async def __aenter__(self) -> Self:
        async with asyncio.timeout(self._timeout_s):
            self.status, self._body = await self._network.answer(self._url)
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Nothing is open."""

    def raise_for_status(self) -> None:
        if self.status >= 400:
            raise aiohttp.ClientError(f"HTTP {self.status}")

    async def read(self, _most: int) -> bytes:
        body, self._body = self._body, b""
        return body

    def at_eof(self) -> bool:
        return not self._body


class Door:
    """Mayday's web application, called without a socket: routing, secrets, parsing and errors are the real ones."""

    def __init__(self, app: App) -> None:
        server = WebServer(
            app.settings, app.controller, app.cleanup, app.provisioning, app.metrics, app.journal, app.selection
        )
        self._application = server.application()
        self._application.freeze()

    async def call(self, method: str, path: str, body: object = None, *, secret: str = SECRET) -> tuple[int, Any]:
        """The status and the body of the answer; `body` is sent as it is if it is bytes, else as JSON."""
        loop = asyncio.get_running_loop()
        payload = aiohttp.StreamReader(BaseProtocol(loop), limit=2**16, loop=loop)
        if body is not None:
            payload.feed_data(body if isinstance(body, bytes) else json.dumps(body).encode())
        payload.feed_eof()
        headers = {"Authorization": f"Bearer {secret}"}
        request = make_mocked_request(method, path, headers=headers, payload=payload, app=self._application)
        try:
            response: web.Response = await self._application._handle(request)  # type: ignore[assignment]
        except aiohttp.web.HTTPException as error:
            return error.status, error.text
        text = response.body
        assert isinstance(text, bytes)
        is_json = response.content_type == "application/json"
        return response.status, json.loads(text) if is_json else text.decode()
