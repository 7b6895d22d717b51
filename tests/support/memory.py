"""The whole memory of one life as a value: written down, and read again, by the parts that the controller has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exporter.journal.keeper import Keeper
from exporter.sources.alertmanager import AlertSource
from exporter.sources.operator import OperatorSource

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from exporter.core.alerts import Incident
    from exporter.core.model import Moment, Signal
    from exporter.core.phases import FleetState
    from exporter.core.policy import Policy


@dataclass(frozen=True)
class Memory:
    state: FleetState
    alerts: Mapping[str, Incident] = field(default_factory=dict)
    drills: Mapping[str, Signal] = field(default_factory=dict)
    emergency_s: float = 0.0


class _Fixed:
    """One moment as a clock, and the place where the memory is saved."""

    up = True

    def __init__(self, now: Moment, boot: str) -> None:
        self._now, self.boot = now, boot
        self.saved: dict[str, Any] = {}

    def now(self) -> Moment:
        return self._now

    def mono(self) -> float:
        return self._now.mono

    def wall(self) -> datetime:
        return self._now.wall

    def save(self, document: Mapping[str, object]) -> None:
        self.saved = dict(document)

    async def settle(self) -> None:
        pass


def written(memory: Memory, policy: Policy, now: Moment, boot: str) -> dict[str, Any]:
    fixed = _Fixed(now, boot)
    alerts, operator = AlertSource(policy.vpns, 3600.0), OperatorSource(policy.vpns)
    alerts.book, operator.drills = memory.alerts, dict(memory.drills)
    Keeper(fixed, (alerts, operator), policy, fixed).save(memory.state, memory.emergency_s)
    return fixed.saved


def read(document: Mapping[str, Any], policy: Policy, now: Moment, boot: str) -> Memory:
    fixed = _Fixed(now, boot)
    alerts, operator = AlertSource(policy.vpns, 3600.0), OperatorSource(policy.vpns)
    state, emergency_s = Keeper(fixed, (alerts, operator), policy, fixed).restore(document)
    return Memory(state, alerts.book, operator.drills, emergency_s)
