"""A Docker Engine in trouble, at every stage of an emergency. The outcome is the same as without."""

from __future__ import annotations

import random
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docker.proxy import CUT, DELAY, ERROR, LOST, NOT_OURS, PASS, Deed, Proxy
from tests.support.lab import IMAGE, Lab, PrivateDockerd, wait_for
from tests.support.lab_fixtures import daemon_number
from tests.support.lab_sidecar import Sidecar

if TYPE_CHECKING:
    from tests.docker.engines import Daemons, Version
VPNS = ("gluetun", "gluetun_2")
PROBES_GO_ON = (25, 0)
"""From this version of the engine on, health checks go on after the daemon was killed (seen with 26.1 and 28.5)."""
STAGES = ("detection", "cleanup", "stabilization", "refill")


@pytest.fixture
def surviving(daemons: Daemons, version: Version) -> PrivateDockerd:
    """An engine with live-restore: its containers outlive it."""
    return daemons.get(version, live_restore=True)


def fleet(lab: Lab, sidecar: Sidecar, **environment: str) -> set[str]:
    """Two VPNs with three engines each; returns the ids of those that no failure of gluetun_2 may touch."""
    for name in VPNS:
        lab.vpn(name)
    sidecar.start(**{"MIN_REPLICAS": "6", "DOCKER_TIMEOUT_S": "2", "VPN_START_TIMEOUT_S": "10", **environment})
    sidecar.await_whole(int(sidecar.environment["MIN_REPLICAS"]) // 2)
    return ids(lab, "gluetun")


def ids(lab: Lab, vpn: str) -> set[str]:
    return {item["Id"] for item in lab.api.containers(all=True, filters={"label": f"acestream.vpn_container={vpn}"})}


def reach(stage: str, lab: Lab, sidecar: Sidecar) -> None:
    """Go on until that stage of an emergency of gluetun_2."""
    lab.fail("gluetun_2")
    if stage == "detection":
        return
    wait_for(lambda: sidecar.emergency()["active"], "emergency")
    if stage == "cleanup":
        return
    sidecar.await_failed("gluetun_2")
    lab.heal("gluetun_2")
    wait_for(lambda: sidecar.phase(2) == "stabilizing", "stabilizing")
    if stage == "refill":
        wait_for(lambda: lab.engines("gluetun_2", running=True), "the refill under way")


def finish(stage: str, lab: Lab, sidecar: Sidecar, share: int = 3) -> None:
    """From there to the end: evacuated, recovered, whole; entered once, and only because of gluetun_2."""
    wait_for(lambda: sidecar.get("/-/ready")[0] == 200, "ready again")
    if stage in {"detection", "cleanup"}:
        sidecar.await_failed("gluetun_2")
        lab.heal("gluetun_2")
    sidecar.await_whole(share)


def entries(sidecar: Sidecar, vpn: str) -> float:
    return sum(
        sidecar.metric(f'mayday_emergency_mode_entries_total{{reason="{reason}",vpn="{vpn}"}}')
        for reason in ("docker_unhealthy", "docker_exited", "docker_missing", "docker_paused", "docker_restarting")
    )


@pytest.mark.parametrize("stage", STAGES)
def test_the_daemon_is_killed_and_its_containers_live(surviving: PrivateDockerd, tmp_path: Path, stage: str) -> None:
    """Live-restore: SIGKILL for the daemon, and a new one on a new socket of the same name. With 20.10 health checks do
    not go on by themselves afterwards, so Docker's word is frozen, counts for nothing, and shows as unknown; newer ones
    probe again, and see the failure. Once gluetun_2 is restarted all goes on. gluetun never fails, and its engines are
    not touched."""
    lab = Lab(surviving)
    lab.purge()
    sidecar = Sidecar(lab, tmp_path)
    try:
        kept = fleet(lab, sidecar)
        reach(stage, lab, sidecar)
        surviving.kill()
        wait_for(lambda: sidecar.get("/-/ready")[0] == 503, "not ready")
        surviving.start()
        wait_for(lambda: sidecar.get("/-/ready")[0] == 200, "ready again")
        if stage == "detection" and lab.version < PROBES_GO_ON:
            wait_for(lambda: sidecar.status()["vpn2"]["health"] == "unknown", "a frozen health is no health")
            assert sidecar.phase(2) == "healthy"
            assert len(lab.engines("gluetun_2")) == 3
        elif stage == "detection":
            wait_for(lambda: sidecar.phase(2) == "failed", "the failure seen")
        lab.api.restart("gluetun_2", timeout=0)
        if stage in {"detection", "cleanup"} and lab.version < PROBES_GO_ON:
            # A VPN whose health is frozen is no carrier, so what is left on the other one may not be removed.
            left = ids(lab, "gluetun_2")
            wait_for(lambda: sidecar.phase(2) == "failed", "the failure seen")
            assert ids(lab, "gluetun_2") == left
            lab.heal("gluetun_2")
        finish("recovery" if lab.version < PROBES_GO_ON else stage, lab, sidecar)
        assert ids(lab, "gluetun") == kept
        assert entries(sidecar, "gluetun") == 0
    finally:
        sidecar.stop()
        lab.purge()
        lab.api.close()


@pytest.mark.parametrize("stage", STAGES)
def test_the_daemon_is_killed_with_its_containers(
    dockerd: PrivateDockerd, lab: Lab, sidecar: Sidecar, stage: str
) -> None:
    """Without live-restore a new daemon finds its containers dead. Once the VPNs are started again, all becomes whole,
    and there are never more engines than MAX_REPLICAS."""
    fleet(lab, sidecar)
    reach(stage, lab, sidecar)
    dockerd.kill()
    wait_for(lambda: sidecar.get("/-/ready")[0] == 503, "not ready")
    dockerd.start()
    for name in VPNS:
        lab.api.start(name)
    lab.heal("gluetun_2")
    finish("stabilization", lab, sidecar)
    assert len(lab.engines()) == 6


@pytest.mark.parametrize("stage", STAGES)
def test_the_daemon_stands_still(dockerd: PrivateDockerd, lab: Lab, sidecar: Sidecar, stage: str) -> None:
    """SIGSTOP until Mayday has noticed, then SIGCONT: as if nothing had been."""
    kept = fleet(lab, sidecar)
    reach(stage, lab, sidecar)
    dockerd.freeze()
    try:
        wait_for(lambda: sidecar.get("/-/ready")[0] == 503, "not ready")
    finally:
        dockerd.thaw()
    finish(stage, lab, sidecar)
    assert ids(lab, "gluetun") == kept
    assert entries(sidecar, "gluetun") == 0


def test_the_daemon_is_stopped_as_a_service_during_a_cleanup(
    dockerd: PrivateDockerd, lab: Lab, sidecar: Sidecar
) -> None:
    """SIGTERM ends the VPNs before the daemon: an outage is seen, in which nothing is removed."""
    kept = fleet(lab, sidecar)
    reach("cleanup", lab, sidecar)
    dockerd.stop()
    wait_for(lambda: sidecar.get("/-/ready")[0] == 503, "not ready")
    dockerd.start()
    assert ids(lab, "gluetun") == kept
    for name in VPNS:
        lab.api.start(name)
    lab.heal("gluetun_2")
    finish("stabilization", lab, sidecar)


@pytest.mark.parametrize("seed", [1, 2])
def test_something_in_between_delays_cuts_and_answers_itself(lab: Lab, sidecar: Sidecar, seed: int) -> None:
    """Every other call is late, cut before or after Docker did it, or answered 500 or 404 by a web server: gluetun_2 is
    evacuated and filled again, gluetun never fails and keeps its engines, and MAX_REPLICAS holds."""
    chance = random.Random(seed)
    troubles = (DELAY, CUT, LOST, ERROR, NOT_OURS)

    def behave(_method: str, path: str) -> Deed:
        if path.endswith("/events"):
            return chance.choice((PASS, CUT, ERROR, NOT_OURS))
        return chance.choice(troubles) if chance.random() < 0.4 else PASS

    with Proxy(lab.dockerd.socket) as proxy:
        kept = fleet(lab, sidecar, DOCKER_HOST=proxy.url, MAX_REPLICAS="8")
        proxy.behave = behave
        most = 0

        def watched(condition: bool) -> bool:  # noqa: FBT001
            nonlocal most
            most = max(most, len(lab.engines()))
            return condition

        lab.fail("gluetun_2")
        wait_for(lambda: watched(sidecar.emergency()["active"] and not lab.engines("gluetun_2")), "evacuated", 120)
        lab.heal("gluetun_2")
        wait_for(lambda: watched(len(lab.engines("gluetun_2", running=True)) >= 3), "filled again", 120)
        proxy.behave = lambda _method, _path: PASS
        sidecar.await_whole(3)
        assert {deed.name for *_, deed in proxy.calls} >= {deed.name for deed in troubles}
    assert ids(lab, "gluetun") == kept
    assert entries(sidecar, "gluetun") == 0
    assert most <= 8


def test_a_vpn_is_recreated_under_its_name_during_its_cleanup(lab: Lab, sidecar: Sidecar) -> None:
    """The new container is another one: the old engines are gone, the other VPN's are kept, and it is filled again."""
    kept = fleet(lab, sidecar, MIN_REPLICAS="20")
    reach("cleanup", lab, sidecar)
    lab.recreate("gluetun_2")
    sidecar.await_whole(10)
    assert ids(lab, "gluetun") == kept
    new = lab.api.inspect_container("gluetun_2")["Id"]
    for engine in lab.engines("gluetun_2"):
        assert lab.api.inspect_container(engine)["HostConfig"]["NetworkMode"] == f"container:{new}"


def test_the_image_is_missing_and_comes(lab: Lab, sidecar: Sidecar) -> None:
    """Creations fail, are counted and tried again with a delay that grows; when the image is there, all is filled."""
    for name in VPNS:
        lab.vpn(name)
    sidecar.start(MIN_REPLICAS="4", ENGINE_IMAGE="mayday-lab:later")
    failed = 'mayday_engines_provisioned_total{reason="fill",result="error",vpn="gluetun"}'
    wait_for(lambda: sidecar.metric(failed) >= 2, "creations fail")
    assert "mayday-lab:later" in sidecar.log.read_text()
    assert lab.engines() == []
    assert lab.api.tag(IMAGE, "mayday-lab", "later")
    try:
        sidecar.await_whole(2)
    finally:
        lab.purge()
        lab.api.remove_image("mayday-lab:later")


def test_the_disk_is_full_and_is_not(tmp_path: Path) -> None:
    """No space for a container: a refill fails, is counted, and is made up for when there is space again."""
    directory = Path(tempfile.mkdtemp(prefix="mayday-"))
    data = directory / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", data], check=True)
    daemon = PrivateDockerd(directory, number=daemon_number(3))
    with ExitStack() as ends:
        ends.callback(daemon.destroy)
        daemon.start()
        lab = Lab(daemon)
        ends.callback(lab.api.close)
        sidecar = Sidecar(lab, tmp_path)
        ends.callback(sidecar.stop)
        kept = fleet(lab, sidecar, MIN_REPLICAS="4")
        lab.fail("gluetun_2")
        sidecar.await_failed("gluetun_2")
        lab.heal("gluetun_2")  # before the disk is full: an exec needs some space too
        with (data / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(b"\0" * 65536)
        failed = 'mayday_engines_provisioned_total{reason="fill",result="error",vpn="gluetun_2"}'
        wait_for(lambda: sidecar.metric(failed) >= 1, "creations fail")
        (data / "filler").unlink()
        sidecar.await_whole(2)
        assert ids(lab, "gluetun") == kept
        lab.purge()


def test_a_stranger_holds_an_engines_port(lab: Lab, sidecar: Sidecar) -> None:
    """A container without the label listens on the first port of gluetun's range: the share is reached on others."""
    for name in VPNS:
        lab.vpn(name)
    body = {
        "Image": IMAGE,
        "Cmd": ["/bin/engine"],
        "Env": ["HTTP_PORT=19000"],
        "HostConfig": {"NetworkMode": "container:gluetun"},
    }
    stranger = lab.api.create_container_from_config(body, "stranger")["Id"]
    lab.api.start(stranger)
    sidecar.start(MIN_REPLICAS="4", ENGINE_RESTART_POLICY="no")

    def served() -> bool:
        listed = lab.api.containers(filters={"label": "acestream.vpn_container=gluetun"})
        return len(listed) == 2 and {item["Labels"]["acestream.http_port"] for item in listed} == {"19001", "19002"}

    wait_for(served, f"two engines on free ports; log:\n{sidecar.tail()}")
    assert lab.api.inspect_container(stranger)["State"]["Running"]
