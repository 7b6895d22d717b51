"""`docker compose up -d` with a changed file, which recreates VPNs and engines, while Mayday runs beside it."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.docker.engines import COMPOSE
from tests.docker.trouble import VPNS, await_calm
from tests.support.lab import IMAGE, LABEL, LABEL_VALUE, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lab import Lab
    from tests.support.lab_sidecar import Sidecar

HEALTHCHECK = {"test": ["CMD", "/bin/sh", "-c", "! test -e /bad"], "interval": "1s", "retries": 1}
OWN_EACH, THEIRS_EACH = 2, 2


@pytest.fixture
def lab(each_lab: Lab) -> Lab:
    """An engine of every version in turn."""
    return each_lab


class Project:
    """A compose file with two VPNs, and engines on each."""

    def __init__(self, lab: Lab, folder: Path, engines_each: int) -> None:
        self._lab, self._file, self._engines_each = lab, folder / "compose.json", engines_each

    @property
    def engines(self) -> set[str]:
        """Names of its engines."""
        return {f"{vpn}-theirs-{number}" for vpn in VPNS for number in range(self._engines_each)}

    def up(self, generation: int) -> subprocess.CompletedProcess[str]:
        """`docker compose up -d`; another generation is a change of every service."""
        environment = {"GENERATION": str(generation)}
        services: dict[str, Any] = {}
        for position, vpn in enumerate(VPNS):
            services[vpn] = {
                "image": IMAGE,
                "container_name": vpn,
                "command": "/bin/vpn",
                "restart": "unless-stopped",
                "network_mode": "bridge",
                "healthcheck": HEALTHCHECK,
                "environment": environment,
            }
            for number in range(self._engines_each):
                port = str(19500 + 100 * position + number)
                services[f"{vpn}-theirs-{number}"] = {
                    "image": IMAGE,
                    "container_name": f"{vpn}-theirs-{number}",
                    "command": "/bin/engine",
                    "restart": "unless-stopped",
                    "network_mode": f"service:{vpn}",
                    "depends_on": {vpn: {"condition": "service_healthy"}},
                    "environment": environment | {"HTTP_PORT": port},
                    "labels": {LABEL: LABEL_VALUE, "acestream.http_port": port},
                }
        self._file.write_text(json.dumps({"name": "field", "services": services}))
        return subprocess.run(
            [COMPOSE, "--file", self._file, "up", "--detach", "--timeout", "2"],
            env={"DOCKER_HOST": self._lab.dockerd.url, "PATH": os.environ["PATH"], "HOME": str(self._file.parent)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@pytest.mark.parametrize(
    ("theirs", "own"), [(THEIRS_EACH, 0), (0, OWN_EACH), (1, OWN_EACH)], ids=["theirs", "own", "mixed"]
)
def test_compose_recreates_everything(lab: Lab, sidecar: Sidecar, tmp_path: Path, theirs: int, own: int) -> None:
    """Compose ends with 0 and finds nothing in its way; exactly the wanted engines remain, each in the namespace of its
    new VPN; and a second `up` has nothing to do."""
    project = Project(lab, tmp_path, theirs)
    assert project.up(1).returncode == 0
    sidecar.start(MIN_REPLICAS=str(2 * own))

    def whole() -> bool:
        running = lab.ids(running=True)
        return (
            set(lab.ids()) == set(running)
            and project.engines <= set(running)
            and len(running) == 2 * (theirs + own)
            and all(lab.connected(name) for name in running)
        )

    wait_for(whole, f"all engines at first; log:\n{sidecar.tail()}")
    old = {name: lab.api.inspect_container(name)["Id"] for name in (*VPNS, *project.engines)}
    result = project.up(2)
    assert result.returncode == 0, result.stderr
    for name, id_ in old.items():
        assert lab.api.inspect_container(name)["Id"] != id_, f"{name} was not recreated"
    await_calm(lab, sidecar)
    wait_for(whole, f"exactly the wanted engines; log:\n{sidecar.tail()}")
    new = {f"container:{lab.api.inspect_container(vpn)['Id']}" for vpn in VPNS}
    assert {lab.api.inspect_container(name)["HostConfig"]["NetworkMode"] for name in lab.ids()} == new
    before = lab.ids()
    again = project.up(2)
    assert again.returncode == 0, again.stderr
    assert lab.ids() == before
