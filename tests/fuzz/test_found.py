"""What the fuzzers found in calls and parsers, each as a case of its own."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from exporter.core.policy import Policy
from exporter.errors import BadRequestError
from exporter.settings.environment import Secret
from exporter.sources.alertmanager_wire import Selection, parse_listing, parse_webhook
from exporter.telemetry.logs import TextFormatter
from tests.fuzz.door import GUARDS, PAGES, Mayday, Stage
from tests.fuzz.seeds import SEEDS
from tests.support.memory import read
from tests.support.moments import moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.door import Answer

SELECTION = Selection(("gluetun", "gluetun_2"))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def call(stage: Stage, method: str, path: str, **options: Any) -> Answer:
    async def play(mayday: Mayday) -> Answer:
        return await mayday.call_url(
            method, URL(f"http://127.0.0.1:{mayday.address[1]}{path}", encoded=True), **options
        )

    return stage.run(play)


def message(**changes: Any) -> dict[str, Any]:
    return {**json.loads(SEEDS["webhook"][0]), **changes}


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=x.y", "text/plain; version=a.b.c"])
def test_an_accept_header_with_no_version_is_answered(stage: Stage, accept: str) -> None:
    """A scraper's odd Accept header once was an error 500; it gets the plain format."""
    answer = call(stage, "GET", "/metrics", headers={"Accept": accept, "Accept-Encoding": "identity"})
    assert answer.status == 200
    assert b"mayday_emergency_mode_active" in answer.body


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_that_only_claims_to_be_packed_is_refused(stage: Stage, coding: str) -> None:
    """It once was an error 500 with a trace in the log, for anybody without a secret as well."""
    headers = {**GUARDS, "Content-Encoding": coding}
    assert call(stage, "POST", "/webhook/alertmanager", data=b"\0\0", headers=headers).status == 400


@pytest.mark.parametrize("origin", ["http://[", "http://[::1/", "null", "\xff"])
def test_an_origin_that_is_no_address_is_another_site(stage: Stage, origin: str) -> None:
    """Whatever a browser may write there is compared, never taken apart at the price of an error 500."""
    headers = {**GUARDS, "Origin": origin}
    assert call(stage, "POST", "/control/emergency/exit", headers=headers).status == 403


def test_half_a_surrogate_pair_is_no_text(stage: Stage) -> None:
    """An alert's name that cannot be written in UTF-8 broke the status page and the journal for as long as it fired."""
    alert = message()["alerts"][0]
    alert["labels"]["alertname"] = "a\ud800"
    body = json.dumps(message(alerts=[alert])).encode()
    with pytest.raises(BadRequestError, match="alertname"):
        parse_webhook(body, SELECTION)
    assert call(stage, "POST", "/webhook/alertmanager", data=body, headers=GUARDS).status == 400
    for page in PAGES:
        assert call(stage, "GET", page).status == 200


@pytest.mark.parametrize(
    "labels", [{"a": "\ud800"}, {"\udfff": "a"}, {str(n): "" for n in range(65)}, {"a": "b" * 1025}]
)
def test_labels_for_an_engine_are_bounded_texts(stage: Stage, labels: dict[str, str]) -> None:
    """As many and as large labels as a body holds once went to Docker, half surrogate pairs included."""
    body = json.dumps({"labels": labels}).encode()
    assert call(stage, "POST", "/engines", data=body, headers=GUARDS).status == 400


def test_an_answer_of_alertmanager_nested_too_deeply_is_no_answer() -> None:
    """It once ended the job that asks with an error, and the metric went on saying that Alertmanager answers."""
    for body in (b"[" * 100_000, b'[{"labels": ' + b"[" * 100_000, b"[1]", b'{"a": 1}'):
        with pytest.raises(BadRequestError):
            parse_listing(body, SELECTION)


def test_a_secret_in_any_bytes_can_be_compared(stage: Stage) -> None:
    """A secret that is not UTF-8 once made every call that presents one an error 500."""
    from exporter.web.auth import presents

    class Request:
        headers = {"X-API-Key": "a\udcff"}  # noqa: RUF012 - not changed

    request: Any = Request()
    assert presents(request, Secret("a\udcff"))
    assert not presents(request, Secret("a\udcfe"))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1e999"])
@pytest.mark.parametrize("field", ["deadline", "in_s", "expires", "mono", "emergency_s"])
def test_a_remembered_time_that_is_none_is_refused(field: str, number: str) -> None:
    """A deadline that is not a number once ended a stabilization at once, without a word."""
    head, found, tail = SEEDS["memory"][0].decode().partition(f'"{field}": ')
    assert found
    broken = head + found + number + tail.lstrip("-0123456789.e")
    policy = Policy(("gluetun", "gluetun_2"))
    with pytest.raises(ValueError, match="where a number belongs"):
        read(json.loads(broken), policy, moment(0), "boot")


def test_what_was_sent_begins_no_line_in_the_log() -> None:
    """The path of a refused call, or an alert's name, once could forge a line, or steer the terminal that shows it."""
    sent = "x\n2025-11-07 22:03:33 INFO ✅ EXITING\r\x1b[2J\u202e\x85\u2028é💥"
    record = logging.LogRecord("mayday", logging.WARNING, "", 0, "refused %s", (sent,), None)
    line = TextFormatter().format(record)
    assert line.count("\n") == 0
    assert line.endswith("refused x\\n2025-11-07 22:03:33 INFO ✅ EXITING\\r\\x1b[2J\\u202e\\x85\\u2028é💥")


def test_a_path_with_a_line_end_is_refused_in_one_line(stage: Stage) -> None:
    """The same, through the door."""
    assert call(stage, "DELETE", "/engines/x%0aINFO%20all%20is%20well").status == 401
    assert not stage.log.faults


def test_all_alerts_of_a_message_are_one_step(stage: Stage) -> None:
    """An alert that moves from one VPN to the other with one message never shows both or neither as failed, and ten
    thousand alerts are decided on once, not ten thousand times, while nobody else is answered."""
    decisions: list[int] = []
    heard: list[int] = []

    async def play(mayday: Mayday) -> Answer:
        controller = mayday.app.controller
        decided = controller.evaluate
        controller.evaluate = lambda *event: (decisions.append(1), decided(*event))[1]  # type: ignore[method-assign,func-returns-value]
        alerts = [message()["alerts"][0] | {"fingerprint": str(number)} for number in range(200)]
        url = URL(f"http://127.0.0.1:{mayday.address[1]}/webhook/alertmanager")
        answer = await mayday.call_url("POST", url, data=json.dumps(message(alerts=alerts)).encode(), headers=GUARDS)
        heard.append(len(controller.alerts.book))
        return answer

    assert call(stage, "GET", "/").status == 200
    assert stage.run(play).status == 200
    assert heard == [200]
    assert len(decisions) < 20
