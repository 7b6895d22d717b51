"""The health manager: asks every engine's HTTP API and has those replaced that do not work."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from exporter.core.engine_health import (
    REPLACEMENTS_AT_MOST,
    HealthBook,
    after_replacing,
    after_round,
    askable,
    exhausted,
    known_unhealthy,
    replaceable,
    shown_failure,
)
from exporter.core.model import ContainerState
from exporter.core.plan import Outcome, health_manager_runs
from exporter.fleet.results import Answers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

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
        self._without_way: set[str] = set()
        self._silent: set[str] = set()
        self._exhausted: set[str] = set()
        """VPNs of which each of these was told."""

    async def check(self) -> float | None:
        """One round: ask, note, replace at most one engine on each VPN."""
        controller = self._controller
        if not controller.deciding:
            return None
        if not health_manager_runs(controller.state):
            # Asking goes on, because relief depends on which engines work; replacing is what is paused.
            controller.recorder.paused("Health manager", controller.state)
        if any(engine.own and shown_failure(engine) for engine in controller.fleet.engines):
            # What Docker shows of them must be new: they may have been started since.
            await self._read_again()
        self._tell_ways()
        answers = await self._ask(askable(controller.state, controller.fleet))
        self._book = after_round(self._book, controller.state, controller.fleet, answers)
        self._note(answers)
        self._tell_silent()
        mono = controller.clock.mono()
        failed = replaceable(self._book, controller.state, controller.fleet, controller.settings.engine_health_failures)
        self._tell_exhausted({engine.vpn for engine in failed if exhausted(self._book, engine.vpn, mono)})
        targets = [engine for engine in failed if not exhausted(self._book, engine.vpn, mono)]
        outcomes = await asyncio.gather(*(self._repair.replace_engine(engine) for engine in targets))
        done = [engine for engine, outcome in zip(targets, outcomes, strict=True) if outcome is not Outcome.UNDONE]
        self._book = after_replacing(self._book, done, mono)
        return None

    async def _ask(self, engines: Iterable[Engine]) -> dict[str, bool]:
        gate = asyncio.Semaphore(AT_ONCE)
        fleet = self._controller.fleet

        async def ask(engine: Engine, address: str) -> tuple[str, bool]:
            async with gate:
                return engine.id, await self._probe(engine, address)

        ways = [(engine, fleet.address(engine.vpn)) for engine in engines]
        return dict(await asyncio.gather(*(ask(engine, way) for engine, way in ways if way is not None)))

    def _note(self, answers: dict[str, bool]) -> None:
        """Let everything else know which engines work."""
        limit = self._controller.settings.engine_health_failures
        said = {container_id: True for container_id, answered in answers.items() if answered}
        for engine in self._controller.fleet.engines:
            judged = engine.id in answers or engine.state is ContainerState.RESTARTING
            if judged and known_unhealthy(self._book, engine, limit):
                said[engine.id] = False
        self._controller.take(Answers(said))

    # --- what an operator should know --------------------------------------------------------------------------------

    def _tell_ways(self) -> None:
        """Show which VPNs Mayday shares no network with."""
        controller, fleet = self._controller, self._controller.fleet
        without = {vpn for vpn in fleet.vpns if fleet.address(vpn) is None}
        for vpn in sorted(without ^ self._without_way):
            problem = None
            if vpn in without:
                container = fleet.vpns[vpn]
                networks = ", ".join(sorted(container.addresses)) if container else ""
                problem = f"no shared network with VPN '{vpn}': connect Mayday to one of {networks}"
                log.warning("%s; until then its engines are not asked whether they work", problem)
            else:
                log.info("Mayday shares a network with VPN '%s'; its engines are asked", vpn)
            controller.trouble(f"way to {vpn}", problem)
        self._without_way = without

    def _tell_silent(self) -> None:
        """Say once that no engine of a VPN answers, which is held against none of them."""
        limit = self._controller.settings.engine_health_failures
        silent = {vpn for vpn, rounds in self._book.silent.items() if rounds >= limit}
        for vpn in sorted(silent - self._silent):
            log.warning(
                "no engine on VPN '%s' answers Mayday%s; none is replaced for that while no other of that VPN works. "
                "Check that Mayday shares a Docker network with '%s', that Gluetun's firewall lets the engines' ports "
                "in (FIREWALL_INPUT_PORTS), that its tunnel works, and that engines listen on their http_port.",
                vpn,
                " any more" if vpn in self._book.reached else "",
                vpn,
            )
        for vpn in sorted(self._silent & self._book.working):
            log.info("engines on VPN '%s' answer Mayday again", vpn)
        self._silent = (self._silent | silent) - self._book.working

    def _tell_exhausted(self, vpns: set[str]) -> None:
        """Say once that so many engines of a VPN were replaced that another one would not help."""
        for vpn in sorted(vpns - self._exhausted):
            log.warning(
                "%d engines on VPN '%s' were replaced within an hour and engines there still fail; no other is "
                "replaced until that hour is over. See /history for which, and their logs for why.",
                REPLACEMENTS_AT_MOST,
                vpn,
            )
        self._exhausted = vpns
