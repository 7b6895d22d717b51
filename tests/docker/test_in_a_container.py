"""Mayday as the compose file runs it: in a container without root, capabilities, or a file system to write to.

The image itself is built from others, which cannot be had everywhere; here a container of the lab's image is given this
machine's Python and this checkout, read-only, and everything else as the compose file and the Dockerfile say.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exporter.core.dependents import SIDECAR_LABEL
from tests.docker.proxy import Proxy
from tests.support.lab import IMAGE, Lab, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab import PrivateDockerd

ROOT = Path(__file__).parents[2]
SERVICE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["mayday"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
USER = str(SERVICE["user"])


class Contained:
    """One Mayday in a container."""

    def __init__(self, lab: Lab, name: str, docker_url: str) -> None:
        self.lab, self.name = lab, name
        checkout, environment, python = str(ROOT), sys.prefix, sys.base_prefix
        system = [f"{path}:{path}:ro" for path in ("/usr", "/lib", "/lib64") if Path(path).exists()]
        uid, gid = USER.split(":")
        body = {
            "Image": IMAGE,
            "Entrypoint": [sys.executable, "-m", "exporter"],
            "Cmd": ["serve"],
            "User": USER,
            "WorkingDir": "/app",
            "Labels": dict(re.findall(r'^(?:LABEL|     ) ([a-z.]+)="([^"]*)"', DOCKERFILE, re.MULTILINE)),
            "Env": [
                f"DOCKER_HOST={docker_url}",
                "GLUETUN_CONTAINER_NAME=gluetun",
                "GLUETUN_CONTAINER_NAME_2=gluetun_2",
                "MIN_REPLICAS=4",
                f"ENGINE_IMAGE={IMAGE}",
                "ENGINE_COMMAND=/bin/engine",
                "VPN_STABILIZATION_PERIOD_S=3",
                "RESYNC_INTERVAL_S=2",
                "AUTOSCALE_INTERVAL_S=2",
                "STATE_DIR=/var/lib/mayday",
                "PYTHONDONTWRITEBYTECODE=1",
            ],
            "HostConfig": {
                "ReadonlyRootfs": SERVICE["read_only"],
                "CapDrop": SERVICE["cap_drop"],
                "SecurityOpt": SERVICE["security_opt"],
                "Tmpfs": {"/tmp": "", "/var/lib/mayday": f"uid={uid},gid={gid}"},
                "Binds": [*system, f"{environment}:{environment}:ro", f"{python}:{python}:ro", f"{checkout}:/app:ro"],
            },
        }
        self.id = str(lab.api.create_container_from_config(body, name)["Id"])
        lab.api.start(self.id)
        wait_for(self._ready, f"{name} ready", 30)

    def _ready(self) -> bool:
        state = self.lab.api.inspect_container(self.id)["State"]
        assert state["Running"], f"{self.name} ended: {self.lab.api.logs(self.id).decode()}"
        try:
            return self.get("/-/ready") != ""
        except OSError:
            return False

    @property
    def process(self) -> dict[str, str]:
        """`/proc/PID/status` of its process."""
        pid = self.lab.api.inspect_container(self.id)["State"]["Pid"]
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}

    def get(self, path: str) -> str:
        """The body of a GET; an error status raises OSError."""
        networks = self.lab.api.inspect_container(self.id)["NetworkSettings"]["Networks"]
        address = next(iter(networks.values()))["IPAddress"]
        with urllib.request.urlopen(f"http://{address}:8000{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def status(self) -> dict[str, Any]:
        """`/vpn/status`."""
        return dict(json.loads(self.get("/vpn/status")))

    def run(self, *command: str) -> tuple[int, str]:
        """Exit code and output of a command in the container."""
        made = self.lab.api.exec_create(self.id, list(command))
        output = self.lab.api.exec_start(made["Id"]).decode()
        return int(self.lab.api.exec_inspect(made["Id"])["ExitCode"]), output


@pytest.fixture
def proxy(dockerd: PrivateDockerd, lab: Lab) -> Iterator[Proxy]:
    """Two VPNs, and a way to Docker over the containers' network."""
    for name in ("gluetun", "gluetun_2"):
        lab.vpn(name)
    with Proxy(dockerd.socket, address=dockerd.gateway) as proxy:
        yield proxy


def test_it_needs_no_root_no_capability_and_no_writable_file_system(lab: Lab, proxy: Proxy) -> None:
    """It fills, fails over and fills again; its journal is kept, and the image's health check finds it alive."""
    mayday = Contained(lab, "mayday", proxy.url)
    process = mayday.process
    assert process["Uid"].split() == [USER.partition(":")[0]] * 4
    assert {int(process[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert process["NoNewPrivs"] == "1"
    assert mayday.run("/bin/touch", "/anything")[0] != 0
    wait_for(lambda: len(lab.engines(running=True)) == 4, "both VPNs filled")
    lab.fail("gluetun_2")
    wait_for(lambda: mayday.status()["emergency_mode"]["active"], "emergency")
    wait_for(lambda: not lab.engines("gluetun_2"), "its engines gone")
    lab.heal("gluetun_2")
    wait_for(lambda: len(lab.engines("gluetun_2", running=True)) == 2, "filled again")
    assert mayday.status()["problems"] == []
    assert mayday.run(sys.executable, "-m", "exporter", "health") == (0, "")
    code, told = mayday.run(sys.executable, "-m", "exporter", "history", "--kind", "mode")
    assert (code, len(told.splitlines())) == (0, 2)


def test_a_second_one_with_a_journal_of_its_own_holds_and_takes_over(lab: Lab, proxy: Proxy) -> None:
    """The one that was created later sees the other's container and touches nothing, until that one is gone."""
    assert f'{SIDECAR_LABEL}="true"' in DOCKERFILE
    first = Contained(lab, "mayday", proxy.url)
    wait_for(lambda: len(lab.engines(running=True)) == 4, "both VPNs filled by the first")
    second = Contained(lab, "mayday_again", proxy.url)
    assert any("'mayday'" in problem for problem in second.status()["problems"])
    assert first.status()["problems"] == []
    lab.api.remove_container(first.id, force=True)
    for name in lab.engines():
        lab.api.remove_container(name, force=True)
    wait_for(lambda: len(lab.engines(running=True)) == 4, "filled by the second", 90)
    assert second.status()["problems"] == []
