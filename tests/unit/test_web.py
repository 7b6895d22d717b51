"""The web server over a whole Mayday on a simulated fleet: what is answered, and what is refused."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from exporter.core.alerts import Alert
from exporter.errors import BadRequestError
from exporter.settings.environment import Secret
from exporter.sources.alertmanager_wire import Ignored, Selection, parse_webhook
from tests.support.alerts import message, wire_alert
from tests.support.waiting import until
from tests.support.web_client import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.settings import SettingsOf
    from tests.support.web_client import Client

SELECTION = Selection(("gluetun", "gluetun_2"))


@pytest.fixture
async def client(settings_of: SettingsOf) -> AsyncIterator[Client]:
    """Secrets are set; ten engines run."""
    chosen = replace(
        settings_of(APP_PORT="0", APP_HOST="127.0.0.1"), api_key=Secret("key"), webhook_token=Secret("token")
    )
    async with running(chosen, engines=10) as client:
        assert len(client.app.controller.fleet.engines) == 10
        assert not client.app.controller.ledger.names()
        yield client


TOKEN = {"Authorization": "Bearer token"}
KEY = {"Authorization": "Bearer key"}


async def test_what_can_be_read(client: Client) -> None:
    """Every page for reading answers, without a secret, and the numbers agree."""
    await until(lambda: client.app.controller.snapshot.ready)
    for path in ("/", "/metrics", "/-/healthy", "/-/ready", "/engines", "/history", "/vpn/status"):
        assert (await client.call("GET", path))[0] == 200, path
    _, status = await client.call("GET", "/vpn/status")
    assert status["emergency_mode"]["active"] is False
    assert [status[f"vpn{i}"]["engines"] for i in (1, 2)] == [5, 5]
    assert status["vpns"] == [status["vpn1"], status["vpn2"]]
    for vpn in status["vpns"]:
        assert (vpn["suspect"], vpn["in_service"], vpn["evacuation_deferred"]) == (False, True, None)
        assert (vpn["forwarded_port"], vpn["drill"]) == (None, None)
    _, engines = await client.call("GET", "/engines?usable=true")
    assert len(engines) == 10
    assert {(engine["own"], engine["not_usable_because"]) for engine in engines} == {(True, None)}
    assert (await client.call("GET", "/engines?usable=false"))[1] == []
    _, metrics = await client.call("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert metrics.endswith("# EOF\n")
    assert 'mayday_engines{state="working",vpn="gluetun"} 5.0' in metrics


async def test_an_alert_makes_an_emergency_and_its_end_ends_it(client: Client) -> None:
    """Docker says healthy, the alert objects; repeats and duplicates change nothing."""
    code, body = await client.call("POST", "/webhook/alertmanager", json=message(wire_alert()), headers=TOKEN)
    assert (code, body) == (200, {"alerts": {"firing": 1}})
    assert client.app.controller.get_emergency_mode_info()["failed_vpn"] == "gluetun_2"
    _, body = await client.call("POST", "/webhook/alertmanager", json=message(wire_alert()), headers=TOKEN)
    assert body == {"alerts": {"duplicate": 1}}
    _, body = await client.call("POST", "/webhook/alertmanager", json=message(wire_alert("resolved")), headers=TOKEN)
    assert body == {"alerts": {"resolved": 1}}
    assert not client.app.controller.is_emergency_mode()


async def test_alerts_that_are_no_signals(client: Client) -> None:
    """Mayday's own, those about no VPN of ours: counted, and nothing changes."""
    own = wire_alert(alertname="MaydayEmergencyMode")
    foreign = wire_alert(vpn="someone-elses", fingerprint="1")
    code, body = await client.call("POST", "/webhook/alertmanager", json=message(own, foreign), headers=TOKEN)
    assert (code, body) == (200, {"alerts": {"own": 1, "no_vpn": 1}})
    assert not client.app.controller.is_emergency_mode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"[" * 100_000,
        b'{"version": "3", "alerts": []}',
        b'{"version": "4"}',
        b'{"version": "4", "alerts": {}}',
        b'{"version": "4", "alerts": [1]}',
        b'{"version": "4", "alerts": [{"status": "odd"}]}',
        b'{"version": "4", "alerts": [{"status": "firing", "labels": [], "startsAt": "2026-01-01T00:00:00Z"}]}',
        b'{"version": "4", "alerts": [{"status": "firing", "labels": {"vpn": "gluetun"}, "startsAt": "yesterday"}]}',
        b'{"version":"4","alerts":[{"status":"firing","labels":{"vpn":"gluetun"},"startsAt":"0001-01-01T00:00+14:00"}]}',
        b"\xff\xfe",
    ],
)
async def test_rubbish_is_refused_and_changes_nothing(client: Client, body: bytes) -> None:
    """4xx with a reason, never 5xx."""
    before = client.app.controller.state
    code, answer = await client.call("POST", "/webhook/alertmanager", data=body, headers=TOKEN)
    assert code == 400
    assert answer["error"]
    assert client.app.controller.state is before


