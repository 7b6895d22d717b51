"""A whole Mayday on a simulated fleet behind its real web server, and a look at everything that a call might change."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import unicodedata
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from exporter.app import App
from exporter.runtime.simulated import Faults, SimulatedRuntime
from exporter.settings.settings import from_environment
from exporter.telemetry.logs import TextFormatter
from exporter.web.server import WebServer
from tests.support.settings import TWO_VPNS
from tests.support.simulated import address_of, host_with, mayday_on
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


API_KEY = "k3y-of-the-fuzzer"
WEBHOOK_TOKEN = "t0ken-of-the-fuzzer"
PAGES = ("/", "/metrics", "/-/healthy", "/vpn/status", "/engines", "/history?limit=1000")
GUARDS = {"Authorization": f"Bearer {WEBHOOK_TOKEN}", "X-API-Key": API_KEY}
"""Opens every door."""

ENVIRONMENT = {
    **TWO_VPNS,
    "MIN_REPLICAS": "2",
    "MAX_REPLICAS": "6",
    "APP_HOST": "127.0.0.1",
    "APP_PORT": "0",
    "API_KEY": API_KEY,
    "WEBHOOK_TOKEN": WEBHOOK_TOKEN,
    # Nothing happens by itself while a call is judged.
    "RESYNC_INTERVAL_S": "3600",
    "AUTOSCALE_INTERVAL_S": "3600",
    "ENGINE_HEALTH_CHECK_INTERVAL_S": "3600",
}


QUIET_S = 0.1
"""Longer than any answer or event of the simulated host is under way, seconds."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    headers: dict[str, str]


class CountingRuntime(SimulatedRuntime):
    """Counts the calls that change a container."""

    changes = 0

    async def create(self, *args: Any) -> Any:
        self.changes += 1
        return await super().create(*args)

    async def start(self, *args: Any) -> Any:
        self.changes += 1
        return await super().start(*args)

    async def stop(self, *args: Any) -> Any:
        self.changes += 1
        return await super().stop(*args)

    async def restart(self, *args: Any) -> Any:
        self.changes += 1
        return await super().restart(*args)

    async def remove(self, *args: Any, **options: Any) -> Any:
        self.changes += 1
        return await super().remove(*args, **options)


class Mayday:
    """One Mayday with two VPNs and two engines, journal on disk, secrets set."""

    def __init__(self, **environment: str) -> None:
        self._stack = AsyncExitStack()
        self._environment = {**ENVIRONMENT, **environment}
        self.app: App
        self.runtime: CountingRuntime
        self.session: aiohttp.ClientSession
        self.address: tuple[str, int]

    def web_server(self) -> WebServer:
        """A web server that does not listen, for its routes."""
        app = App(from_environment(self._environment), lambda *_: CountingRuntime(None), serve=False)  # type: ignore[arg-type]
        nobody: Any = None
        return WebServer(app.settings, app.controller, nobody, nobody, app.metrics, app.journal, nobody)

    async def open(self) -> Mayday:
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        settings = from_environment({**self._environment, "STATE_DIR": directory})
        host = host_with(settings.policy.vpns)
        self.runtime = CountingRuntime(host)
        self.runtime.faults = Faults(slow=0.01)
        self.app = mayday_on(host, settings, self.runtime)
        await self._stack.enter_async_context(self.app)
        self.session = await self._stack.enter_async_context(
            aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=30))
        )
        self.address = address_of(self.app)
        await until(self._settled)
        # Events of what was created may still be on their way: wait until nothing changes any more.
        async with asyncio.timeout(30):
            before: tuple[object, ...] | None = None
            while before != (look := await self.look()):
                before = look
                await asyncio.sleep(QUIET_S)
        return self

    def _settled(self) -> bool:
        fleet = self.app.controller.fleet
        read = sum(engine.created_at > 0 for engine in fleet.engines)
        return read == 2 and not self.app.controller.ledger.names() and self.app.controller.snapshot.ready

    async def close(self) -> None:
        await self._stack.aclose()

    async def call_url(self, method: str, url: URL, **options: Any) -> Answer:
        async with self.session.request(method, url, **options) as answer:
            return Answer(answer.status, await answer.read(), dict(answer.headers))

    async def raw(self, sent: bytes, *, wait_s: float = 30.0) -> bytes:
        """Send bytes as they are on a connection of their own; what came back until it was closed, or until nothing
        came for so long."""
        reader, writer = await asyncio.open_connection(*self.address)
        received = b""
        with suppress(ConnectionError, TimeoutError):
            writer.write(sent)
            while True:
                async with asyncio.timeout(wait_s):
                    piece = await reader.read(65536)
                if not piece:
                    break
                received += piece
        writer.close()
        return received

    async def look(self) -> tuple[object, ...]:
        """Everything that a refused call must leave as it is. A refusal itself may be told in the history."""
        controller = self.app.controller
        told = [r for r in await self.app.journal.query(limit=1000) if r.kind not in {"refusal", "life"}]
        return (
            controller.state,
            dict(controller.alerts.book),
            dict(controller.operator.drills),
            frozenset(controller.fleet.engines),
            tuple(controller.ledger._entries),
            frozenset((box.id, box.state) for box in self.runtime.host.boxes.values()),
            self.runtime.changes,
            told[0].id if told else None,
            (await self.app.journal.load() or {}).get("written"),
            self.app.failed.is_set(),
        )


