"""What Alertmanager (or Grafana) said, kept such that repeats, duplicates and late copies change nothing.

An alert's incident is its (fingerprint, start time): the same fingerprint with a later start is a new incident, and the
end of an incident outweighs any later copy of its beginning, because two replicas of Alertmanager do not keep order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from exporter.core.model import Moment, Reason, Signal, Source, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

BOOK_LIMIT = 1000
"""Incidents remembered at most; ended ones make room first."""


class Origin(StrEnum):
    """Who sent the alert: only Alertmanager's own can be checked against its API."""

    ALERTMANAGER = "alertmanager"
    GRAFANA = "grafana"


class Heard(StrEnum):
    """What an alert did to the book."""

    FIRING = "firing"
    RESOLVED = "resolved"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert that names a configured VPN."""

    fingerprint: str
    starts_at: datetime
    vpn: str
    name: str
    firing: bool
    origin: Origin = Origin.ALERTMANAGER


@dataclass(frozen=True, slots=True)
class Incident:
    """The newest incident of one fingerprint."""

    alert: Alert
    since: Moment
    """When Mayday first heard of it."""
    heard: float
    """When Mayday last heard of it, monotonic seconds."""
    expires: float
    """When it is forgotten unless it is heard again, monotonic seconds."""


def hear(
    book: Mapping[str, Incident], alert: Alert, now: Moment, expiry_s: float
) -> tuple[Mapping[str, Incident], Heard]:
    """The book after one alert, and what that alert did to it."""
    known = book.get(alert.fingerprint)
    fresh = Incident(alert, now, now.mono, now.mono + expiry_s)
    if known is None or alert.starts_at > known.alert.starts_at:
        room = _with_room(book, alert)
        if room is None:
            return book, Heard.REJECTED
        return {**room, alert.fingerprint: fresh}, Heard.FIRING if alert.firing else Heard.RESOLVED
    if alert.starts_at < known.alert.starts_at or not known.alert.firing:
        return book, Heard.DUPLICATE
    if alert.firing:
        repeated = replace(known, heard=now.mono, expires=now.mono + expiry_s)
        return {**book, alert.fingerprint: repeated}, Heard.DUPLICATE
    return {**book, alert.fingerprint: fresh}, Heard.RESOLVED


def synchronise(
    book: Mapping[str, Incident], active: Iterable[Alert], asked_at: float, now: Moment, expiry_s: float
) -> Mapping[str, Incident]:
    """The book after Alertmanager's API listed all its active alerts, in answer to a question asked at `asked_at`.

    A firing incident that is not listed has ended without our hearing of it, unless it was heard after we asked.
    """
    listed = {alert.fingerprint: alert for alert in active}
    for alert in listed.values():
        known = book.get(alert.fingerprint)
        if known is not None and not known.alert.firing and alert.starts_at == known.alert.starts_at:
            continue
        book, _ = hear(book, alert, now, expiry_s)
    for fingerprint, incident in list(book.items()):
        alert = incident.alert
        if fingerprint in listed or not alert.firing or alert.origin is not Origin.ALERTMANAGER:
            continue
        if incident.heard <= asked_at:
            book, _ = hear(book, replace(alert, firing=False), now, expiry_s)
    return book


def prune(book: Mapping[str, Incident], now: Moment) -> Mapping[str, Incident]:
    """The book without what has expired; the same object when nothing has."""
    if all(incident.expires > now.mono for incident in book.values()):
        return book
    return {key: incident for key, incident in book.items() if incident.expires > now.mono}


def alert_signals(book: Mapping[str, Incident], vpn: str) -> list[Signal]:
    """The signals of the firing alerts about one VPN."""
    return [
        Signal(
            vpn,
            Source.ALERTMANAGER,
            Verdict.UNHEALTHY,
            Reason.ALERT,
            incident.alert.name,
            incident.since,
            incident.expires,
        )
        for incident in book.values()
        if incident.alert.vpn == vpn and incident.alert.firing
    ]


def _with_room(book: Mapping[str, Incident], alert: Alert) -> Mapping[str, Incident] | None:
    if alert.fingerprint in book or len(book) < BOOK_LIMIT:
        return book
    ended = [(incident.heard, key) for key, incident in book.items() if not incident.alert.firing]
    if not ended:
        return None
    _, oldest = min(ended)
    return {key: incident for key, incident in book.items() if key != oldest}
