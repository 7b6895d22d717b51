"""What is to be done: from the state and the fleet to removals, repairs, and creations, each with its reason.

Other files hold which engines of a failed VPN go, and when (`evacuation`), what is moved between VPNs (`balance`), what
is done with dependents of others (`parking`), and which engine listens on a forwarded port (`forwarding`). Nothing here
acts: before each call the question is asked again, because the answer may have changed meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from exporter.core import evacuation
from exporter.core.model import ContainerState, EngineState, Mode, Orphan, Phase
from exporter.core.policy import Capacity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.core.model import Engine, Fleet
    from exporter.core.phases import FleetState
    from exporter.core.policy import Policy


class RemoveReason(StrEnum):
    """Why an engine is removed."""

    VPN_FAILED = "vpn_failed"
    UNHEALTHY = "unhealthy"
    ORPHANED = "orphaned"
    OVERTAKEN = "overtaken"
    REBALANCE = "rebalance"
    """It stood in the way of the share of a VPN that has recovered."""
    REQUESTED = "requested"
    FORWARDED_PORT = "forwarded_port"


class ProvisionReason(StrEnum):
    """Why an engine is made, or made to work again."""

    FILL = "fill"
    RELIEF = "relief"
    REPLACE = "replace"
    REPAIR = "repair"
    REQUESTED = "requested"


class Outcome(StrEnum):
    """What came of an action."""

    OK = "ok"
    UNDONE = "undone"
    """It was overtaken: it must not be done any more."""
    ERROR = "error"
    DRY_RUN = "dry_run"


@dataclass(frozen=True, slots=True)
class Fill:
    """So many engines are to be created on a VPN."""

    vpn: str
    count: int
    reason: ProvisionReason


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no engine can be provisioned, and for how long (None: not known)."""

    code: str
    message: str
    retry_after_s: float | None = None


def may_create_on(state: FleetState, vpn: str) -> bool:
    """Whether a creation on this VPN is allowed at this moment; the one guard of every creation."""
    return vpn in state.vpns and state.vpns[vpn].phase is Phase.HEALTHY


def may_repair_on(state: FleetState, vpn: str) -> bool:
    """Whether orphans of this VPN may be repaired at this moment."""
    return state.mode is not Mode.OUTAGE and may_create_on(state, vpn)


def orphans(state: FleetState, fleet: Fleet) -> list[Engine]:
    """The engines to repair: not what Docker is removing; of others', only those that run without a network."""
    return [
        engine
        for group in fleet.groups.values()
        if group.orphans
        for engine in group.engines
        if engine.orphan is not None
        and may_repair_on(state, engine.vpn)
        and engine.state is not ContainerState.REMOVING
        and not (engine.orphan is Orphan.RESTART and engine.state is ContainerState.DEAD)
        and (engine.own or (engine.orphan is Orphan.RESTART and engine.state is ContainerState.RUNNING))
        and engine.id not in fleet.successors
    ]


def superseded(state: FleetState, fleet: Fleet) -> list[Engine]:
    """The own orphans whose successor works: they go.

    A successor may be an orphan again before what it was made from is gone; then the oldest goes first, so that none is
    left without one, to be made anew a second time.
    """
    if not fleet.successors:
        return []
    there = {engine.id for engine in fleet.engines}
    return [
        engine
        for engine in fleet.engines
        if engine.own
        and engine.orphan is Orphan.RECREATE
        and engine.successor_of not in there
        and (last := _last_successor(fleet, engine)) is not engine
        and last.state is ContainerState.RUNNING
        and last.orphan is None
        and may_repair_on(state, engine.vpn)
    ]


def _last_successor(fleet: Fleet, engine: Engine) -> Engine:
    last, seen = engine, {engine.id}
    while (following := fleet.successors.get(last.id)) is not None and following.id not in seen:
        last = following
        seen.add(last.id)
    return last


def health_manager_runs(state: FleetState) -> bool:
    """Whether engines that fail their health check are replaced."""
    return state.mode is Mode.NORMAL


