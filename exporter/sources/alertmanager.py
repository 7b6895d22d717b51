"""The alerts that name a VPN, as signals: from webhooks, and from Alertmanager's API, which corrects the webhooks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import aiohttp

from exporter.core import alerts
from exporter.core.alerts import Alert, Incident, Listing, Origin
from exporter.core.texts import utc_time
from exporter.errors import BadRequestError
from exporter.sources.alertmanager_wire import parse_listing
from exporter.sources.http_errors import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.core.model import Moment, Signal
    from exporter.journal.memory import Reading, Writing
    from exporter.sources.alertmanager_wire import Selection

log = logging.getLogger("mayday")

API_BODY_LIMIT = 16 * 1024 * 1024
API_TIMEOUT_S = 10.0
EVERYTHING = {"active": "true", "silenced": "true", "inhibited": "true", "unprocessed": "true"}
"""Suppressed alerts as well: one that is silenced has not ended, and must not look as if it had."""


class AlertSource:
    """The book of incidents."""

    key = "alerts"

    def __init__(self, vpns: Iterable[str], expiry_s: float) -> None:
        self._vpns = tuple(vpns)
        self._expiry_s = expiry_s
        self.book: Mapping[str, Incident] = {}

    def hear(self, alert: Alert, now: Moment) -> alerts.Heard:
        """Take an alert that came by webhook."""
        self.book, heard = alerts.hear(self.book, alert, now, self._expiry_s)
        return heard

    def synchronise(self, listing: Listing | None, asked_at: float, now: Moment) -> list[Alert]:
        """Take Alertmanager's list of alerts (None: no answer); the alerts that began or ended for us by that."""
        before = self.book
        self.book = alerts.synchronise(before, listing, asked_at, now, self._expiry_s)
        return [
            incident.alert
            for key, incident in self.book.items()
            if incident.alert.firing is not (key in before and before[key].alert.firing)
        ]

    def signals(self, now: Moment) -> list[Signal]:
        """The firing alerts."""
        self.book = alerts.prune(self.book, now)
        return [signal for vpn in self._vpns for signal in alerts.alert_signals(self.book, vpn)] if self.book else []

    def next_change(self, now: Moment) -> float | None:
        """When the next firing alert expires."""
        ends = [incident.expires for incident in self.book.values() if incident.alert.firing]
        return min((end for end in ends if end > now.mono), default=None)

    def remember(self, times: Writing) -> Any:
        """The incidents, ended ones included: a late copy must not begin them again."""
        return [
            {
                "fingerprint": incident.alert.fingerprint,
                "starts_at": incident.alert.starts_at.isoformat(),
                "vpn": incident.alert.vpn,
                "name": incident.alert.name,
                "firing": incident.alert.firing,
                "origin": incident.alert.origin,
                "since": times.moment(incident.since),
                "heard": times.relative(incident.heard),
                "expires": times.relative(incident.expires),
                "reach": incident.reach.isoformat(),
            }
            for incident in self.book.values()
        ]

    def restore(self, saved: Any, times: Reading) -> None:
        """Go on with the incidents of an earlier run, as far as their VPNs are configured."""
        book = {}
        for item in saved:
            if item["vpn"] in self._vpns:
                alert = Alert(
                    str(item["fingerprint"]),
                    utc_time(item["starts_at"]),
                    item["vpn"],
                    str(item["name"]),
                    bool(item["firing"]),
                    Origin(item["origin"]),
                )
                book[alert.fingerprint] = Incident(
                    alert,
                    times.moment(item["since"]),
                    times.mono(item["heard"]),
                    times.mono(item["expires"]),
                    # Earlier versions wrote no reach, and knew one start of an incident only.
                    utc_time(item.get("reach", item["starts_at"])),
                )
        self.book = book


class AlertmanagerApi:
    """Reads all alerts from Alertmanager's API, version 2."""

    def __init__(self, session: aiohttp.ClientSession, url: str, selection: Selection) -> None:
        self._session = session
        self._url = f"{url}/api/v2/alerts"
        self._selection = selection
        self._answering: bool | None = None

    async def listing(self) -> Listing | None:
        """What it lists of our VPNs; None when there is no usable answer."""
        try:
            listing = await self._ask()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, BadRequestError) as error:
            if self._answering is not False:
                log.warning(
                    "Alertmanager at ALERTMANAGER_URL gives no usable answer; its alerts stay as they are: %s",
                    describe(error),
                )
            self._answering = False
            return None
        if self._answering is False:
            log.info("Alertmanager answers again")
        self._answering = True
        return listing

    async def _ask(self) -> Listing:
        timeout = aiohttp.ClientTimeout(total=API_TIMEOUT_S)
        async with self._session.get(self._url, params=EVERYTHING, timeout=timeout) as response:
            response.raise_for_status()
            body = await response.content.read(API_BODY_LIMIT)
            while not response.content.at_eof() and len(body) < API_BODY_LIMIT:
                body += await response.content.read(API_BODY_LIMIT - len(body))
        return parse_listing(body, self._selection)
