"""What Mayday costs while nothing happens: on a real engine by the minute, and over a day in virtual time."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import tempfile
import time
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.daemon import private_lab, sidecar
from benchmarks.figures import say, table
from benchmarks.process import precise_cpu_s, usage
from tests.support.fleet import SimulatedFleet, settings_for
from tests.support.lab import wait_for
from tests.support.virtual_time import run_virtual

if TYPE_CHECKING:
    from tests.support.lab import Lab
    from tests.support.lab_sidecar import Sidecar
    from tests.support.virtual_time import VirtualClock

SETTLE_S = 5.0
WARM_H = 1.0


def options_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engines", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--seconds", type=int, default=60, help="to idle on a real engine; 0: none")
    parser.add_argument("--hours", type=float, default=24.0, help="of virtual time; 0: none")


def run(options: argparse.Namespace) -> None:
    if options.seconds:
        with private_lab() as lab:
            rows = []
            for count in options.engines:
                lab.purge()
                say(f"idling for {options.seconds} s with {count} engines")
                rows.append(_idle(lab, count, options.seconds))
        table(
            "Idle on a real engine, by the minute",
            ["engines", "Docker API calls", "CPU", "of one core", "wake-ups", "resident", "threads"],
            rows,
            "All intervals are the defaults; the event stream comes on top of the calls.",
        )
    if options.hours:
        say(f"{options.hours:g} hours of virtual time")
        logging.getLogger("mayday").setLevel(logging.CRITICAL + 1)
        with tempfile.TemporaryDirectory(prefix="mayday-") as directory:
            rows = [run_virtual(partial(_day, directory, options.hours))]
        table(
            f"{options.hours:g} hours of virtual time with 2 VPNs and 100 engines",
            ["Docker API calls a minute", "objects more", "memory more", "resident more", "CPU a virtual minute"],
            rows,
            f"More than after the first {WARM_H:g} h.",
        )


def _idle(lab: Lab, count: int, seconds: int) -> tuple[str, ...]:
    for name in ("gluetun", "gluetun_2"):
        lab.vpn(name, interval_s=5.0)
    with sidecar(lab, MIN_REPLICAS=str(count)) as mayday:
        wait_for(lambda: len(lab.engines(running=True)) == count, "the first fill", 300)
        time.sleep(SETTLE_S)
        calls, cpu, before = _calls(mayday), precise_cpu_s(mayday.pid), usage(mayday.pid)
        time.sleep(seconds)
        used, after = precise_cpu_s(mayday.pid) - cpu, usage(mayday.pid)
        minutes = seconds / 60
        return (
            str(count),
            f"{(_calls(mayday) - calls) / minutes:.1f}",
            f"{used / minutes:.3f} s",
            f"{used / seconds:.2%}",
            f"{(after.wakeups - before.wakeups) / minutes:.0f}",
            f"{after.rss_mib:.1f} MiB",
            str(after.threads),
        )


def _calls(mayday: Sidecar) -> float:
    lines = mayday.get("/metrics")[1].splitlines()
    counted = [line for line in lines if line.startswith("mayday_docker_requests_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in counted)


async def _day(directory: str, hours: float, clock: VirtualClock) -> tuple[str, ...]:
    fleet = SimulatedFleet(settings_for(2, 100, STATE_DIR=directory), clock)
    fleet.populate(100)
    async with fleet.running(clock):
        await asyncio.sleep(WARM_H * 3600)
        tracemalloc.start()
        await asyncio.sleep(600)  # what is made anew in each round is now counted
        gc.collect()
        objects, memory = len(gc.get_objects()), tracemalloc.get_traced_memory()[0]
        resident, calls, cpu = usage(os.getpid()).rss_mib, fleet.calls.total(), time.process_time()
        await asyncio.sleep(hours * 3600)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - memory
        tracemalloc.stop()
        minutes = hours * 60
        return (
            f"{(fleet.calls.total() - calls) / minutes:.2f}",
            f"{len(gc.get_objects()) - objects:+d}",
            f"{grown / 1024:+.0f} KiB",
            f"{usage(os.getpid()).rss_mib - resident:+.1f} MiB",
            f"{(time.process_time() - cpu) / minutes * 1e3:.1f} ms, traced",
        )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    options_of(arguments)
    run(arguments.parse_args())
