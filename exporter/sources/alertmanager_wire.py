"""Alertmanager's (and Grafana's) wire types, read into alerts that name a configured VPN.

Read alert by alert: one that cannot be read is skipped and named in the log, and no other is lost by it. Of an alert
that is none of ours only the labels that tell so are looked at.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from exporter.core.alerts import Alert, Listing, Origin
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
NO_DATA_ALERTS = frozenset({"DatasourceError", "DatasourceNoData"})
"""What Grafana sends in a rule's place, with the rule's labels, when the rule cannot be evaluated."""
NAME_LABELS = ("alertname", "rulename")
"""Where a rule's name is found; Grafana gives the second one when it sends one of `NO_DATA_ALERTS` in its place."""
ALERTS_LIMIT = 10_000
"""Alerts in one message at most."""
LABEL_LIMIT = 1024
"""Characters of a label's value that is looked at, at most."""
NOTES_LIMIT = 100
"""Different things that are told of what cannot be used, at most: senders choose how many there are."""
SHOWN_LIMIT = 100
"""Characters of a text from outside in a log line, at most."""


class Ignored(StrEnum):
    """Why an alert is no signal."""

    OWN = "own"
    NO_DATA = "no_data"
    UNMATCHED = "unmatched"
    NO_VPN = "no_vpn"
    INVALID = "invalid"


class Notes:
    """Log lines that are written once each, and of no more than `NOTES_LIMIT` kinds."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def warn(self, message: str) -> None:
        """Write it, unless it was written before."""
        if message in self._told or len(self._told) > NOTES_LIMIT:
            return
        self._told.add(message)
        if len(self._told) > NOTES_LIMIT:
            log.warning("There are more alerts that cannot be used; from now on they are counted and not named")
        else:
            log.warning("%s", message)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which alerts are signals, and of which VPN."""

    vpns: tuple[str, ...]
    vpn_label: str = "vpn"
    matchers: tuple[Matcher, ...] = ()
    notes: Notes = field(default_factory=Notes, compare=False, repr=False)

    def judge(self, labels: Mapping[str, Any]) -> str | Ignored:
        """The VPN that an alert with these labels is about, or why it is none of ours."""
        names = [labels.get(label) for label in NAME_LABELS]
        if any(isinstance(name, str) and (name.startswith(OWN_PREFIX) or name in TEST_ALERTS) for name in names):
            return Ignored.OWN
        if any(isinstance(name, str) and name in NO_DATA_ALERTS for name in names):
            return Ignored.NO_DATA
        said = labels.get(self.vpn_label)
        vpn = self.vpn_named(said)
        if vpn is None and not (said and is_text(said)):
            return Ignored.NO_VPN
        looked_at = {matcher.label: labels[matcher.label] for matcher in self.matchers if matcher.label in labels}
        if not all(map(is_text, looked_at.values())):
            return Ignored.NO_VPN if vpn is None else Ignored.INVALID
        matched = all_match(self.matchers, looked_at)
        if vpn is not None:
            return vpn if matched else Ignored.UNMATCHED
        if matched:
            self.notes.warn(
                f"An alert's label {self.vpn_label}={_shown(said)} names none of the VPN containers "
                f"({', '.join(self.vpns)}) and is no signal; if it should be one, set the label to such a name"
            )
        return Ignored.NO_VPN

    def vpn_named(self, said: Any) -> str | None:
        """The configured VPN that a label's value names: as it is, with Docker's leading slash, or in another case.

        The case may differ only where that leaves no doubt. None: it names none.
        """
        if not is_text(said):
            return None
        name = said.removeprefix("/")
        if name in self.vpns:
            return str(name)
        alike = [vpn for vpn in self.vpns if vpn.lower() == name.lower()]
        return alike[0] if len(alike) == 1 else None


def parse_webhook(body: bytes, selection: Selection) -> list[Alert | Ignored]:
    """What a webhook message says, alert by alert.

    Accepts version "4" (Alertmanager) and "1" (Grafana); fields that are not known are ignored.

    Raises:
        BadRequestError: the body is not such a message, or none of its alerts can be read.
    """
    message = _json(body, "the body")
    if not isinstance(message, dict):
        raise BadRequestError("the body is not a JSON object")
    version = message.get("version")
    if version not in ("4", "1"):  # a tuple: what was sent may not be hashable
        raise BadRequestError('the field version is neither "4" (Alertmanager) nor "1" (Grafana)')
    items = message.get("alerts")
    if not isinstance(items, list) or len(items) > ALERTS_LIMIT:
        raise BadRequestError(f"the field alerts is not a list of at most {ALERTS_LIMIT} alerts")
    origin = Origin.ALERTMANAGER if version == "4" else Origin.GRAFANA
    found: list[Alert | Ignored] = []
    faults = []
    for index, item in enumerate(items):
        try:
            found.append(_sent(item, origin, selection))
        except _UnreadableError as error:
            faults.append(f"alerts[{index}]: {error}")
            _note(item, error, selection)
            found.append(Ignored.INVALID)
    if faults and len(faults) == len(items):
        raise BadRequestError(faults[0])
    return found


