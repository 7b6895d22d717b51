"""When the engines of a failed VPN go, and which: only when that is safe, needed at this moment, and Mayday's to do.

Nothing here acts: before each call the question is asked again, because the answer may have changed meanwhile.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from exporter.core.model import WRECKED, EngineState, Mode, Phase
from exporter.core.parking import to_park
from exporter.core.policy import Response

if TYPE_CHECKING:
    from collections.abc import Collection

    from exporter.core.model import Engine, Fleet
    from exporter.core.phases import FleetState
    from exporter.core.policy import Policy


def must_evacuate(state: FleetState, vpn: str) -> bool:
    """Whether engines on this VPN are ghosts at this moment: out of service at once, to go once that is safe."""
    return state.mode is Mode.EMERGENCY and state.vpns[vpn].phase is Phase.FAILED


class Evacuation(StrEnum):
    """Whether the engines of a failed VPN may be stopped and removed, and if not, why that waits."""

    SAFE = "safe"
    DELAY = "delay"
    """The failure has not lasted long enough."""
    IN_DOUBT = "in_doubt"
    """At this moment nothing says that the VPN is unhealthy: that it has failed is remembered only."""
    STARTING = "starting"
    """It has not been healthy since Mayday or Docker came up, and may be about to start, as after a boot."""
    NO_CARRIER = "no_carrier"
    """No other VPN carries: to remove engines might cost the only ones that can work again."""


TIMED = frozenset({Evacuation.DELAY, Evacuation.STARTING})
"""What time alone ends."""


def carriers(state: FleetState, fleet: Fleet) -> list[str]:
    """The VPNs that carry: in phase healthy, not in doubt, and with at least one engine that works."""
    return [
        vpn
        for vpn in state.having(Phase.HEALTHY)
        if vpn not in state.doubtful and fleet.groups[vpn].states.get(EngineState.WORKING)
    ]


def assess(
    state: FleetState, fleet: Fleet, policy: Policy, mono: float, vpn: str, taken_back: Collection[str] = ()
) -> Evacuation | None:
    """Whether the evacuation of a VPN is safe now (monotonic seconds); None: there is nothing to evacuate."""
    if not must_evacuate(state, vpn) or not (ghosts(fleet, vpn) or to_park(state, fleet, policy, vpn, taken_back)):
        return None
    if policy.min_replicas and not carriers(state, fleet):
        return Evacuation.NO_CARRIER
    if vpn in state.doubtful:
        return Evacuation.IN_DOUBT
    if mono < state.starting_until.get(vpn, mono):
        return Evacuation.STARTING
    return Evacuation.SAFE if mono >= due_at(state, policy, vpn) else Evacuation.DELAY


def due_at(state: FleetState, policy: Policy, vpn: str) -> float:
    """When the failure of a VPN has lasted long enough, monotonic seconds."""
    due = state.vpns[vpn].since.mono + policy.evacuation_delay_s
    return max(due, state.starting_until.get(vpn, due))


def may_evacuate(state: FleetState, fleet: Fleet, policy: Policy, mono: float, vpn: str) -> bool:
    """Whether engines of this VPN may be stopped or removed now; the one guard of every such call by failover."""
    return assess(state, fleet, policy, mono, vpn) is Evacuation.SAFE


def ghosts(fleet: Fleet, vpn: str) -> tuple[Engine, ...]:
    """The dependents of a failed VPN that failover removes: the own engines, and those whose owners ask for it."""
    return tuple(one for one in fleet.dependents(vpn) if one.own or one.response is Response.REMOVE)


def wrecks(state: FleetState, fleet: Fleet, vpn: str) -> tuple[Engine, ...]:
    """Own engines that can never run again: Docker has given up removing them, or has not finished."""
    if state.mode is Mode.OUTAGE:
        return ()
    return tuple(engine for engine in fleet.on(vpn) if engine.own and engine.state in WRECKED)
