"""Mayday among the real programs: what Prometheus and Alertmanager make of it, and what it makes of them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp

from exporter.core import alerts
from exporter.core.model import Phase
from grafana.build import FOLDER
from tests.stack.programs import until
from tests.stack.stack import TOKEN, Stack
from tests.support.alerts import message, wire_alert
from tests.support.dashboards import queries

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


INTERVALS = "scrape, evaluation and group interval 1 s, health check 0.2 s, two failures"


def waited(since: float) -> str:
    return f"{time.monotonic() - since:.2f} s"


async def test_a_failure_is_told_to_the_operator_and_its_end_too(tmp_path: Path) -> None:
    """A VPN fails: Alertmanager tells which, with a runbook that Prometheus serves, and tells the end."""
    async with Stack(tmp_path) as stack:
        began = time.monotonic()
        stack.host.set_truth("gluetun_2", good=False)
        await stack.in_emergency(yes=True)
        entered = time.monotonic()
        told = await stack.neighbours.hears("firing", "MaydayEmergencyMode")
        print(f"{INTERVALS}: failure to emergency {entered - began:.2f} s, failure to operator {told.at - began:.2f} s")
        assert told.labels["vpn"] == "gluetun_2"
        assert told.labels["severity"] == "critical"
        async with aiohttp.ClientSession() as session, session.get(told.annotations["runbook_url"]) as response:
            assert response.status == 200
            assert "# MaydayEmergencyMode" in await response.text()
        stack.host.set_truth("gluetun_2", good=True)
        await stack.in_emergency(yes=False)
        left = time.monotonic()
        resolved = await stack.neighbours.hears("resolved", "MaydayEmergencyMode")
        print(f"{INTERVALS}: end of the emergency to operator {resolved.at - left:.2f} s")
        # None of Mayday's own alerts was sent to Mayday.
        assert await stack.prometheus.value("sum(mayday_webhook_alerts_total)") == 0


async def test_a_drill_pages_no_one(tmp_path: Path) -> None:
    """A drill is an emergency that Alertmanager knows as a drill: the operator hears of neither, nor does Mayday."""
    async with Stack(tmp_path) as stack:
        stack.mayday.controller.start_drill("gluetun_2", 60.0, "a test")
        assert stack.mayday.controller.is_emergency_mode()

        async def known() -> bool:
            return any(alert["labels"]["alertname"] == "MaydayDrill" for alert in await stack.alertmanager.alerts())

        await until(known, "Alertmanager knows of the drill")
        await asyncio.sleep(4)  # evaluations and notifications, each every second
        about_it = [told.labels for told in stack.neighbours.told if told.labels.get("vpn") == "gluetun_2"]
        assert "critical" not in {labels["severity"] for labels in about_it}
        assert "MaydayDrill" not in {labels["alertname"] for labels in about_it}
        assert await stack.prometheus.value("sum(mayday_webhook_alerts_total)") == 0


async def test_an_outage_silences_what_follows_from_it(tmp_path: Path) -> None:
    """One VPN fails, then the other: the operator hears that the emergency is an outage now, and nothing besides.

    Lost redundancy is known to Alertmanager, and inhibited.
    """
    async with Stack(tmp_path) as stack:
        stack.host.set_truth("gluetun_2", good=False)
        await stack.neighbours.hears("firing", "MaydayEmergencyMode")
        stack.host.set_truth("gluetun", good=False)
        await stack.neighbours.hears("firing", "MaydayOutage")
        await stack.neighbours.hears("resolved", "MaydayEmergencyMode")

        async def inhibited() -> bool:
            alerts = {alert["labels"]["alertname"]: alert for alert in await stack.alertmanager.alerts()}
            return bool(alerts.get("MaydayRedundancyLost", {"status": {}})["status"].get("inhibitedBy"))

        await until(inhibited, "MaydayRedundancyLost is inhibited")
        assert "MaydayRedundancyLost" not in {told.labels["alertname"] for told in stack.neighbours.told}
        stack.host.set_truth("gluetun", good=True)
        stack.host.set_truth("gluetun_2", good=True)
        await stack.neighbours.hears("resolved", "MaydayOutage")


async def test_a_restart_of_mayday_in_an_emergency_tells_the_operator_nothing(tmp_path: Path) -> None:
    """Mayday is started anew while a VPN is failed: neither an end nor a second beginning is told, nor counted."""
    async with Stack(tmp_path) as stack:
        stack.host.set_truth("gluetun_2", good=False)
        await stack.neighbours.hears("firing", "MaydayEmergencyMode")
        seen = stack.mayday.controller.get_emergency_mode_info()["entered_at"]
        restarted, started = time.monotonic(), time.time()
        await stack.restart_mayday()
        await stack.in_emergency(yes=True)
        assert stack.mayday.controller.get_emergency_mode_info()["entered_at"] == seen

        async def scraped() -> bool:
            return bool(await stack.prometheus.query(f"mayday_snapshot_timestamp_seconds > {started}"))

        await until(scraped, "Prometheus scrapes the new Mayday")
        await asyncio.sleep(4)  # evaluations and notifications, each every second
        again = [told for told in stack.neighbours.told if told.at > restarted]
        assert "MaydayEmergencyMode" not in {told.labels["alertname"] for told in again}
        failures = 'sum(increase(mayday_vpn_transitions_total{phase="failed"}[1m]))'
        assert round(await stack.prometheus.value(failures) or 0) <= 1
        stack.host.set_truth("gluetun_2", good=True)
        await stack.neighbours.hears("resolved", "MaydayEmergencyMode")


async def test_an_external_alert_that_names_a_vpn_is_a_failure(tmp_path: Path) -> None:
    """A probe through gluetun_2 fails although Docker calls it healthy: emergency, until it succeeds."""
    async with Stack(tmp_path) as stack:
        began = time.monotonic()
        stack.neighbours.probes["gluetun_2"] = 0
        await stack.in_emergency(yes=True)
        print(f"{INTERVALS}, the probe's window 3 s and `for` 2 s: failing probe to emergency {waited(began)}")
        judgement = stack.mayday.controller.snapshot.judgements["gluetun_2"]
        assert {signal.source: signal.verdict for signal in judgement.signals} == {
            "docker": "healthy",
            "alertmanager": "unhealthy",
        }
        # The operator is told of both: of the probe, and of what Mayday did.
        await stack.neighbours.hears("firing", "VpnProbeFailing")
        await stack.neighbours.hears("firing", "MaydayEmergencyMode")
        stack.neighbours.probes["gluetun_2"] = 1
        await stack.in_emergency(yes=False)

        async def healthy() -> bool:
            return stack.mayday.controller.snapshot.state.vpns["gluetun_2"].phase is Phase.HEALTHY

        await until(healthy, "gluetun_2 is healthy again")
        assert await stack.prometheus.value('mayday_webhook_alerts_total{result="firing"}') == 1


async def test_maydays_own_alerts_change_nothing(tmp_path: Path) -> None:
    """Mayday's own alerts, wrongly routed to Mayday, are counted as own and do not hold up the recovery."""
    async with Stack(tmp_path, own_alerts_to_mayday=True) as stack:
        stack.host.set_truth("gluetun_2", good=False)
        await stack.in_emergency(yes=True)

        async def heard() -> bool:
            return bool(await stack.prometheus.value('mayday_webhook_alerts_total{result="own"} > 0'))

        await until(heard, "Mayday is sent its own alert")
        assert await stack.prometheus.value('mayday_vpn_signal{vpn="gluetun_2",source="alertmanager"}') == 0
        # The alert is still firing at Alertmanager when the VPN recovers.
        stack.host.set_truth("gluetun_2", good=True)
        await stack.in_emergency(yes=False)


