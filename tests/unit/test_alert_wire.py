"""Which of the alerts that are sent or listed are signals, and what becomes of those that cannot be read."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from exporter.core.alerts import Alert, Listing
from exporter.errors import BadRequestError
from exporter.settings.matchers import parse_matchers
from exporter.settings.settings import DEFAULT_ALERT_MATCHERS
from exporter.sources.alertmanager_wire import (
    LABEL_LIMIT,
    NOTES_LIMIT,
    Ignored,
    Selection,
    parse_listing,
    parse_webhook,
)

VPNS = ("gluetun", "gluetun_2")
LONG = "x" * (LABEL_LIMIT + 1)


def selection(matchers: str = DEFAULT_ALERT_MATCHERS, vpns: tuple[str, ...] = VPNS) -> Selection:
    return Selection(vpns, "vpn", parse_matchers(matchers))


def sent(changes: dict[str, Any] | None = None, **labels: Any) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {"alertname": "ProbeFailed", "vpn": "gluetun", **labels},
        "startsAt": "2026-03-04T05:06:07.891Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": "00c0ffee12345678",
        **(changes or {}),
    }


def listed(changes: dict[str, Any] | None = None, state: str = "active", by: str = "", **labels: Any) -> dict[str, Any]:
    status = {"state": state, "silencedBy": [], "inhibitedBy": [], **({by: ["an-id"]} if by else {})}
    return sent({"status": status, "endsAt": "2026-03-04T05:10:07.891Z", **(changes or {})}, **labels)


def webhook(*items: Any, version: str = "4", by: Selection | None = None) -> list[Alert | Ignored]:
    return parse_webhook(json.dumps({"version": version, "alerts": items}).encode(), by or selection())


def listing(*items: Any, by: Selection | None = None) -> Listing:
    return parse_listing(json.dumps(items).encode(), by or selection())


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param({}, "gluetun", id="no severity"),
        pytest.param({"severity": "critical"}, "gluetun", id="critical"),
        pytest.param({"severity": "warning"}, "gluetun", id="warning"),
        pytest.param({"severity": "info"}, Ignored.UNMATCHED, id="it only informs"),
        pytest.param({"severity": "none"}, Ignored.UNMATCHED, id="a watchdog"),
        pytest.param({"vpn": "tunnel"}, Ignored.NO_VPN, id="another VPN"),
        pytest.param({"vpn": ""}, Ignored.NO_VPN, id="an empty label"),
        pytest.param({"vpn": 1}, Ignored.NO_VPN, id="a label that is no text"),
        pytest.param({"vpn": LONG}, Ignored.NO_VPN, id="a long label"),
        pytest.param({"vpn": "/gluetun_2"}, "gluetun_2", id="as Docker's API writes names"),
        pytest.param({"vpn": "//gluetun_2"}, Ignored.NO_VPN, id="two slashes"),
        pytest.param({"vpn": "Gluetun_2"}, "gluetun_2", id="in another case"),
        pytest.param({"vpn": "/GLUETUN"}, "gluetun", id="a slash, and another case"),
        pytest.param({"alertname": "MaydayEmergencyMode"}, Ignored.OWN, id="Mayday's own"),
        pytest.param(
            {"alertname": "DatasourceError", "rulename": "MaydayEmergencyMode"},
            Ignored.OWN,
            id="Mayday's own, in Grafana",
        ),
        pytest.param({"alertname": "A", "rulename": "MaydayDown"}, Ignored.OWN, id="Mayday's own, by its rule's name"),
        pytest.param({"alertname": "TestAlert"}, Ignored.OWN, id="Grafana's test"),
        pytest.param({"alertname": "DatasourceError", "rulename": "Probe"}, Ignored.NO_DATA, id="Grafana: error"),
        pytest.param({"alertname": "DatasourceNoData", "rulename": "Probe"}, Ignored.NO_DATA, id="Grafana: no data"),
        pytest.param({"alertname": "A", "rulename": "DatasourceNoData"}, Ignored.NO_DATA, id="no data, by rule's name"),
        pytest.param({"note": LONG, "other": "\ud800"}, "gluetun", id="labels that are not looked at"),
    ],
)
def test_which_alerts_are_signals(labels: dict[str, Any], expected: str) -> None:
    """By webhook and from the list alike."""
    (found,) = webhook(sent(**labels))
    assert (found.vpn if isinstance(found, Alert) else found) == expected
    said = listing(listed(**labels))
    assert [alert.vpn for alert in said.firing] == ([] if isinstance(expected, Ignored) else [expected])
    assert said.whole


@pytest.mark.parametrize(("said", "expected"), [("gluetun", "gluetun"), ("GLUETUN", "GLUETUN"), ("Gluetun", None)])
def test_the_case_may_differ_only_where_it_leaves_no_doubt(said: str, expected: str | None) -> None:
    """Docker tells names apart by case alone."""
    assert selection(vpns=("gluetun", "GLUETUN")).vpn_named(said) == expected


def test_no_matcher_at_all_selects_every_alert() -> None:
    """`{}` is a list without a matcher."""
    (found,) = webhook(sent(severity="info"), by=selection("{}"))
    assert isinstance(found, Alert)


def test_a_name_that_is_none_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A misspelt VPN once was a counter and nothing else. What is no signal anyway is not told of."""
    by = selection()
    for _ in range(3):
        webhook(
            sent(vpn="glutun_2"), sent(vpn="elsewhere", severity="info"), sent(vpn="x", alertname="MaydayDown"), by=by
        )
        listing(listed(vpn="glutun_2"), by=by)
    (line,) = told(caplog)
    assert '"glutun_2"' in line
    assert "gluetun, gluetun_2" in line


