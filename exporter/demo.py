"""`mayday demo`: the whole sidecar on a simulated fleet, playing a failure and a recovery."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from exporter.app import App
from exporter.clock import SystemClock
from exporter.core.model import EngineState, Mode, Phase
from exporter.core.service import out_of_service
from exporter.runtime.simulated import SimulatedRuntime
from exporter.runtime.simulated_host import SimulatedHost
from exporter.settings.settings import from_environment

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from exporter.clock import Clock
    from exporter.controller import Controller
    from exporter.core.model import Engine
    from exporter.core.snapshot import Snapshot
    from exporter.runtime.base import OnRequest
    from exporter.settings.settings import Settings

STYLES = {
    Phase.HEALTHY: "green",
    Phase.FAILED: "bold red",
    Phase.STABILIZING: "yellow",
    Phase.UNKNOWN: "dim",
    Mode.NORMAL: "green",
    Mode.EMERGENCY: "bold yellow",
    Mode.OUTAGE: "bold red",
}
TAKEN_OVER = ("ALERTMANAGER_URL", "API_KEY", "EMERGENCY_CAPACITY", "STATE_DIR", "WEBHOOK_TOKEN")
"""Settings that the demo takes from the environment."""
CALM_S = 4.0
"""Seconds between two steps of the demo."""
ACT_LIMIT_S = 120.0
LEGEND = "■ works   □ out of service   · missing"
REDRAWN_EVERY_S = 0.25
"""How often a terminal's table is drawn anew, for the seconds in it."""


class Pictures:
    """The controller's snapshots, as they come."""

    def __init__(self, controller: Controller) -> None:
        self.latest = controller.snapshot
        self._next = asyncio.Event()
        controller.subscribe(self._take)

    def _take(self, snapshot: Snapshot) -> None:
        self.latest = snapshot
        self._next.set()
        self._next = asyncio.Event()

    async def next(self) -> None:
        """Wait for one that is newer than the latest."""
        await self._next.wait()

    async def until(self, condition: Callable[[Snapshot], bool]) -> None:
        """Wait until one meets a condition.

        Raises:
            TimeoutError: none did, for too long.
        """
        async with asyncio.timeout(ACT_LIMIT_S):
            while not condition(self.latest):
                await self.next()


