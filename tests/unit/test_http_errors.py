"""A request that failed is told of without a secret, whatever went wrong."""

from __future__ import annotations

import asyncio
import base64
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from exporter.core.alerts import Listing
from exporter.sources import alertmanager
from exporter.sources.alertmanager import AlertmanagerApi
from exporter.sources.alertmanager_wire import Selection
from exporter.sources.gluetun import GluetunApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SECRET = "s3cret-qXz7"
PACKED = base64.b64encode(f"mayday:{SECRET}".encode()).decode()
"""As it stands in the Authorization header."""


async def _repeats_the_header(request: web.Request) -> web.StreamResponse:
    said = request.headers.get("Authorization", "") + request.headers.get("X-API-Key", "")
    return web.Response(status=500, reason=said or "nothing", text=said)


async def _hangs(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def _cuts(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def _badly_packed(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"\0\0", headers={"Content-Encoding": "deflate"})


def _answers(status: int, text: str = "", **headers: str) -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers)

    return handler


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """A server on a loopback port that answers everything so."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


TROUBLE = {
    "500, its reason and text the header": (_repeats_the_header, "HTTP 500 Internal Server Error"),
    "401": (_answers(401), "HTTP 401 Unauthorized"),
    "a status that does not exist": (_answers(599), "HTTP 599"),
    "a redirect to nowhere": (_answers(302, Location=f"http://u:{SECRET}@[::"), "redirected to an address"),
    "a redirect to another protocol": (
        _answers(302, Location=f"ftp://u:{SECRET}@127.0.0.1/"),
        "redirected to an address",
    ),
    "a redirect to itself": (_answers(302, Location="/again"), "redirected too often"),
    "a redirect to a port that nobody uses": (_answers(302, Location="http://127.0.0.1:1/"), "Connection refused"),
    "no JSON": (_answers(200, f"<html>{SECRET}"), "the answer is not JSON"),
    "no list": (_answers(200, f'{{"a": "{SECRET}"}}'), "not a list of alerts"),
    "a list of something else": (_answers(200, f'["{SECRET}"]'), "something else than alerts"),
    "badly packed": (_badly_packed, "not HTTP as it should be"),
    "cut": (_cuts, "ServerDisconnectedError"),
    "hangs": (_hangs, "no answer in time"),
}


def written(caplog: pytest.LogCaptureFixture) -> str:
    """All that was logged, by whatever logger, traces included."""
    form = logging.Formatter("%(levelname)s %(name)s %(message)s")
    return "\n".join(form.format(record) for record in caplog.records)


@pytest.mark.parametrize(("handler", "reason"), TROUBLE.values(), ids=TROUBLE)
async def test_an_error_of_alertmanagers_api_shows_no_secret(
    handler: Handler, reason: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name and password in ALERTMANAGER_URL once were logged with each error answer; the reason is told, once."""
    if handler is _hangs:
        monkeypatch.setattr(alertmanager, "API_TIMEOUT_S", 0.3)
    with caplog.at_level(logging.DEBUG):
        async with serving(handler) as port, aiohttp.ClientSession() as session:
            url = f"http://mayday:{SECRET}@127.0.0.1:{port}"
            api = AlertmanagerApi(session, url, Selection(("gluetun",)))
            assert await api.listing() is None
            assert await api.listing() is None
    told = [record.getMessage() for record in caplog.records if record.name == "mayday"]
    assert len(told) == 1
    assert reason in told[0]
    assert SECRET not in written(caplog)
    assert PACKED not in written(caplog)


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid", "[::1"])
async def test_an_address_that_nobody_answers_on_shows_no_secret(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """Refused, unknown, and no address at all."""
    with caplog.at_level(logging.DEBUG):
        async with aiohttp.ClientSession() as session:
            assert await AlertmanagerApi(session, f"http://mayday:{SECRET}@{host}", Selection(("g",))).listing() is None
    assert "gives no usable answer" in written(caplog)
    assert SECRET not in written(caplog)


async def test_name_and_password_are_sent(caplog: pytest.LogCaptureFixture) -> None:
    """What is not shown is used: Alertmanager behind a password is read, suppressed alerts included."""
    seen = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((request.headers.get("Authorization"), dict(request.query)))
        return web.json_response([])

    with caplog.at_level(logging.DEBUG):
        async with serving(handler) as port, aiohttp.ClientSession() as session:
            api = AlertmanagerApi(session, f"http://mayday:{SECRET}@127.0.0.1:{port}", Selection(("gluetun",)))
            assert await api.listing() == Listing()
    ((header, query),) = seen
    assert header == f"Basic {PACKED}"
    assert {name for name, value in query.items() if value == "true"} >= {"active", "silenced", "inhibited"}
    assert SECRET not in written(caplog)


@pytest.mark.parametrize("handler", [_repeats_the_header, _cuts, _answers(200, f"<html>{SECRET}")])
async def test_an_error_of_gluetuns_api_shows_no_secret(handler: Handler, caplog: pytest.LogCaptureFixture) -> None:
    """Neither its key nor what it answered."""
    with caplog.at_level(logging.DEBUG):
        async with serving(handler) as port, aiohttp.ClientSession() as session:
            assert await GluetunApi(session, port, SECRET).forwarded_port("127.0.0.1") is None
    assert "does not tell its forwarded port" in written(caplog)
    assert SECRET not in written(caplog)
