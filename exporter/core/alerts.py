"""What Alertmanager (or Grafana) said, kept such that repeats, duplicates and late copies change nothing.

An incident is a fingerprint and a start, and starts move. Prometheus started anew makes a later one; Alertmanager
takes the earliest that either of two Prometheus sends (`Alert.Merge` in its `types/types.go`); a clock that is set
right moves them either way. And one start can fire twice: after Alertmanager was started anew, or was cut off from
Prometheus until the alert timed out (prometheus/alertmanager, issues 952, 1684, 2370 and 2896). So what an alert says
counts in the order in which it is heard. There are two exceptions, because two replicas of Alertmanager keep no order
between them: a copy of the beginning that comes shortly after the end is a late one, and an end from before the
present incident began is that of an older one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from exporter.core.model import Moment, Reason, Signal, Source, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

BOOK_LIMIT = 1000
"""Incidents remembered at most; ended ones make room first."""
LATE_COPY_S = 120.0
"""For so long after an end a copy of its beginning is taken for a late one, seconds.

A replica of Alertmanager waits 15 s for each replica before it (`--cluster.peer-timeout`), and may try more than
once then.
"""
ABSENT_S = 180.0
"""For so long a firing alert must be missing from Alertmanager's list before it counts as ended, seconds.

Alertmanager does not keep alerts over a restart: it lists none until Prometheus sends them again. That is at the first
evaluation (by default one a minute) that is a minute (`--rules.alert.resend-delay`) after the last time.
"""


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
    ends_at: datetime | None = None
    """When it ended, by the sender's clock; None: it fires, or the sender does not tell."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All that Alertmanager's API lists at one moment."""

    firing: tuple[Alert, ...] = ()
    """The alerts that fire, about our VPNs."""
    silent: frozenset[str] = frozenset()
    """Fingerprints of alerts that are there and say nothing: silenced, inhibited, or unreadable."""
    whole: bool = True
    """Whether it tells what is not there: not when an alert in it shows no fingerprint."""


@dataclass(frozen=True, slots=True)
class Incident:
    """The newest incident of one fingerprint."""

    alert: Alert
    """As first heard, but for its start: that is the earliest of all copies."""
    since: Moment
    """When Mayday first heard that it fires, or that it has ended."""
    heard: float
    """When Mayday last heard that it fires, or first heard that it has ended, monotonic seconds."""
    expires: float
    """When it is forgotten unless it is heard again, monotonic seconds."""
    reach: datetime
    """Copies that start up to here may belong to it: its latest start; once it has ended, its end if that is later."""
    absent_since: float | None = None
    """Since when Alertmanager's list has lacked it, without a gap, monotonic seconds; None: it has not."""


def hear(
    book: Mapping[str, Incident], alert: Alert, now: Moment, expiry_s: float
) -> tuple[Mapping[str, Incident], Heard]:
    """The book after one alert, and what that alert did to it."""
    known = book.get(alert.fingerprint)
    if known is None:
        room = _with_room(book)
        return (book, Heard.REJECTED) if room is None else _begin(room, alert, now, expiry_s)
    if alert.firing:
        return _hear_firing(book, known, alert, now, expiry_s)
    return _hear_end(book, known, alert, now, expiry_s)


def _hear_firing(
    book: Mapping[str, Incident], known: Incident, alert: Alert, now: Moment, expiry_s: float
) -> tuple[Mapping[str, Incident], Heard]:
    if not known.alert.firing:
        if now.mono - known.heard < LATE_COPY_S and alert.starts_at <= known.reach:
            return book, Heard.DUPLICATE
        return _begin(book, alert, now, expiry_s)
    repeated = replace(
        known,
        alert=replace(known.alert, starts_at=min(known.alert.starts_at, alert.starts_at)),
        heard=now.mono,
        expires=now.mono + expiry_s,
        reach=max(known.reach, _start(alert, now)),
        absent_since=None,
    )
    return {**book, alert.fingerprint: repeated}, Heard.DUPLICATE


def _hear_end(
    book: Mapping[str, Incident], known: Incident, alert: Alert, now: Moment, expiry_s: float
) -> tuple[Mapping[str, Incident], Heard]:
    if known.alert.firing:
        # Without a time of the end only the starts can tell.
        threshold, last = (
            (known.alert.starts_at, alert.starts_at) if alert.ends_at is None else (known.reach, _end(alert))
        )
        if last < threshold:
            return book, Heard.DUPLICATE
    elif alert.starts_at <= known.reach:
        return book, Heard.DUPLICATE
    ended = Incident(
        replace(
            known.alert, firing=False, starts_at=min(known.alert.starts_at, alert.starts_at), ends_at=alert.ends_at
        ),
        now,
        now.mono,
        now.mono + expiry_s,
        max(known.reach, _end(alert)),
    )
    return {**book, alert.fingerprint: ended}, Heard.RESOLVED


def _begin(
    book: Mapping[str, Incident], alert: Alert, now: Moment, expiry_s: float
) -> tuple[Mapping[str, Incident], Heard]:
    reach = _start(alert, now) if alert.firing else _end(alert)
    incident = Incident(alert, now, now.mono, now.mono + expiry_s, reach)
    return {**book, alert.fingerprint: incident}, Heard.FIRING if alert.firing else Heard.RESOLVED


def _start(alert: Alert, now: Moment) -> datetime:
    """When it began, but no later than now: a clock that is ahead would make every true end look like an older one."""
    return min(alert.starts_at, now.wall)


def _end(alert: Alert) -> datetime:
    return alert.starts_at if alert.ends_at is None else max(alert.starts_at, alert.ends_at)


def synchronise(
    book: Mapping[str, Incident], listing: Listing | None, asked_at: float, now: Moment, expiry_s: float
) -> Mapping[str, Incident]:
    """The book after Alertmanager's API was asked at `asked_at`; None: it gave no answer.

    What is listed as firing fires, unless its end was heard after we asked. What is listed and says nothing (silenced,
    inhibited) stays as it is. A firing incident that is not listed has ended once it has been missing for `ABSENT_S`
    without a gap: an Alertmanager that does not answer now and then may have been started anew each time.
    """
    if listing is None:
        return {key: replace(incident, absent_since=None) for key, incident in book.items()}
    for alert in listing.firing:
        known = book.get(alert.fingerprint)
        if known is None or known.alert.firing or known.heard < asked_at or alert.starts_at > known.reach:
            book, _ = hear(book, alert, now, expiry_s)
    listed = {alert.fingerprint for alert in listing.firing}
    looked = dict(book)
    for key, incident in book.items():
        if not incident.alert.firing or incident.alert.origin is not Origin.ALERTMANAGER or key in listed:
            continue
        if key in listing.silent:
            looked[key] = replace(incident, heard=now.mono, expires=now.mono + expiry_s, absent_since=None)
        elif not listing.whole:
            looked[key] = replace(incident, absent_since=None)
        elif incident.absent_since is None:
            looked[key] = replace(incident, absent_since=asked_at)
        elif asked_at - incident.absent_since >= ABSENT_S:
            end = replace(incident.alert, firing=False)
            looked[key] = Incident(end, now, now.mono, now.mono + expiry_s, incident.reach)
    return looked


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


def _with_room(book: Mapping[str, Incident]) -> Mapping[str, Incident] | None:
    if len(book) < BOOK_LIMIT:
        return book
    ended = [(incident.heard, key) for key, incident in book.items() if not incident.alert.firing]
    if not ended:
        return None
    _, oldest = min(ended)
    return {key: incident for key, incident in book.items() if key != oldest}