def parse_listing(body: bytes, selection: Selection) -> Listing:
    """What an answer of Alertmanager's API says of our VPNs.

    Raises:
        BadRequestError: the body is not such an answer.
    """
    items = _json(body, "the answer")
    if not isinstance(items, list):
        raise BadRequestError("the answer is not a list of alerts")
    firing: list[Alert] = []
    silent: set[str] = set()
    unreadable: list[tuple[Any, _UnreadableError]] = []
    nameless = 0
    for item in items:
        fingerprint = item.get("fingerprint") if isinstance(item, dict) else None
        try:
            alert = _listed(item, selection)
        except _UnreadableError as error:
            unreadable.append((item, error))
            alert = None
        if alert is not None:
            firing.append(alert)
        elif is_text(fingerprint):
            silent.add(str(fingerprint))
        else:
            nameless += 1
    if items and nameless == len(items):
        raise BadRequestError("the answer is a list of something else than alerts")
    for item, fault in unreadable:
        _note(item, fault, selection)
    return Listing(tuple(firing), frozenset(silent), whole=not nameless)


class _UnreadableError(Exception):
    """What of one alert cannot be read. The text quotes nothing of it."""


def _json(body: bytes, what: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"{what} is not JSON") from error


def _sent(item: Any, origin: Origin, selection: Selection) -> Alert | Ignored:
    """One alert of a webhook message."""
    vpn = _vpn(item, selection)
    if isinstance(vpn, Ignored):
        return vpn
    status = item.get("status")
    if status not in ("firing", "resolved"):
        raise _UnreadableError("its status is neither firing nor resolved")
    return _alert(item, vpn, origin, firing=status == "firing")


def _listed(item: Any, selection: Selection) -> Alert | None:
    """One alert of Alertmanager's list; None: it is none of ours, or says nothing.

    A mute time tells when people want to hear of an alert, and not whether it is true.
    """
    vpn = _vpn(item, selection)
    if isinstance(vpn, Ignored):
        return None
    status = item.get("status", {"state": "active"})
    if not isinstance(status, dict):
        raise _UnreadableError("its status is not an object")
    suppressed = status.get("silencedBy") or status.get("inhibitedBy")
    if suppressed or (status.get("state") != "active" and not status.get("mutedBy")):
        return None
    return _alert(item, vpn, Origin.ALERTMANAGER, firing=True)


def _vpn(item: Any, selection: Selection) -> str | Ignored:
    if not isinstance(item, dict):
        raise _UnreadableError("it is not an object")
    labels = item.get("labels")
    if not isinstance(labels, dict):
        raise _UnreadableError("its labels are not an object")
    vpn = selection.judge(labels)
    if vpn is Ignored.INVALID:
        raise _UnreadableError(
            f"a label that ALERT_MATCHERS looks at is not a text of at most {LABEL_LIMIT} characters"
        )
    return vpn


def _alert(item: dict[str, Any], vpn: str, origin: Origin, *, firing: bool) -> Alert:
    labels = item["labels"]
    name = labels.get("alertname", "(no name)")
    if not is_text(name):
        raise _UnreadableError(f"its label alertname is not a text of at most {LABEL_LIMIT} characters")
    fingerprint = item.get("fingerprint") or _fingerprint(labels)
    if not is_text(fingerprint):
        raise _UnreadableError("its fingerprint is not a short text")
    starts_at = _time(item.get("startsAt"))
    if starts_at is None:
        raise _UnreadableError("its startsAt is not an RFC 3339 time")
    return Alert(fingerprint, starts_at, vpn, name, firing, origin, None if firing else _end(item.get("endsAt")))


def is_text(value: Any) -> bool:
    """Whether it is a short text that can be written down: one with half of a surrogate pair cannot."""
    if not isinstance(value, str) or len(value) > LABEL_LIMIT:
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _time(value: Any) -> datetime | None:
    try:
        return utc_time(value)
    except (ValueError, TypeError):
        return None


def _end(value: Any) -> datetime | None:
    """The time of an end; Go's zero time, the year 1, stands for none."""
    end = _time(value)
    return end if end is not None and end.year > 1 else None


def _fingerprint(labels: Mapping[str, Any]) -> str:
    """A stand-in for a sender that gives none: like Alertmanager's, it depends on the labels alone."""
    text = json.dumps(sorted(labels.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _note(item: Any, error: _UnreadableError, selection: Selection) -> None:
    labels = item.get("labels") if isinstance(item, dict) else None
    name = labels.get("alertname") if isinstance(labels, dict) else None
    which = f"Alert {_shown(name)}" if isinstance(name, str) else "An alert without a name"
    selection.notes.warn(f"{which} cannot be read and is ignored: {error}; correct it where it is sent from")


def _shown(text: Any) -> str:
    short = text if len(text) <= SHOWN_LIMIT else text[: SHOWN_LIMIT - 1] + "…"
    return json.dumps(short)
