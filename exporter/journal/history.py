"""One record of the history: what was decided, done or refused, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class Kind(StrEnum):
    """What a record is about."""

    MODE = "mode"
    """The fleet changed its mode."""
    PHASE = "phase"
    """A VPN changed its phase."""
    ACTION = "action"
    """A container was created, started, restarted or removed, or an attempt at it failed."""
    REFUSAL = "refusal"
    """A request was refused."""
    SIGNAL = "signal"
    """An alert or a drill began or ended."""
    LIFE = "life"
    """Mayday started or stopped, or its journal had to be set aside."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `details` holds plain JSON values; the journal gives the `id`, which grows with time."""

    at: datetime
    kind: Kind
    reason: str
    message: str
    """One line for people."""
    vpn: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    id: int = 0


def as_json(record: Record) -> dict[str, object]:
    """The record as plain JSON values, as `GET /history` and `mayday history --json` show it."""
    return {
        "id": record.id,
        "at": record.at.isoformat(),
        "kind": record.kind,
        "vpn": record.vpn,
        "reason": record.reason,
        "message": record.message,
        "details": dict(record.details),
    }