async def test_alertmanagers_api_makes_up_for_a_webhook_that_never_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No webhook arrives, neither of the beginning nor of the end: Mayday reads both from Alertmanager."""
    monkeypatch.setattr(alerts, "ABSENT_S", 2.0)
    async with Stack(tmp_path, webhook=False) as stack:
        stack.neighbours.probes["gluetun_2"] = 0
        await stack.in_emergency(yes=True)
        stack.neighbours.probes["gluetun_2"] = 1
        await stack.in_emergency(yes=False)
        assert await stack.prometheus.value("sum(mayday_webhook_alerts_total)") == 0


async def test_alertmanager_going_away_changes_nothing_and_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an external alert keeps a VPN failed, Alertmanager stops: the VPN stays failed, and a metric tells."""
    monkeypatch.setattr(alerts, "ABSENT_S", 2.0)
    async with Stack(tmp_path) as stack:
        stack.neighbours.probes["gluetun_2"] = 0
        await stack.in_emergency(yes=True)
        assert await stack.prometheus.value("mayday_alertmanager_up") == 1
        await stack.alertmanager.stop()

        async def shown() -> bool:
            return await stack.prometheus.value("mayday_alertmanager_up") == 0

        await until(shown, "mayday_alertmanager_up is 0")
        assert stack.mayday.controller.is_emergency_mode()
        assert stack.mayday.controller.get_emergency_mode_info()["failed_vpn"] == "gluetun_2"
        stack.neighbours.probes["gluetun_2"] = 1
        await stack.alertmanager.start()
        await stack.in_emergency(yes=False)


async def test_every_query_of_every_panel_has_an_answer(tmp_path: Path) -> None:
    """After a failure and a recovery, Prometheus answers each query of both dashboards with numbers."""
    async with Stack(tmp_path) as stack:
        began = time.time()
        stack.neighbours.forwarded["gluetun_2"] = 41000  # asked for when it is healthy again
        stack.host.set_truth("gluetun_2", good=False)
        await stack.in_emergency(yes=True)
        await stack.neighbours.hears("firing", "MaydayEmergencyMode")
        stack.host.set_truth("gluetun_2", good=True)
        await stack.neighbours.hears("resolved", "MaydayEmergencyMode")

        async def whole() -> bool:
            return await stack.prometheus.value('sum(mayday_engines{state="working"})') == 4

        await until(whole, "Prometheus sees the fleet whole again")
        # A wrong secret, and an alert that concerns nobody, so that the counters of the door have moved.
        body = message(wire_alert(vpn="elsewhere"))
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{stack.mayday.settings.app_port}/webhook/alertmanager"
            for secret, status in (("wrong", 401), (TOKEN, 200)):
                headers = {"Authorization": f"Bearer {secret}"}
                async with session.post(url, headers=headers, json=body) as response:
                    assert response.status == status
        await asyncio.sleep(2.5)  # two more scrapes
        silent = []
        asked = [query for path in sorted(FOLDER.glob("*.json")) for query in queries(path)]
        for query in asked:
            now = time.time()
            if query.instant:
                series = await stack.prometheus.query(query.interpolated)
                values = [item["value"][1] for item in series]
            else:
                series = await stack.prometheus.query_range(query.interpolated, began, now, 1)
                values = [value for item in series for _, value in item["values"]]
            # Grafana marks an annotation only where the value is above 0.
            least = 0.0 if ": annotation " in query.where else float("-inf")
            if not any(float(value) > least for value in values):
                silent.append(f"{query}: {query.interpolated}")
        assert not silent, "\n".join(silent)
        print(f"{len(asked)} queries, each with an answer")
