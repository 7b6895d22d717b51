"""The forwarded port: which engine listens on it, and which one is to go for another that does.

An engine takes its ports from its creation. So the next one that is made gets a port on which none listens, and where
none is to be made, one is replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.core import plan
from exporter.core.model import WRECKED, EngineState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from exporter.core.model import Engine, Fleet
    from exporter.core.phases import FleetState
    from exporter.core.policy import Policy


def claimed(fleet: Fleet, vpn: str, port: int, but: Engine | None = None) -> bool:
    """Whether an engine of this VPN, other than `but`, has the forwarded port: its own, or one of others, any port.

    Which one others' engines listen on is not known, and two on one port would keep each other from it.
    """
    return any(
        engine.forwarded_port == port or (engine.forwarded and not engine.own)
        for engine in fleet.on(vpn)
        if engine.state not in WRECKED and (but is None or engine.id != but.id)
    )


def to_give(
    fleet: Fleet, vpn: str, known: int | None, promised: Collection[int], instead_of: Engine | None
) -> int | None:
    """The forwarded port for an engine that is about to be made, None: it gets none.

    `known` is the VPN's, `promised` are those of creations under way. An engine that is replaced passes its own on, as
    long as no other is known.
    """
    port = known if known is not None or instead_of is None else instead_of.forwarded_port
    if port is None or port in promised or claimed(fleet, vpn, port, but=instead_of):
        return None
    return port


def to_move(
    state: FleetState, fleet: Fleet, policy: Policy, known: int | None, pending: Mapping[str, int], vpn: str
) -> Engine | None:
    """The engine that is to go for one on the forwarded port; None: there is one, or the next that is made gets it.

    The one on a port that is not forwarded any more, else the newest. Never one that was asked for, and only where all
    is well: it is no repair.
    """
    if known is None or not plan.may_replace_on(state, vpn) or claimed(fleet, vpn, known) or pending.get(vpn):
        return None
    if any(fill.vpn == vpn for fill in plan.fills(state, fleet, policy, pending)):
        return None
    movable = [
        engine
        for engine in fleet.on(vpn)
        if engine.planned and engine.counted_as is EngineState.WORKING and engine.id not in fleet.successors
    ]
    return max(movable, key=lambda e: (e.forwarded_port is not None, e.created_at, e.name), default=None)


def room_for_successor(
    fleet: Fleet, policy: Policy, pending: Mapping[str, int], vpn: str, taken: Collection[int]
) -> bool:
    """Whether a successor can be made before its predecessor goes."""
    made = len(fleet.engines) + sum(pending.values())
    return made < policy.max_replicas and bool(plan.free_ports(fleet, policy, vpn, taken))


def waiting(state: FleetState, fleet: Fleet, vpn: str) -> list[Engine]:
    """The engines that are to go as soon as their successor on the forwarded port works."""
    if not fleet.successors or not plan.may_replace_on(state, vpn):
        return []
    return [
        engine
        for engine in fleet.on(vpn)
        if engine.own
        and engine.orphan is None
        and (successor := fleet.successors.get(engine.id)) is not None
        and successor.own
        and successor.forwarded_port is not None
    ]


def relieved(state: FleetState, fleet: Fleet, vpn: str) -> list[Engine]:
    """Those of them that may go now: their successor answers, where engines of this VPN answer at all."""
    answering = any(engine.own and engine.healthy for engine in fleet.on(vpn))
    return [
        engine
        for engine in waiting(state, fleet, vpn)
        if (successor := fleet.successors[engine.id]).counted_as is EngineState.WORKING
        and successor.orphan is None
        and (successor.healthy or not answering)
    ]
