"""Faults that users met, as scenarios: daemons, hosts and VPNs that fail in ways which cost working engines.

What stands here is what is right for the user.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from exporter.core.model import Mode, Phase
from tests.simulation.field import FIRST, SECOND, Deeds, calm, ids, on, own, sampled, working
from tests.simulation.network import SECRET, Door
from tests.support.alerts import message, wire_alert
from tests.support.sidecar import Sidecar, play
from tests.support.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from pathlib import Path

CHANCES = range(3)


# --- daemons and hosts that restart ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chance", CHANCES)
@pytest.mark.parametrize("version", ["25", "20.10"])
@pytest.mark.parametrize("away_s", [0.5, 3.0, 40.0])
def test_a_daemon_restarted_with_live_restore_costs_nothing(version: str, away_s: float, chance: int) -> None:
    """A health that begins anew, or stands still, although the container was not started anew, says nothing."""

    async def scenario(s: Sidecar) -> None:
        s.host.rng.seed(1000 + chance)
        deeds, before = Deeds(s), ids(s.host, FIRST, SECOND)
        assert len(before) == 10
        s.runtime.daemon_down()
        await asyncio.sleep(away_s)
        if version == "25":
            s.host.reset_health()
        else:
            s.host.freeze_health()
        s.runtime.daemon_up()
        assert all(await sampled(300, lambda: calm(s)))
        assert deeds.effects == []
        assert ids(s.host, FIRST, SECOND) == before

    play(scenario)


def test_a_vpn_that_fails_while_its_health_begins_anew_is_still_seen() -> None:
    """That `starting` says nothing does not hide the failure that comes after it."""

    async def scenario(s: Sidecar) -> None:
        s.runtime.daemon_down()
        s.host.set_truth(SECOND, good=False)
        s.host.reset_health()
        s.runtime.daemon_up()
        await asyncio.sleep(60)
        assert s.phase(SECOND) is Phase.FAILED
        assert (len(own(s.host, FIRST)), len(own(s.host, SECOND))) == (5, 0)

    play(scenario)


def test_a_vpn_started_anew_that_was_healthy_is_failed_while_it_starts() -> None:
    """Its network is new, its engines are cut off: `starting` with another start time is a failure."""

    async def scenario(s: Sidecar) -> None:
        vpn = s.host.find(SECOND)
        vpn.truth = False
        s.host.restart(vpn)
        await asyncio.sleep(2)
        assert s.phase(SECOND) is Phase.FAILED

    play(scenario)


async def reboot(s: Sidecar, *, softly: bool, away_s: float) -> None:
    """The host goes down under Mayday and comes up again; its VPNs are `starting`, some engines came before them."""
    if softly:
        ending = asyncio.ensure_future(s.host.containers_end())
        await asyncio.sleep(0.045)
        await s.app.__aexit__(None, None, None)
        await ending
    else:
        s.host.power_lost()
        await s.app.__aexit__(None, None, None)
    s.runtime.daemon_down()
    await asyncio.sleep(away_s)
    s.clock.reboot()
    s.host.containers_resume()
    s.runtime.daemon_up()
    s.app = s.new_app()


@pytest.mark.parametrize("chance", CHANCES)
@pytest.mark.parametrize("softly", [True, False])
@pytest.mark.parametrize("remembers", [True, False])
def test_a_reboot_of_the_host_costs_no_engine(tmp_path: Path, remembers: bool, softly: bool, chance: int) -> None:  # noqa: FBT001
    """Every engine is the same container after the boot, and all work soon.

    Where a VPN was seen to die before Mayday was told to stop, it stabilizes; what came up before it waits.
    """

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, **({"STATE_DIR": str(tmp_path)} if remembers else {}))
        s.host.rng.seed(1000 + chance)
        await s.app.__aenter__()
        await asyncio.sleep(60)
        before, deeds = ids(s.host, FIRST, SECOND), Deeds(s)
        await reboot(s, softly=softly, away_s=40)
        async with s.app:
            await asyncio.sleep(60)
            assert deeds.removed == []
            assert ids(s.host, FIRST, SECOND) == before
            if s.app.controller.state.having(Phase.STABILIZING):
                await asyncio.sleep(120)
            assert deeds.removed == []
            assert working(s.host, FIRST, SECOND) == 10
            assert calm(s)

    run_virtual(main)


@pytest.mark.parametrize("chance", CHANCES)
def test_a_daemon_restarted_without_live_restore_costs_no_engine(chance: int) -> None:
    """All containers end and begin anew in no order: the engines are the same, and all work soon."""

    async def scenario(s: Sidecar) -> None:
        s.host.rng.seed(1000 + chance)
        before, deeds = ids(s.host, FIRST, SECOND), Deeds(s)
        await s.host.containers_end()
        s.runtime.daemon_down()
        await asyncio.sleep(5)
        s.host.containers_resume()
        s.runtime.daemon_up()
        await asyncio.sleep(240)
        assert deeds.removed == []
        assert ids(s.host, FIRST, SECOND) == before
        assert working(s.host, FIRST, SECOND) == 10

    play(scenario)


@pytest.mark.parametrize("delay_s", ["0", "5"])
@pytest.mark.parametrize("told_after_ms", [1, 40, 60, 100])
@pytest.mark.parametrize("chance", CHANCES)
def test_a_shutdown_whose_sigterm_comes_after_the_vpns_died(delay_s: str, told_after_ms: int, chance: int) -> None:
    """All are told to stop at once and die one by one; Mayday is told last: no engine is removed for it."""

    async def scenario(s: Sidecar) -> None:
        s.host.rng.seed(1000 + chance)
        before, deeds = ids(s.host, FIRST, SECOND), Deeds(s)
        ending = asyncio.ensure_future(s.host.containers_end())
        await asyncio.sleep(told_after_ms / 1000)
        s.app.controller.close()
        await ending
        await asyncio.sleep(10)
        assert deeds.removed == []
        assert ids(s.host, FIRST, SECOND) == before

    play(scenario, EVACUATION_DELAY_S=delay_s)


@pytest.mark.parametrize("delay_s", ["0", "5"])
@pytest.mark.parametrize("chance", CHANCES)
def test_vpns_that_are_stopped_together_by_another_project(delay_s: str, chance: int) -> None:
    """`compose down` of the VPNs' project: all are gone within moments, so that nobody carries and nothing goes."""

    async def scenario(s: Sidecar) -> None:
        s.host.rng.seed(1000 + chance)
        deeds = Deeds(s)
        await s.host.terminate([s.host.find(FIRST), s.host.find(SECOND)])
        await asyncio.sleep(60)
        assert s.app.controller.state.mode is Mode.OUTAGE
        assert deeds.removed == []
        assert len(ids(s.host, FIRST, SECOND)) == 10

    play(scenario, EVACUATION_DELAY_S=delay_s)


