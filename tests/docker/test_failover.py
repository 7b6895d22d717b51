"""Failure and recovery on a real Docker Engine, with Mayday as a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.lab import LABEL, wait_for
from tests.support.lab_sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.lab import Lab, PrivateDockerd

NAMES = {1: "gluetun", 2: "gluetun_2"}


def fleet(lab: Lab, sidecar: Sidecar, **environment: str) -> None:
    """Two healthy VPNs, and Mayday, which fills them."""
    for name in NAMES.values():
        lab.vpn(name)
    sidecar.start(**environment)
    sidecar.await_whole(int(environment.get("MIN_REPLICAS", "10")) // 2)


@pytest.mark.parametrize("failing", [1, 2])
def test_either_vpn_fails_and_recovers(lab: Lab, sidecar: Sidecar, failing: int) -> None:
    """5 and 5, then 5 and 0, then 5 and 5; the other VPN's engines are the same containers all along."""
    fleet(lab, sidecar)
    failed, other = NAMES[failing], NAMES[3 - failing]
    kept = {item["Id"] for item in lab.api.containers(filters={"label": f"acestream.vpn_container={other}"})}
    lab.fail(failed)
    sidecar.await_failed(failed)
    assert sidecar.emergency()["healthy_vpn"] == other
    assert sidecar.metric("mayday_emergency_mode_active") == 1
    lab.heal(failed)
    wait_for(lambda: sidecar.phase(failing) == "stabilizing", "stabilizing")
    assert not lab.engines(failed), "engines came before the stabilization had ended"
    sidecar.await_whole()
    assert kept == {item["Id"] for item in lab.api.containers(filters={"label": f"acestream.vpn_container={other}"})}
    assert sidecar.metric(f'mayday_engines_removed_total{{reason="vpn_failed",result="ok",vpn="{failed}"}}') == 5
    kinds = [record["kind"] for record in json.loads(sidecar.get("/history")[1])["records"]]
    assert kinds.count("mode") == 2


@pytest.mark.parametrize("how", ["kill", "stop", "pause", "restart", "remove", "recreate"])
def test_whatever_happens_to_a_vpn_container(lab: Lab, sidecar: Sidecar, how: str) -> None:
    """Killed, stopped, paused, restarted, removed or recreated: its engines go; it comes back: it is filled again."""
    fleet(lab, sidecar)
    api = lab.api
    act: dict[str, Callable[[], object]] = {
        "kill": lambda: api.kill("gluetun_2"),
        "stop": lambda: api.stop("gluetun_2", timeout=1),
        "pause": lambda: api.pause("gluetun_2"),
        "restart": lambda: api.restart("gluetun_2", timeout=1),
        "remove": lambda: api.remove_container("gluetun_2", force=True),
        "recreate": lambda: lab.recreate("gluetun_2", wait=False),
    }
    act[how]()
    if how in {"restart", "recreate"}:
        wait_for(lambda: "ENTERING EMERGENCY MODE" in sidecar.log.read_text(), "the emergency")
    else:
        sidecar.await_failed("gluetun_2")
    if how in {"kill", "stop"}:
        api.start("gluetun_2")
    elif how == "pause":
        api.unpause("gluetun_2")
    elif how == "remove":
        lab.vpn("gluetun_2")
    sidecar.await_whole()


@pytest.mark.parametrize("first", [1, 2])
def test_both_fail_and_the_first_to_recover_carries_on(lab: Lab, sidecar: Sidecar, first: int) -> None:
    """An outage removes nothing; whichever VPN recovers first makes it an emergency of the other."""
    fleet(lab, sidecar)
    lab.fail("gluetun_2")
    sidecar.await_failed("gluetun_2")
    lab.fail("gluetun")
    wait_for(lambda: sidecar.status()["status"] == "outage", "outage")
    assert len(lab.engines("gluetun")) == 5
    lab.heal(NAMES[first])
    wait_for(lambda: sidecar.emergency()["failed_vpn"] == NAMES[3 - first], "the other one failed")
    lab.heal(NAMES[3 - first])
    sidecar.await_whole()


def test_a_swap_ends_with_the_right_one_failed(lab: Lab, sidecar: Sidecar) -> None:
    """The failed VPN recovers while the other fails."""
    fleet(lab, sidecar)
    lab.fail("gluetun_2")
    sidecar.await_failed("gluetun_2")
    lab.heal("gluetun_2")
    lab.fail("gluetun")
    wait_for(lambda: sidecar.emergency()["failed_vpn"] == "gluetun", "the other one failed")
    assert sidecar.emergency()["healthy_vpn"] == "gluetun_2"
    lab.heal("gluetun")
    sidecar.await_whole()


