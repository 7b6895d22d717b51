"""The question for the forwarded port, against real servers that answer as each version of Gluetun does."""

from __future__ import annotations

import asyncio
import gzip
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from exporter.sources.gluetun import BODY_LIMIT, REMEMBERED, GluetunApi, first_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Answers = Callable[[web.Request], Awaitable[web.StreamResponse]]

NEW, OLD = "/v1/portforward", "/v1/openvpn/portforwarded"
KEY = "k-very-secret"


class Server:
    """A control server: an answer per path, or 401; remembers what it was asked."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[web.BaseRequest] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request)
        answer = self.answers.get(request.raw_path, 401)
        if callable(answer):
            made: web.StreamResponse = await answer(request)
            return made
        if isinstance(answer, int):
            headers = {"Location": NEW} if answer in {301, 308} else {}
            return web.Response(status=answer, text="no\n", headers=headers)
        return web.Response(body=answer if isinstance(answer, bytes) else answer.encode() + b"\n")

    @property
    def paths(self) -> list[str]:
        return [request.raw_path for request in self.asked]


@asynccontextmanager
async def serving(
    answers: dict[str, Any], key: str | None = KEY, timeout_s: float = 30.0
) -> AsyncIterator[tuple[Server, GluetunApi]]:
    server = Server(answers)
    runner = web.ServerRunner(web.Server(server), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield server, GluetunApi(session, runner.addresses[0][1], key, timeout_s)
    finally:
        await runner.cleanup()


ANSWERS = {
    "v3.40, none": ({OLD: '{"port":0}'}, 0),
    "v3.40, one": ({OLD: '{"port":40123}'}, 40123),
    "v3.40, several": ({OLD: '{"ports":[40123,40124]}'}, 40123),
    "v3.41, none": ({NEW: '{"port":0}', OLD: 301}, 0),
    "v3.41, one": ({NEW: '{"port":40123}', OLD: 301}, 40123),
    "v3.41, several": ({NEW: '{"ports":[40123,40124]}', OLD: 301}, 40123),
    "master, before the service was made": ({NEW: '{"port":0,"ports":null}'}, 0),
    "master, none": ({NEW: '{"port":0,"ports":[]}'}, 0),
    "master, one": ({NEW: '{"port":40123,"ports":[40123]}'}, 40123),
    "master, several": ({NEW: '{"port":40123,"ports":[40123,40124]}'}, 40123),
    "v3.41.2, both": ({NEW: '{"port":40123,"ports":[40123]}', OLD: 404}, 40123),
    "v3.41.2, none": ({NEW: '{"port":0,"ports":[]}', OLD: 404}, 0),
    "an unknown route as 404": ({NEW: 404, OLD: '{"port":40123}'}, 40123),
    "an unknown route as 405": ({NEW: 405, OLD: '{"port":40123}'}, 40123),
}


@pytest.mark.parametrize(("answers", "port"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_every_version_is_understood(
    answers: dict[str, Any], port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The port comes out of what each version answers; that there is none is an answer (0), not a failure (None)."""
    with caplog.at_level(logging.DEBUG, "mayday"):
        async with serving(answers) as (server, api):
            assert await api.forwarded_port("127.0.0.1") == port
    assert not [record for record in caplog.records if record.name == "mayday"]
    assert all("?" not in path for path in server.paths)
    assert all(request.headers["X-API-Key"] == KEY for request in server.asked)


async def test_without_a_key_no_header_is_sent() -> None:
    """An unset GLUETUN_API_KEY sends no X-API-Key at all, not an empty one."""
    async with serving({NEW: '{"port":40123}'}, key=None) as (server, api):
        assert await api.forwarded_port("127.0.0.1") == 40123
    assert "X-API-Key" not in server.asked[0].headers


async def test_a_redirect_is_not_followed() -> None:
    """A redirect could lead the key anywhere: it is an answer without a port."""
    async with serving({NEW: 301, OLD: '{"port":40123}'}) as (server, api):
        assert await api.forwarded_port("127.0.0.1") is None
    assert server.paths == [NEW]


