"""The health manager on a whole sidecar: whom it replaces, whom it leaves alone, and what it says."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING

import pytest

from exporter.core.engine_health import REPLACEMENTS_AT_MOST
from exporter.core.model import ContainerState, EngineState, Mode
from exporter.core.service import not_usable_because
from tests.simulation.field import FIRST, SECOND, Deeds, ids, own, run_by_others, working
from tests.support.sidecar import Sidecar, play
from tests.support.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.runtime.simulated_host import Box

DAY_S = 24 * 3600


def warnings(caplog: pytest.LogCaptureFixture, pattern: str) -> list[str]:
    lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and r.name == "mayday"]
    return [line for line in lines if re.search(pattern, line)]


def of_vpn(s: Sidecar, vpn: str) -> int:
    return len(own(s.host, vpn))


def usable_names(s: Sidecar) -> set[str]:
    controller = s.app.controller
    return {engine.name for engine in controller.fleet.engines if not not_usable_because(controller.state, engine)}


# --- the way to engines ----------------------------------------------------------------------------------------------


def test_a_way_that_is_broken_for_a_day_costs_no_engine(caplog: pytest.LogCaptureFixture) -> None:
    """All engines of both VPNs cease to answer at once: 2,880 rounds replace none, and each VPN is warned of once."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(120)
        before, deeds = ids(s.host, FIRST, SECOND), Deeds(s)
        s.host.cut_off |= {FIRST, SECOND}
        await asyncio.sleep(DAY_S)
        assert deeds.effects == []
        assert usable_names(s) == set(), "they are out of service"
        s.host.cut_off.clear()
        await asyncio.sleep(60)
        assert ids(s.host, FIRST, SECOND) == before
        assert len(usable_names(s)) == 10

    play(scenario)
    for vpn in (FIRST, SECOND):
        (warning,) = warnings(caplog, f"no engine on VPN '{vpn}' answers Mayday any more")
        assert "none is replaced" in warning
        assert "network" in warning


@pytest.mark.parametrize("other", ["media", "gone"])
def test_the_address_is_that_of_the_network_that_mayday_is_on(other: str) -> None:
    """A VPN has several addresses, the first one on a network that Mayday is not on."""
    asked = set[str]()

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4")
        me = s.host.add_sidecar("mayday", [FIRST, SECOND])
        s.host.connect(me, "media")
        s.host.connect(s.host.find(FIRST), "media")
        s.host.connect(s.host.find(SECOND), other)
        s.app = s.new_app(own_id=me.id)
        note_addresses(s, asked)
        async with s.app:
            await asyncio.sleep(300)
            expected = {s.host.find(FIRST).addresses["media"]}
            if other == "media":
                expected.add(s.host.find(SECOND).addresses["media"])
            assert asked == expected

    run_virtual(main)


def note_addresses(s: Sidecar, asked: set[str]) -> None:
    """Note which addresses are asked from now on."""
    probe = s.app._probe
    assert probe is not None

    async def noted(engine: object, address: str, /) -> bool:
        asked.add(address)
        return await probe(engine, address)  # type: ignore[arg-type]

    s.app._probe = noted


def test_a_vpn_on_no_network_of_maydays_is_shown_until_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """Its engines are not asked and none counts as failed, from the first round on; once connected they are asked."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4")
        me = s.host.add_sidecar("mayday", [FIRST, SECOND])
        s.host.connect(me, "media")
        s.host.connect(s.host.find(FIRST), "media")
        s.host.connect(s.host.find(SECOND), "vpn")
        s.host.cut_off.add(SECOND)
        s.app = s.new_app(own_id=me.id)
        deeds = Deeds(s)
        async with s.app:
            await asyncio.sleep(3600)
            assert deeds.removed == []
            assert len(usable_names(s)) == 4, "unknown is not failed"
            (problem,) = s.app.controller.snapshot.problems
            assert problem.startswith(f"no shared network with VPN '{SECOND}'")
            assert problem.endswith("connect Mayday to one of bridge, vpn")
            s.host.connect(me, "vpn")
            s.host.cut_off.clear()
            await asyncio.sleep(120)
            assert s.app.controller.snapshot.problems == ()
            assert all(engine.healthy for engine in s.app.controller.fleet.engines)

    run_virtual(main)
    assert len(warnings(caplog, "no shared network with VPN 'gluetun_2'")) == 1
    assert warnings(caplog, "answers Mayday") == []


# --- engines that fail -----------------------------------------------------------------------------------------------


async def hang(_s: Sidecar, box: Box) -> None:
    box.broken = True


async def loop(s: Sidecar, box: Box) -> None:
    s.host.loop(box)


async def sicken(s: Sidecar, box: Box) -> None:
    s.host.give_health_check(box)
    s.host.set_truth(box.name, good=False)


async def end(s: Sidecar, box: Box) -> None:
    s.host.kill(box.name)


WAYS = [hang, loop, sicken, end]


@pytest.mark.parametrize("fail", WAYS)
def test_one_of_five_that_fails_is_replaced(fail: Callable[[Sidecar, Box], Awaitable[None]]) -> None:
    """However it fails: it goes, another works in its place, and none of its siblings is touched."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(60)
        box, deeds = own(s.host, FIRST)[0], Deeds(s)
        await fail(s, box)
        await asyncio.sleep(20)
        assert box.id in s.host.boxes, "one failure is none"
        await asyncio.sleep(300)
        assert box.id not in s.host.boxes
        assert working(s.host, FIRST) == of_vpn(s, FIRST) == 5
        assert set(deeds.names("stop", "remove")) == {box.name}

    play(scenario)


