"""What must outlive a restart, as a JSON document and back.

Times are written relative to the moment of writing. How long ago that was is read from the monotonic clock, which goes
on while Mayday is away, so that no jump of the wall clock ends or stretches a stabilization; only after a reboot of the
host the wall clock has to tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from exporter.core.alerts import Alert, Incident, Origin
from exporter.core.model import Mode, Moment, Phase, Policy, Reason, Signal, Source, Verdict
from exporter.core.phases import Emergency, FleetState, VpnState, initial_state

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


class Memories(Protocol):
    """Where the memory is saved."""

    @property
    def up(self) -> bool:
        """Whether it is kept as it should be."""

    def save(self, document: Mapping[str, object]) -> None:
        """Keep the newest document; never blocks."""


def to_document(memory: Memory, now: Moment, boot: str) -> dict[str, Any]:
    """The memory as plain JSON values; `boot` names the run of the monotonic clock."""

    def relative(mono: float) -> float:
        return mono - now.mono

    def moment(at: Moment) -> dict[str, Any]:
        return {"in_s": relative(at.mono), "wall": at.wall.isoformat()}

    emergency = memory.state.emergency
    return {
        "format": FORMAT,
        "written": {"boot": boot, "mono": now.mono, "wall": now.wall.isoformat()},
        "vpns": {
            name: {
                "phase": vpn.phase,
                "since": moment(vpn.since),
                "reason": vpn.reason,
                "detail": vpn.detail,
                "deadline": None if vpn.deadline is None else relative(vpn.deadline),
            }
            for name, vpn in memory.state.vpns.items()
        },
        "emergency": None
        if emergency is None
        else {
            "entered": moment(emergency.entered),
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
                "since": moment(incident.since),
                "heard": relative(incident.heard),
                "expires": relative(incident.expires),
            }
            for incident in memory.alerts.values()
        ],
        "drills": [
            {
                "vpn": drill.vpn,
                "detail": drill.detail,
                "since": moment(drill.since),
                "expires": None if drill.expires is None else relative(drill.expires),
            }
            for drill in memory.drills.values()
        ],
        "emergency_s": memory.emergency_s,
    }


def from_document(document: Mapping[str, Any], policy: Policy, now: Moment, boot: str) -> Memory:
    """The memory of an earlier run; VPNs that are configured no longer are dropped, new ones are unknown.

    Raises:
        ValueError: the document is not one that `to_document` made.
    """
    try:
        return _read(document, policy, now, boot)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"the remembered state cannot be read: {error!r}") from error


def _read(document: Mapping[str, Any], policy: Policy, now: Moment, boot: str) -> Memory:
    if document["format"] != FORMAT:
        raise ValueError(f"the remembered state has format {document['format']!r}, not {FORMAT}")

    written = document["written"]
    if written["boot"] == boot:
        away_s = now.mono - _number(written["mono"])
    else:
        away_s = max(0.0, (now.wall - _aware(written["wall"])).total_seconds())

    def mono(relative_s: float) -> float:
        return now.mono - away_s + _number(relative_s)

    def moment(saved: Mapping[str, Any]) -> Moment:
        return Moment(mono(saved["in_s"]), _aware(saved["wall"]))

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
    return Memory(state, alerts, drills, _number(document["emergency_s"]))


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"the remembered state has {number} where a number belongs")
    return number


def _aware(text: str) -> datetime:
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
