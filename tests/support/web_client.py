"""A Mayday with a real web server on a free port, and a client for it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.support.simulated import address_of, host_with, mayday_on, populate
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exporter.app import App
    from exporter.runtime.simulated_host import SimulatedHost
    from exporter.settings.settings import Settings


class Client:
    """The program, its host, and calls to its web server."""

    def __init__(self, app: App, host: SimulatedHost, session: aiohttp.ClientSession) -> None:
        self.app = app
        self.host = host
        self.url = "http://{}:{}".format(*address_of(app))
        self._session = session

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and answer, which is what the JSON says, or a text."""
        async with self._session.request(method, f"{self.url}{path}", **options) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text


@asynccontextmanager
async def running(
    settings: Settings, headers: dict[str, str] | None = None, *, engines: int = 0
) -> AsyncIterator[Client]:
    """A Mayday with these settings that has read its fleet: so many engines are there already, the others it makes.

    The client always sends these headers.
    """
    host = host_with(settings.policy.vpns)
    populate(host, settings, engines)
    app = mayday_on(host, settings)
    async with app, aiohttp.ClientSession(headers=headers) as session:
        await until(lambda: app.controller.snapshot.ready and len(app.controller.fleet.engines) >= engines)
        yield Client(app, host, session)
