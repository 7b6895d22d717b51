"""The one picture that web pages and metrics are drawn from, so that they never disagree."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from exporter.core.model import Mode, Phase, Reason, Source, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.core.evacuation import Evacuation
    from exporter.core.model import Fleet, Moment
    from exporter.core.phases import FleetState
    from exporter.core.verdict import Judgement


class Held(StrEnum):
    """Why no container is touched, although there may be need."""

    PAUSE = "pause"
    """An operator paused it."""
    SIBLING = "sibling"
    """Another Mayday is at work here."""
    DRY_RUN = "dry_run"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is known and decided, at one moment."""

    at: Moment
    state: FleetState
    fleet: Fleet
    judgements: Mapping[str, Judgement]
    desired: Mapping[str, int]
    counts: Mapping[tuple[str, str], int]
    """Engines by (VPN, `EngineState`)."""
    deferred: Mapping[str, Evacuation] = field(default_factory=dict)
    """VPNs whose evacuation waits, and why."""
    forwarded: Mapping[str, int] = field(default_factory=dict)
    """The ports that VPNs are known to forward."""
    docker_up: bool = False
    events_connected: bool = False
    read_at: Moment | None = None
    """When the facts were last read whole; None: not yet."""
    emergency_s: float = 0.0
    """Seconds of all emergencies that are over."""
    alertmanager_up: bool | None = None
    """None: no ALERTMANAGER_URL is set."""
    journal_up: bool = True
    holds: Mapping[Held, str] = field(default_factory=dict)
    """Why no container is touched, each with its sentence; empty: containers are touched where there is need."""
    closing: bool = False
    unreadable: int = 0
    """Containers that Docker does not tell about."""
    problems: tuple[str, ...] = field(default=())
    """What an operator should know and act on, one sentence each."""

    @property
    def ready(self) -> bool:
        """Whether the facts were read and Docker is there."""
        return self.docker_up and self.read_at is not None and not self.closing

    @property
    def emergency_active(self) -> bool:
        """Whether the mode is emergency."""
        return self.state.mode is Mode.EMERGENCY

    def drill_remaining_s(self, vpn: str, mono: float) -> float | None:
        """Seconds that are left of the drill on a VPN; None: there is none."""
        for signal in self.judgements[vpn].signals:
            if signal.reason is Reason.DRILL and signal.expires is not None:
                return max(0.0, signal.expires - mono)
        return None

    def only_drilled(self, vpn: str) -> bool:
        """Whether a drill, and nothing else, has a VPN declared failed."""
        objecting = {s.source for s in self.judgements[vpn].signals if s.verdict is Verdict.UNHEALTHY}
        return objecting == {Source.OPERATOR}

    def emergency_duration_s(self, mono: float) -> float:
        """Seconds since the present emergency was entered, 0 when there is none."""
        return 0.0 if self.state.emergency is None else max(0.0, mono - self.state.emergency.entered.mono)

    def emergency_total_s(self, mono: float) -> float:
        """Seconds spent in emergencies, the present one included."""
        return self.emergency_s + self.emergency_duration_s(mono)

    def emergency_info(self, mono: float) -> dict[str, object]:
        """The emergency as `/vpn/status` shows it."""
        emergency = self.state.emergency
        failed = list(self.state.having(Phase.FAILED)) if emergency else []
        healthy = list(self.state.carrying) if emergency else []
        info: dict[str, object] = {
            "active": emergency is not None,
            "failed_vpn": failed[0] if failed else None,
            "healthy_vpn": healthy[0] if healthy else None,
            "duration_seconds": round(self.emergency_duration_s(mono), 1),
            "entered_at": emergency.entered.wall.isoformat() if emergency else None,
        }
        if len(self.state.vpns) > 2:
            info |= {"failed_vpns": failed, "healthy_vpns": healthy}
        return info
