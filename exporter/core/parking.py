"""Which dependents owned by others failover stops, and when what it stopped is started again."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from exporter.core.model import ContainerState, Phase
from exporter.core.policy import Response

if TYPE_CHECKING:
    from collections.abc import Collection

    from exporter.core.model import Engine, Fleet
    from exporter.core.phases import FleetState
    from exporter.core.policy import Policy

PARKABLE = frozenset({ContainerState.RUNNING, ContainerState.RESTARTING})
"""States from which a container is stopped and can be brought back. One that its owner has paused stays paused."""


class ParkAction(StrEnum):
    """What failover does to a container that is not its own."""

    PARK = "park"
    """It is stopped, for its VPN has failed."""
    UNPARK = "unpark"
    """It is started again, for its VPN is healthy."""


def to_park(
    state: FleetState, fleet: Fleet, policy: Policy, vpn: str, taken_back: Collection[str] = ()
) -> tuple[Engine, ...]:
    """The dependents of a failed VPN that failover stops: those owned by others, as far as they run.

    Not those that their owners made during the failure, or that they took back (by id) after they had been stopped: the
    owner is at work there, and knows better.
    """
    failed_at = state.vpns[vpn].since.wall.timestamp()
    return tuple(
        one
        for one in fleet.dependents(vpn)
        if not one.own
        and (one.response or policy.others) is Response.PARK
        and one.state in PARKABLE
        and one.created_at < failed_at
        and one.id not in taken_back
    )


def may_bring_back(state: FleetState, vpn: str) -> bool:
    """Whether what was parked may be started again: its VPN has stabilized, and is not in doubt."""
    return vpn in state.having(Phase.HEALTHY) and vpn not in state.doubtful
