"""Service: which engines may be given streams, and if not, why.

Taking an engine out of service costs nothing and is undone at once, so it follows every phase without delay. It never
touches the container: what is stopped or removed is decided in plan.py.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from exporter.core.model import EngineState, Phase

if TYPE_CHECKING:
    from exporter.core.model import Engine
    from exporter.core.phases import FleetState


class NotUsable(StrEnum):
    """Why an engine may not be given streams. Closed: programs read it."""

    VPN_FAILED = "vpn_failed"
    VPN_IN_DOUBT = "vpn_in_doubt"
    """Whether its VPN works is not known at the moment."""
    VPN_UNKNOWN = "vpn_unknown"
    """Its VPN was not yet known to work."""
    STOPPED = "stopped"
    """Its container does not run."""
    ORPHANED = "orphaned"
    """It is not in its VPN's present network namespace."""
    UNHEALTHY = "unhealthy"
    """Its last health check failed."""


def out_of_service(state: FleetState, vpn: str) -> NotUsable | None:
    """Why the engines of a VPN are out of service; None: they are in service.

    A failed VPN reaches nothing, and whether an unknown or suspect one does is not known. In an outage every VPN has
    failed, so no engine is in service.
    """
    phase = state.vpns[vpn].phase
    if phase is Phase.FAILED:
        return NotUsable.VPN_FAILED
    if phase is Phase.UNKNOWN:
        return NotUsable.VPN_UNKNOWN
    return NotUsable.VPN_IN_DOUBT if vpn in state.doubtful else None


def not_usable_because(state: FleetState, engine: Engine) -> NotUsable | None:
    """Why an engine may not be given streams; None: it may.

    Its VPN comes first, for nothing helps the engine before that. Its last health check is Mayday's or Docker's; an
    engine that was never checked counts as healthy.
    """
    if (reason := out_of_service(state, engine.vpn)) is not None:
        return reason
    if engine.counted_as is not EngineState.WORKING:
        return NotUsable(engine.counted_as)
    return None if engine.orphan is None else NotUsable.ORPHANED
