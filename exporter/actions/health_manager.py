"""The health manager: asks every engine's HTTP API and has those replaced that do not answer."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from exporter.core.engine_health import (
    NOT_ANSWERING,
    HealthBook,
    after_replacing,
    after_round,
    askable,
    known_unhealthy,
    replaceable,
)
from exporter.core.plan import health_manager_runs
from exporter.fleet.results import Answers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.actions.repair import Repair
    from exporter.controller import Controller
    from exporter.core.model import Engine
    from exporter.sources.engines import EngineProbe

log = logging.getLogger("mayday")

AT_ONCE = 16
"""Engines asked at the same time."""


class HealthManager:
    """Rounds over all engines."""

    def __init__(
        self,
        controller: Controller,
        repair: Repair,
        probe: EngineProbe,
        read_again: Callable[[], Awaitable[None]],
    ) -> None:
        self._controller = controller
        self._repair = repair
        self._probe = probe
        self._read_again = read_again
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
        if any(engine.state in NOT_ANSWERING for engine in controller.fleet.engines):
            # They are not asked, so what is known of them must be new: they may have been started since.
            await self._read_again()
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(engine: Engine) -> tuple[str, bool]:
            address = controller.fleet.address(engine.vpn)
            async with gate:
                return engine.id, await self._probe(engine, address)

        engines = askable(controller.state, controller.fleet)
        answers = dict(await asyncio.gather(*(ask(engine) for engine in engines)))
        self._book = after_round(self._book, controller.fleet, answers)
        limit = controller.settings.engine_health_failures
        said = {container_id: True for container_id, answered in answers.items() if answered}
        said |= {engine.id: False for engine in engines if known_unhealthy(self._book, engine, limit)}
        controller.take(Answers(said))
        self._warn_unproven(engines, answers)
        targets = replaceable(self._book, controller.state, controller.fleet, limit)
        self._book = after_replacing(self._book, targets)
        proven = self._book.proven
        await asyncio.gather(*(self._repair.replace_engine(e, trial=e.vpn not in proven) for e in targets))
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
