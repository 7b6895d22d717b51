"""What a scrape costs beside what the client library needs for the same exposition, and what scrapes cost a failover.

The comparison is with a registry that holds the very same families, built beforehand: nothing is left there but the
library's own writing of text.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import random
import statistics
import time
import tracemalloc
from collections import defaultdict
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.figures import percentile, ratio, say, spread, table
from benchmarks.sampler import sampling
from exporter.clock import SystemClock
from tests.support.fleet import SimulatedFleet, settings_for
from tests.support.virtual_time import run_virtual

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from tests.support.virtual_time import VirtualClock


def options_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vpns", type=int, nargs="+", default=[2, 10, 100])
    parser.add_argument("--engines", type=int, nargs="+", default=[10, 1000, 10_000])
    parser.add_argument("--runs", type=int, default=40, help="scrapes of each kind")
    parser.add_argument("--rate", type=float, default=300.0, help="scrapes a second while VPNs fail; 0: none")
    parser.add_argument("--failures", type=int, default=40)


def run(options: argparse.Namespace) -> None:
    logging.getLogger("mayday").setLevel(logging.CRITICAL + 1)
    rows = []
    for vpns in options.vpns:
        for engines in options.engines:
            say(f"scrape: {vpns} VPNs, {engines} engines")
            rows.append(run_virtual(partial(_scrapes, vpns, engines, options.runs)))
    table(
        "Scrape (simulated fleet)",
        ["VPNs", "engines", "bytes", "time", "the library alone", "ratio", "allocated at most", "the library alone"],
        rows,
    )
    if options.rate:
        say(f"failover under {options.rate:g} scrapes a second")
        asyncio.run(_under_load(options.rate, options.failures))


class Prebuilt:
    """The same families, as they were."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


async def _scrapes(vpns: int, engines: int, runs: int, clock: VirtualClock) -> tuple[str, ...]:
    fleet = SimulatedFleet(settings_for(vpns, engines), clock)
    fleet.populate(engines)
    async with fleet.running(clock) as app:
        await asyncio.sleep(1)
        ours = app.metrics.registry
        alone = CollectorRegistry(auto_describe=False)
        alone.register(Prebuilt(list(ours.collect())))
        times: dict[str, list[float]] = defaultdict(list)
        for registry in (ours, alone):
            generate_latest(registry)
        gc.collect()
        for _ in range(runs):
            for name, registry in (("ours", ours), ("alone", alone)):
                began = time.perf_counter()
                text = generate_latest(registry)
                times[name].append(time.perf_counter() - began)
        return (
            str(vpns),
            str(engines),
            f"{len(text):,}",
            spread(times["ours"], "ms"),
            spread(times["alone"], "ms"),
            f"**{ratio(times['ours'], times['alone'])}**",
            _allocated(ours),
            _allocated(alone),
        )


def _allocated(registry: CollectorRegistry) -> str:
    tracemalloc.start()
    try:
        generate_latest(registry)
        return f"{tracemalloc.get_traced_memory()[1] / 1024:,.0f} KiB"
    finally:
        tracemalloc.stop()


async def _under_load(rate: float, failures: int) -> None:
    """How long after its event a failure is decided on, with and without scrapes, in turn."""
    clock = SystemClock()
    rng = random.Random(1)
    fleet = SimulatedFleet(settings_for(2, 10, VPN_STABILIZATION_PERIOD_S="0"), clock)
    fleet.populate(10)
    delays: dict[str, list[float]] = {"quiet": [], "scraped": []}
    answered: list[float] = []
    seconds = 0.0
    async with fleet.running(clock, serve=True, threaded=True) as app:
        assert app.web is not None
        assert app.web.address is not None
        url = f"http://127.0.0.1:{app.web.address[1]}/metrics"
        decided: list[float] = []
        _note_modes(app.recorder, decided)
        for part in range(8):
            name = ("quiet", "scraped")[part % 2]
            with ExitStack() as stack:
                lists = []
                if name == "scraped":
                    lists = [await asyncio.to_thread(stack.enter_context, sampling(url, rate / 3)) for _ in range(3)]
                began = time.perf_counter()
                for _ in range(max(1, failures // 4)):
                    await asyncio.sleep(rng.uniform(0.05, 0.15))
                    failed_at = time.perf_counter()
                    fleet.host.tell_health("gluetun_2", good=False)
                    decided.clear()
                    while not decided:
                        await asyncio.sleep(0.02)
                    delays[name].append(decided[0] - failed_at)
                    fleet.host.tell_health("gluetun_2", good=True)
                    while app.controller.state.vpns["gluetun_2"].phase != "healthy":
                        await asyncio.sleep(0.02)
                if lists:
                    seconds += time.perf_counter() - began
                await asyncio.to_thread(stack.close)
            for taken in lists:
                answered += taken
    rows = [
        (
            name,
            str(len(values)),
            *(f"{percentile(values, share) * 1e3:.1f} ms" for share in (0.5, 0.99)),
            f"{len(answered) / seconds:.0f} a second, {statistics.median(answered) * 1e3:.1f} ms at the median"
            if name == "scraped"
            else "–",
        )
        for name, values in delays.items()
    ]
    table(
        "Failover while /metrics is scraped",
        ["", "failures", "event → decided, median", "p99", "scrapes answered"],
        rows,
        "2 VPNs, 10 engines, simulated, in real time; the simulated inspection takes 3 ms of it.",
    )


def _note_modes(recorder: Any, decided: list[float]) -> None:
    told = recorder.mode_changed

    def noted(change: Any, *arguments: Any, **named: Any) -> None:
        if change.after == "emergency":
            decided.append(time.perf_counter())
        told(change, *arguments, **named)

    recorder.mode_changed = noted


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    options_of(arguments)
    run(arguments.parse_args())
