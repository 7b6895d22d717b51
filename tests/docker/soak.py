"""An hour of random faults at ten times speed on a real Docker Engine: `python -m tests.docker.soak --minutes 60`.

Every period of Mayday and every health check is a tenth of its default, and faults come ten times as often. Now and
then they stop: then the fleet has to become whole, and what the process holds is written down. At the end that must not
have grown. Run it in a network of its own, as `make soak` does.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
import urllib.error
from collections import Counter
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from docker.errors import DockerException

from tests.docker.proxy import CUT, DELAY, ERROR, LOST, NOT_OURS, PASS, Deed, Proxy
from tests.support.alerts import NEVER, message, wire_alert
from tests.support.lab import Lab, PrivateDockerd, wait_for
from tests.support.lab_sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import Callable

VPNS = ("gluetun", "gluetun_2")
SHARE = 5
MOST = 16
SETTINGS = {
    "MIN_REPLICAS": str(SHARE * len(VPNS)),
    "MAX_REPLICAS": str(MOST),
    "VPN_STABILIZATION_PERIOD_S": "12",
    "EVACUATION_DELAY_S": "0.5",
    "RESYNC_INTERVAL_S": "3",
    "AUTOSCALE_INTERVAL_S": "3",
    "ENGINE_HEALTH_CHECK_INTERVAL_S": "3",
    "GLUETUN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "DOCKER_TIMEOUT_S": "5",
}
FAULT_EVERY_S = 4.0


@dataclass(frozen=True)
class Holding:
    """What the process holds while nothing happens."""

    resident_mib: float
    threads: float
    descriptors: float
    sockets: float

    @classmethod
    def of(cls, pid: int) -> Holding:
        proc = Path(f"/proc/{pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        links = []
        for entry in (proc / "fd").iterdir():
            with suppress(OSError):
                links.append(str(entry.readlink()))
        sockets = sum(link.startswith("socket:") for link in links)
        return cls(int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), len(links), sockets)


GROWTH_ALLOWED = Holding(resident_mib=6.0, threads=2.0, descriptors=6.0, sockets=6.0)
"""Between the first third of the samples and the last: what an allocator and a pool of connections may differ by."""


class Soak:
    """The faults, and the calm in between."""

    def __init__(self, lab: Lab, sidecar: Sidecar, proxy: Proxy, seed: int) -> None:
        self.lab, self.sidecar, self.proxy = lab, sidecar, proxy
        self.rng = random.Random(seed)
        self.happened: Counter[str] = Counter()
        self.most = 0
        self._alert = 0
        self.faults: dict[Callable[[], None], int] = {
            self.fail: 6,
            self.heal: 6,
            self.kill: 2,
            self.start: 4,
            self.pause: 2,
            self.restart: 2,
            self.recreate: 2,
            self.lose_an_engine: 4,
            self.break_an_engine: 3,
            self.freeze: 1,
            self.disturb: 3,
            self.alert: 3,
            self.nonsense: 2,
            self.drill: 2,
            self.ask: 2,
        }

    def storm(self, seconds: float) -> None:
        """Faults for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fault = self.rng.choices(list(self.faults), list(self.faults.values()))[0]
            with suppress(DockerException, requests.RequestException, OSError, urllib.error.URLError, ValueError):
                fault()
            self.happened[fault.__name__] += 1
            with suppress(DockerException, requests.RequestException):
                self.most = max(self.most, len(self.lab.engines()))
            time.sleep(self.rng.expovariate(1 / FAULT_EVERY_S))

    def calm(self) -> Holding:
        """No more faults; the fleet becomes whole."""
        self.proxy.behave = lambda _method, _path: PASS
        for name in VPNS:
            self.sidecar.call("DELETE", f"/control/drill/{name}")
            self._tell_alert(name, "resolved")
            state = self.lab.api.inspect_container(name)["State"]
            if state["Paused"]:
                self.lab.api.unpause(name)
            if not state["Running"]:
                self.lab.api.start(name)
            self.lab.heal(name)
        wait_for(self._whole, f"whole again after seed's faults; log:\n{self.sidecar.tail()}", 180)
        time.sleep(8)
        assert self._whole(), f"whole, and then no longer; log:\n{self.sidecar.tail()}"
        assert self.most <= MOST, f"{self.most} engines, more than MAX_REPLICAS"
        return Holding.of(self.sidecar.pid)

    def _whole(self) -> bool:
        body = self.sidecar.status()
        return body["status"] == "normal" and all(
            body[f"vpn{number}"]["phase"] == "healthy" and len(self.lab.engines(name, running=True)) >= SHARE
            for number, name in enumerate(VPNS, start=1)
        )

    def _vpn(self) -> str:
        return self.rng.choice(VPNS)

    def _engine(self) -> str:
        return self.rng.choice(self.lab.engines() or ["none"])

    # --- faults ------------------------------------------------------------------------------------------------------

    def fail(self) -> None:
        self.lab.fail(self._vpn())

    def heal(self) -> None:
        self.lab.heal(self._vpn())

    def kill(self) -> None:
        self.lab.api.kill(self._vpn())

    def start(self) -> None:
        for name in VPNS:
            self.lab.api.start(name)

    def pause(self) -> None:
        name = self._vpn()
        self.lab.api.pause(name)
        time.sleep(self.rng.uniform(0.2, 5))
        self.lab.api.unpause(name)

    def restart(self) -> None:
        self.lab.api.restart(self._vpn(), timeout=0)

    def recreate(self) -> None:
        self.lab.recreate(self._vpn(), wait=False)

    def lose_an_engine(self) -> None:
        self.lab.api.remove_container(self._engine(), force=True)

    def break_an_engine(self) -> None:
        self.lab.break_engine(self._engine())

    def freeze(self) -> None:
        self.lab.dockerd.freeze()
        try:
            time.sleep(self.rng.uniform(0.5, 8))
        finally:
            self.lab.dockerd.thaw()

    def disturb(self) -> None:
        """For some seconds calls are late, cut, lost or answered by something else, and the event stream is cut."""
        odds = self.rng.uniform(0.1, 0.5)
        deeds = (DELAY, CUT, LOST, ERROR, NOT_OURS)

        def behave(_method: str, _path: str) -> Deed:
            return self.rng.choice(deeds) if self.rng.random() < odds else PASS

        self.proxy.behave = behave
        self.proxy.cut_streams()
        time.sleep(self.rng.uniform(1, 6))
        self.proxy.behave = lambda _method, _path: PASS

    def alert(self) -> None:
        self._tell_alert(self._vpn(), self.rng.choice(["firing", "resolved"]))

    def _tell_alert(self, vpn: str, status: str) -> None:
        self._alert += status == "firing"
        alert = wire_alert(
            status,
            fingerprint=f"{VPNS.index(vpn):016x}",
            starts_at=f"2026-01-01T00:{self._alert // 60 % 60:02}:{self._alert % 60:02}Z",
            ends_at=NEVER if status == "firing" else "2026-01-02T00:00:00Z",
            vpn=vpn,
        )
        self.sidecar.call("POST", "/webhook/alertmanager", message(alert), **{"Content-Type": "application/json"})

    def nonsense(self) -> None:
        """What nobody should send."""
        for path in ("/webhook/alertmanager", "/engines", "/control/drill"):
            code, _ = self.sidecar.call("POST", path, self.rng.choice([[], {"alerts": 7}, "x" * 4000, None]))
            assert code < 500 or code == 503, f"{path} answered {code}"

    def drill(self) -> None:
        self.sidecar.call("POST", "/control/drill", {"vpn": self._vpn(), "duration_seconds": 5})

    def ask(self) -> None:
        code, made = self.sidecar.call("POST", "/engines", {})
        if code == 201:
            time.sleep(1)
            self.sidecar.call("DELETE", f"/engines/{made['container_name']}")
        self.sidecar.get("/metrics")
        self.sidecar.get("/history?limit=100")


