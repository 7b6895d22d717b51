"""Fills the VPNs up to what they should carry, and makes room for that."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.actions.backoff import BackOff
from exporter.core import balance, plan
from exporter.core.model import Mode
from exporter.core.plan import Outcome, RemoveReason
from exporter.fleet.ledger import Change, Entry
from exporter.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.actions.calls import Calls
    from exporter.actions.cleanup import Cleanup
    from exporter.actions.provisioning import Provisioning
    from exporter.actions.rehearsal import Rehearsal


class Autoscaler:
    """Creates what automatic provisioning asks for. What fails is tried again one engine at a time, with pauses."""

    def __init__(self, calls: Calls, cleanup: Cleanup, provisioning: Provisioning, rehearsal: Rehearsal) -> None:
        self._calls = calls
        self._controller = calls.controller
        self._cleanup = cleanup
        self._provisioning = provisioning
        self._rehearsal = rehearsal
        self._back_off = BackOff(self._controller.clock)

    async def provision(self) -> None:
        """Create what automatic provisioning asks for."""
        controller = self._controller
        if self._to_move() is not None:
            await self._make_room()
        if not self._fills():
            if controller.deciding and controller.state.mode is not Mode.NORMAL:
                controller.recorder.paused("Autoscaler", controller.state)
            return
        if due := self._due_fills():
            # Whatever takes time comes before the decision: what is decided after it is what is needed then.
            await self._provisioning.ask_forwarded(
                fill.vpn for fill in due if not any(engine.forwarded for engine in controller.fleet.on(fill.vpn))
            )
            await self._calls.read_again()
            if not controller.acting:
                for fill in self._fills():
                    self._rehearsal.fill(fill)
                return
            await self._carry_out(self._due_fills())
        left = self._back_off.wait_s(self._attempt(fill.vpn) for fill in self._fills())
        if left:
            controller.request(Work.PROVISION, None, left)

    async def _carry_out(self, fills: list[plan.Fill]) -> None:
        """Create what these fills ask for, and note on which VPNs that failed."""
        # Places are taken in the same step as the decision: no other decision counts on the same room meanwhile.
        names = self._provisioning.free_names()
        taken = [(fill, self._attempt(fill.vpn), self._take_places(fill, names)) for fill in fills]
        results = await asyncio.gather(*(self._fill(fill, entries) for fill, _, entries in taken))
        for (_, attempt, _), outcomes in zip(taken, results, strict=True):
            if Outcome.OK in outcomes:
                trial = self._back_off.failures(attempt)
                self._back_off.succeeded(attempt)
                if trial:
                    self._controller.request(Work.PROVISION, None, 0)
            if Outcome.ERROR in outcomes:
                self._back_off.failed(attempt)
        if taken:
            # Docker has the last word on what there is now.
            await self._calls.read_again()

    def _due_fills(self) -> list[plan.Fill]:
        """The fills to try now: one engine as a trial where the last try failed, none before its pause is over."""
        attempts = [(fill, self._attempt(fill.vpn)) for fill in self._fills()]
        return [
            replace(fill, count=1) if self._back_off.failures(attempt) else fill
            for fill, attempt in attempts
            if self._back_off.is_due(attempt)
        ]

    def _attempt(self, vpn: str) -> tuple[object, ...]:
        """What failures to create on a VPN are counted for: another phase, or another mode, is a fresh start."""
        state = self._controller.state
        return vpn, state.vpns[vpn].since, state.mode

    def _to_move(self) -> balance.Move | None:
        controller = self._controller
        move = balance.to_move(controller.state, controller.fleet, controller.policy, self._provisioning.pending())
        return None if move is None or self._back_off.failures(self._attempt(move.to)) else move

    async def _make_room(self) -> None:
        """Remove one engine that stands in the way of another VPN's share."""
        await self._calls.read_again()
        move = self._to_move()
        if move is None:
            return
        if not self._controller.acting:
            self._rehearsal.remove(move.engine, RemoveReason.REBALANCE)
            return

        def wanted() -> bool:
            again = self._to_move()
            return again is not None and again.engine.id == move.engine.id

        await self._cleanup.remove(move.engine, RemoveReason.REBALANCE, wanted)

    async def _fill(self, fill: plan.Fill, entries: Iterable[Entry]) -> list[Outcome]:
        decided = self._controller.state
        return await asyncio.gather(
            *(self._provisioning.create(e, fill.reason, self._provisioning.spec, decided=decided) for e in entries)
        )

    def _take_places(self, fill: plan.Fill, names: Iterator[str]) -> list[Entry]:
        """Places for a whole fill at once: what is taken is looked through once, not once for each engine."""
        controller = self._controller
        ports = plan.free_ports(controller.fleet, controller.policy, fill.vpn, controller.ledger.ports(fill.vpn))
        return [
            self._provisioning.begin(Entry(Change.CREATE, fill.vpn, next(names), port)) for port in ports[: fill.count]
        ]

    def _fills(self) -> list[plan.Fill]:
        controller = self._controller
        return plan.fills(controller.state, controller.fleet, controller.policy, self._provisioning.pending())
