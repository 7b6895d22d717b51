"""The Docker runtime when Docker is gone, stands still, is another one, or is not Docker at all; and its own end."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import docker
import pytest

from exporter.core.spec import EngineSpec
from exporter.errors import MissingError, RejectedError, UnreachableError
from exporter.runtime.docker import DockerRuntime
from exporter.runtime.docker_stream import _connect, _keep_alive
from tests.docker.runtimes import GENEROUS_S, NOBODY, drained, eventually, first
from tests.support.lab import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab import Lab, PrivateDockerd


async def _ended() -> bool:
    return "docker-events" not in {thread.name for thread in threading.enumerate()}


async def test_the_daemon_goes_and_comes(dockerd: PrivateDockerd, lab: Lab, runtime: DockerRuntime) -> None:
    """While the daemon is down every call says so and the stream has ended; the same runtime works afterwards."""
    lab.vpn("gluetun", healthcheck=False)
    assert len(await runtime.containers()) == 1
    stream = await runtime.events()
    reading = asyncio.create_task(drained(stream))
    try:
        await asyncio.to_thread(dockerd.stop)
        await asyncio.wait_for(reading, GENEROUS_S)
        await stream.close()
        for call in (runtime.containers, runtime.events, lambda: runtime.inspect("gluetun")):
            with pytest.raises(UnreachableError):
                await call()
        early = DockerRuntime({"DOCKER_HOST": dockerd.url})
        with pytest.raises(UnreachableError):
            await early.containers()
    finally:
        await asyncio.to_thread(dockerd.start)
    assert [box.name for box in await runtime.containers()] == ["gluetun"]
    assert [box.name for box in await early.containers()] == ["gluetun"]
    again = await runtime.events()
    lab.api.start("gluetun")
    assert (await first(again, lambda event: event.action == "start")).name == "gluetun"
    await early.close()


async def test_a_daemon_that_stands_still(dockerd: PrivateDockerd, lab: Lab) -> None:
    """Connections that are accepted and not answered end as unreachable after the time-out, the event stream's too;
    afterwards the same runtime works."""
    runtime = DockerRuntime({"DOCKER_HOST": dockerd.url}, timeout_s=1, workers=4)
    await runtime.containers()
    dockerd.freeze()
    try:
        calls = [runtime.containers(), runtime.events(), runtime.inspect("gluetun"), runtime.remove(NOBODY)]
        results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), GENEROUS_S)
        assert [type(result) for result in results] == [UnreachableError] * 4
    finally:
        dockerd.thaw()

    async def answers() -> bool:
        try:
            return await runtime.containers() == []
        except UnreachableError:
            return False

    await eventually(answers, "an answer after the thaw")
    await runtime.close()


async def test_another_daemon_of_another_version(dockerd: PrivateDockerd, lab: Lab) -> None:
    """A version that the daemon refuses is negotiated anew, and the caller does not notice."""
    runtime = DockerRuntime({"DOCKER_HOST": dockerd.url})
    assert await runtime.containers() == []
    for wrong in ("9.99", "1.0"):
        runtime._version = wrong
        for api in runtime._idle:
            api._version = wrong
        assert await runtime.containers() == []
        assert runtime._version == lab.api.api_version
    runtime._version = "9.99"
    await (await runtime.events()).close()
    await runtime.close()


async def test_a_cancelled_call_breaks_nothing(
    lab: Lab, runtime: DockerRuntime, requests: Counter[tuple[str, str]]
) -> None:
    """Callers are cancelled while their calls are under way: the calls run on and are counted, and the runtime has as
    many threads as before for the next ones."""
    lab.vpn("gluetun")
    engines = [lab.engine("gluetun", 19000 + n, f"engine-{n}", ignore_sigterm=True) for n in range(8)]
    stops = [asyncio.create_task(runtime.stop(engine, 1)) for engine in engines]
    await asyncio.sleep(0.3)
    for task in stops:
        task.cancel()
    ends = await asyncio.gather(*stops, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends

    async def stopped() -> bool:
        return not lab.engines(running=True)

    await eventually(stopped, "the stops that were under way")
    await asyncio.gather(*(runtime.remove(engine) for engine in engines))
    assert requests["stop", "ok"] == 8
    assert lab.engines() == []


async def test_a_stream_whose_opening_was_cancelled(
    lab: Lab, runtime: DockerRuntime, requests: Counter[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The opening goes on in its thread and is given up there: no reader is left behind, and the next stream works."""
    under_way, cancelled = threading.Event(), threading.Event()

    def connect(client: Any) -> Any:
        under_way.set()
        assert cancelled.wait(GENEROUS_S)
        return _connect(client)

    with monkeypatch.context() as patch:
        patch.setattr("exporter.runtime.docker_stream._connect", connect)
        opening = asyncio.create_task(runtime.events())
        await asyncio.to_thread(under_way.wait, GENEROUS_S)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        cancelled.set()

        async def counted() -> bool:
            return requests["events", "ok"] == 1

        await eventually(counted, "the end of the opening")
    assert await _ended()
    stream = await runtime.events()
    lab.vpn("gluetun", healthcheck=False)
    await first(stream, lambda event: event.name == "gluetun")


async def test_after_closing_nothing_is_begun(lab: Lab, runtime: DockerRuntime) -> None:
    """A closed runtime refuses calls as unreachable, and its threads end."""
    await runtime.containers()
    stream = await runtime.events()
    await runtime.close()
    assert await asyncio.wait_for(drained(stream), GENEROUS_S) == []
    with pytest.raises(UnreachableError, match="closed"):
        await runtime.containers()
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("docker-")], "the end of the threads")


