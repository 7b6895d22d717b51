"""How soon a failure shows, over many failures; and how soon Mayday answers while it cleans up.

Answers are compared with those of a server that does nothing else, on the same machine, while the bare calls remove as
many engines from the same daemon: what a busy machine costs is in both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.bare import Bare
from benchmarks.daemon import Events, Watch, private_lab, sidecar
from benchmarks.figures import percentile, say, table
from benchmarks.sampler import sampling
from tests.support.lab import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab import Lab

RATE = 50.0
IDLE_SERVER = """
from aiohttp import web

async def status(_request):
    return web.json_response({"text": "x" * 1500})

app = web.Application()
app.router.add_get("/vpn/status", status)
web.run_app(app, host="127.0.0.1", port=18123, print=lambda _text: print("up", flush=True))
"""


def options_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--failures", type=int, default=60, help="to detect")
    parser.add_argument("--engines", type=int, default=100, help="that are cleaned up while Mayday is asked")
    parser.add_argument("--runs", type=int, default=2, help="cleanups")


def run(options: argparse.Namespace) -> None:
    with private_lab() as lab:
        say(f"detection of {options.failures} failures")
        detected = detect(lab, options.failures)
        lab.purge()
        say(f"answers while {options.engines} engines are cleaned up")
        ours, theirs = answers(lab, options.engines, options.runs)
    rows = [
        ("health event → `emergency_mode.active` on HTTP", *_quantiles(detected)),
        (f"`/vpn/status` while Mayday removes {options.engines} engines", *_quantiles(ours)),
        (f"an idle aiohttp server while bare calls remove {options.engines}", *_quantiles(theirs)),
    ]
    table("Detection, and answers during a cleanup", ["", "samples", "median", "p90", "p99", "most"], rows)


def _quantiles(values: list[float]) -> tuple[str, ...]:
    shown = (f"{percentile(values, share) * 1e3:.1f} ms" for share in (0.5, 0.9, 0.99, 1.0))
    return str(len(values)), *shown


def detect(lab: Lab, failures: int) -> list[float]:
    """Seconds from the daemon's own time of the health event until HTTP shows the emergency."""
    lab.vpn("gluetun", interval_s=5.0)
    lab.vpn("gluetun_2", interval_s=0.5)
    found = []
    with sidecar(lab, MIN_REPLICAS="2", VPN_STABILIZATION_PERIOD_S="0") as mayday:
        wait_for(lambda: len(lab.engines(running=True)) == 2, "the first fill")
        watch = Watch(mayday.url)
        for number in range(failures):
            wait_for(lambda: len(lab.engines("gluetun_2", running=True)) == 1, "whole again")
            time.sleep(0.01 * (number % 7))  # no lockstep with anything
            events = Events(lab)
            lab.fail("gluetun_2")
            active_at = watch.until_active(active=True)
            found.append(active_at - events.wait("health_status: unhealthy", "gluetun_2", 1))
            events.close()
            wait_for(lambda: not lab.engines("gluetun_2"), "evacuated")
            lab.heal("gluetun_2")
            watch.until_active(active=False)
        watch.close()
    return found


def answers(lab: Lab, count: int, runs: int) -> tuple[list[float], list[float]]:
    """Seconds of each answer: Mayday's while it cleans up, and an idle server's while bare calls do, in turn."""
    ours: list[float] = []
    theirs: list[float] = []
    for name in ("gluetun", "gluetun_2"):
        lab.vpn(name)
    bare = Bare(lab)
    environment = {"MIN_REPLICAS": str(2 * count), "VPN_STABILIZATION_PERIOD_S": "2"}
    with sidecar(lab, **environment) as mayday, _idle_server() as idle:
        for number in range(runs):
            say(f"  round {number + 1} of {runs}")
            wait_for(lambda: len(lab.engines(running=True)) == 2 * count, "whole", 300)
            time.sleep(2)
            events = Events(lab)
            lab.fail("gluetun_2")
            events.wait("health_status: unhealthy", "gluetun_2", 1)
            with sampling(f"{mayday.url}/vpn/status", RATE) as taken:
                events.wait("destroy", "gluetun_2", count)
            ours += taken
            events.close()
            ids, _ = bare.create(count, 8)
            time.sleep(2)
            with sampling(idle, RATE) as taken:
                bare.remove(ids, 8)
            theirs += taken
            lab.heal("gluetun_2")
    return ours, theirs


@contextmanager
def _idle_server() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", IDLE_SERVER], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield "http://127.0.0.1:18123/vpn/status"
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    options_of(arguments)
    run(arguments.parse_args())