def may_replace_on(state: FleetState, vpn: str) -> bool:
    """Whether an engine of this VPN may be replaced at this moment; the one guard of every such call."""
    return health_manager_runs(state) and may_create_on(state, vpn) and vpn not in state.doubtful


def needs_successor(engine: Engine, fleet: Fleet, policy: Policy) -> bool:
    """Whether an engine removed as unhealthy must be made anew: not where its VPN has enough without it."""
    others = sum(other.planned for other in fleet.on(engine.vpn) if other.id != engine.id)
    return engine.explicit or others < shares(policy)[engine.vpn]


def divide(total: int, names: Iterable[str]) -> dict[str, int]:
    """`total` divided evenly; what remains goes to the first, one each."""
    names = list(names)
    if not names:
        return {}
    each, rest = divmod(total, len(names))
    return {name: each + (1 if index < rest else 0) for index, name in enumerate(names)}


def shares(policy: Policy) -> dict[str, int]:
    """The engines that each configured VPN should carry, never more than it has ports."""
    return {
        name: _within_ports(policy, name, count) for name, count in divide(policy.min_replicas, policy.vpns).items()
    }


def desired(state: FleetState, policy: Policy) -> dict[str, int]:
    """How many engines each VPN should carry in the present mode: a failed one none while others carry on."""
    share = shares(policy)
    if state.mode is not Mode.EMERGENCY:
        return share
    left = state.carrying
    if policy.capacity is Capacity.FULL:
        share = {name: _within_ports(policy, name, count) for name, count in divide(policy.min_replicas, left).items()}
    return {name: 0 if evacuation.must_evacuate(state, name) else share.get(name, 0) for name in policy.vpns}


def with_relief(state: FleetState, fleet: Fleet, policy: Policy) -> FleetState:
    """The state, with a VPN chosen for relief when no healthy VPN of an emergency has a working engine left.

    VPNs in doubt are looked past as long as there is another. Where MIN_REPLICAS is 0 no engine is wanted.

    Once chosen it stays so until the emergency ends or that VPN fails: relief fills a share, it does not stop at the
    first engine that works.
    """
    emergency = state.emergency
    if emergency is None:
        return state
    if emergency.relief is not None and emergency.relief not in state.carrying:
        emergency = replace(emergency, relief=None)
    healthy = [vpn for vpn in state.having(Phase.HEALTHY) if vpn not in state.doubtful] or state.having(Phase.HEALTHY)
    if emergency.relief is None and healthy and policy.min_replicas:
        working = {vpn for vpn, group in fleet.groups.items() if group.states.get(EngineState.WORKING)}
        if not working.intersection(healthy):
            emergency = replace(emergency, relief=healthy[0])
    return state if emergency is state.emergency else replace(state, emergency=emergency)


def fills(state: FleetState, fleet: Fleet, policy: Policy, pending: Mapping[str, int]) -> list[Fill]:
    """What automatic provisioning creates. `pending` counts creations under way per VPN that `fleet` does not show.

    Explicit engines come on top of a share, so they do not count towards it; towards MAX_REPLICAS all own ones do.
    """
    relief = state.relief
    reason = ProvisionReason.FILL
    targets = desired(state, policy)
    if state.mode is Mode.EMERGENCY and policy.capacity is Capacity.REDUCED:
        targets = {}
        reason = ProvisionReason.RELIEF
    if relief is not None:
        targets[relief] = target(state, policy, relief)
    room = policy.max_replicas - fleet.own - sum(pending.values())
    result = []
    for vpn, wanted in targets.items():
        if not may_create_on(state, vpn):
            continue
        free = len(free_ports(fleet, policy, vpn, ())) - pending.get(vpn, 0)
        count = min(wanted - carried(state, fleet, vpn) - pending.get(vpn, 0), room, free)
        if count > 0:
            room -= count
            result.append(Fill(vpn, count, reason))
    return result