def test_engines_whose_vpn_was_restarted_while_nobody_looked(lab: Lab, sidecar: Sidecar) -> None:
    """Orphans are repaired without an emergency: by a restart under the same id, made anew under another one."""
    fleet(lab, sidecar)
    sidecar.stop()
    lab.api.restart("gluetun", timeout=1)
    lab.recreate("gluetun_2")
    wait_for(lambda: lab.health("gluetun") == "healthy", "healthy again")
    assert all(lab.network_of(name) == ["lo"] for name in lab.engines())
    sidecar.start()
    sidecar.await_whole()
    repaired = [
        sidecar.metric(f'mayday_engines_provisioned_total{{reason="repair",result="ok",vpn="{name}"}}')
        for name in NAMES.values()
    ]
    assert repaired == [5, 5]
    assert not sidecar.emergency()["active"]


def test_mayday_starts_into_an_emergency(lab: Lab, sidecar: Sidecar) -> None:
    """A VPN that is already down is an emergency. It may be about to start, as after a boot; then its engines go."""
    lab.vpn("gluetun")
    lab.vpn("gluetun_2")
    for index in range(3):
        lab.engine("gluetun_2", 19500 + index, f"ghost-{index}", own=True)
    lab.api.kill("gluetun_2")
    sidecar.start(VPN_START_TIMEOUT_S="3")
    sidecar.await_failed("gluetun_2")


def test_mayday_is_killed_during_a_cleanup_of_fifty(lab: Lab, sidecar: Sidecar) -> None:
    """SIGKILL in the middle changes no outcome, and the emergency keeps the time of its entry."""
    fleet(lab, sidecar, MIN_REPLICAS="50")
    lab.fail("gluetun_2")
    wait_for(lambda: len(lab.engines("gluetun_2")) < 25, "the cleanup under way")
    entered = sidecar.emergency()["entered_at"]
    sidecar.kill()
    sidecar.start()
    sidecar.await_failed("gluetun_2")
    assert sidecar.emergency()["entered_at"] == entered
    assert len(lab.engines("gluetun", running=True)) == 25
    lab.heal("gluetun_2")
    wait_for(lambda: len(lab.engines("gluetun_2", running=True)) > 3, "the refill under way")
    sidecar.kill()
    sidecar.start()
    sidecar.await_whole(25)


def test_engines_that_ignore_sigterm_are_given_their_grace_together(lab: Lab, sidecar: Sidecar) -> None:
    """With a grace of 2 s and ten deaf engines the cleanup takes one grace, not ten: they are stopped at once."""
    lab.vpn("gluetun")
    lab.vpn("gluetun_2")
    for index in range(8):
        lab.engine("gluetun_2", 19500 + index, f"deaf-{index}", ignore_sigterm=True, own=True)
    sidecar.start(ENGINE_STOP_TIMEOUT_S="2", MIN_REPLICAS="2", MAX_REPLICAS="10")
    lab.fail("gluetun_2")
    sidecar.await_failed("gluetun_2")
    assert sidecar.metric("mayday_failover_cleanup_seconds_count") == 1
    assert 2 <= sidecar.metric("mayday_failover_cleanup_seconds_sum") < 16


def test_stopping_touches_no_container(lab: Lab, sidecar: Sidecar) -> None:
    """SIGTERM: exit code 0, and every container is as it was."""
    fleet(lab, sidecar)
    before = {(item["Id"], item["State"]) for item in lab.api.containers(all=True)}
    assert sidecar.stop() == 0
    assert {(item["Id"], item["State"]) for item in lab.api.containers(all=True)} == before


def test_mayday_stops_although_the_daemon_stands_still(dockerd: PrivateDockerd, lab: Lab, sidecar: Sidecar) -> None:
    """A call that hangs for minutes does not keep the process from ending."""
    fleet(lab, sidecar, MIN_REPLICAS="2", DOCKER_TIMEOUT_S="200")
    dockerd.freeze()
    try:
        lab_is_asked = sidecar.call("POST", "/control/drill", {"vpn": "gluetun_2", "duration_seconds": 60})
        assert lab_is_asked[0] == 201
        assert sidecar.stop() == 0
    finally:
        dockerd.thaw()