@pytest.mark.parametrize(("fail", "replaced"), [(hang, False), (sicken, False), (loop, True), (end, True)])
def test_when_all_of_a_vpn_fail_at_once(
    fail: Callable[[Sidecar, Box], Awaitable[None]], *, replaced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Silence and Docker's unhealthy may be the way or the tunnel, and cost none; that they ended is Docker's word."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(60)
        before, deeds = ids(s.host, FIRST), Deeds(s)
        for box in own(s.host, FIRST):
            await fail(s, box)
        await asyncio.sleep(3600)
        assert (ids(s.host, FIRST) == before) is not replaced
        assert bool(deeds.removed) is replaced
        assert working(s.host, FIRST) == (5 if replaced else 0)
        assert s.app.controller.state.mode is Mode.NORMAL

    play(scenario)
    assert len(warnings(caplog, "no engine on VPN 'gluetun' answers Mayday any more")) <= 1


def test_engines_that_never_answered_are_left_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """They were broken before Mayday started: it may be Mayday that cannot reach them, and none is tried out."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4")
        for vpn, first in ((FIRST, 19000), (SECOND, 19500)):
            for number in range(2):
                port = first + number
                s.host.add_engine(
                    vpn, port, f"old-{port}", {"orchestrator.managed": "acestream"}, own=True
                ).broken = True
        before, deeds = ids(s.host, FIRST, SECOND), Deeds(s)
        async with s.app:
            await asyncio.sleep(3600)
            assert deeds.effects == []
            assert ids(s.host, FIRST, SECOND) == before

    run_virtual(main)
    assert len(warnings(caplog, "no engine on VPN 'gluetun(_2)?' answers Mayday; none is replaced")) == 2


def test_replacing_that_does_not_help_ends_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Every successor breaks beside one engine that works: so many an hour and no more, and one warning."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(60)
        good, deeds = own(s.host, FIRST)[0], Deeds(s)

        async def spoil(seconds: int) -> None:
            for _ in range(seconds):
                await asyncio.sleep(1)
                for box in own(s.host, FIRST):
                    box.broken = box.id != good.id

        await spoil(3500)
        assert len(deeds.removed) == REPLACEMENTS_AT_MOST
        assert len(warnings(caplog, "engines on VPN 'gluetun' were replaced within an hour")) == 1
        await spoil(3600)
        assert len(deeds.removed) == 2 * REPLACEMENTS_AT_MOST
        assert good.id in s.host.boxes
        assert of_vpn(s, SECOND) == 5

    play(scenario)


@pytest.mark.parametrize("fail", WAYS)
def test_nothing_is_replaced_in_an_emergency(fail: Callable[[Sidecar, Box], Awaitable[None]]) -> None:
    """The VPN that carries on keeps its engines, whatever is wrong with one of them; afterwards it is replaced."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(60)
        s.host.set_truth(SECOND, good=False)
        await asyncio.sleep(60)
        box, deeds = own(s.host, FIRST)[0], Deeds(s)
        await fail(s, box)
        await asyncio.sleep(900)
        assert deeds.effects == []
        s.host.set_truth(SECOND, good=True)
        await asyncio.sleep(300)
        assert box.id not in s.host.boxes
        assert working(s.host, FIRST, SECOND) == 10

    play(scenario)


# --- engines of others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minimum", ["0", "4"])
def test_engines_of_others_without_acestreams_api_are_let_be(minimum: str) -> None:
    """Any containers behind the VPNs, none of which answers: none is touched, beside engines of Mayday's own or not."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS=minimum, MAX_REPLICAS="20")
        boxes = [box for vpn in (FIRST, SECOND) for box in run_by_others(s, vpn, 3)]
        for box in boxes:
            box.broken = True
        deeds = Deeds(s)
        async with s.app:
            await asyncio.sleep(2 * 3600)
            assert not {box.name for box in boxes} & set(deeds.names("stop", "restart", "remove"))
            assert all(box.state is ContainerState.RUNNING for box in boxes)
            assert working(s.host, FIRST, SECOND) == int(minimum)

    run_virtual(main)


@pytest.mark.parametrize("fail", WAYS)
def test_an_engine_of_others_that_fails_is_shown_and_let_be(fail: Callable[[Sidecar, Box], Awaitable[None]]) -> None:
    """It is neither usable nor counted as working, and neither stopped nor removed: also one that its owner stopped."""

    async def scenario(s: Sidecar) -> None:
        box = run_by_others(s, FIRST, 2)[0]
        await asyncio.sleep(60)
        assert box.name in usable_names(s)
        deeds = Deeds(s)
        await fail(s, box)
        await asyncio.sleep(3600)
        assert box.id in s.host.boxes
        assert deeds.effects == []
        (shown,) = [engine for engine in s.app.controller.fleet.engines if engine.id == box.id]
        assert shown.counted_as in {EngineState.UNHEALTHY, EngineState.STOPPED}
        assert box.name not in usable_names(s)

    play(scenario)


def test_an_engine_that_its_owner_stopped_and_started_is_as_before() -> None:
    """An hour of being stopped leaves no trace on it, nor on its siblings."""

    async def scenario(s: Sidecar) -> None:
        box = run_by_others(s, FIRST, 1)[0]
        await asyncio.sleep(60)
        deeds = Deeds(s)
        s.host.stop(box)
        await asyncio.sleep(3600)
        s.host.start(box)
        await asyncio.sleep(2)
        assert box.name in usable_names(s), "usable at once, not only after the next round"
        assert deeds.effects == []

    play(scenario)
