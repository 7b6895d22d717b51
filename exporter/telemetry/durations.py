"""How long a detection, a cleanup and a restoration of capacity took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.core import plan
from exporter.core.model import Mode, Phase

if TYPE_CHECKING:
    from exporter.core.model import Fleet, Moment
    from exporter.core.phases import FleetState, PhaseChange
    from exporter.core.policy import Policy
    from exporter.telemetry.metrics import Metrics

DETECTION_CREDIBLE_S = 60.0
"""An event older than this, seconds, shows that Docker's clock differs, not that the detection was slow."""


class Durations:
    """Measures from a phase change to the moment at which the fleet is as it should be."""

    def __init__(self, metrics: Metrics, policy: Policy) -> None:
        self._metrics = metrics
        self._shares = plan.shares(policy)
        self._cleanup_since: dict[str, float] = {}
        self._restore_since: dict[str, float] = {}

    def phase_changed(self, change: PhaseChange, event_at: float | None) -> None:
        """Begin to measure after a phase change; `event_at` is the time of the event that caused it, by Docker's clock
        in Unix seconds, None when no event did."""
        vpn, mono = change.vpn, change.at.mono
        self._cleanup_since.pop(vpn, None)
        if change.after is Phase.FAILED:
            self._restore_since.pop(vpn, None)
            self._cleanup_since[vpn] = mono
            if event_at is not None and 0 <= (late_s := change.at.wall.timestamp() - event_at) <= DETECTION_CREDIBLE_S:
                self._metrics.detection.observe(late_s)
        if change.before is Phase.STABILIZING and change.after is Phase.HEALTHY:
            self._restore_since[vpn] = mono

    def look(self, state: FleetState, fleet: Fleet, now: Moment) -> None:
        """Record what has ended by now."""
        if state.mode is Mode.EMERGENCY:
            for vpn in [vpn for vpn in self._cleanup_since if not fleet.on(vpn)]:
                self._metrics.cleanup.observe(now.mono - self._cleanup_since.pop(vpn))
        for vpn in list(self._restore_since):
            if fleet.groups[vpn].planned >= self._shares[vpn]:
                self._metrics.restore.observe(now.mono - self._restore_since.pop(vpn))