async def _hang(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def _half(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(b'{"port":')
    await asyncio.sleep(60)
    return answer


async def _cut(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": "100"})
    await answer.prepare(request)
    await answer.write(b'{"port":40123}')
    assert request.transport is not None
    request.transport.close()
    return answer


async def _endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(b" " * 65536)


async def _packed(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=gzip.compress(b" " * 10_000_000), headers={"Content-Encoding": "gzip"})


BROKEN = {
    "hangs": (_hang, "no answer in time"),
    "hangs within the body": (_half, "no answer in time"),
    "ends within the body": (_cut, "ClientPayloadError"),
    "never ends": (_endless, "longer than"),
    "a little too long": (b'{"port":40123}' + b" " * BODY_LIMIT, "longer than"),
    "packed": (_packed, ""),
    "no JSON": ("<html>", "JSONDecodeError"),
    "no text": (b"\xff\xfe\x00", ""),
    "nested": ("[" * 4000, "ValueError"),
    "a list": ("[40123]", "ValueError"),
    "another object": ('{"status":"running"}', "ValueError"),
    "a word": ('{"port":"40123"}', "ValueError"),
    "a truth": ('{"port":true}', "ValueError"),
    "a fraction": ('{"port":40123.5}', "ValueError"),
    "too high": ('{"port":65536}', "ValueError"),
    "negative": ('{"port":-1}', "ValueError"),
    "words in the list": ('{"ports":["x"]}', "ValueError"),
    "500": (500, "HTTP 500"),
    "both unknown": (404, "HTTP 404, then 401"),
    "unauthorised": (401, "GLUETUN_API_KEY"),
}


@pytest.mark.parametrize(("answer", "reason"), BROKEN.values(), ids=BROKEN.keys())
async def test_any_failure_is_no_port(answer: Any, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the server does, the answer is None in bounded time; the reason is told once, without the key."""
    timeout_s = 0.3 if answer in (_hang, _half) else 30.0
    with caplog.at_level(logging.DEBUG, "mayday"):
        async with serving({NEW: answer}, timeout_s=timeout_s) as (_server, api), asyncio.timeout(25):
            assert await api.forwarded_port("127.0.0.1") is None
            assert await api.forwarded_port("127.0.0.1") is None
    told = [record.getMessage() for record in caplog.records if record.name == "mayday"]
    assert len(told) == 1
    assert reason in told[0]
    assert "127.0.0.1" in told[0]
    assert KEY not in caplog.text


async def test_a_body_in_pieces_is_read_to_its_end() -> None:
    """What arrives in several packets is one answer."""

    async def pieces(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for piece in (b'{"po', b'rt":401', b"23}\n"):
            await answer.write(piece)
            await asyncio.sleep(0.05)
        return answer

    async with serving({NEW: pieces}) as (_server, api):
        assert await api.forwarded_port("127.0.0.1") == 40123


async def test_nobody_listens(unused_tcp_port: int, caplog: pytest.LogCaptureFixture) -> None:
    """A refused connection, an unknown name and a key that no header can carry are no port, and no exception."""
    with caplog.at_level(logging.DEBUG, "mayday"):
        async with aiohttp.ClientSession() as session:
            assert await GluetunApi(session, unused_tcp_port, KEY).forwarded_port("127.0.0.1") is None
            assert await GluetunApi(session, unused_tcp_port, KEY).forwarded_port("::1") is None
            assert await GluetunApi(session, unused_tcp_port, KEY).forwarded_port("no such name") is None
            assert await GluetunApi(session, unused_tcp_port, f"{KEY}\r\nX: y").forwarded_port("127.0.0.1") is None
    assert KEY not in caplog.text


async def test_a_failure_is_told_again_after_it_went_away(caplog: pytest.LogCaptureFixture) -> None:
    """One line per failure and address: not per call, but anew after an answer; and what is remembered is bounded."""
    with caplog.at_level(logging.INFO, "mayday"):
        async with serving({NEW: 500}) as (server, api):
            for answer in (500, 500, '{"port":0}', 500):
                server.answers[NEW] = answer
                await api.forwarded_port("127.0.0.1")
            assert len(caplog.records) == 2
            await api.forwarded_port("127.0.0.2")
            assert len(caplog.records) == 3
            for number in range(2 * REMEMBERED):
                api._note(f"10.0.0.{number}", "HTTP 500")
            assert len(api._told) == REMEMBERED


@pytest.mark.parametrize("body", [b'{"port":40123,"ports":[40999]}', b'{"ports":[40999],"port":0}'])
def test_the_list_goes_before_the_single_port(body: bytes) -> None:
    """Where both are given the list decides."""
    assert first_port(body) == 40999
