"""Failover on a real Docker Engine, beside the same work done by nothing but parallel calls on the same daemon.

`python -m benchmarks.failover` prints the tables of docs/performance.md. Absolute times are this machine's; what counts
is the ratio of the two columns, which come from one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker

from tests.docker.lab import IMAGE, Lab, PrivateDockerd, wait_for
from tests.docker.sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STABILIZATION_S = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=int, nargs="+", default=[10], help="MIN_REPLICAS; half of them fail")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--idle", type=int, default=60, help="seconds of idling to measure; 0: none")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mayday-") as directory:
        daemon = PrivateDockerd(Path(directory) / "d")
        daemon.start()
        try:
            lab = Lab(daemon)
            engine = f"Docker Engine {lab.api.version()['Version']}"
            print(f"{engine}, Python {platform.python_version()}, {os.cpu_count()} cores, {options.runs} runs")
            for count in options.engines:
                lab.purge()
                measure(lab, Path(directory), count, options.runs, options.idle)
        finally:
            daemon.destroy()


def measure(lab: Lab, directory: Path, count: int, runs: int, idle_s: int) -> None:
    lab.vpn("gluetun")
    lab.vpn("gluetun_2")
    sidecar = Sidecar(lab, Path(tempfile.mkdtemp(dir=directory)))
    sidecar.start(
        MIN_REPLICAS=str(count),
        VPN_STABILIZATION_PERIOD_S=str(STABILIZATION_S),
        RESYNC_INTERVAL_S="30",
        AUTOSCALE_INTERVAL_S="30",
        ENGINE_HEALTH_CHECK_INTERVAL_S="30",
        GLUETUN_HEALTH_CHECK_INTERVAL_S="5",
    )
    share = count // 2
    rows: dict[str, list[float]] = {"detect": [], "remove": [], "bare remove": [], "restore": [], "bare create": []}
    try:
        wait_for(lambda: len(lab.engines(running=True)) == count, "the first fill", 120)
        if idle_s:
            idle(sidecar, idle_s)
        for _ in range(runs):
            one_failover(lab, sidecar, share, rows)
    finally:
        sidecar.stop()
    for _ in range(runs):
        ids, seconds = bare_create(lab, share)
        rows["bare create"].append(seconds)
        rows["bare remove"].append(bare_remove(lab, ids))
    report(count, share, rows)


def one_failover(lab: Lab, sidecar: Sidecar, share: int, rows: dict[str, list[float]]) -> None:
    """One failure and one recovery, timed by the daemon's own event times and by what `/vpn/status` shows."""
    events = Events(lab)
    began = time.time()
    lab.fail("gluetun_2")
    active_at = poll(lambda: sidecar.emergency()["active"])
    events.wait(lambda: events.count("destroy") >= share)
    unhealthy = events.first("health_status: unhealthy")
    rows["detect"].append(active_at - unhealthy)
    rows["remove"].append(events.last("destroy") - unhealthy)
    time.sleep(1)
    lab.heal("gluetun_2")
    wait_for(lambda: sidecar.phase(2) == "stabilizing", "stabilizing")
    wait_for(lambda: sidecar.phase(2) == "healthy", "the end of the stabilization")
    events.wait(lambda: events.count("start") >= share)
    ended = time_of_phase(sidecar, "healthy")
    rows["restore"].append(events.last("start") - ended)
    events.close()
    wait_for(lambda: len(lab.engines("gluetun_2", running=True)) == share, "whole again")
    time.sleep(max(0.0, began + STABILIZATION_S + 3 - time.time()))