class Play:
    """The simulated fleet and the faults that the demo plays on it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.settings = _settings(options)
        self.host = SimulatedHost(SystemClock(), random.Random())  # noqa: S311 - a simulation
        for vpn in self.settings.policy.vpns:
            self.host.add_vpn(vpn, interval_s=1.0, retries=2)

    def runtime(self, _settings: Settings, on_request: OnRequest) -> SimulatedRuntime:
        """The runtime over the simulated host."""
        return SimulatedRuntime(self.host, on_request=on_request)

    async def probe(self, engine: Engine, _address: str, /) -> bool:
        """Whether a simulated engine answers."""
        return self.host.answers(engine.id)

    async def act(self, pictures: Pictures, say: Callable[[str], None]) -> None:
        """Play one failure and one recovery."""
        share = pictures.latest.desired

        def full(snapshot: Snapshot) -> bool:
            working = snapshot.counts
            return all(working.get((vpn, EngineState.WORKING), 0) >= share[vpn] for vpn in share)

        await pictures.until(lambda s: s.state.mode is Mode.NORMAL and full(s))
        await asyncio.sleep(CALM_S)
        victim = self.host.rng.choice(self.settings.policy.vpns)
        say(f"DEMO: the tunnel of {victim} breaks; its health check begins to fail")
        self.host.set_truth(victim, good=False)
        await pictures.until(lambda s: s.state.mode is Mode.EMERGENCY and not any(s.fleet.on(victim)))
        await asyncio.sleep(CALM_S)
        say(f"DEMO: the tunnel of {victim} is back")
        self.host.set_truth(victim, good=True)
        await pictures.until(lambda s: s.state.vpns[victim].phase is Phase.HEALTHY and full(s))


def _settings(options: argparse.Namespace) -> Settings:
    names = ["gluetun", *(f"gluetun_{number}" for number in range(2, options.vpns + 1))]
    environment = {
        **{name: os.environ[name] for name in TAKEN_OVER if name in os.environ},
        "GLUETUN_CONTAINER_NAME": names[0],
        **{f"GLUETUN_CONTAINER_NAME_{number}": name for number, name in enumerate(names[1:], start=2)},
        "MIN_REPLICAS": str(options.engines),
        "VPN_STABILIZATION_PERIOD_S": str(options.stabilization),
        "APP_HOST": "127.0.0.1",
        "APP_PORT": str(options.port),
    }
    return replace(from_environment(environment), engine_health_interval_s=2.0, autoscale_interval_s=2.0)


def table(snapshot: Snapshot, mono: float) -> Table:
    """The fleet as a table for a terminal."""
    mode = snapshot.state.mode
    title = f"[{STYLES[mode]}]{mode.upper()}[/]"
    if snapshot.emergency_active:
        title += f" for {snapshot.emergency_duration_s(mono):.0f} s"
    shown = Table(
        title=f"Mayday demo: a simulation, no container is touched. Mode: {title}", min_width=84, caption=LEGEND
    )
    for column in ("VPN", "phase", "stabilization left", "engines", "desired"):
        shown.add_column(column)
    for name, vpn in snapshot.state.vpns.items():
        working = snapshot.counts.get((name, EngineState.WORKING), 0)
        left = vpn.stabilization_remaining_s(mono)
        sign = "□" if out_of_service(snapshot.state, name) else "■"
        bar = sign * working + "·" * max(0, snapshot.desired[name] - working)
        shown.add_row(
            name,
            f"[{STYLES[vpn.phase]}]{vpn.phase}[/]",
            f"{left:.0f} s" if left else "–",
            f"{working:>3} {bar}",
            str(snapshot.desired[name]),
        )
    return shown


class ConsoleHandler(logging.Handler):
    """Prints log lines above the table."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        """Print one log line."""
        style = "yellow" if record.levelno >= logging.WARNING else None
        # Unwrapped: where there is no terminal, a line of the log stays one line.
        self._console.print(self.format(record), style=style, markup=False, highlight=False, soft_wrap=True)


def demo(options: argparse.Namespace) -> int:
    """Run the demo until it is interrupted, or, with `--once`, until one failure and one recovery were played."""
    console = Console()
    logger = logging.getLogger("mayday")
    logger.setLevel(logging.INFO)
    logger.handlers[:] = [ConsoleHandler(console)]
    logger.propagate = False
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(_run(options, console))
    except OSError as error:
        console.print(f"The demo cannot start: {error}. Is port {options.port} taken? Try --port 0.", style="red")
        return 1
    except TimeoutError:
        console.print(
            f"The simulated fleet did not reach the expected state within {ACT_LIMIT_S:g} s; see the lines above.",
            style="red",
        )
        return 1
    return 0


async def _run(options: argparse.Namespace, console: Console) -> None:
    play = Play(options)
    loop = asyncio.get_running_loop()
    async with App(play.settings, play.runtime, probe=play.probe) as app:
        port = app.web.address[1] if app.web and app.web.address else options.port
        console.print(
            f"This is a simulation: {options.vpns} VPNs, {options.engines} engines, stabilization "
            f"{options.stabilization:g} s (120 in production). Look at http://127.0.0.1:{port}/ ; Ctrl-C ends it.",
            soft_wrap=True,
        )
        pictures = Pictures(app.controller)
        acting = loop.create_task(_play(play, pictures, options, console))
        showing = loop.create_task(_show(pictures, app.clock, console))
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, acting.cancel)
        try:
            await asyncio.wait([acting, showing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            showing.cancel()
            acting.cancel()
        for task in (showing, acting):
            with suppress(asyncio.CancelledError):
                await task


async def _play(play: Play, pictures: Pictures, options: argparse.Namespace, console: Console) -> None:
    def say(text: str) -> None:
        console.print(text, style="bold cyan", markup=False, soft_wrap=True)

    if options.manual:
        await asyncio.Event().wait()
    await play.act(pictures, say)
    while not options.once:
        await play.act(pictures, say)
    say("DEMO: finished; full capacity is restored")


async def _show(pictures: Pictures, clock: Clock, console: Console) -> None:
    """Keep a terminal's table up to date; where there is no terminal, print it when the mode or a phase changes."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            try:
                while True:
                    live.update(table(pictures.latest, clock.mono()), refresh=True)
                    await asyncio.sleep(REDRAWN_EVERY_S)
            finally:
                live.update(table(pictures.latest, clock.mono()), refresh=True)  # what stays on the screen
    shown: object = None
    while True:
        snapshot = pictures.latest
        current = (snapshot.state.mode, tuple(vpn.phase for vpn in snapshot.state.vpns.values()))
        if current != shown:
            console.print(table(snapshot, clock.mono()))
        shown = current
        await pictures.next()
