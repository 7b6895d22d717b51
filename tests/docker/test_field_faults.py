"""Faults that users of such set-ups have reported: on every version of the engine."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from docker.errors import APIError

from tests.docker.trouble import VPNS, await_look
from tests.support.lab import IMAGE, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab import Lab
    from tests.support.lab_sidecar import Sidecar


@pytest.fixture
def lab(each_lab: Lab) -> Lab:
    """Two healthy VPNs."""
    for name in VPNS:
        each_lab.vpn(name)
    return each_lab


# --- data of engines --------------------------------------------------------------------------------------------------


def volume_of(lab: Lab, engine: str) -> str:
    """The name of its one volume."""
    (mount,) = lab.api.inspect_container(engine)["Mounts"]
    return str(mount["Name"])


def test_what_is_removed_leaves_no_volume_behind(lab: Lab, sidecar: Sidecar) -> None:
    """An image that declares a volume: each engine has an anonymous one, which goes with it."""
    image = lab.image("volume", "VOLUME /data")
    sidecar.start(MIN_REPLICAS="4", ENGINE_IMAGE=image)
    sidecar.await_whole(2)
    assert len(lab.volumes()) == 4
    lab.fail("gluetun_2")
    sidecar.await_failed("gluetun_2")
    assert lab.volumes() == {volume_of(lab, engine) for engine in lab.engines("gluetun")}
    lab.heal("gluetun_2")
    sidecar.await_whole(2)
    assert lab.volumes() == {volume_of(lab, engine) for engine in lab.engines()}


def test_an_engine_that_is_made_anew_keeps_its_data(lab: Lab, sidecar: Sidecar) -> None:
    """The VPN was recreated while Mayday was away, so its engines are made anew from their own configuration: with the
    same anonymous volume, and no other left over."""
    image = lab.image("volume", "VOLUME /data")
    sidecar.start(MIN_REPLICAS="2", ENGINE_IMAGE=image)
    sidecar.await_whole(1)
    sidecar.stop()
    (engine,) = lab.engines("gluetun_2")
    lab._run(engine, ["/bin/touch", "/data/precious"])
    old, volumes = lab.ids()[engine], lab.volumes()
    lab.recreate("gluetun_2")
    sidecar.start()
    sidecar.await_whole(1)
    (twin,) = lab.engines("gluetun_2")
    assert lab.ids()[twin] != old
    listed = lab.api.exec_start(lab.api.exec_create(twin, ["/bin/ls", "/data"])["Id"])
    assert (lab.volumes(), listed) == (volumes, b"precious\n")


# --- one container that cannot be inspected ---------------------------------------------------------------------------


@contextmanager
def stuck(lab: Lab, container: str) -> Iterator[None]:
    """Its shim stands still and a stop of it is under way: Docker lists the container, and no inspection of it ends."""
    pid = lab.api.inspect_container(container)["State"]["Pid"]
    shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert "containerd-shim" in Path(f"/proc/{shim}/cmdline").read_text()
    client = lab.client(timeout_s=2)

    def stop() -> None:
        with suppress(APIError, requests.RequestException):
            client.stop(container, timeout=0)

    def hangs() -> bool:
        try:
            client.inspect_container(container)
        except requests.RequestException:
            return True
        return False

    os.kill(shim, signal.SIGSTOP)
    thread = threading.Thread(target=stop)
    thread.start()
    try:
        wait_for(hangs, f"an inspection of {container} hanging")
        yield
    finally:
        os.kill(shim, signal.SIGCONT)
        thread.join()
        client.close()


@pytest.mark.parametrize("where", VPNS)
def test_an_engine_that_cannot_be_inspected_blinds_mayday_to_nothing_else(
    lab: Lab, sidecar: Sidecar, where: str
) -> None:
    """On the VPN that carries on or on the one that fails: the failure is handled, and Mayday stays ready."""
    sidecar.start(MIN_REPLICAS="6", DOCKER_TIMEOUT_S="2")
    sidecar.await_whole(3)
    victim = lab.engines(where)[0]
    kept = {name: id_ for name, id_ in lab.ids().items() if name in lab.engines("gluetun")}
    with stuck(lab, victim):
        lab.fail("gluetun_2")
        wait_for(lambda: sidecar.emergency()["failed_vpn"] == "gluetun_2", f"emergency; log:\n{sidecar.tail()}")
        wait_for(lambda: set(lab.engines("gluetun_2")) <= {victim}, f"all others removed; log:\n{sidecar.tail()}")
        assert sidecar.get("/-/ready")[0] == 200
        assert set(lab.engines("gluetun")) == set(kept)
    lab.heal("gluetun_2")
    sidecar.await_whole(3)


def test_a_vpn_that_cannot_be_inspected_is_unknown_alone(lab: Lab, sidecar: Sidecar) -> None:
    """The other VPN's failure is seen, and nothing on the stuck one is touched."""
    sidecar.start(MIN_REPLICAS="4", DOCKER_TIMEOUT_S="2")
    sidecar.await_whole(2)
    kept = {name: id_ for name, id_ in lab.ids().items() if name in lab.engines("gluetun")}
    with stuck(lab, "gluetun"):
        lab.fail("gluetun_2")
        wait_for(lambda: sidecar.phase(2) == "failed", f"gluetun_2 failed; log:\n{sidecar.tail()}")
        assert sidecar.phase(1) == "healthy"
        assert kept.items() <= lab.ids().items()


