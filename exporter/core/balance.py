"""One engine more or less: whether it is still needed, and which one can be spared. Asked right before each call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.core.model import EngineState, Mode, Phase
from exporter.core.plan import ProvisionReason, carried, desired, free_ports, shares, target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.core.model import Engine, Fleet
    from exporter.core.phases import FleetState
    from exporter.core.policy import Policy


@dataclass(frozen=True, slots=True)
class Move:
    """An engine is to go, so that one can be created on another VPN."""

    engine: Engine
    to: str


def still_needed(
    state: FleetState,
    fleet: Fleet,
    policy: Policy,
    pending: Mapping[str, int],
    vpn: str,
    name: str,
    reason: ProvisionReason,
) -> bool:
    """Whether there is room, and need, for the engine of this name besides all others, shown or `pending`.

    What was begun before an emergency paused provisioning is completed, up to the share.
    """
    if reason in {ProvisionReason.REPLACE, ProvisionReason.REPAIR}:
        return True
    known = next((engine for engine in fleet.on(vpn) if engine.name == name), None)
    room = policy.max_replicas - fleet.own - sum(pending.values()) + (known is not None)
    if reason is ProvisionReason.REQUESTED:
        return room > 0
    others = carried(state, fleet, vpn) - (known is not None and known.planned) + pending.get(vpn, 0)
    return room > 0 and others < target(state, policy, vpn)


def to_move(state: FleetState, fleet: Fleet, policy: Policy, pending: Mapping[str, int]) -> Move | None:
    """What makes room for the share of a VPN in phase healthy, where MAX_REPLICAS leaves none: one engine at a time.

    Successors come first: as long as there is room the VPN is filled, and what it was given so far has to work. At the
    limit one engine goes, and the next fill takes its place. Where MAX_REPLICAS is MIN_REPLICAS there never is room for
    a successor, so that for a moment one engine is missing. A VPN that stabilizes neither gives nor takes.
    """
    if state.mode is not Mode.NORMAL or fleet.own != policy.max_replicas or any(pending.values()):
        return None
    share = shares(policy)
    surplus = {vpn: fleet.groups[vpn].planned - share[vpn] for vpn in state.having(Phase.HEALTHY)}
    short = [
        vpn
        for vpn in surplus
        if surplus[vpn] < 0
        and vpn not in state.doubtful
        and all(engine.counted_as is EngineState.WORKING for engine in fleet.on(vpn) if engine.planned)
        and free_ports(fleet, policy, vpn, ())
    ]
    donor = max(surplus, key=surplus.__getitem__, default=None)
    if not short or donor is None or surplus[donor] <= 0:
        return None
    return Move(_dispensable(fleet, donor)[0], short[0])


def surplus(state: FleetState, fleet: Fleet, policy: Policy, vpn: str | None = None) -> list[Engine]:
    """The engines above what VPNs in phase healthy should carry (or one of them), those first that go first."""
    share, wanted = shares(policy), desired(state, policy)
    found = []
    for name in state.having(Phase.HEALTHY):
        if vpn in {None, name}:
            above = fleet.groups[name].planned - max(share[name], wanted[name])
            found += _dispensable(fleet, name)[: max(0, above)]
    return found


def _dispensable(fleet: Fleet, vpn: str) -> list[Engine]:
    """The engines that count towards the share of a VPN, those first that can best be spared: idle ones, the newest."""
    planned = (engine for engine in fleet.on(vpn) if engine.planned)
    return sorted(planned, key=lambda e: (e.counted_as is EngineState.WORKING, -e.created_at, e.name))
