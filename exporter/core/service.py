"""Service: which engines may be given streams.

Taking an engine out of service costs nothing and is undone at once, so it follows every phase without delay. It never
touches the container: what is stopped or removed is decided in plan.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.core.model import EngineState
from exporter.core.phases import CARRYING

if TYPE_CHECKING:
    from exporter.core.model import Engine
    from exporter.core.phases import FleetState


def in_service(state: FleetState, vpn: str) -> bool:
    """Whether the engines of a VPN are in service: its phase is healthy or stabilizing, and it is not in doubt.

    A failed VPN reaches nothing, and whether an unknown or suspect one does is not known. In an outage every VPN has
    failed, so no engine is in service.
    """
    return state.vpns[vpn].phase in CARRYING and vpn not in state.doubtful


def usable(state: FleetState, engine: Engine) -> bool:
    """Whether an engine may be given streams.

    It may when its container runs, it is in its VPN's present network namespace, its last health check did not fail,
    neither Mayday's nor Docker's (an engine that was never checked counts as healthy), and its VPN is in service.
    """
    return engine.counted_as is EngineState.WORKING and engine.orphan is None and in_service(state, engine.vpn)
