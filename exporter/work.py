"""The kinds of work: what the controller asks for, the jobs run and the metrics count."""

from __future__ import annotations

from enum import StrEnum


class Work(StrEnum):
    """What the controller asks to be done; also the names of the jobs."""

    RESYNC = "resync"
    POLL = "poll"
    CLEANUP = "cleanup"
    PARKING = "parking"
    PROVISION = "provision"
    REPAIR = "repair"
    ENGINE_HEALTH = "engine_health"
    STABILIZATION = "stabilization"
    ALERTS = "alerts"