# --- common causes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chance", range(6))
@pytest.mark.parametrize("seconds", [20, 40, 60])
def test_both_vpns_fail_together_by_their_health(seconds: int, chance: int) -> None:
    """A target that both checks use is away for a while: every engine is there after it, and works."""

    async def scenario(s: Sidecar) -> None:
        s.host.rng.seed(1000 + chance)
        before, deeds = ids(s.host, FIRST, SECOND), Deeds(s)
        for vpn in (FIRST, SECOND):
            s.host.set_truth(vpn, good=False)
        await asyncio.sleep(seconds)
        for vpn in (FIRST, SECOND):
            s.host.set_truth(vpn, good=True)
        await asyncio.sleep(300)
        assert deeds.removed == []
        assert ids(s.host, FIRST, SECOND) == before

    play(scenario)


@pytest.mark.parametrize("apart_s", [0.2, 2.0])
def test_both_vpns_fail_together_by_alerts(apart_s: float) -> None:
    """Two alerts a moment apart, while Docker shows both VPNs as healthy: nothing is removed, then or after it."""

    async def scenario(s: Sidecar) -> None:
        deeds, door = Deeds(s), Door(s.app)

        async def send(status: str) -> None:
            for vpn in (FIRST, SECOND):
                alert = wire_alert(status, f"00c0ffee{vpn}", s.clock.wall().isoformat(), vpn=vpn, severity="critical")
                alert["startsAt"] = started
                answer = await door.call("POST", "/webhook/alertmanager", message(alert))
                assert answer[0] == 200, answer
                await asyncio.sleep(apart_s)

        started = s.clock.wall().isoformat()
        await send("firing")
        await asyncio.sleep(40)
        assert s.app.controller.state.mode is Mode.OUTAGE
        await send("resolved")
        await asyncio.sleep(300)
        assert calm(s)
        assert deeds.removed == []

    play(scenario, WEBHOOK_TOKEN=SECRET)


