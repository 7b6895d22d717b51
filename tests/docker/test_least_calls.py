"""The allowlist of docker-compose.yml is what Mayday needs: enough for everything it does, and nothing beyond."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.docker.proxy import PASS, REFUSED, Deed, Proxy
from tests.support.lab import wait_for

if TYPE_CHECKING:
    from tests.support.lab import Lab
    from tests.support.lab_sidecar import Sidecar

COMMAND = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())["services"]["docker-proxy"][
    "command"
]
ALLOWED = {match[1]: match[2] for word in COMMAND if (match := re.fullmatch(r"-allow([A-Z]+)=(.*)", word))}
"""What the socket proxy matches against the whole path, by method (see wollomatic/socket-proxy)."""
CALLS = {
    "GET version": r"/version",
    "GET events": r"/v[0-9.]+/events",
    "GET containers": r"/v[0-9.]+/containers/json",
    "GET container": r"/v[0-9.]+/containers/(?!json$)[^/]+/json",
    "POST create": r"/v[0-9.]+/containers/create",
    "POST start": r"/v[0-9.]+/containers/[^/]+/start",
    "POST stop": r"/v[0-9.]+/containers/[^/]+/stop",
    "POST restart": r"/v[0-9.]+/containers/[^/]+/restart",
    "DELETE container": r"/v[0-9.]+/containers/[^/]+",
}
"""Everything that the list lets through, by name."""


def allowed(method: str, path: str) -> bool:
    return method in ALLOWED and re.fullmatch(ALLOWED[method], path) is not None


def behave(method: str, path: str) -> Deed:
    return PASS if allowed(method, path) else REFUSED


def kind(method: str, path: str) -> str:
    return next(name for name, pattern in CALLS.items() if name.startswith(method) and re.fullmatch(pattern, path))


def test_everything_that_mayday_does_passes_and_every_call_is_needed(lab: Lab, sidecar: Sidecar) -> None:
    """Filling, failover with grace, refill, repair of orphans, replacement, explicit engines: no call is refused, and
    there is no entry in the list that none of them used."""
    with Proxy(lab.dockerd.socket, behave) as proxy:
        for name in ("gluetun", "gluetun_2"):
            lab.vpn(name)
        sidecar.start(DOCKER_HOST=proxy.url, MIN_REPLICAS="4", ENGINE_STOP_TIMEOUT_S="1")
        sidecar.await_whole(2)
        lab.fail("gluetun_2")
        sidecar.await_failed("gluetun_2")
        lab.heal("gluetun_2")
        sidecar.await_whole(2)
        lab.api.restart("gluetun_2", timeout=0)  # its engines are orphans now
        sidecar.await_whole(2)
        victim = lab.engines("gluetun")[0]
        old = lab.api.inspect_container(victim)["Id"]
        lab.break_engine(victim)
        wait_for(lambda: old not in {item["Id"] for item in lab.api.containers(all=True)}, "it is replaced")
        sidecar.await_whole(2)
        code, made = sidecar.call("POST", "/engines", {"vpn": "gluetun"})
        assert code == 201
        assert sidecar.call("DELETE", f"/engines/{made['container_name']}")[0] == 200
        lab.engine("gluetun", 19100, "never-started", start=False, own=True)
        sidecar.stop()
        sidecar.start()
        wait_for(lambda: "never-started" in lab.engines(running=True), "what was never started is")
    assert [call for call in proxy.calls if call[2] is REFUSED] == []
    assert {kind(method, path) for method, path, _ in proxy.calls} == set(CALLS)


@pytest.mark.parametrize(
    "call",
    [
        "GET /v1.41/containers/abc/logs",
        "GET /v1.41/containers/abc/archive",
        "GET /v1.41/containers/../images/json",
        "GET /v1.41/containers/a/../../images/json",
        "GET /v1.41/images/json",
        "GET /v1.41/secrets",
        "GET /info",
        "HEAD /_ping",
        "POST /v1.41/containers/abc/exec",
        "POST /v1.41/containers/abc/kill",
        "POST /v1.41/containers/abc/update",
        "POST /v1.41/containers/prune",
        "POST /v1.41/exec/abc/start",
        "POST /v1.41/images/create",
        "POST /v1.41/build",
        "POST /v1.41/networks/create",
        "PUT /v1.41/containers/abc/archive",
        "DELETE /v1.41/images/abc",
        "DELETE /v1.41/containers/abc/x",
        "DELETE /v1.41/volumes/abc",
    ],
)
def test_nothing_else_passes(call: str) -> None:
    """Reading files and logs, running commands, images, builds, networks, volumes."""
    assert not allowed(*call.split())
