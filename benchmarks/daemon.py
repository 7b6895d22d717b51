"""A Docker Engine for benchmarks, the daemon's own event times, and what can be asked of a Mayday beside it."""

from __future__ import annotations

import http.client
import json
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import docker

from benchmarks.figures import say
from tests.support.lab import Lab, PrivateDockerd, wait_for
from tests.support.lab_sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET = {
    "RESYNC_INTERVAL_S": "30",
    "AUTOSCALE_INTERVAL_S": "30",
    "ENGINE_HEALTH_CHECK_INTERVAL_S": "30",
    "GLUETUN_HEALTH_CHECK_INTERVAL_S": "5",
    "DOCKER_TIMEOUT_S": "10",
    "EVACUATION_DELAY_S": "0",
}
"""The intervals of production, where the tests have shorter ones; but removal begins at once, as the bare engine's."""


@contextmanager
def private_lab() -> Iterator[Lab]:
    """A Docker Engine of our own that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mayday-") as directory:
        daemon = PrivateDockerd(Path(directory) / "d")
        daemon.start()
        try:
            lab = Lab(daemon)
            say(f"a Docker Engine {lab.api.version()['Version']} of our own is up")
            yield lab
        finally:
            daemon.destroy()


@contextmanager
def sidecar(lab: Lab, **environment: str) -> Iterator[Sidecar]:
    """A Mayday on that engine."""
    with tempfile.TemporaryDirectory(prefix="mayday-") as directory:
        mayday = Sidecar(lab, Path(directory))
        try:
            mayday.start(**{**QUIET, **environment})
            yield mayday
        finally:
            mayday.stop()


class Events:
    """The daemon's events from now on, with its own times (Unix seconds)."""

    def __init__(self, lab: Lab) -> None:
        self._client = docker.APIClient(lab.dockerd.url, version="auto")
        self._seen: list[tuple[str, str, float]] = []
        self._stream = self._client.events(decode=True, filters={"type": "container"})
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for event in self._stream:
            owner = event["Actor"]["Attributes"].get("acestream.vpn_container", event["Actor"]["Attributes"]["name"])
            self._seen.append((event["Action"], owner, event["timeNano"] / 1e9))

    def times(self, action: str, vpn: str) -> list[float]:
        """When that happened to a VPN, or to an engine of it."""
        return [at for seen, owner, at in list(self._seen) if seen == action and owner == vpn]

    def wait(self, action: str, vpn: str, count: int, timeout_s: float = 180.0) -> float:
        """When it happened for that time."""
        wait_for(lambda: len(self.times(action, vpn)) >= count, f"{count} times '{action}' of {vpn}", timeout_s)
        return sorted(self.times(action, vpn))[count - 1]

    def seen(self) -> Counter[str]:
        """How often each thing happened."""
        return Counter(action for action, _, _ in list(self._seen))

    def close(self) -> None:
        self._stream.close()


class Watch:
    """One kept-alive connection to Mayday's HTTP: asking by it costs Mayday, and the one who asks, the least."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(str(urlsplit(url).netloc), timeout=30)

    def get(self, path: str) -> bytes:
        self._connection.request("GET", path)
        return self._connection.getresponse().read()

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.get("/vpn/status")))

    def until_active(self, *, active: bool) -> float:
        """When `emergency_mode.active` became that, Unix seconds, to about a millisecond."""
        while bool(self.status()["emergency_mode"]["active"]) is not active:
            time.sleep(0.0005)
        return time.time()

    def entered(self, vpn: str, phase: str) -> float:
        """When a VPN last entered a phase, Unix seconds, from the history."""
        records = json.loads(self.get(f"/history?kind=phase&vpn={vpn}"))["records"]
        newest = next(record for record in records if record["details"]["after"] == phase)
        return datetime.fromisoformat(newest["at"]).timestamp()

    def close(self) -> None:
        self._connection.close()