class Events:
    """The daemon's events from now on, with its own times."""

    def __init__(self, lab: Lab) -> None:
        self._client = docker.APIClient(lab.dockerd.url, version="auto")
        self._seen: list[tuple[str, float]] = []
        self._stream = self._client.events(decode=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for event in self._stream:
            if event.get("Type") == "container":
                self._seen.append((event["Action"], event["timeNano"] / 1e9))

    def count(self, action: str) -> int:
        return sum(seen == action for seen, _ in self._seen)

    def first(self, action: str) -> float:
        return next(at for seen, at in self._seen if seen == action)

    def last(self, action: str) -> float:
        return max(at for seen, at in self._seen if seen == action)

    def wait(self, condition: Callable[[], bool]) -> None:
        wait_for(condition, "the events", 120)

    def close(self) -> None:
        self._stream.close()


def poll(condition: Callable[[], Any]) -> float:
    """When a condition became true, to about a millisecond."""
    while not condition():
        time.sleep(0.0005)
    return time.time()


def time_of_phase(sidecar: Sidecar, phase: str) -> float:
    """When `gluetun_2` last entered a phase, from the history."""
    records = json.loads(sidecar.get("/history?kind=phase&vpn=gluetun_2")[1])["records"]
    newest = next(record for record in records if record["details"]["after"] == phase)
    return datetime.fromisoformat(newest["at"]).timestamp()


def bare_create(lab: Lab, count: int) -> tuple[list[str], float]:
    """Create and start engines with nothing but parallel calls, at the concurrency that Mayday uses."""
    vpn = lab.api.inspect_container("gluetun_2")["Id"]

    def create(api: Any, number: int) -> str:
        body = {
            "Image": IMAGE,
            "Cmd": ["/bin/engine"],
            "Env": [f"HTTP_PORT={21000 + number}"],
            "HostConfig": {"NetworkMode": f"container:{vpn}", "RestartPolicy": {"Name": "unless-stopped"}},
        }
        made = api.create_container_from_config(body, f"bare-{number}")["Id"]
        api.start(made)
        return str(made)

    return in_parallel(lab, create, range(count))


def bare_remove(lab: Lab, ids: list[str]) -> float:
    return in_parallel(lab, lambda api, ref: api.remove_container(ref, force=True), ids)[1]


def in_parallel(lab: Lab, call: Callable[[Any, Any], Any], items: Iterable[Any]) -> tuple[list[Any], float]:
    local = threading.local()

    def run(item: Any) -> Any:
        if not hasattr(local, "api"):
            local.api = docker.APIClient(lab.dockerd.url, version=lab.api.api_version)
        return call(local.api, item)

    with ThreadPoolExecutor(8) as pool:
        began = time.perf_counter()
        results = list(pool.map(run, items))
        return results, time.perf_counter() - began


def idle(sidecar: Sidecar, seconds: int) -> None:
    """What Mayday costs while nothing happens."""

    def calls() -> float:
        lines = [
            line for line in sidecar.get("/metrics")[1].splitlines() if line.startswith("mayday_docker_requests_total{")
        ]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def cpu() -> float:
        fields = Path(f"/proc/{sidecar.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    time.sleep(3)
    before = calls(), cpu()
    time.sleep(seconds)
    used = cpu() - before[1]
    status = Path(f"/proc/{sidecar.pid}/status").read_text()
    rss = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024
    per_minute = 60 / seconds
    print(
        f"idle, a minute: {(calls() - before[0]) * per_minute:.1f} Docker API calls, "
        f"{used * per_minute:.2f} CPU seconds; {rss:.0f} MiB resident"
    )


def report(count: int, share: int, rows: dict[str, list[float]]) -> None:
    def shown(name: str) -> str:
        values = rows[name]
        return f"{statistics.median(values):.3f} s ({min(values):.3f}–{max(values):.3f})"

    def beside(ours: str, bare: str) -> str:
        ratio = statistics.median(rows[ours]) / statistics.median(rows[bare])
        return f"{shown(ours)}; bare: {shown(bare)}; ratio {ratio:.2f}"

    print(f"\n{count} engines, {share} of them on the VPN that fails: median (least–most)")
    print(f"  health event to emergency_mode.active  {shown('detect')}")
    print(f"  health event to the last engine gone   {beside('remove', 'bare remove')}")
    print(f"  stabilization's end to the last start  {beside('restore', 'bare create')}")


if __name__ == "__main__":
    main()