async def test_a_body_is_bounded(client: Client) -> None:
    """More than 4 MiB is refused."""
    body = io.BytesIO(b" " * (4 * 2**20 + 1))
    code, answer = await client.call("POST", "/webhook/alertmanager", data=body, headers=TOKEN)
    assert code == 413
    assert answer["error"]


CHANGES = [
    ("POST", "/webhook/alertmanager"),
    ("POST", "/engines"),
    ("DELETE", "/engines/acestream-1"),
    ("POST", "/control/drill"),
    ("DELETE", "/control/drill/gluetun"),
    ("POST", "/control/emergency/enter"),
    ("POST", "/control/emergency/exit"),
]


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic !"}, {"X-API-Key": "ké"}]
)
async def test_without_the_secret_nothing_is_changed(
    client: Client, method: str, path: str, headers: dict[str, str]
) -> None:
    """Every call that changes something wants its secret; the refusal is counted."""
    code, answer = await client.call(method, path, headers=headers)
    assert code == 401
    assert answer["error"]
    sample = client.app.metrics.registry.get_sample_value
    endpoint = "webhook" if "webhook" in path else "api"
    assert sample("mayday_unauthorized_requests_total", {"endpoint": endpoint}) == 1


@pytest.mark.parametrize(
    "headers", [KEY, {"Authorization": "Basic " + base64.b64encode(b"anyone:key").decode()}, {"X-API-Key": "key"}]
)
async def test_the_secret_may_come_in_three_ways(client: Client, headers: dict[str, str]) -> None:
    """Bearer token, basic password, X-API-Key."""
    assert (await client.call("POST", "/control/emergency/exit", headers=headers))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "/engines", {"vpn": "nobody"}, 400),
        ("POST", "/engines", {"vpn": 7}, 400),
        ("POST", "/engines", {"labels": {"a": 1}}, 400),
        ("POST", "/engines", {"unknown": 1}, 400),
        ("DELETE", "/engines/nobody", None, 404),
        ("POST", "/control/drill", {"vpn": "nobody"}, 400),
        ("POST", "/control/drill", {"vpn": "gluetun", "duration_seconds": -1}, 400),
        ("POST", "/control/drill", {"vpn": "gluetun", "duration_seconds": True}, 400),
        ("DELETE", "/control/drill/gluetun", None, 404),
        ("POST", "/control/emergency/enter", {"failed_vpn": "gluetun"}, 400),
        ("GET", "/history?kind=odd", None, 400),
        ("GET", "/history?limit=0", None, 400),
        ("GET", "/history?since=then", None, 400),
        ("GET", "/history?before=-1", None, 400),
        ("GET", "/history?limits=1", None, 400),
        ("GET", "/history?limit=1&limit=2", None, 400),
        ("GET", "/engines?usable=yes", None, 400),
        ("GET", "/engines?usable=", None, 400),
        ("GET", "/engines?useable=true", None, 400),
        ("GET", "/vpn/status?vpn=gluetun", None, 400),
        ("GET", "/vpn", None, 404),
        ("PUT", "/engines", None, 405),
    ],
)
async def test_bad_input_is_refused(client: Client, method: str, path: str, body: object, code: int) -> None:
    """A clear error, and nothing changes."""
    before = set(client.host.boxes)
    got, answer = await client.call(method, path, json=body, headers=KEY)
    assert (got, bool(answer["error"])) == (code, True)
    assert set(client.host.boxes) == before


