"""Alertmanager's (and Grafana's) wire types, read into alerts that name a configured VPN."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import aiohttp

from exporter.core.alerts import Alert, Origin
from exporter.core.texts import utc_time
from exporter.errors import BadRequestError
from exporter.settings.matchers import Matcher, all_match

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

log = logging.getLogger("mayday")

OWN_PREFIX = "Mayday"
"""Names of Mayday's own alerts begin with it; they say what Mayday decided and must not decide it again."""
TEST_ALERTS = frozenset({"TestAlert"})
"""What Grafana's contact point test sends."""
ALERTS_LIMIT = 10_000
"""Alerts in one message at most."""
LABEL_LIMIT = 1024
"""Characters of a label value at most."""
API_BODY_LIMIT = 16 * 1024 * 1024
API_TIMEOUT_S = 10.0


class Ignored(StrEnum):
    """Why an alert is no signal."""

    OWN = "own"
    UNMATCHED = "unmatched"
    NO_VPN = "no_vpn"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which alerts are signals, and of which VPN."""

    vpns: tuple[str, ...]
    vpn_label: str = "vpn"
    matchers: tuple[Matcher, ...] = ()

    def judge(self, labels: Mapping[str, str]) -> str | Ignored:
        """The VPN that an alert with these labels is about, or why it is none of ours."""
        name = labels.get("alertname", "")
        if name.startswith(OWN_PREFIX) or name in TEST_ALERTS:
            return Ignored.OWN
        vpn = labels.get(self.vpn_label)
        if vpn not in self.vpns:
            return Ignored.NO_VPN
        return vpn if all_match(self.matchers, labels) else Ignored.UNMATCHED


def parse_webhook(body: bytes, selection: Selection) -> list[Alert | Ignored]:
    """What a webhook message says, alert by alert.

    Accepts version "4" (Alertmanager) and "1" (Grafana); fields that are not known are ignored.

    Raises:
        BadRequestError: the body is not such a message. Nothing of it is used then.
    """
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError("the body is not JSON") from error
    if not isinstance(message, dict):
        raise BadRequestError("the body is not a JSON object")
    version = message.get("version")
    if version not in ("4", "1"):  # a tuple: what was sent may not be hashable
        raise BadRequestError('the field version is neither "4" (Alertmanager) nor "1" (Grafana)')
    items = message.get("alerts")
    if not isinstance(items, list) or len(items) > ALERTS_LIMIT:
        raise BadRequestError(f"the field alerts is not a list of at most {ALERTS_LIMIT} alerts")
    origin = Origin.ALERTMANAGER if version == "4" else Origin.GRAFANA
    return [_alert(item, index, origin, selection) for index, item in enumerate(items)]


def _alert(item: Any, index: int, origin: Origin, selection: Selection) -> Alert | Ignored:
    where = f"alerts[{index}]"
    if not isinstance(item, dict):
        raise BadRequestError(f"{where} is not an object")
    status = item.get("status")
    if status not in ("firing", "resolved"):
        raise BadRequestError(f"{where}.status is neither firing nor resolved")
    labels = _labels(item.get("labels"), where)
    starts_at = _time(item.get("startsAt"), f"{where}.startsAt")
    fingerprint = item.get("fingerprint") or _fingerprint(labels)
    if not is_text(fingerprint):
        raise BadRequestError(f"{where}.fingerprint is not a short text")
    vpn = selection.judge(labels)
    if isinstance(vpn, Ignored):
        return vpn
    return Alert(fingerprint, starts_at, vpn, labels.get("alertname", "(no name)"), status == "firing", origin)


def _labels(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(map(is_text, value.values())):
        raise BadRequestError(f"{where}.labels is not an object of texts of at most {LABEL_LIMIT} characters")
    return value


def is_text(value: Any) -> bool:
    """Whether it is a short text that can be written down: one with half of a surrogate pair cannot."""
    if not isinstance(value, str) or len(value) > LABEL_LIMIT:
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _time(value: Any, where: str) -> datetime:
    try:
        return utc_time(value)
    except (ValueError, TypeError) as error:
        raise BadRequestError(f"{where} is not an RFC 3339 time") from error


def _fingerprint(labels: Mapping[str, str]) -> str:
    """A stand-in for a sender that gives none: like Alertmanager's, it depends on the labels alone."""
    text = json.dumps(sorted(labels.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_active(body: bytes, selection: Selection) -> list[Alert]:
    """The alerts about our VPNs in an answer of Alertmanager's API.

    Raises:
        BadRequestError: the body is not such an answer.
    """
    try:
        items = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError("the answer is not JSON") from error
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise BadRequestError("the answer is not a list of alerts")
    read = [
        _alert({**item, "status": "firing"}, index, Origin.ALERTMANAGER, selection) for index, item in enumerate(items)
    ]
    return [alert for alert in read if isinstance(alert, Alert)]


class AlertmanagerApi:
    """Reads the active alerts from Alertmanager's API, version 2."""

    def __init__(self, session: aiohttp.ClientSession, url: str, selection: Selection) -> None:
        self._session = session
        self._url = f"{url}/api/v2/alerts"
        self._selection = selection
        self._answering: bool | None = None

    async def active(self) -> list[Alert] | None:
        """The active alerts that name a VPN, neither silenced nor inhibited; None when nobody answers."""
        try:
            alerts = await self._ask()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, BadRequestError) as error:
            if self._answering is not False:
                log.warning(
                    "Alertmanager at ALERTMANAGER_URL gives no usable answer; its alerts stay as they are: %r", error
                )
            self._answering = False
            return None
        if self._answering is False:
            log.info("Alertmanager answers again")
        self._answering = True
        return alerts

    async def _ask(self) -> list[Alert]:
        query = {"active": "true", "silenced": "false", "inhibited": "false", "unprocessed": "false"}
        timeout = aiohttp.ClientTimeout(total=API_TIMEOUT_S)
        async with self._session.get(self._url, params=query, timeout=timeout) as response:
            response.raise_for_status()
            body = await response.content.read(API_BODY_LIMIT)
            while not response.content.at_eof() and len(body) < API_BODY_LIMIT:
                body += await response.content.read(API_BODY_LIMIT - len(body))
        return parse_active(body, self._selection)