def test_a_second_mayday_touches_nothing(lab: Lab, sidecar: Sidecar, tmp_path: Path) -> None:
    """Two on one STATE_DIR by mistake: the second notices, says so, and leaves everything to the first."""
    fleet(lab, sidecar, MIN_REPLICAS="2")
    (tmp_path / "second").mkdir()
    second = Sidecar(lab, tmp_path / "second")
    second.start(STATE_DIR=sidecar.environment["STATE_DIR"], MIN_REPLICAS="8")
    try:
        assert any("another Mayday" in problem for problem in second.status()["problems"])
        assert second.call("POST", "/engines", {})[0] == 503
        lab.fail("gluetun_2")
        sidecar.await_failed("gluetun_2")
        assert second.metric('mayday_engines_removed_total{reason="vpn_failed",result="ok",vpn="gluetun_2"}') == 0
        lab.heal("gluetun_2")
        sidecar.await_whole(1)
    finally:
        second.stop()


def test_the_daemon_goes_and_comes(dockerd: PrivateDockerd, lab: Lab, sidecar: Sidecar) -> None:
    """While the daemon stands still nothing is decided and Mayday is not ready; afterwards it goes on."""
    fleet(lab, sidecar, MIN_REPLICAS="4")
    dockerd.freeze()
    try:
        wait_for(lambda: sidecar.get("/-/ready")[0] == 503, "not ready")
        assert sidecar.status()["status"] == "normal"
    finally:
        dockerd.thaw()
    wait_for(lambda: sidecar.get("/-/ready")[0] == 200, "ready again")
    lab.fail("gluetun_2")
    sidecar.await_failed("gluetun_2")
    lab.heal("gluetun_2")
    sidecar.await_whole(2)


def test_the_daemon_is_restarted_in_an_emergency(dockerd: PrivateDockerd, lab: Lab, sidecar: Sidecar) -> None:
    """All containers die with the daemon; when they are started again the fleet becomes whole."""
    fleet(lab, sidecar, MIN_REPLICAS="4")
    lab.fail("gluetun_2")
    sidecar.await_failed("gluetun_2")
    dockerd.stop()
    wait_for(lambda: sidecar.get("/-/ready")[0] == 503, "not ready")
    dockerd.start()
    for name in NAMES.values():
        lab.api.start(name)
    lab.heal("gluetun_2")
    sidecar.await_whole(2)


def test_the_health_manager_replaces_an_engine_that_does_not_answer(lab: Lab, sidecar: Sidecar) -> None:
    """Three failures in a row, and the engine is another container."""
    fleet(lab, sidecar, MIN_REPLICAS="4")
    wait_for(lambda: all(e["health_status"] == "healthy" for e in json.loads(sidecar.get("/engines")[1])), "all answer")
    victim = lab.engines("gluetun")[0]
    old = lab.api.inspect_container(victim)["Id"]
    lab.break_engine(victim)
    wait_for(lambda: old not in {item["Id"] for item in lab.api.containers(all=True)}, "the old one gone")
    sidecar.await_whole(2)


def test_somebody_asks_for_an_engine_and_for_its_end(lab: Lab, sidecar: Sidecar) -> None:
    """POST /engines creates one on top of the share, DELETE removes it, unknown ones are refused."""
    fleet(lab, sidecar, MIN_REPLICAS="2")
    code, made = sidecar.call("POST", "/engines", {"vpn": "gluetun_2", "labels": {"stream_id": "x"}})
    assert (code, made["vpn_container"]) == (201, "gluetun_2")
    labels = lab.api.inspect_container(made["container_name"])["Config"]["Labels"]
    assert (labels["stream_id"], labels[LABEL], labels["mayday.requested"]) == ("x", "acestream", "true")
    assert len(lab.engines("gluetun_2")) == 2
    code, _ = sidecar.call("DELETE", f"/engines/{made['container_name']}")
    assert code == 200
    assert len(lab.engines("gluetun_2")) == 1
    assert sidecar.call("DELETE", "/engines/nobody")[0] == 404


def test_the_exposition_is_valid(lab: Lab, sidecar: Sidecar) -> None:
    """`promtool check metrics` has nothing to say, after a failure and a recovery."""
    promtool = shutil.which("promtool")
    assert promtool is not None, "promtool is not installed; `make setup-test` installs prometheus"
    fleet(lab, sidecar, MIN_REPLICAS="2")
    lab.fail("gluetun_2")
    sidecar.await_failed("gluetun_2")
    lab.heal("gluetun_2")
    sidecar.await_whole(1)
    result = subprocess.run(
        [promtool, "check", "metrics"], input=sidecar.get("/metrics")[1].encode(), capture_output=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, b"")