def test_a_hanging_call_does_not_hold_up_the_end(dockerd: PrivateDockerd, lab: Lab) -> None:
    """A process whose call to a silent daemon has ten minutes left to wait ends at once when it is told to."""
    program = f"""
import asyncio
from exporter.runtime.docker import DockerRuntime
from exporter.runtime.docker_stream import _connect, _keep_alive

async def main():
    runtime = DockerRuntime({{"DOCKER_HOST": {dockerd.url!r}}}, timeout_s=600)
    await runtime.containers()
    stream = await runtime.events()
    print("ready", flush=True)
    input()
    calls = [asyncio.create_task(call) for call in (runtime.containers(), runtime.events())]
    await asyncio.sleep(0.2)
    for call in calls:
        call.cancel()
    await runtime.close()

asyncio.run(main())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    dockerd.freeze()
    try:
        _, errors = process.communicate("\n", timeout=GENEROUS_S)
    finally:
        dockerd.thaw()
        process.kill()
    assert process.returncode == 0, errors
    assert errors == ""


@pytest.mark.parametrize(
    "environment",
    [
        {"DOCKER_HOST": "nonsense://x"},
        {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nonexistent", "DOCKER_HOST": "tcp://127.0.0.1:1"},
        {"DOCKER_HOST": "ssh://nobody@127.0.0.1"},
    ],
)
def test_an_unusable_address_is_refused_at_once(environment: dict[str, str]) -> None:
    """What can never work is an error of the constructor, not an unreachable Docker for ever."""
    with pytest.raises(docker.errors.DockerException):
        DockerRuntime(environment)


@contextmanager
def answering(status: int, body: str, *, length: int | None = None, events: str | None = None) -> Iterator[str]:
    """An address over TCP where everything but the version is answered like this; `length` may promise more than comes,
    and `events` is sent as an event stream in chunks that is then cut off."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/version":
                self.reply(200, json.dumps({"ApiVersion": "1.44"}), None)
            elif events is not None and "/events" in self.path:
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(f"{len(events):x}\r\n{events}\r\n".encode())
                self.close_connection = True
            else:
                self.reply(status, body, length)

        def reply(self, status: int, body: str, length: int | None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(length or len(body)))
            self.end_headers()
            self.wfile.write(body.encode())
            self.close_connection = length is not None

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - names that the base class looks for

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "length", "expected", "result"),
    [
        (403, "<html><body><h1>403 Forbidden</h1></body></html>", None, RejectedError, "error"),
        (503, "<html><body><h1>503 Service Unavailable</h1></body></html>", None, UnreachableError, "unreachable"),
        (404, "<html><h1>404 Not Found</h1></html>", None, RejectedError, "error"),
        (500, '{"cause":"podman"}', None, RejectedError, "error"),
        (500, "null", None, RejectedError, "error"),
        (404, '{"message":"No such container: x"}', None, MissingError, "not_found"),
        (200, "<html>log in</html>", None, UnreachableError, "unreachable"),
        (200, '[{"Id": "a', None, UnreachableError, "unreachable"),
        (200, '[{"Id": "a"', 500, UnreachableError, "unreachable"),
        (200, '{"Strange": 1}', None, UnreachableError, "unreachable"),
        (200, "[1]", None, UnreachableError, "unreachable"),
    ],
)
async def test_answers_that_are_not_dockers(
    status: int, body: str, length: int | None, expected: type[Exception], result: str
) -> None:
    """A proxy's page, a cut body, an error without a message, JSON of another shape: each is one of our errors and is
    counted as such; none is taken for a container that is gone."""
    counts: Counter[tuple[str, str]] = Counter()
    with answering(status, body, length=length) as address:
        runtime = DockerRuntime({"DOCKER_HOST": address}, on_request=lambda o, r, _s: counts.update([(o, r)]))
        with pytest.raises(expected, match="list containers"):
            await runtime.containers()
        assert counts == {("list", result): 1}
        if expected is MissingError:
            assert await runtime.inspect("x") is None
        else:
            with pytest.raises(expected, match="inspect 'x'"):
                await runtime.inspect("x")
        if expected is not MissingError:
            with pytest.raises(expected, match="create 'e'"):
                await runtime.create(EngineSpec("e", "i", NOBODY))
        with pytest.raises((UnreachableError, RejectedError, MissingError), match="event stream"):
            await runtime.events()
        await runtime.close()


async def test_a_stream_that_is_cut_in_the_middle_of_an_event() -> None:
    """Whole events before the cut are delivered, and the iteration ends."""
    event = {"Type": "container", "Action": "die", "Actor": {"ID": "a", "Attributes": {"name": "gluetun"}}, "time": 1}
    with answering(500, "", events=json.dumps(event) + '\n{"Type": "cont') as address:
        runtime = DockerRuntime({"DOCKER_HOST": address})
        stream = await runtime.events()
        assert [(e.name, e.action) for e in await asyncio.wait_for(drained(stream), GENEROUS_S)] == [("gluetun", "die")]
        await runtime.close()


def test_dead_peers_are_probed_for() -> None:
    """A TCP connection of the stream has keep-alive switched on; a Unix socket is left as it is."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as over_tcp, socket.socket(socket.AF_UNIX) as local:
        for connection in (over_tcp, local):
            _keep_alive(connection)
        assert over_tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert local.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


async def test_proxies_for_web_pages_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """`http_proxy` in the environment does not lead calls to Docker elsewhere."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with answering(200, "[]") as address:
        runtime = DockerRuntime({"DOCKER_HOST": address})
        assert await runtime.containers() == []
        await runtime.close()
