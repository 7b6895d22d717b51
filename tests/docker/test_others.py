"""Engines that Mayday did not make: never removed, never replaced; stopped in a failure and started again after it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.docker.trouble import VPNS, await_look
from tests.support.lab import wait_for

if TYPE_CHECKING:
    from tests.support.lab import Lab
    from tests.support.lab_sidecar import Sidecar

A_WHILE_S = 6.0
"""Longer than three failed checks and two readings of everything take."""


@pytest.fixture
def lab(each_lab: Lab) -> Lab:
    """Two VPNs with two engines each, all made by somebody else."""
    for position, vpn in enumerate(VPNS):
        each_lab.vpn(vpn)
        for number in range(2):
            each_lab.engine(vpn, 19000 + 100 * position + number, f"{vpn}-{number}", restart="unless-stopped")
    return each_lab


def test_they_are_not_replaced_for_an_api_they_do_not_have(lab: Lab, sidecar: Sidecar) -> None:
    """MIN_REPLICAS=0: containers without AceStream's API are reported, over a restart of Mayday too, and stay."""
    before = lab.ids()
    for name in before:
        lab.break_engine(name)
    for _ in range(2):
        sidecar.start(MIN_REPLICAS="0", ENGINE_HEALTH_CHECK_INTERVAL_S="0.5")
        wait_for(lambda: sidecar.engines().keys() == before.keys(), "all reported")
        time.sleep(A_WHILE_S)
        assert lab.ids(running=True) == before
        sidecar.stop()


def test_one_that_its_owner_stopped_stays_stopped(lab: Lab, sidecar: Sidecar) -> None:
    """It is neither started nor removed, nor is another made in its place."""
    before = lab.ids()
    sidecar.start(MIN_REPLICAS="0", ENGINE_HEALTH_CHECK_INTERVAL_S="0.5")
    lab.api.stop("gluetun-0", timeout=1)
    time.sleep(A_WHILE_S)
    await_look(sidecar)
    assert lab.ids() == before
    assert lab.ids(running=True).keys() == before.keys() - {"gluetun-0"}


def test_they_are_parked_while_their_vpn_is_down(lab: Lab, sidecar: Sidecar) -> None:
    """Stopped when it fails, started again after its stabilization: the same containers, and a network for each. Those
    of the other VPN run all along."""
    before = lab.ids()
    sidecar.start(MIN_REPLICAS="0")
    lab.fail("gluetun_2")
    wait_for(lambda: not lab.engines("gluetun_2", running=True), f"gluetun_2's stopped; log:\n{sidecar.tail()}")
    assert lab.ids() == before
    assert lab.engines("gluetun", running=True) == ["gluetun-0", "gluetun-1"]
    lab.heal("gluetun_2")
    wait_for(lambda: sidecar.phase(2) == "stabilizing", "stabilizing")
    assert not lab.engines("gluetun_2", running=True), "they were started before the stabilization had ended"
    wait_for(lambda: lab.ids(running=True) == before, f"all running again; log:\n{sidecar.tail()}")
    wait_for(lambda: all(lab.connected(name) for name in before), "all connected")


def test_they_are_parked_and_started_although_mayday_was_killed_between(lab: Lab, sidecar: Sidecar) -> None:
    """What was parked is known from the journal; the VPN is restarted meanwhile, so each joins its new namespace."""
    before = lab.ids()
    sidecar.start(MIN_REPLICAS="0")
    lab.fail("gluetun_2")
    wait_for(lambda: not lab.engines("gluetun_2", running=True), f"gluetun_2's stopped; log:\n{sidecar.tail()}")
    sidecar.kill()
    lab.heal("gluetun_2")
    lab.api.restart("gluetun_2", timeout=1)
    sidecar.start()
    wait_for(lambda: lab.ids(running=True) == before, f"all running again; log:\n{sidecar.tail()}")
    wait_for(lambda: all(lab.connected(name) for name in before), "all connected")


def test_what_its_owner_does_with_a_parked_one_counts(lab: Lab, sidecar: Sidecar) -> None:
    """One that was stopped before the failure stays stopped after it; one removed while it was parked stays removed."""
    before = lab.ids()
    sidecar.start(MIN_REPLICAS="0")
    lab.api.stop("gluetun_2-0", timeout=1)
    await_look(sidecar)
    lab.fail("gluetun_2")
    wait_for(lambda: not lab.engines("gluetun_2", running=True), f"gluetun_2's stopped; log:\n{sidecar.tail()}")
    lab.engine("gluetun_2", 19110, "gluetun_2-2", start=False)
    lab.api.remove_container("gluetun_2-1")
    lab.heal("gluetun_2")
    wait_for(lambda: sidecar.phase(2) == "healthy", "healthy again")
    time.sleep(A_WHILE_S)
    after = lab.ids()
    assert after["gluetun_2-0"] == before["gluetun_2-0"]
    assert "gluetun_2-1" not in after
    assert lab.engines("gluetun_2", running=True) == []


@pytest.mark.parametrize("how", ["setting", "label"])
def test_they_are_left_alone_where_their_owner_says_so(lab: Lab, sidecar: Sidecar, how: str) -> None:
    """OTHERS_ON_FAILURE, or the label of one container, which comes first."""
    labels = {"acestream.vpn_container": "gluetun_2", "mayday.on-failure": "leave"}
    lab.engine("gluetun_2", 19102, "gluetun_2-2", labels=labels if how == "label" else None)
    before = lab.ids()
    sidecar.start(MIN_REPLICAS="0", **({"OTHERS_ON_FAILURE": "leave"} if how == "setting" else {}))
    lab.fail("gluetun_2")
    wait_for(lambda: sidecar.emergency()["failed_vpn"] == "gluetun_2", f"emergency; log:\n{sidecar.tail()}")
    if how == "label":
        wait_for(lambda: lab.engines("gluetun_2", running=True) == ["gluetun_2-2"], "the others parked")
    else:
        time.sleep(A_WHILE_S)
        assert lab.ids(running=True) == before
    lab.heal("gluetun_2")
    wait_for(lambda: lab.ids(running=True) == before, f"all running; log:\n{sidecar.tail()}")


def test_own_ones_beside_them_are_removed_and_made_again(lab: Lab, sidecar: Sidecar) -> None:
    """The share is one of own engines alone: they go and come while the others' are parked and come back."""
    others = lab.ids()
    sidecar.start(MIN_REPLICAS="4", MAX_REPLICAS="8")
    wait_for(lambda: len(lab.ids(running=True)) == 8, f"two own engines on each VPN; log:\n{sidecar.tail()}")
    lab.fail("gluetun_2")
    wait_for(lambda: set(lab.engines("gluetun_2")) == {"gluetun_2-0", "gluetun_2-1"}, "own ones removed")
    wait_for(lambda: not lab.engines("gluetun_2", running=True), "others' stopped")
    lab.heal("gluetun_2")
    wait_for(lambda: len(lab.ids(running=True)) == 8, f"all there again; log:\n{sidecar.tail()}")
    assert others.items() <= lab.ids().items()