# --- engines that do not work -----------------------------------------------------------------------------------------


def test_an_engine_in_a_restart_loop_is_replaced(lab: Lab, sidecar: Sidecar) -> None:
    """A stranger holds the first port, and the restart policy starts the engine for ever: it never works, so it is
    replaced on another port."""
    body = {
        "Image": IMAGE,
        "Cmd": ["/bin/engine"],
        "Env": ["HTTP_PORT=19000"],
        "HostConfig": {"NetworkMode": "container:gluetun"},
    }
    stranger = lab.api.create_container_from_config(body, "stranger")["Id"]
    lab.api.start(stranger)
    sidecar.start(MIN_REPLICAS="4", ENGINE_RESTART_POLICY="unless-stopped")

    def served() -> bool:
        listed = lab.api.containers(all=True, filters={"label": "acestream.vpn_container=gluetun"})
        states = {item["Labels"]["acestream.http_port"]: item["State"] for item in listed}
        return states == {"19001": "running", "19002": "running"}

    wait_for(served, f"two engines on free ports; log:\n{sidecar.tail()}")
    assert lab.api.inspect_container(stranger)["State"]["Running"]


def test_an_engine_whose_own_health_check_fails_is_replaced(lab: Lab, sidecar: Sidecar) -> None:
    """Its API answers, Docker says unhealthy: it is not usable, and another is made in its place."""
    check = 'HEALTHCHECK --interval=1s --retries=2 CMD ["/bin/sh", "-c", "! test -e /sick"]'
    sidecar.start(MIN_REPLICAS="4", ENGINE_IMAGE=lab.image("checked", check))
    sidecar.await_whole(2)
    wait_for(lambda: {e["health_status"] for e in sidecar.engines().values()} == {"healthy"}, "all answer")
    victim = lab.engines("gluetun")[0]
    old = lab.ids()[victim]
    lab._run(victim, ["/bin/touch", "/sick"])
    wait_for(lambda: old not in lab.ids().values(), f"the sick one gone; log:\n{sidecar.tail()}")
    sidecar.await_whole(2)


def test_others_that_fail_their_own_health_check_are_only_reported(lab: Lab, sidecar: Sidecar) -> None:
    """Not usable, and still there."""
    check = 'HEALTHCHECK --interval=1s --retries=1 CMD ["/bin/sh", "-c", "! test -e /sick"]'
    image = lab.image("checked-often", check)
    lab.engine("gluetun", 19000, "theirs-0", image=image)
    lab.engine("gluetun", 19001, "theirs-1", image=image)
    before = lab.ids()
    sidecar.start(MIN_REPLICAS="0", ENGINE_HEALTH_CHECK_INTERVAL_S="0.5")
    lab._run("theirs-0", ["/bin/touch", "/sick"])
    wait_for(lambda: sidecar.engines()["theirs-0"]["usable"] is False, "not usable")
    time.sleep(5)
    assert sidecar.engines()["theirs-1"]["usable"] is True
    assert lab.ids(running=True) == before


# --- while Mayday was away --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "unlabelled"])
def test_a_vpn_is_recreated_while_mayday_is_away(lab: Lab, sidecar: Sidecar, labelled: bool) -> None:  # noqa: FBT001
    """Engines of others that shared its network are still seen, with or without the label that names the VPN; none is
    removed, and they take no place of MAX_REPLICAS."""
    known = {"acestream.vpn_container": "gluetun_2"} if labelled else {}
    for number in range(2):
        port = 19110 + number
        lab.engine("gluetun_2", port, f"theirs-{number}", labels=known | {"acestream.http_port": str(port)})
    sidecar.start(MIN_REPLICAS="4", MAX_REPLICAS="4")
    wait_for(lambda: len(lab.ids(running=True)) == 6, f"four own engines; log:\n{sidecar.tail()}")
    sidecar.stop()
    lab.recreate("gluetun_2")
    sidecar.start()
    wait_for(
        lambda: len([name for name in lab.ids() if name.startswith("acestream") and lab.connected(name)]) == 4,
        f"four own engines, connected; log:\n{sidecar.tail()}",
    )
    await_look(sidecar)
    assert {"theirs-0", "theirs-1"} <= set(lab.ids())
    assert {"theirs-0", "theirs-1"} <= set(sidecar.engines())
    assert len(lab.ids()) == 6