def choose_vpn(
    state: FleetState, fleet: Fleet, policy: Policy, pending: Mapping[str, int], mono: float, wanted: str | None = None
) -> str | Refusal:
    """The VPN for an engine that was asked for: the least loaded in phase healthy, or why there is none."""
    if fleet.own + sum(pending.values()) >= policy.max_replicas:
        return Refusal("max_replicas", f"the fleet is at its limit of {policy.max_replicas} own engines (MAX_REPLICAS)")
    candidates = [
        vpn for vpn in ([wanted] if wanted else policy.vpns) if may_create_on(state, vpn) and vpn not in state.doubtful
    ]
    if not candidates:
        return _nobody(state, mono, wanted)
    carried = {vpn: len(fleet.on(vpn)) + pending.get(vpn, 0) for vpn in candidates}
    with_port = [vpn for vpn in candidates if len(free_ports(fleet, policy, vpn, ())) > pending.get(vpn, 0)]
    if not with_port:
        return Refusal("no_free_port", f"no free engine port left on {', '.join(candidates)} (GLUETUN_PORT_RANGE_n)")
    return min(with_port, key=lambda vpn: carried[vpn])


def free_ports(fleet: Fleet, policy: Policy, vpn: str, taken: Iterable[int]) -> list[int]:
    """Ports of the VPN's range that no dependent has, lowest first; `taken` are further ones to leave out.

    Those that are stopped keep their port: they may be started again.
    """
    used = {one.port for one in fleet.dependents(vpn)} | set(taken)
    return [port for port in policy.ports.get(vpn, ()) if port not in used]


def choose_port(
    fleet: Fleet, policy: Policy, vpn: str, taken: Iterable[int], instead_of: Engine | None = None
) -> int | None:
    """The port for a new engine; where all are taken, that of the engine which is to go for it, None if that is too."""
    taken = set(taken)
    ports = free_ports(fleet, policy, vpn, taken)
    if ports:
        return ports[0]
    return instead_of.port if instead_of is not None and instead_of.port not in taken else None


def may_be_connected(engine: Engine, fleet: Fleet) -> bool:
    """Whether an orphan may work all the same, and can be asked: no other engine has its port."""
    alone = sum(other.port == engine.port for other in fleet.on(engine.vpn)) == 1
    running = engine.state is ContainerState.RUNNING and engine.port is not None
    return engine.orphan is Orphan.RESTART and running and alone


def target(state: FleetState, policy: Policy, vpn: str) -> int:
    """How many engines a VPN should carry in the present mode, relief counted in."""
    number = desired(state, policy)[vpn]
    # One at least for relief, even where the share is none: without an engine it would never become a carrier.
    return max(shares(policy)[vpn], number, 1) if vpn == state.relief else number


def carried(state: FleetState, fleet: Fleet, vpn: str) -> int:
    """How many engines of a VPN count towards what it should carry.

    For relief only those that work, and orphans, which are repaired anyway: others are not replaced in an emergency.
    """
    if vpn != state.relief:
        return fleet.groups[vpn].planned
    return sum(e.planned and (e.orphan is not None or e.counted_as is EngineState.WORKING) for e in fleet.on(vpn))


def _within_ports(policy: Policy, vpn: str, count: int) -> int:
    return min(count, len(policy.ports.get(vpn, ())))


def _nobody(state: FleetState, mono: float, wanted: str | None) -> Refusal:
    if state.mode is Mode.OUTAGE:
        return Refusal("outage", "all VPNs have failed; engines are provisioned again after one has recovered")
    names = (wanted,) if wanted else tuple(state.vpns)
    stabilizing = [state.vpns[name].stabilization_remaining_s(mono) for name in names if state.vpns[name].deadline]
    if stabilizing:
        left = min(stabilizing)
        return Refusal("stabilizing", f"the VPN has just recovered and stabilizes for another {left:.0f} s", left)
    if wanted and wanted in state.doubtful:
        return Refusal("vpn_in_doubt", f"whether VPN '{wanted}' works is in doubt at the moment")
    if wanted:
        return Refusal("vpn_not_healthy", f"VPN '{wanted}' is {state.vpns[wanted].phase}")
    return Refusal("no_healthy_vpn", "no VPN is known to be healthy yet")
