"""Every call of the HTTP API, with whatever may be sent: answered or refused, and what is refused changes nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from tests.fuzz import strategies as sent
from tests.fuzz.door import API_KEY, GUARDS, WEBHOOK_TOKEN, Mayday, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.door import Answer

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY", "mAy-DaY")
BODIES: dict[tuple[str, str], st.SearchStrategy[Any]] = {
    ("POST", "/webhook/alertmanager"): sent.MESSAGE,
    ("PUT", "/webhook/alertmanager"): sent.MESSAGE,
    ("POST", "/engines"): sent.shape(
        {"vpn": st.sampled_from(sent.VPNS), "labels": st.dictionaries(sent.TEXTS, sent.TEXTS, max_size=3)}
    ),
    ("POST", "/control/drill"): sent.shape(
        {"vpn": st.sampled_from(sent.VPNS), "duration_seconds": st.floats(1, 9) | sent.NUMBERS}
    ),
    ("POST", "/control/emergency/enter"): sent.shape(
        {"failed_vpn": st.sampled_from(sent.VPNS), "healthy_vpn": st.sampled_from(sent.VPNS)}
    ),
}
"""What the body of a call is like; of a call that is not listed it is anything."""

some = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def routes() -> list[tuple[str, str]]:
    """Every route of the program, from its own router."""
    web = Mayday().web_server()
    found = {(route.method, route.resource.canonical) for route in web.application().router.routes() if route.resource}
    return sorted(found)


ROUTES = routes()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def open_stage() -> Iterator[Stage]:
    """No secrets are set: this machine may do everything."""
    stage = Stage(API_KEY="", WEBHOOK_TOKEN="")
    yield stage
    stage.close()


def target(data: st.DataObject, canonical: str) -> str:
    """A path of this route, its variable parts filled with anything."""
    parts = [
        data.draw(sent.SEGMENTS, label="segment") if part.startswith("{") else part for part in canonical.split("/")
    ]
    query = data.draw(sent.QUERIES, label="query")
    return "/".join(parts) + (f"?{query}" if query else "")


def check(answer: Answer) -> None:
    """Never an error of the server; 503 only as a refusal that says why. JSON is JSON."""
    event(f"status {answer.status}")
    kind = answer.headers.get("Content-Type", "")
    value = json.loads(answer.body) if kind.startswith("application/json") and answer.body else None
    if answer.status == 503:
        assert isinstance(value, dict), answer
        assert value["code"], answer
    else:
        assert answer.status < 500, answer
    if answer.status == 400 and value is not None:
        assert value["error"], answer
    shown = answer.body + repr(answer.headers).encode()
    assert API_KEY.encode() not in shown
    assert WEBHOOK_TOKEN.encode() not in shown


def play(stage: Stage, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    note(f"{method} {path} {headers} {body[:300]!r}")
    options: dict[str, Any] = {"headers": CIMultiDict(headers)}
    if body:
        options["data"] = body

    async def call(mayday: Mayday) -> Answer:
        url = URL(f"http://127.0.0.1:{mayday.address[1]}{path}", encoded=True)
        return await mayday.call_url(method, url, **options)

    return stage.run(call)


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda part: part)
@given(data=st.data())
@some
def test_every_route_answers_or_refuses(stage: Stage, method: str, path: str, data: st.DataObject) -> None:
    """With every secret: any body, query, path part and header; no 5xx, and what is refused changes nothing."""
    body = data.draw(sent.bodies(BODIES.get((method, path), sent.ANYTHING)), label="body")
    headers = data.draw(sent.HEADERS, label="headers")
    check(play(stage, method, target(data, path), body, {**headers, **GUARDS}))


@pytest.mark.parametrize(("method", "path"), [r for r in ROUTES if r[0] not in {"GET", "HEAD"}], ids=lambda part: part)
@given(data=st.data())
@some
def test_without_its_secret_no_call_changes_anything(stage: Stage, method: str, path: str, data: st.DataObject) -> None:
    """Whatever the Authorization and X-API-Key headers hold, in any bytes: 401 before anything else is looked at."""
    body = data.draw(sent.bodies(BODIES.get((method, path), sent.ANYTHING)), label="body")
    headers = data.draw(sent.HEADERS, label="headers")
    headers["Authorization"] = data.draw(sent.AUTHORIZATION, label="authorization")
    headers["X-API-Key"] = data.draw(sent.FIELD_BYTES, label="key")
    answer = play(stage, method, target(data, path), body, headers)
    check(answer)
    # 403: it comes from a page; 404: the parts of the path made it another one; 417: it expects what nobody knows.
    assert answer.status in {401, 403, 404, 417}, answer
    assert answer.status != 403 or {"Origin", "Sec-Fetch-Site"} & headers.keys(), answer


@pytest.mark.parametrize(("method", "path"), [r for r in ROUTES if r[0] not in {"GET", "HEAD"}], ids=lambda part: part)
@given(data=st.data())
@some
def test_where_no_secret_is_set(open_stage: Stage, method: str, path: str, data: st.DataObject) -> None:
    """The same without secrets: whatever the Host and Origin headers say, and whatever else is sent."""
    body = data.draw(sent.bodies(BODIES.get((method, path), sent.ANYTHING)), label="body")
    check(play(open_stage, method, target(data, path), body, data.draw(sent.HEADERS, label="headers")))


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
@some
def test_any_method_on_any_path(stage: Stage, method: str, data: st.DataObject) -> None:
    """Known paths with other methods, and paths that nobody knows."""
    canonical = data.draw(st.sampled_from([path for _, path in ROUTES] + ["/{a}", "/{a}/{b}", "/control/{a}"]))
    body = data.draw(sent.bodies(sent.ANYTHING), label="body")
    answer = play(stage, method, target(data, canonical), body, {**data.draw(sent.HEADERS), **GUARDS})
    check(answer)
    if (method, canonical) not in ROUTES and not (method == "HEAD" and ("GET", canonical) in ROUTES):
        known = {path for _, path in ROUTES}
        assert answer.status >= 400 or canonical not in known, answer


@pytest.mark.parametrize("coding", ["gzip", "deflate", "broken gzip", "br", "zstd", "nonsense"])
@given(body=sent.bodies(sent.MESSAGE), chunked=st.booleans())
@some
def test_a_body_in_any_coding(stage: Stage, coding: str, body: bytes, *, chunked: bool) -> None:
    """Packed, wrongly packed, packed by a method that nobody knows, in chunks or not."""
    check(post_packed(stage, sent.packed(body, coding), coding, chunked=chunked))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_small_body_that_unpacks_to_a_huge_one_is_refused(stage: Stage, coding: str, *, chunked: bool) -> None:
    """What counts is the size that it has unpacked."""
    body = sent.packed(b" " * 50_000_000, coding)
    assert len(body) < 100_000
    assert post_packed(stage, body, coding, chunked=chunked).status == 413


def post_packed(stage: Stage, body: bytes, coding: str, *, chunked: bool) -> Answer:
    headers = {**GUARDS, "Content-Encoding": coding.removeprefix("broken ")}

    async def call(mayday: Mayday) -> Answer:
        async def pieces() -> Any:
            for start in range(0, len(body), 65536):
                yield body[start : start + 65536]

        url = URL(f"http://127.0.0.1:{mayday.address[1]}/webhook/alertmanager")
        return await mayday.call_url("POST", url, data=pieces() if chunked else body, headers=headers)

    return stage.run(call)


def test_most_of_what_was_sent_was_refused(stage: Stage) -> None:
    """The fuzz tests before this one reach both sides: calls that are accepted, and calls that are refused."""
    if stage.examples < 1000:
        pytest.skip("only with the tests before it")
    assert 0.2 < stage.refused / stage.examples < 0.99, (stage.refused, stage.examples)
