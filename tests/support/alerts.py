"""Alerts and webhook messages as Alertmanager sends them."""

from __future__ import annotations

from typing import Any

NEVER = "0001-01-01T00:00:00Z"
"""The end of an alert that is firing."""


def wire_alert(
    status: str = "firing",
    fingerprint: str = "00c0ffee12345678",
    starts_at: str = "2026-03-04T05:06:07.891234567Z",
    ends_at: str = NEVER,
    **labels: str,
) -> dict[str, Any]:
    """One alert of a failing probe of `gluetun_2`, where the labels do not say otherwise."""
    return {
        "status": status,
        "labels": {"alertname": "ProbeFailed", "vpn": "gluetun_2", **labels},
        "annotations": {},
        "startsAt": starts_at,
        "endsAt": ends_at,
        "generatorURL": "",
        "fingerprint": fingerprint,
    }


def message(*alerts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A webhook message with these alerts, firing as soon as one of them is."""
    status = "firing" if any(alert["status"] == "firing" for alert in alerts) else "resolved"
    return {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "mayday",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": list(alerts),
        **changes,
    }
