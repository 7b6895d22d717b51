"""Mayday as its users run it: a process, seen through its web server and its log."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.support.lab import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lab import Lab


class Sidecar:
    """One Mayday process after the other, with the same settings and the same journal."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.log = directory / "mayday.log"
        self.environment = {
            "DOCKER_HOST": lab.dockerd.url,
            "GLUETUN_CONTAINER_NAME": "gluetun",
            "GLUETUN_CONTAINER_NAME_2": "gluetun_2",
            "MIN_REPLICAS": "10",
            "ENGINE_IMAGE": "mayday-lab:latest",
            "ENGINE_COMMAND": "/bin/engine",
            "EVACUATION_DELAY_S": "1",
            "VPN_STABILIZATION_PERIOD_S": "3",
            "GLUETUN_HEALTH_CHECK_INTERVAL_S": "0.5",
            "ENGINE_HEALTH_CHECK_INTERVAL_S": "1",
            "RESYNC_INTERVAL_S": "5",
            "AUTOSCALE_INTERVAL_S": "2",
            "DOCKER_TIMEOUT_S": "5",
            "STATE_DIR": str(directory / "state"),
            "APP_HOST": "127.0.0.1",
            "APP_PORT": "0",
            "PATH": os.environ.get("PATH", ""),
        }
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, **environment: str) -> None:
        """Start it, and wait until it is ready."""
        self.launch(**environment)
        self.await_ready()

    def launch(self, **environment: str) -> None:
        """Start it, and wait until it listens."""
        self.environment |= environment
        offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "exporter", "serve"]
            self._process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

        def address() -> str | None:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"mayday ended with {self._process.returncode}:\n{self.log.read_text()}")
            match = re.search(r"listening on (http://\S+)", self.log.read_text()[offset:])
            return match[1] if match else None

        self.url = wait_for(address, "mayday listening")

    def await_ready(self) -> None:
        """Wait until it has read Docker."""
        wait_for(lambda: self.get("/-/ready")[0] == 200, f"mayday ready; log:\n{self.tail()}")

    def stop(self) -> int | None:
        """Stop it as Docker would; returns its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it at once."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> int | None:
        if self._process is None:
            return None
        self._process.send_signal(number)
        code = self._process.wait(20)
        self._process = None
        return code

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def call(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON body of a call that changes something."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def status(self) -> dict[str, Any]:
        """`/vpn/status`."""
        return dict(json.loads(self.get("/vpn/status")[1]))

    def emergency(self) -> dict[str, Any]:
        """Its part about the emergency."""
        return dict(self.status()["emergency_mode"])

    def phase(self, position: int) -> str:
        """The phase of a VPN, by its position from 1 on."""
        return str(self.status()[f"vpn{position}"]["phase"])

    def await_failed(self, vpn: str) -> None:
        """Wait for an emergency in which this VPN has failed and has no engine left."""
        wait_for(lambda: self.emergency()["failed_vpn"] == vpn, f"emergency for {vpn}; log:\n{self.tail()}")
        wait_for(lambda: not self.lab.engines(vpn), f"no engine on {vpn}; log:\n{self.tail()}")

    def await_whole(self, share: int = 5) -> None:
        """Wait until both VPNs are in phase healthy and carry their share, running and reachable."""

        def whole() -> bool:
            body = self.status()
            return body["status"] == "normal" and all(
                body[f"vpn{i}"]["phase"] == "healthy"
                and len(self.lab.engines(name, running=True)) == share
                and all(self.lab.connected(engine) for engine in self.lab.engines(name))
                for i, name in ((1, "gluetun"), (2, "gluetun_2"))
            )

        wait_for(whole, f"{share} working engines on each VPN")

    def engines(self) -> dict[str, dict[str, Any]]:
        """`/engines`, by name."""
        return {item["container_name"]: item for item in json.loads(self.get("/engines")[1])}

    def history(self, kind: str) -> list[dict[str, Any]]:
        """The records of one kind, the newest first."""
        return [r for r in json.loads(self.get("/history?limit=1000")[1])["records"] if r["kind"] == kind]

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text().splitlines()[-25:])

    def metric(self, series: str) -> float:
        """The value of one series on `/metrics`, written as it is there."""
        for line in self.get("/metrics")[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        raise AssertionError(f"no series {series}")
