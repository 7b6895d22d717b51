"""What must outlive a restart, as a JSON document and back.

Times are written relative to the moment of writing. How long ago that was is read from the monotonic clock, which goes
on while Mayday is away, so that no jump of the wall clock ends or stretches a stabilization; only after a reboot of the
host the wall clock has to tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from exporter.core.model import Mode, Moment, Phase, Reason
from exporter.core.phases import Emergency, FleetState, VpnState, initial_state
from exporter.core.texts import utc_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.core.policy import Policy

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Writing:
    """Turns readings of the monotonic clock into what is written down, at one moment."""

    now: Moment

    def relative(self, mono: float) -> float:
        """Seconds from now; negative: ago."""
        return mono - self.now.mono

    def moment(self, at: Moment) -> dict[str, Any]:
        """A moment as plain JSON values."""
        return {"in_s": self.relative(at.mono), "wall": at.wall.isoformat()}


@dataclass(frozen=True, slots=True)
class Reading:
    """Turns what was written down `away_s` seconds ago into readings of the monotonic clock."""

    now: Moment
    away_s: float

    def mono(self, relative_s: Any) -> float:
        """The reading that was so many seconds from the moment of writing."""
        return self.now.mono - self.away_s + number(relative_s)

    def moment(self, saved: Mapping[str, Any]) -> Moment:
        """A moment that `Writing.moment` wrote."""
        return Moment(self.mono(saved["in_s"]), utc_time(saved["wall"]))


class Memories(Protocol):
    """Where the memory is saved."""

    @property
    def up(self) -> bool:
        """Whether it is kept as it should be."""

    def save(self, document: Mapping[str, object]) -> None:
        """Keep the newest document; never blocks."""

    async def settle(self) -> None:
        """Wait until the newest document is kept, though not for ever."""


def to_document(
    state: FleetState,
    emergency_s: float,
    sources: Mapping[str, Callable[[Writing], Any]],
    now: Moment,
    boot: str,
) -> dict[str, Any]:
    """The memory as plain JSON values; `boot` names the run of the monotonic clock."""
    times = Writing(now)
    emergency = state.emergency
    return {
        "format": FORMAT,
        "written": {"boot": boot, "mono": now.mono, "wall": now.wall.isoformat()},
        "vpns": {
            name: {
                "phase": vpn.phase,
                "since": times.moment(vpn.since),
                "reason": vpn.reason,
                "detail": vpn.detail,
                "deadline": None if vpn.deadline is None else times.relative(vpn.deadline),
            }
            for name, vpn in state.vpns.items()
        },
        "emergency": None
        if emergency is None
        else {
            "entered": times.moment(emergency.entered),
            "vpn": emergency.vpn,
            "reason": emergency.reason,
            "relief": emergency.relief,
        },
        "emergency_s": emergency_s,
        **{key: saved for key, remember in sources.items() if (saved := remember(times)) is not None},
    }


def from_document(
    document: Mapping[str, Any], policy: Policy, now: Moment, boot: str
) -> tuple[FleetState, float, Reading]:
    """State and seconds of emergencies of an earlier run, and how to read the sources' parts.

    VPNs that are configured no longer are dropped, new ones are unknown.

    Raises:
        ValueError: the document is not one that `to_document` made.
    """
    try:
        return _read(document, policy, now, boot)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"the remembered state cannot be read: {error!r}") from error


def _read(document: Mapping[str, Any], policy: Policy, now: Moment, boot: str) -> tuple[FleetState, float, Reading]:
    if document["format"] != FORMAT:
        raise ValueError(f"the remembered state has format {document['format']!r}, not {FORMAT}")
    written = document["written"]
    if written["boot"] == boot:
        away_s = now.mono - number(written["mono"])
    else:
        away_s = max(0.0, (now.wall - utc_time(written["wall"])).total_seconds())
    times = Reading(now, away_s)
    vpns = dict(initial_state(policy, now).vpns)
    for name, item in document["vpns"].items():
        if name not in vpns:
            continue
        phase, reason = Phase(item["phase"]), item["reason"]
        deadline = None
        if phase is Phase.STABILIZING:
            deadline = min(times.mono(item["deadline"]), now.mono + policy.stabilization_s)
        vpns[name] = VpnState(
            phase, times.moment(item["since"]), Reason(reason) if reason else None, item["detail"], deadline
        )
    state = FleetState(vpns, redundant=policy.redundant)
    if state.mode is Mode.EMERGENCY:
        state = replace(state, emergency=_emergency(document["emergency"], state, times))
    return state, number(document["emergency_s"]), times


def _emergency(saved: Mapping[str, Any] | None, state: FleetState, times: Reading) -> Emergency:
    failed = state.having(Phase.FAILED)[0]
    if saved is None:
        return Emergency(times.now, failed, state.vpns[failed].reason or Reason.DOCKER_UNHEALTHY)
    relief = saved["relief"] if saved["relief"] in state.vpns else None
    vpn = saved["vpn"] if saved["vpn"] in state.vpns else failed
    return Emergency(times.moment(saved["entered"]), vpn, Reason(saved["reason"]), relief)


def number(value: Any) -> float:
    """A finite number.

    Raises:
        ValueError, TypeError: it is none.
    """
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"the remembered state has {found} where a number belongs")
    return found
