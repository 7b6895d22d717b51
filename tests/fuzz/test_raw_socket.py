"""What comes over the wire and is no decent HTTP: cut, refused, and nothing is changed by it."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.web import inputs, server
from tests.fuzz import strategies as sent
from tests.fuzz.door import API_KEY, WEBHOOK_TOKEN, Answer, Stage
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.door import Mayday

AUTHORITY = f"Host: x\r\nAuthorization: Bearer {WEBHOOK_TOKEN}\r\nX-API-Key: {API_KEY}\r\n".encode()
HEALTHY = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SILENCE_S = 0.02
"""Longer than an answer takes as a rule. On a slow machine an answer may be missed, which no test takes for a fault."""
MESSAGE = b'{"version": "4", "alerts": []}'


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "LINGER_S", 0.1)
        stage = Stage()
        yield stage
        stage.close()


def statuses(answers: bytes) -> list[int]:
    """The status of each answer in what came back."""
    return [int(line.split()[1]) for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.")]


def talk(stage: Stage, wire: bytes, wait_s: float = 30.0) -> list[int]:
    """Send these bytes; the statuses that came back until the connection was closed, or until it was silent for so
    long. Nothing may be changed by it, and Mayday answers the next one as ever."""
    found: list[int] = []

    async def play(mayday: Mayday) -> Answer:
        found.extend(statuses(await mayday.raw(wire, wait_s=wait_s)))
        again = await mayday.raw(LAST)
        assert statuses(again) == [200], again
        return Answer(400, b"", {})

    stage.run(play)
    assert all(status < 500 for status in found), found
    return found


HEAD_PARTS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"GET / HTTP/1.1\r\n",
            b"POST /webhook/alertmanager HTTP/1.1\r\n",
            b"POST /control/drill HTTP/1.0\r\n",
            b"GET /history?vpn=\xff\xfe HTTP/1.1\r\n",
            b"GET /history?vpn=\xed\xa0\x80&kind=mode HTTP/1.1\r\n",
            b"DELETE /engines/\xff HTTP/1.1\r\n",
            b"GET http://[::1/ HTTP/1.1\r\n",
            b"GET //a@b:c/ HTTP/1.1\r\n",
            b"OPTIONS * HTTP/1.1\r\n",
            b"CONNECT x:1 HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/9.9\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            AUTHORITY,
            b"Host: \r\n",
            b"Content-Length: 5\r\n",
            b"Content-Length: -1\r\n",
            b"Content-Length: 99999999999999999999\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: gzip, chunked\r\n",
            b"Content-Encoding: gzip\r\n",
            b"Expect: 100-continue\r\n",
            b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
            b"Connection: close\r\n",
            b"Authorization: Basic \xff\xfe\r\n",
            b"X-API-Key: \xff\xc3\r\n",
            b" folded: 1\r\n",
            b"no colon\r\n",
            b"\r\n",
            b"ffffffffffffffff\r\n",
            b"5\r\nhello\r\n0\r\n\r\n",
            b"5;x=y\r\nhel",
            b"\n",
            b"\x00",
        ]
    ),
)


@given(parts=st.lists(HEAD_PARTS, max_size=12))
@example(parts=[b"GET /history?vpn=\xff\xfe HTTP/1.1\r\n", b"\r\n"])
@example(parts=[b"GET /history?vpn=\xed\xa0\x80 HTTP/1.1\r\n", b"\r\n"])
@example(parts=[b"DELETE /engines/\xff HTTP/1.1\r\n", AUTHORITY, b"\r\n"])
@settings(max_examples=400, deadline=None)
def test_any_bytes(stage: Stage, parts: list[bytes]) -> None:
    """Parts of requests in any order, and bytes that are none: never a 5xx, never a change, and the next is served."""
    talk(stage, b"".join(parts), SILENCE_S)


@given(body=sent.bodies(sent.ANYTHING), cut=st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_rubbish_behind_a_good_request(stage: Stage, body: bytes, cut: int) -> None:
    """Requests in one stream, and something that is none: no 5xx, no change, and the next connection is served."""
    talk(stage, HEALTHY * 2 + body + HEALTHY[:cut], SILENCE_S)


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        pytest.param(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {400, 414}, id="a long target"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", {400, 431}, id="a long field"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + b"\r\n",
            {400, 431},
            id="many fields",
        ),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a" * 200_000, {400, 431}, id="a field without an end"),
        pytest.param(b"a" * 200_000, {400, 414}, id="a line without an end"),
        pytest.param(
            b"POST /webhook/alertmanager HTTP/1.1\r\n"
            + AUTHORITY
            + b"Content-Length: %d\r\n\r\n" % (8 * 2**20)
            + b" " * 5 * 2**20,
            {413},
            id="a large body",
        ),
        pytest.param(
            b"POST /webhook/alertmanager HTTP/1.1\r\n"
            + AUTHORITY
            + b"Transfer-Encoding: chunked\r\n\r\n"
            + (b"10000\r\n" + b" " * 65536 + b"\r\n") * 80,
            {413},
            id="chunks without an end",
        ),
    ],
)
def test_what_is_too_large_is_refused_and_closed(stage: Stage, wire: bytes, expected: set[int]) -> None:
    """The head and the body are bounded: 4xx, and the connection is closed by Mayday, not by the sender."""
    found = talk(stage, wire)
    assert found == [] or found[0] in expected, found


def test_whoever_sends_its_body_slowly_is_cut(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head has come, the body never does: 408, and the connection is closed. No secret was needed to be cut."""
    monkeypatch.setattr(inputs, "BODY_TIMEOUT_S", 0.2)
    head = b"POST /webhook/alertmanager HTTP/1.1\r\n" + AUTHORITY + b"Content-Length: 100\r\n\r\n"
    assert talk(stage, head + MESSAGE[:5]) == [408]


def test_a_body_that_comes_in_pieces_is_waited_for(stage: Stage) -> None:
    """Slow, but within the bound: accepted."""

    async def play(mayday: Mayday) -> Answer:
        reader, writer = await asyncio.open_connection(*mayday.address)
        head = b"POST /webhook/alertmanager HTTP/1.1\r\n" + AUTHORITY
        writer.write(head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(MESSAGE))
        for byte in MESSAGE:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        answer = await reader.read()
        writer.close()
        assert statuses(answer) == [200]
        return Answer(200, answer, {})

    stage.run(play)


def test_connections_that_are_cut_leave_nothing_behind(stage: Stage) -> None:
    """A hundred senders that vanish in the middle, with a reset: no connection of theirs stays open."""

    async def play(mayday: Mayday) -> Answer:
        for _ in range(100):
            sender = socket.create_connection(mayday.address)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            sender.sendall(b"POST /webhook/alertmanager HTTP/1.1\r\n" + AUTHORITY + b"Content-Length: 9\r\n\r\n{")
            await asyncio.sleep(0)
            sender.close()
        assert mayday.app.web is not None
        assert mayday.app.web._runner is not None
        standing = mayday.app.web._runner.server
        assert standing is not None
        await until(lambda: len(standing.connections) <= 1)
        return Answer(400, b"", {})

    stage.run(play)
