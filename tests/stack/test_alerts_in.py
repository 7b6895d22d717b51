"""What a real Alertmanager makes of alerts that are no simple story, and what Mayday makes of that."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from exporter.core import alerts
from tests.stack.programs import until
from tests.stack.stack import Link, Stack

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

LOOKS = 3
"""Looks at Alertmanager's list, one each second, after which it is known what Mayday makes of it."""


def entries(stack: Stack) -> float:
    """How often an alert has made an emergency."""
    labels = {"vpn": "gluetun_2", "reason": "alert"}
    return stack.mayday.metrics.registry.get_sample_value("mayday_emergency_mode_entries_total", labels) or 0.0


async def looks(stack: Stack, number: int = LOOKS) -> None:
    """Wait until Mayday has read Alertmanager's list so many times more, each time with an answer."""

    def count() -> float:
        labels = {"job_name": "alerts", "result": "ok"}
        return stack.mayday.metrics.registry.get_sample_value("mayday_jobs_total", labels) or 0.0

    begun = count() + 1  # one may be under way

    async def done() -> bool:
        return count() >= begun + number and bool(stack.mayday.controller.snapshot.alertmanager_up)

    await until(done, f"{number} looks at Alertmanager's list")


async def listed(stack: Stack) -> dict[str, Any] | None:
    """The alert about gluetun_2 that is not Mayday's, as Alertmanager lists it."""
    found = await stack.alertmanager.alerts()
    return next((alert for alert in found if alert["labels"]["alertname"] == "VpnProbeFailing"), None)


async def failing(stack: Stack) -> dict[str, Any]:
    """The probe through gluetun_2 fails, and Mayday is in emergency for it."""
    stack.neighbours.probes["gluetun_2"] = 0
    await stack.in_emergency(yes=True)
    found = await until(lambda: listed(stack), "Alertmanager lists the alert")
    assert found is not None
    return found


async def test_a_restart_of_alertmanager_ends_no_emergency(tmp_path: Path) -> None:
    """It comes back with an empty list; when Prometheus sends the alert again, nothing has happened."""
    async with Stack(tmp_path) as stack:
        await failing(stack)
        await stack.prometheus.stop()
        await stack.alertmanager.stop()
        await stack.alertmanager.start()
        assert await listed(stack) is None
        await looks(stack)
        assert stack.mayday.controller.is_emergency_mode()
        await stack.prometheus.start()
        await until(lambda: listed(stack), "Alertmanager lists the alert again")
        await looks(stack)
        assert stack.mayday.controller.is_emergency_mode()
        assert entries(stack) == 1
        stack.neighbours.probes["gluetun_2"] = 1
        await stack.in_emergency(yes=False)


async def test_an_alert_that_timed_out_fires_again_with_the_same_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prometheus cannot reach Alertmanager for longer than it promised: that reads as an end, until it can again."""
    monkeypatch.setattr(alerts, "LATE_COPY_S", 1.0)
    link = Link()
    async with Stack(tmp_path, link=link) as stack:
        before = await failing(stack)
        link.up = False
        await stack.in_emergency(yes=False)
        await asyncio.sleep(1.0)
        link.up = True
        await stack.in_emergency(yes=True)
        after = await until(lambda: listed(stack), "Alertmanager lists the alert again")
        assert after is not None
        assert after["startsAt"] == before["startsAt"]
        assert entries(stack) == 2
        stack.neighbours.probes["gluetun_2"] = 1
        await stack.in_emergency(yes=False)


async def test_a_silence_ends_no_emergency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator silences the alert to acknowledge it: the VPN stays failed and empty. When the silenced alert is
    over, of which Alertmanager sends no word, the emergency is."""
    monkeypatch.setattr(alerts, "ABSENT_S", 2.0)
    async with Stack(tmp_path) as stack:
        await failing(stack)
        now = datetime.now(UTC)
        silence = {
            "matchers": [{"name": "alertname", "value": "VpnProbeFailing", "isRegex": False, "isEqual": True}],
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
            "createdBy": "a test",
            "comment": "seen",
        }
        await stack.alertmanager.post("/api/v2/silences", silence)

        async def silenced() -> bool:
            found = await listed(stack)
            return found is not None and bool(found["status"]["silencedBy"])

        await until(silenced, "the alert is silenced")
        await looks(stack, 5)
        assert stack.mayday.controller.is_emergency_mode()
        assert entries(stack) == 1
        assert not stack.mayday.controller.fleet.on("gluetun_2")
        stack.neighbours.probes["gluetun_2"] = 1
        await stack.in_emergency(yes=False)
        assert entries(stack) == 1


async def test_two_prometheus_that_saw_the_failure_at_different_times(tmp_path: Path) -> None:
    """Alertmanager takes the earlier start, after Mayday has heard the later: the end that it sends is the end."""
    async with Stack(tmp_path) as stack:
        first = await failing(stack)
        now = datetime.now(UTC)
        earlier = now - timedelta(minutes=1)
        other = {
            "labels": first["labels"],
            "annotations": first["annotations"],
            "startsAt": earlier.isoformat(),
            "endsAt": (now + timedelta(minutes=5)).isoformat(),
        }
        await stack.alertmanager.post("/api/v2/alerts", [other])
        found = await until(lambda: listed(stack), "Alertmanager lists the alert")
        assert found is not None
        assert datetime.fromisoformat(found["startsAt"]) < datetime.fromisoformat(first["startsAt"])
        await looks(stack)
        assert entries(stack) == 1
        stack.neighbours.probes["gluetun_2"] = 1
        # By the webhook: the list alone would take three minutes.
        await stack.in_emergency(yes=False)
