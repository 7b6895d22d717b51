"""What must outlive a restart, as a JSON document and back.

Deadlines are written as wall time. Reading one back never makes it longer than its full period, so a wall clock that
jumped while nobody watched can shorten a stabilization at worst to nothing, and lengthen none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from exporter.core.alerts import Alert, Incident, Origin
from exporter.core.model import Mode, Moment, Phase, Policy, Reason, Signal, Source, Verdict
from exporter.core.state import Emergency, FleetState, VpnState, initial_state

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """What is kept: the state, the alerts, the drills by VPN, and the seconds of all emergencies that are over."""

    state: FleetState
    alerts: Mapping[str, Incident] = field(default_factory=dict)
    drills: Mapping[str, Signal] = field(default_factory=dict)
    emergency_s: float = 0.0


def to_document(memory: Memory, now: Moment) -> dict[str, Any]:
    """The memory as plain JSON values."""

    def wall(mono: float) -> str:
        return (now.wall + timedelta(seconds=mono - now.mono)).isoformat()

    emergency = memory.state.emergency
    return {
        "format": FORMAT,
        "vpns": {
            name: {
                "phase": vpn.phase,
                "since": vpn.since.wall.isoformat(),
                "reason": vpn.reason,
                "detail": vpn.detail,
                "deadline": None if vpn.deadline is None else wall(vpn.deadline),
            }
            for name, vpn in memory.state.vpns.items()
        },
        "emergency": None
        if emergency is None
        else {
            "entered": emergency.entered.wall.isoformat(),
            "vpn": emergency.vpn,
            "reason": emergency.reason,
            "relief": emergency.relief,
        },
        "alerts": [
            {
                "fingerprint": incident.alert.fingerprint,
                "starts_at": incident.alert.starts_at.isoformat(),
                "vpn": incident.alert.vpn,
                "name": incident.alert.name,
                "firing": incident.alert.firing,
                "origin": incident.alert.origin,
                "since": incident.since.wall.isoformat(),
                "heard": wall(incident.heard),
                "expires": wall(incident.expires),
            }
            for incident in memory.alerts.values()
        ],
        "drills": [
            {
                "vpn": drill.vpn,
                "detail": drill.detail,
                "since": drill.since.wall.isoformat(),
                "expires": None if drill.expires is None else wall(drill.expires),
            }
            for drill in memory.drills.values()
        ],
        "emergency_s": memory.emergency_s,
    }


def from_document(document: Mapping[str, Any], policy: Policy, now: Moment) -> Memory:
    """The memory of an earlier run; VPNs that are configured no longer are dropped, new ones are unknown.

    Raises:
        ValueError: the document is not one that `to_document` made.
    """
    try:
        return _read(document, policy, now)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"the remembered state cannot be read: {error!r}") from error


def _read(document: Mapping[str, Any], policy: Policy, now: Moment) -> Memory:
    if document["format"] != FORMAT:
        raise ValueError(f"the remembered state has format {document['format']!r}, not {FORMAT}")

    def moment(text: str) -> Moment:
        wall = min(_aware(text), now.wall)
        return Moment(now.mono - (now.wall - wall).total_seconds(), wall)

    def mono(text: str) -> float:
        return now.mono + (_aware(text) - now.wall).total_seconds()

    vpns = dict(initial_state(policy, now).vpns)
    for name, item in document["vpns"].items():
        if name not in vpns:
            continue
        phase, reason = Phase(item["phase"]), item["reason"]
        deadline = None
        if phase is Phase.STABILIZING:
            deadline = min(mono(item["deadline"]), now.mono + policy.stabilization_s)
        vpns[name] = VpnState(
            phase, moment(item["since"]), Reason(reason) if reason else None, item["detail"], deadline
        )
    state = FleetState(vpns, redundant=policy.redundant)
    saved = document["emergency"]
    if state.mode is Mode.EMERGENCY:
        failed = state.having(Phase.FAILED)[0]
        if saved is None:
            cause = state.vpns[failed]
            emergency = Emergency(now, failed, cause.reason or Reason.DOCKER_UNHEALTHY)
        else:
            relief = saved["relief"] if saved["relief"] in vpns else None
            vpn = saved["vpn"] if saved["vpn"] in vpns else failed
            emergency = Emergency(moment(saved["entered"]), vpn, Reason(saved["reason"]), relief)
        state = replace(state, emergency=emergency)
    alerts = {}
    for item in document["alerts"]:
        if item["vpn"] in vpns:
            alert = Alert(
                str(item["fingerprint"]),
                _aware(item["starts_at"]),
                item["vpn"],
                str(item["name"]),
                bool(item["firing"]),
                Origin(item["origin"]),
            )
            incident = Incident(alert, moment(item["since"]), mono(item["heard"]), mono(item["expires"]))
            alerts[alert.fingerprint] = incident
    drills = {
        item["vpn"]: Signal(
            item["vpn"],
            Source.OPERATOR,
            Verdict.UNHEALTHY,
            Reason.DRILL,
            str(item["detail"]),
            moment(item["since"]),
            mono(item["expires"]),
        )
        for item in document["drills"]
        if item["vpn"] in vpns
    }
    return Memory(state, alerts, drills, float(document["emergency_s"]))


def _aware(text: str) -> datetime:
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
