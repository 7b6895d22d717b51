"""The health manager: asks every engine's HTTP API and has those replaced that do not answer."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

import aiohttp

from exporter.core.health import HealthBook, after_replacing, after_round, askable, known_unhealthy, replaceable
from exporter.core.plan import health_manager_runs

if TYPE_CHECKING:
    from exporter.controller import Controller
    from exporter.core.model import Engine
    from exporter.repairer import Repairer

log = logging.getLogger("mayday")

AT_ONCE = 16
"""Engines asked at the same time."""
BODY_LIMIT = 64 * 1024


class EngineProbe(Protocol):
    """Asks one engine whether it works."""

    async def __call__(self, engine: Engine, address: str, /) -> bool:
        """True if it does; never raises. `address` is where its VPN is reached."""


class HttpEngineProbe:
    """Asks over HTTP, as AceStream engines answer: `/webui/api/service?method=get_version` has a `result`."""

    def __init__(self, session: aiohttp.ClientSession, timeout_s: float) -> None:
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def __call__(self, engine: Engine, address: str) -> bool:
        """True when the engine answers 200 with a JSON object that has a result."""
        url = f"http://{address}:{engine.port}/webui/api/service?method=get_version"
        try:
            async with self._session.get(url, timeout=self._timeout, allow_redirects=False) as response:
                body = await response.content.read(BODY_LIMIT)
                return response.status == 200 and b'"result"' in body
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return False


class HealthManager:
    """Rounds over all engines."""

    def __init__(self, controller: Controller, repairer: Repairer, probe: EngineProbe) -> None:
        self._controller = controller
        self._repairer = repairer
        self._probe = probe
        self._book = HealthBook()
        self._told_unproven: set[str] = set()

    async def check(self) -> float | None:
        """One round: ask, note, replace at most one engine on each VPN."""
        controller = self._controller
        if not controller.deciding:
            return None
        if not health_manager_runs(controller.state):
            # Asking goes on, because relief depends on which engines work; replacing is what is paused.
            controller.recorder.paused("Health manager", controller.state)
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(engine: Engine) -> tuple[str, bool]:
            vpn = controller.facts.vpn(engine.vpn)
            address = (vpn.address if vpn else None) or engine.vpn
            async with gate:
                return engine.id, await self._probe(engine, address)

        engines = askable(controller.state, controller.fleet)
        answers = dict(await asyncio.gather(*(ask(engine) for engine in engines)))
        self._book = after_round(self._book, controller.fleet, answers)
        limit = controller.settings.engine_health_failures
        for container_id, answered in answers.items():
            if answered:
                controller.facts.heard_from(container_id, healthy=True)
        for engine in engines:
            if known_unhealthy(self._book, engine, limit):
                controller.facts.heard_from(engine.id, healthy=False)
        controller.evaluate()
        self._warn_unproven(engines, answers)
        targets = replaceable(self._book, controller.state, controller.fleet, limit)
        self._book = after_replacing(self._book, targets)
        proven = self._book.proven
        await asyncio.gather(*(self._repairer.replace_engine(e, trial=e.vpn not in proven) for e in targets))
        return None

    def _warn_unproven(self, engines: list[Engine], answers: dict[str, bool]) -> None:
        for vpn in (
            {engine.vpn for engine in engines if not answers[engine.id]} - self._book.proven - self._told_unproven
        ):
            self._told_unproven.add(vpn)
            log.warning(
                "no engine on VPN '%s' has ever answered Mayday; one is replaced as a trial, no other till it answers. "
                "Check that Mayday shares a Docker network with '%s' and that engines listen on their http_port.",
                vpn,
                vpn,
            )