async def test_an_engine_of_others_is_removed_only_with_force(client: Client) -> None:
    """Without it a refusal that says how; own engines need none."""
    theirs = client.host.add_engine("gluetun", 19999, "theirs", {"orchestrator.managed": "acestream"})
    await until(lambda: any(engine.id == theirs.id for engine in client.app.controller.fleet.engines))
    own = next(engine for engine in client.app.controller.fleet.engines if engine.own)
    code, answer = await client.call("DELETE", "/engines/theirs", headers=KEY)
    assert (code, answer["code"], "force=true" in answer["error"]) == (409, "not_own", True)
    assert (await client.call("DELETE", "/engines/theirs?force=yes", headers=KEY))[0] == 400
    assert theirs.id in client.host.boxes
    assert (await client.call("DELETE", "/engines/theirs?force=true", headers=KEY))[0] == 200
    assert theirs.id not in client.host.boxes
    assert (await client.call("DELETE", f"/engines/{own.id}", headers=KEY))[0] == 200


async def test_a_drill_and_its_end(client: Client) -> None:
    """A declared failure acts as a real one, and is in the history."""
    body = {"vpn": "gluetun", "duration_seconds": 60}
    assert (await client.call("POST", "/control/drill", json=body, headers=KEY))[0] == 201
    assert client.app.controller.get_emergency_mode_info()["failed_vpn"] == "gluetun"
    _, status = await client.call("GET", "/vpn/status")
    assert 0 < status["vpn1"]["drill"]["remaining_seconds"] <= 60
    assert (status["vpn1"]["in_service"], status["vpn2"]["drill"]) == (False, None)
    assert status["vpn1"]["evacuation_deferred"] == "delay"
    _, engines = await client.call("GET", "/engines?usable=false")
    assert {engine["vpn_container"]: engine["not_usable_because"] for engine in engines} == {"gluetun": "vpn_failed"}
    sample = client.app.metrics.registry.get_sample_value
    for metric, values in {"mayday_drill": (1, 0), "mayday_evacuation_deferred": (1, 0)}.items():
        assert tuple(sample(metric, {"vpn": vpn}) for vpn in ("gluetun", "gluetun_2")) == values
    await until(lambda: not any(client.app.controller.fleet.on("gluetun")))
    assert (await client.call("DELETE", "/control/drill/gluetun", headers=KEY))[0] == 200
    assert not client.app.controller.is_emergency_mode()
    _, history = await client.call("GET", "/history?kind=mode")
    assert [record["details"]["after"] for record in history["records"]] == ["normal", "emergency"]
    _, page = await client.call("GET", "/history?limit=2")
    _, following = await client.call("GET", f"/history?limit=2&before={page['next_before']}")
    assert [r["id"] for r in page["records"]] > [r["id"] for r in following["records"]]


@given(
    body=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["version", "alerts", "status", "labels", "startsAt", "fingerprint", "vpn"]),
                inner,
                max_size=5,
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
@hypothesis_settings(max_examples=500, deadline=None)
def test_any_body_is_read_or_refused(body: bytes) -> None:
    """Whatever is sent: alerts, or a BadRequestError, and nothing else."""
    try:
        items = parse_webhook(body, SELECTION)
    except BadRequestError:
        return
    assert all(isinstance(item, Alert | Ignored) for item in items)


def test_grafana_is_understood_and_its_test_alert_is_not_acted_on() -> None:
    """Version "1" with Grafana's further fields; the contact point's test names no real trouble."""
    real = {**wire_alert(), "silenceURL": "", "dashboardURL": "", "values": None, "valueString": "", "orgId": 1}
    body = {**message(real, wire_alert(alertname="TestAlert"), version="1"), "orgId": 1, "state": "alerting"}
    first, second = parse_webhook(json.dumps(body).encode(), SELECTION)
    assert isinstance(first, Alert)
    assert (first.vpn, first.origin) == ("gluetun_2", "grafana")
    assert second is Ignored.OWN