ODD = {"Cc", "Cs", "Zl", "Zp"}
"""Categories of characters that end a line, steer a terminal, or cannot be written."""


class Lines(logging.Handler):
    """Looks at what is logged, as the program writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(TextFormatter())
        self.faults: list[str] = []
        """Errors, more lines than one for one record, and secrets."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        secret = API_KEY in line or WEBHOOK_TOKEN in line
        if record.levelno >= logging.ERROR or secret or any(unicodedata.category(c) in ODD for c in line):
            self.faults.append(line)


class Stage:
    """Runs one Mayday for many examples, and a new one after each example that changed it."""

    def __init__(self, **environment: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._environment = environment
        self._mayday: Mayday | None = None
        self.examples = 0
        self.refused = 0
        self.errors: list[dict[str, Any]] = []
        self._loop.set_exception_handler(lambda _loop, context: self.errors.append(context))
        self.log = Lines()
        logging.getLogger().addHandler(self.log)

    def run(self, play: Callable[[Mayday], Coroutine[Any, Any, Answer]]) -> Answer:
        """Play one call; a refused one must change nothing, and none may be answered with an error of the server."""
        return self._loop.run_until_complete(self._run(play))

    async def _run(self, play: Callable[[Mayday], Coroutine[Any, Any, Answer]]) -> Answer:
        if self._mayday is None:
            self._mayday = await Mayday(**self._environment).open()
        mayday = self._mayday
        before = await mayday.look()
        answer = await play(mayday)
        after = await mayday.look()
        self.examples += 1
        if answer.status >= 400:
            self.refused += 1
            changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
            assert not changed, f"refused with {answer.status}, and something has changed: {changed}"
        elif after != before:
            for page in PAGES:
                shown = await mayday.call_url("GET", URL(f"http://127.0.0.1:{mayday.address[1]}{page}"))
                assert shown.status == 200, f"after what was accepted {page} answers {shown}"
            await self._renew()
        faults, self.log.faults[:] = [*map(str, self.errors), *self.log.faults], []
        self.errors.clear()
        assert not faults, faults
        return answer

    async def _renew(self) -> None:
        if self._mayday is not None:
            mayday, self._mayday = self._mayday, None
            await mayday.close()

    def close(self) -> None:
        self._loop.run_until_complete(self._renew())
        self._loop.close()
        logging.getLogger().removeHandler(self.log)