def test_no_sender_can_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Each other value is told once, up to a bound, and then never again."""
    by = selection()
    for _ in range(2):
        webhook(*(sent(vpn=f"vpn-{number}\n{'x' * 1000}") for number in range(3 * NOTES_LIMIT)), by=by)
    lines = told(caplog)
    assert len(lines) == NOTES_LIMIT + 1
    assert max(map(len, lines)) < 500


BROKEN = {
    "no object": 7,
    "no labels": sent({"labels": 7}),
    "an odd status": sent({"status": "odd"}),
    "a status that is no text": sent({"status": []}),
    "no start": sent({"startsAt": None}),
    "an odd start": sent({"startsAt": "yesterday"}),
    "a start before the year 1": sent({"startsAt": "0001-01-01T00:00:00+14:00"}),
    "an odd fingerprint": sent({"fingerprint": 7}),
    "a long fingerprint": sent({"fingerprint": LONG}),
    "a long name": sent(alertname=LONG),
    "a name that is no text": sent(alertname=7),
    "a name with half a surrogate pair": sent(alertname="\ud800"),
    "a long label that is looked at": sent(severity=LONG),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_an_alert_that_cannot_be_read_is_skipped_alone(broken: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, and named once; the alerts before and after it count."""
    by = selection()
    for _ in range(2):
        found = webhook(sent(), broken, sent(vpn="gluetun_2"), by=by)
        assert [item if isinstance(item, Ignored) else item.vpn for item in found] == [
            "gluetun",
            "invalid",
            "gluetun_2",
        ]
    (line,) = told(caplog)
    assert "cannot be read and is ignored" in line


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_message_with_nothing_to_read_is_refused(broken: Any) -> None:
    """Nobody else loses by that, and its sender learns why."""
    with pytest.raises(BadRequestError, match=r"alerts\[0\]: its|alerts\[0\]: it is|alerts\[0\]: a label"):
        webhook(broken)


@pytest.mark.parametrize(
    ("broken", "silent", "whole"),
    [
        pytest.param(7, set(), False, id="no object"),
        pytest.param({"labels": 7}, set(), False, id="nothing to know it by"),
        pytest.param(listed({"labels": 7}), {"00c0ffee12345678"}, True, id="no labels"),
        pytest.param(listed({"startsAt": "soon"}), {"00c0ffee12345678"}, True, id="an odd start"),
        pytest.param(listed({"status": 7}), {"00c0ffee12345678"}, True, id="an odd status"),
        pytest.param(listed(alertname=LONG), {"00c0ffee12345678"}, True, id="a long name"),
        pytest.param(listed({"fingerprint": 7}), set(), False, id="an odd fingerprint"),
    ],
)
def test_an_alert_of_the_list_that_cannot_be_read_is_skipped_alone(
    broken: Any, silent: set[str], *, whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What is there is not taken for gone: by its fingerprint, or, where it shows none, no alert is."""
    found = listing(broken, listed({"fingerprint": "1"}, vpn="gluetun_2"))
    assert [alert.vpn for alert in found.firing] == ["gluetun_2"]
    assert (set(found.silent), found.whole) == (silent, whole)
    assert len(told(caplog)) == 1


@pytest.mark.parametrize("item", [7, {}, {"labels": 7}, [], "firing"])
def test_a_list_of_something_else_is_no_answer(item: Any) -> None:
    """Nothing is concluded from it, least of all that all alerts are over."""
    with pytest.raises(BadRequestError):
        listing(item)


@pytest.mark.parametrize(
    ("item", "firing"),
    [
        pytest.param(listed(), True, id="active"),
        pytest.param(listed(state="suppressed", by="silencedBy"), False, id="silenced"),
        pytest.param(listed(state="suppressed", by="inhibitedBy"), False, id="inhibited"),
        pytest.param(listed(state="active", by="silencedBy"), False, id="silenced a moment ago"),
        pytest.param(listed(state="suppressed", by="mutedBy"), True, id="muted, which is about people's hours"),
        pytest.param(listed(state="suppressed"), False, id="suppressed by something newer"),
        pytest.param(listed(state="unprocessed"), False, id="not looked at by Alertmanager itself"),
    ],
)
def test_a_suppressed_alert_is_there_and_does_not_fire(item: Any, *, firing: bool) -> None:
    """It neither begins nor ends anything."""
    found = listing(item)
    assert bool(found.firing) is firing
    assert found.silent == (set() if firing else {"00c0ffee12345678"})


def test_the_end_of_an_alert_has_its_time() -> None:
    """Of a firing one it is the zero time, or what its sender promises."""
    end = "2026-03-04T05:20:07+01:00"
    ended, zero, odd, firing = webhook(
        sent({"status": "resolved", "endsAt": end}),
        sent({"status": "resolved"}),
        sent({"status": "resolved", "endsAt": "soon"}),
        sent({"endsAt": end}),
    )
    times = [item.ends_at for item in (ended, zero, odd, firing) if isinstance(item, Alert)]
    assert [time and time.isoformat() for time in times] == ["2026-03-04T04:20:07+00:00", None, None, None]
    assert listing(listed()).firing[0].ends_at is None
