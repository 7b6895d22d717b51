"""The kinds of work: what the controller asks for, the jobs run and the metrics count."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.core.decision import Decision


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
    FORWARDED_PORT = "forwarded_port"
    ALERTS = "alerts"


def asked_for(
    decision: Decision, to_undo: Iterable[str], to_unpark: Iterable[str], mono: float
) -> Iterator[tuple[Work, str | None, float]]:
    """The work that follows from a decision: what, on which VPN, in how many seconds.

    `to_undo` are VPNs with a creation to be undone, `to_unpark` those whose parked containers may be started.
    """
    yield from ((Work.CLEANUP, vpn, 0) for vpn in sorted({*to_undo, *decision.cleanup}))
    yield from ((Work.PARKING, vpn, 0) for vpn in sorted({*to_unpark, *decision.park}))
    if decision.repair:
        yield Work.REPAIR, None, 0
    if decision.provision:
        yield Work.PROVISION, None, 0
    if decision.look_again_at is not None:
        yield Work.STABILIZATION, None, max(0.0, decision.look_again_at - mono)
