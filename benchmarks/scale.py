"""Many VPNs and thousands of engines in virtual time: half of the VPNs fail within one second, and recover together.

Virtual time shows what Mayday itself costs: the simulated calls take their time without taking any of the processor's.
Each size runs in a process of its own, for its memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.figures import percentile, say, table
from benchmarks.process import usage
from exporter.core.model import EngineState
from tests.support.fleet import SimulatedFleet, settings_for
from tests.support.virtual_time import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.app import App
    from tests.support.virtual_time import VirtualClock

SIZES = ("2x100", "10x1000", "100x1000", "2x10000", "100x10000")
AT_ONCE = 8
STABILIZATION_S = 60.0
LARGE = 10_000
"""Fleets of so many engines are measured once: their minutes vary by less than what they show."""


def options_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="VPNSxENGINES")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", metavar="VPNSxENGINES", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> None:
    found: dict[str, list[dict[str, Any]]] = {size: [] for size in options.sizes}
    for number in range(options.runs):
        for size in options.sizes:
            if number and int(size.split("x")[1]) >= LARGE:
                continue
            say(f"scale: {size}, round {number + 1} of {options.runs}")
            command = [sys.executable, "-m", "benchmarks.scale", "--one", size]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=900).stdout
            found[size].append(json.loads(output))
    rows = []
    for size, runs in found.items():

        def middle(name: str, runs: list[dict[str, Any]] = runs) -> float:
            return float(statistics.median(one[name] for one in runs))

        vpns, engines = size.split("x")
        half = int(engines) // 2
        rows.append(
            (
                f"{vpns} × {int(engines) // int(vpns)}",
                f"{middle('tick') * 1e3:.2f} / {middle('tick_p99') * 1e3:.2f} / {middle('tick_most') * 1e3:.0f} ms",
                f"{middle('failed_after'):.2f} s",
                f"{middle('gone_after'):.0f} s ({middle('gone_after') / middle('ideal_remove'):.2f})",
                f"{middle('cpu_remove') / half * 1e3:.2f} ms",
                f"{middle('calls_remove') / half:.2f}",
                f"{middle('full_after'):.0f} s ({middle('full_after') / middle('ideal_create'):.2f})",
                f"{middle('cpu_create') / half * 1e3:.2f} ms",
                f"{middle('calls_create') / half:.2f}",
                f"{middle('rss'):.0f} MiB",
            )
        )
    table(
        "Scale: half of the VPNs fail within one second (simulated fleet, virtual time)",
        [
            "VPNs × engines each",
            "one decision: median / p99 / most",
            "last VPN seen failed",
            "last ghost gone (÷ ideal)",
            "CPU per removal",
            "calls per removal",
            "full again (÷ ideal)",
            "CPU per creation",
            "calls per creation",
            "resident",
        ],
        rows,
        f"*Ideal* is the simulated daemon's own time: {AT_ONCE} calls at once and nothing in between. The resident "
        "memory includes the simulated host.",
    )


def one(size: str) -> None:
    vpns, engines = (int(part) for part in size.split("x"))
    logging.getLogger("mayday").setLevel(logging.CRITICAL + 1)
    print(json.dumps(run_virtual(partial(_scenario, vpns, engines))))


async def _scenario(vpns: int, engines: int, clock: VirtualClock) -> dict[str, float]:
    settings = settings_for(vpns, engines, VPN_STABILIZATION_PERIOD_S=str(STABILIZATION_S), EVACUATION_DELAY_S="0")
    fleet = SimulatedFleet(settings, clock, at_once=AT_ONCE)
    fleet.populate(engines)
    failing = settings.policy.vpns[vpns // 2 :]
    host = fleet.host
    async with fleet.running(clock) as app:
        await asyncio.sleep(100)
        ticks = _timed(app)
        began, cpu, calls = clock.mono(), time.process_time(), fleet.calls.total()
        for name in failing:
            host.tell_health(name, good=False)
            await asyncio.sleep(1 / len(failing))
        await _until(lambda: all(app.controller.state.vpns[name].phase == "failed" for name in failing))
        failed_after = clock.mono() - began
        await _until(lambda: sum(_engines(app, name) for name in failing) == 0)
        result = {
            "failed_after": failed_after,
            "gone_after": clock.mono() - began,
            "cpu_remove": time.process_time() - cpu,
            "calls_remove": fleet.calls.total() - calls,
        }
        await asyncio.sleep(100)
        for name in failing:
            host.tell_health(name, good=True)
        await asyncio.sleep(STABILIZATION_S)
        began, cpu, calls = clock.mono(), time.process_time(), fleet.calls.total()
        await _until(lambda: sum(_engines(app, name) for name in settings.policy.vpns) == engines)
        await _until(lambda: not app.controller.ledger.names())
        removed = engines - engines // vpns * (vpns - len(failing))
        latency = 0.1 / AT_ONCE, 0.18 / AT_ONCE
        return {
            **result,
            "full_after": clock.mono() - began,
            "cpu_create": time.process_time() - cpu,
            "calls_create": fleet.calls.total() - calls,
            "ideal_remove": removed * latency[0],
            "ideal_create": removed * latency[1],
            "tick": statistics.median(ticks),
            "tick_p99": percentile(ticks, 0.99),
            "tick_most": max(ticks),
            "rss": usage(os.getpid()).rss_mib,
        }


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(3600):
        while not condition():
            await asyncio.sleep(0.1)


def _engines(app: App, vpn: str) -> int:
    """The engines of a VPN that the snapshot shows, at no cost that grows with them."""
    counts = app.controller.snapshot.counts
    return sum(counts.get((vpn, str(state)), 0) for state in EngineState)


def _timed(app: App) -> list[float]:
    """The seconds that each decision takes from now on."""
    taken: list[float] = []
    decide = app.controller.evaluate

    def timed(event_at: float | None = None) -> None:
        began = time.perf_counter()
        decide(event_at)
        taken.append(time.perf_counter() - began)

    app.controller.evaluate = timed  # type: ignore[method-assign]
    return taken


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    options_of(arguments)
    chosen = arguments.parse_args()
    if chosen.one:
        one(chosen.one)
    else:
        run(chosen)