@pytest.mark.parametrize("kind", ["kill", "pause"])
def test_both_vpns_fail_together_by_their_processes(kind: str) -> None:
    """Seconds apart, and the first is back first: engines stay, and those of a paused VPN work again at once."""

    async def scenario(s: Sidecar) -> None:
        before, deeds = ids(s.host, FIRST, SECOND), Deeds(s)
        for vpn in (FIRST, SECOND):
            getattr(s.host, kind)(vpn)
            await asyncio.sleep(2)
        await asyncio.sleep(30)
        for vpn in (FIRST, SECOND):
            if kind == "pause":
                s.host.unpause(vpn)
            else:
                s.host.start(s.host.find(vpn))
            await asyncio.sleep(20)
        await asyncio.sleep(300)
        assert deeds.removed == []
        assert ids(s.host, FIRST, SECOND) == before
        assert working(s.host, FIRST, SECOND) == 10

    play(scenario)


def test_a_drill_ends_when_its_vpn_is_needed() -> None:
    """One VPN is drilled, the other fails for real: the drill ends, and nothing is removed till somebody carries."""

    async def scenario(s: Sidecar) -> None:
        s.app.controller.start_drill(FIRST, 3600, "a scenario")
        await asyncio.sleep(30)
        assert (len(own(s.host, FIRST)), len(own(s.host, SECOND))) == (0, 5)
        s.host.set_truth(SECOND, good=False)
        await asyncio.sleep(30)
        assert s.phase(FIRST) is Phase.STABILIZING
        assert len(on(s.host, SECOND)) == 5, "the only engines there are were removed"
        await asyncio.sleep(240)
        assert working(s.host, FIRST) == 5
        assert own(s.host, SECOND) == []

    play(scenario)


# --- flapping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("up_s", "down_s"), [(4, 4), (130, 4)])
def test_a_vpn_that_flaps_for_an_hour(up_s: int, down_s: int) -> None:
    """Failures shorter than the evacuation delay cost no engine, longer ones no more than the first did."""

    async def scenario(s: Sidecar) -> None:
        deeds, end = Deeds(s), s.clock.mono() + 3600
        while s.clock.mono() < end:
            s.host.pause(SECOND)
            await asyncio.sleep(down_s)
            s.host.unpause(SECOND)
            await asyncio.sleep(up_s)
        assert len(deeds.removed) <= 10
        await asyncio.sleep(3600)
        assert calm(s)
        assert working(s.host, FIRST, SECOND) == 10

    play(scenario)


def test_two_vpns_that_swap_every_minute() -> None:
    """One of two always works: nothing is removed beyond the first failure, so that the other carries in its turn."""

    async def scenario(s: Sidecar) -> None:
        deeds, shown = Deeds(s), list[float]()
        for turn in range(60):
            down, up = (FIRST, SECOND) if turn % 2 else (SECOND, FIRST)
            s.host.pause(down)
            s.host.unpause(up)
            shown += await sampled(60, lambda: working(s.host, FIRST, SECOND) > 0)
        assert sum(shown) / len(shown) >= 0.45
        assert len(deeds.removed) <= 5
        s.host.unpause(FIRST)
        s.host.unpause(SECOND)
        await asyncio.sleep(3600)
        assert working(s.host, FIRST, SECOND) == 10

    play(scenario)
