"""Follows the forwarded ports: asks the VPNs, and has one engine of each listen on its port.

Where all engines are there already one is replaced, successor first, and not often: streams on it are cut.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from exporter.actions.calls import OvertakenError
from exporter.core import forwarding, plan
from exporter.core.dependents import SUCCESSOR_LABEL
from exporter.core.model import Phase
from exporter.core.plan import Outcome, ProvisionReason, RemoveReason
from exporter.fleet.results import Dropped, Forwarded
from exporter.work import Work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.actions.calls import Calls
    from exporter.actions.cleanup import Cleanup
    from exporter.actions.provisioning import Provisioning
    from exporter.actions.rehearsal import Rehearsal
    from exporter.core.model import Engine
    from exporter.core.snapshot import Snapshot
    from exporter.core.spec import EngineSpec
    from exporter.fleet.ledger import Entry

log = logging.getLogger("mayday")

FOLLOW_S = 60.0
"""How often every healthy VPN is asked, seconds."""
EARLY_S = 60.0
"""For so long after a VPN became healthy it is asked more often: Gluetun has the port some seconds after its health."""
RETRY_S = 2.0
MOVE_PAUSE_S = 600.0
"""How long after a replacement on a VPN the next one may come, seconds: a port that changes all the time is no port."""


class Forwarding:
    """What is known of the VPNs' ports, and the engines on them."""

    def __init__(self, calls: Calls, cleanup: Cleanup, provisioning: Provisioning, rehearsal: Rehearsal) -> None:
        self._calls = calls
        self._controller = calls.controller
        self._cleanup = cleanup
        self._provisioning = provisioning
        self._rehearsal = rehearsal
        self._phases: dict[str, Phase] = {}
        self._healthy_at: dict[str, float] = {}
        """When each VPN was first seen healthy since it last was not, monotonic seconds."""
        self._moved_at: dict[str, float] = {}
        self._lock = asyncio.Lock()

    def watch(self, snapshot: Snapshot) -> None:
        """Have a VPN looked at when it becomes healthy, and when it fails; a subscriber of the controller's."""
        for vpn, known in snapshot.state.vpns.items():
            if snapshot.ready and self._phases.get(vpn) is not known.phase:
                self._phases[vpn] = known.phase
                self._healthy_at[vpn] = snapshot.at.mono
                self._controller.request(Work.FORWARDED_PORT, vpn, 0)

    async def follow(self, vpn: str | None) -> float | None:
        """Look at one VPN, or at all; seconds until to look again, None when nothing is waited for."""
        vpns = self._controller.policy.vpns if vpn is None else (vpn,)
        async with self._lock:
            return min(filter(None, await asyncio.gather(*map(self._look_at, vpns))), default=None)

    async def _look_at(self, vpn: str) -> float | None:
        controller = self._controller
        if not controller.deciding:
            return None
        if controller.state.vpns[vpn].phase is not Phase.HEALTHY:
            if controller.state.vpns[vpn].phase is Phase.FAILED and vpn in controller.facts.forwarded:
                controller.take(Forwarded(vpn, 0))  # it comes back with another one, if with any
            return None
        await self._provisioning.ask_forwarded([vpn])
        await self._serve(vpn)
        if forwarding.waiting(controller.state, controller.fleet, vpn):
            return RETRY_S
        early = controller.clock.mono() - self._healthy_at.get(vpn, 0.0) < EARLY_S
        return RETRY_S if early and vpn not in controller.facts.forwarded else None

    async def _serve(self, vpn: str) -> None:
        """Have one engine on the port."""
        controller = self._controller
        if (engine := self._to_move(vpn)) is not None:
            if not controller.acting:
                self._rehearsal.provision(engine, ProvisionReason.REPLACE)
                return
            now = controller.clock.mono()
            if now - self._moved_at.get(vpn, now - MOVE_PAUSE_S) >= MOVE_PAUSE_S:
                self._moved_at[vpn] = now
                await self._replace(engine)
        for gone in forwarding.relieved(controller.state, controller.fleet, vpn):
            await self._cleanup.remove(gone, RemoveReason.FORWARDED_PORT, partial(self._may_go, gone))

    def _to_move(self, vpn: str) -> Engine | None:
        controller = self._controller
        known = controller.facts.forwarded.get(vpn)
        pending = self._provisioning.pending()
        return forwarding.to_move(controller.state, controller.fleet, controller.policy, known, pending, vpn)

    def _may_go(self, engine: Engine) -> bool:
        controller = self._controller
        return any(e.id == engine.id for e in forwarding.relieved(controller.state, controller.fleet, engine.vpn))

    async def _replace(self, engine: Engine) -> None:
        """Make the successor of an engine on the forwarded port: before that one goes, where there is room."""
        controller, vpn = self._controller, engine.vpn
        log.info("engine '%s' on VPN '%s' is replaced by one that listens on the forwarded port", engine.name, vpn)
        pending, ports = self._provisioning.pending(), controller.ledger.ports(vpn)
        first = forwarding.room_for_successor(controller.fleet, controller.policy, pending, vpn, ports)
        place = self._provisioning.take_place(vpn, engine)
        if place is None:
            return
        labels = {SUCCESSOR_LABEL: engine.id} if first else {}
        if not first:
            gone = await self._cleanup.remove(
                engine, RemoveReason.FORWARDED_PORT, lambda: plan.may_replace_on(controller.state, vpn)
            )
            if gone is not Outcome.OK:
                controller.note(Dropped(place))
                return
        await self._provisioning.create(place, ProvisionReason.REPLACE, partial(self._spec, labels, needed=first))

    def _spec(self, labels: Mapping[str, str], entry: Entry, *, needed: bool) -> EngineSpec:
        spec = self._provisioning.spec(entry, extra_labels=labels)
        if needed and entry.forwarded is None:
            raise OvertakenError  # another engine has the port, or there is none any more
        return spec
