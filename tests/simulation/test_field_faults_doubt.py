"""Evidence that is old or gone: what is not known to be so at this moment removes nothing."""

from __future__ import annotations

import asyncio

import pytest

from exporter.core.model import Phase
from tests.simulation.field import FIRST, SECOND, Deeds, ids
from tests.support.sidecar import Sidecar, play
from tests.support.virtual_time import VirtualClock, run_virtual


@pytest.mark.parametrize("down_s", [0.5, 2.0])
def test_a_vpn_that_is_well_again_before_the_delay_has_passed_keeps_its_engines(down_s: float) -> None:
    """That a container was told to stop is no news any more once it has stopped and runs again."""

    async def scenario(s: Sidecar) -> None:
        before, deeds = ids(s.host, FIRST, SECOND), Deeds(s)
        vpn = s.host.find(SECOND)
        vpn.interval_s = None  # without a health check it is well as soon as it runs
        s.host.stop(vpn)
        await asyncio.sleep(down_s)
        s.host.start(vpn)
        await asyncio.sleep(1)
        assert s.phase(SECOND) is Phase.STABILIZING
        await asyncio.sleep(60)
        assert deeds.effects == []
        assert ids(s.host, FIRST, SECOND) == before

    play(scenario)


def test_a_health_that_was_frozen_before_mayday_started_makes_no_carrier() -> None:
    """A daemon came back without probing the first VPN; Mayday is started anew, and the second VPN fails."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock)
        async with s.app:
            await asyncio.sleep(10)
        s.runtime.daemon_down()
        s.host.freeze_health()
        s.runtime.daemon_up()
        s.host.set_truth(FIRST, good=False)
        await asyncio.sleep(120)
        before = ids(s.host, FIRST, SECOND)
        s.app = s.new_app()
        async with s.app:
            await asyncio.sleep(5)
            s.host.stop(s.host.find(SECOND))
            await asyncio.sleep(20)
            assert s.phase(SECOND) is Phase.FAILED
            assert ids(s.host, FIRST, SECOND) == before

    run_virtual(main)