def flat(samples: list[Holding]) -> bool:
    """Print how what was held has changed, and whether it is flat."""
    third = max(1, len(samples) // 3)
    good = True
    for field in fields(Holding):
        values = [getattr(sample, field.name) for sample in samples]
        first, last = statistics.median(values[:third]), statistics.median(values[-third:])
        allowed = getattr(GROWTH_ALLOWED, field.name)
        grown = last - first > allowed
        good = good and not grown
        print(f"{field.name:<13} {first:7.1f} -> {last:7.1f}  {'GROWN' if grown else 'flat'} (within {allowed:g})")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--round", type=float, default=180, help="seconds of faults between two calms")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="mayday-"))
    daemon = PrivateDockerd(directory / "d")
    try:
        daemon.start()
        lab = Lab(daemon)
        for name in VPNS:
            lab.vpn(name, interval_s=0.5)
        with Proxy(daemon.socket) as proxy:
            sidecar = Sidecar(lab, directory)
            try:
                sidecar.start(DOCKER_HOST=proxy.url, **SETTINGS)
                good = soak(Soak(lab, sidecar, proxy, options.seed), options.minutes, options.round)
                code = sidecar.stop()
            finally:
                sidecar.stop()
            print(f"{len(proxy.calls)} calls by way of the proxy; exit code {code}")
            return 0 if good and code == 0 else 1
    finally:
        daemon.destroy()


def soak(run: Soak, minutes: float, round_s: float) -> bool:
    """Storms and calms for so long; whether nothing has grown."""
    samples = []
    run.calm()
    end = time.monotonic() + minutes * 60
    print("minute  resident MiB  threads  descriptors  sockets  most engines", flush=True)
    while time.monotonic() < end:
        run.storm(round_s)
        samples.append(run.calm())
        held = "".join(f"{value:10.1f}" for value in astuple(samples[-1]))
        print(f"{minutes - (end - time.monotonic()) / 60:6.1f}{held}{run.most:10}", flush=True)
    print(f"faults: {dict(run.happened)}")
    print(f"history: {json.loads(run.sidecar.get('/history?limit=1')[1])['records'][0]['id']} records")
    return flat(samples)


if __name__ == "__main__":
    sys.exit(main())
