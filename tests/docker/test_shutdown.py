"""Shutdowns, and failures of all VPNs by one cause, cost no engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docker.trouble import EVENTS, fleet
from tests.support.lab import wait_for

if TYPE_CHECKING:
    from tests.support.lab import Lab
    from tests.support.lab_sidecar import Sidecar


@pytest.fixture
def lab(each_lab: Lab) -> Lab:
    """An engine of every version in turn."""
    return each_lab


@pytest.mark.parametrize("event", [name for name in EVENTS if "before Mayday" in name])
def test_a_shutdown_costs_no_engine(lab: Lab, sidecar: Sidecar, event: str) -> None:
    """Whether a VPN died because it failed, or because everything is being shut down, is not known before Mayday itself
    is told to stop."""
    kept = fleet(lab, sidecar)
    EVENTS[event](lab, sidecar)
    wait_for(lambda: lab.all_work(kept), f"the same engines working; log:\n{sidecar.tail()}")
    assert lab.ids() == kept


def test_a_failure_of_both_costs_no_engine(lab: Lab, sidecar: Sidecar) -> None:
    """One cause, two failures, one VPN back before the other: where nothing else carries, nothing is removed."""
    kept = fleet(lab, sidecar, VPN_STABILIZATION_PERIOD_S="8")
    EVENTS["both VPNs fail together"](lab, sidecar)
    assert lab.ids() == kept
