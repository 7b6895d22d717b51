"""Restarts of the daemon and of the host cost no engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docker.trouble import EVENTS, await_calm, await_healthy, fleet
from tests.support.lab import wait_for

if TYPE_CHECKING:
    from tests.support.lab import Lab
    from tests.support.lab_sidecar import Sidecar


@pytest.fixture
def lab(each_lab: Lab) -> Lab:
    """An engine of every version in turn."""
    return each_lab


@pytest.mark.parametrize("live_restore", [True], ids=["live-restore"])
def test_a_daemon_finds_its_containers_as_they_were(lab: Lab, sidecar: Sidecar) -> None:
    """Live-restore: newer engines say `starting` of VPNs that never stopped, each until its next probe. That is no
    failure: no emergency, no outage, and every engine is the same container."""
    kept = fleet(lab, sidecar)
    EVENTS["daemon restarted"](lab, sidecar)
    assert lab.ids() == kept
    assert sidecar.history("mode") == []
    assert lab.all_work(kept)


def test_a_daemon_takes_its_containers_with_it_and_starts_them_again(lab: Lab, sidecar: Sidecar) -> None:
    """Without live-restore: VPNs and engines die with the daemon and come back by their restart policy, one VPN later
    than the other. In the end every engine is the same container, and works."""
    kept = fleet(lab, sidecar)
    EVENTS["daemon restarted"](lab, sidecar)
    wait_for(lambda: lab.all_work(kept), f"the same engines working; log:\n{sidecar.tail()}")
    assert lab.ids() == kept


@pytest.mark.parametrize("event", [name for name in EVENTS if name.startswith("host")])
def test_a_reboot_costs_no_engine(lab: Lab, sidecar: Sidecar, event: str) -> None:
    """With a journal of the life before, and Mayday up before, between or after the VPNs."""
    kept = fleet(lab, sidecar)
    EVENTS[event](lab, sidecar)
    wait_for(lambda: lab.all_work(kept), f"the same engines working; log:\n{sidecar.tail()}")
    assert lab.ids() == kept


def test_a_failure_in_the_middle_of_a_restart_is_still_one(lab: Lab, sidecar: Sidecar) -> None:
    """The other side: a VPN that does not come back after the daemon's restart, and has had its time, is evacuated."""
    kept = fleet(lab, sidecar, VPN_START_TIMEOUT_S="10")
    lab.dockerd.stop()
    lab.dockerd.start()
    await_healthy(lab, "gluetun")
    lab.fail("gluetun_2")
    sidecar.await_failed("gluetun_2")
    assert lab.ids().items() <= kept.items()
    lab.heal("gluetun_2")
    await_calm(lab, sidecar)
    sidecar.await_whole(2)
