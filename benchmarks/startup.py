"""From exec to ready, and what is imported on the way.

Ready is asked for every few milliseconds at a known port. Beside it, in turn: Python that does nothing, and Python that
imports the same libraries and nothing of ours. A thousand engines are containers that were made and not started:
a listing shows them all the same, and Mayday only watches here (CONTROL=off), so it leaves them alone.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.daemon import QUIET, private_lab
from benchmarks.figures import ratio, say, spread, table
from tests.support.lab import Lab
from tests.support.lab_sidecar import Sidecar

PORT = 18124
LIBRARIES = (
    "import aiohttp.web, docker, prometheus_client.aiohttp, sqlite3, apscheduler.schedulers.asyncio, "
    "apscheduler.executors.asyncio, apscheduler.triggers.interval, apscheduler.triggers.date"
)
COMMANDS = {
    "`mayday --help`": ["-m", "exporter", "--help"],
    "`mayday --check-config`": ["-m", "exporter", "--check-config"],
    "Python alone": ["-c", "pass"],
    "the libraries alone": ["-c", LIBRARIES],
    "the program, imported": ["-c", "import exporter.app, exporter.runtime.docker"],
}


def options_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engines", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--runs", type=int, default=7)


def run(options: argparse.Namespace) -> None:
    times: dict[str, list[float]] = defaultdict(list)
    environment = {"GLUETUN_CONTAINER_NAME": "a", "GLUETUN_CONTAINER_NAME_2": "b", "PATH": os.environ.get("PATH", "")}
    for number in range(options.runs):
        say(f"imports, round {number + 1} of {options.runs}")
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - began)
    with private_lab() as lab, tempfile.TemporaryDirectory(prefix="mayday-") as directory:
        made = 0
        for name in ("gluetun", "gluetun_2"):
            lab.vpn(name, interval_s=5.0)
        for count in options.engines:
            say(f"start-up with {count} engines")
            _make(lab, made, count)
            made = count
            for _ in range(options.runs):
                times[f"ready, {count} engines"].append(_ready(lab, Path(directory)))
                began = time.perf_counter()
                lab.api.containers(all=True)
                times[f"one list call of {count} engines"].append(time.perf_counter() - began)
    rows = [(name, spread(values, "ms"), ratio(values, times["Python alone"])) for name, values in times.items()]
    table("Start-up: from exec", ["until", "time", "÷ Python alone"], rows)
    table("What imports cost most", ["module", "own time", "with what it imports"], _imports())


def _make(lab: Lab, first: int, count: int) -> None:
    apis = [Lab(lab.dockerd) for _ in range(4)]

    def make(number: int) -> None:
        vpn = ("gluetun", "gluetun_2")[number % 2]
        apis[number % 4].engine(vpn, 20000 + number, f"acestream-{number + 1}", start=number < 10)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, range(first, count)))


def _ready(lab: Lab, directory: Path) -> float:
    """Seconds from exec until `/-/ready` answers 200."""
    environment = Sidecar(lab, directory).environment | QUIET | {"APP_PORT": str(PORT), "CONTROL": "off"}
    began = time.perf_counter()
    command = [sys.executable, "-m", "exporter", "serve"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _is_ready():
            time.sleep(0.003)
            if time.perf_counter() - began > 60 or process.poll() is not None:
                raise AssertionError("Mayday did not become ready")
        return time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _is_ready() -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _imports() -> list[tuple[str, str, str]]:
    """The dozen modules that take longest with all they import, as `-X importtime` tells."""
    command = [sys.executable, "-X", "importtime", "-c", "import exporter.app, exporter.runtime.docker"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    found = re.findall(r"import time:\s+(\d+) \|\s+(\d+) \|\s*(\S+)", told)
    most = sorted(found, key=lambda item: -int(item[1]))[:16]
    return [(f"`{name}`", f"{int(own) / 1000:.1f} ms", f"{int(total) / 1000:.1f} ms") for own, total, name in most]


if __name__ == "__main__":
    parser_ = argparse.ArgumentParser(description=__doc__)
    options_of(parser_)
    run(parser_.parse_args())
