"""Faults that users met, as scenarios: what changes between two lives of Mayday, limits, and a Mayday that holds.

What stands here is what is right for the user.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from exporter.core.model import ContainerState
from exporter.errors import ConfigError
from exporter.settings.settings import from_environment
from tests.simulation.field import FIRST, LABELS, MADE, PORT, SECOND, Deeds, ids, on, own, sampled, working, works
from tests.support.settings import two_vpns, vpn_variables
from tests.support.sidecar import Sidecar, play
from tests.support.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.runtime.simulated_host import SimulatedHost

THIRD = "gluetun_3"


def held_twice(host: SimulatedHost) -> list[tuple[str | None, str]]:
    """Ports that two containers hold in one network."""
    held = [(box.network, box.labels[PORT]) for box in host.boxes.values() if PORT in box.labels]
    return [place for place in held if held.count(place) > 1]


# --- while Mayday was away -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labelled", [True, False])
def test_engines_of_a_vpn_that_was_recreated_while_mayday_was_away(tmp_path: Path, labelled: bool) -> None:  # noqa: FBT001
    """They are still known, with the label of their VPN or without: they are repaired, and no second set is made."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4", MAX_REPLICAS="8", STATE_DIR=str(tmp_path))
        for vpn, first in ((FIRST, 19300), (SECOND, 19800)):
            for number in range(2):
                box = s.host.add_engine(vpn, first + number, f"made-{first + number}", LABELS, own=True)
                if not labelled:
                    box.labels = {**LABELS, MADE: "true", PORT: str(first + number)}
        async with s.app:
            await asyncio.sleep(60)
        s.host.recreate(FIRST)
        await asyncio.sleep(20)
        s.app = s.new_app()
        async with s.app:
            seen = await sampled(300, lambda: sum(MADE in box.labels for box in s.host.boxes.values()))
            assert max(seen) <= 6, "a successor stands beside its original for a moment, and nothing else is made"
            assert seen[-1] == 4
            assert working(s.host, FIRST, SECOND) == 4
            assert all(s.host.connected(box) for box in s.host.boxes.values() if MADE in box.labels)

    run_virtual(main)


@pytest.mark.parametrize(("before", "after"), [("10", "4"), ("4", "10")])
def test_another_min_replicas_costs_no_engine(tmp_path: Path, before: str, after: str) -> None:
    """Surplus stays and works; more is made at free ports."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS=before, STATE_DIR=str(tmp_path))
        async with s.app:
            await asyncio.sleep(60)
        made = ids(s.host, FIRST, SECOND)
        assert len(made) == int(before)
        s.settings = two_vpns(MIN_REPLICAS=after, STATE_DIR=str(tmp_path))
        s.app = s.new_app()
        async with s.app:
            await asyncio.sleep(300)
            assert made <= ids(s.host, FIRST, SECOND)
            assert len(ids(s.host, FIRST, SECOND)) == 10
            assert held_twice(s.host) == []

    run_virtual(main)


def test_a_vpn_that_is_taken_out_and_put_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its engines are left alone and spoken of; put back, it has them again, and no port is held twice."""

    async def main(clock: VirtualClock) -> None:
        variables = {"MIN_REPLICAS": "6", "MAX_REPLICAS": "12", "STATE_DIR": str(tmp_path)}
        ranges = {f"GLUETUN_PORT_RANGE_{n}": f"19{n}00-19{n}49" for n in (1, 2, 3)}
        three = {**vpn_variables(FIRST, SECOND, THIRD), **variables, **ranges}
        two = {key: value for key, value in three.items() if not key.endswith("_3")}
        s = Sidecar(clock)
        s.host.add_vpn(THIRD)
        for environment, counts in ((three, [2, 2, 2]), (two, [3, 3, 2]), (three, [3, 3, 2])):
            s.settings = from_environment(environment)
            s.app = s.new_app()
            caplog.clear()
            async with s.app:
                await asyncio.sleep(120)
                assert [working(s.host, vpn) for vpn in (FIRST, SECOND, THIRD)] == counts
                assert held_twice(s.host) == []
            if environment is two:
                assert any(THIRD in record.getMessage() for record in caplog.records), "nobody is told of its engines"

    with caplog.at_level(logging.INFO, "mayday"):
        run_virtual(main)


def test_another_managed_label_holds_no_port_twice(tmp_path: Path) -> None:
    """The engines with the old label are none any more, and their ports are still taken."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4", STATE_DIR=str(tmp_path))
        async with s.app:
            await asyncio.sleep(60)
        old = {box.id for vpn in (FIRST, SECOND) for box in own(s.host, vpn)}
        s.settings = two_vpns(MIN_REPLICAS="4", STATE_DIR=str(tmp_path), CONTAINER_LABEL="engines=mine")
        s.app = s.new_app()
        async with s.app:
            await asyncio.sleep(120)
            assert old <= s.host.boxes.keys()
            new = [box for box in s.host.boxes.values() if box.labels.get("engines") == "mine"]
            assert len(new) == 4
            assert held_twice(s.host) == []

    run_virtual(main)


# --- limits ----------------------------------------------------------------------------------------------------------


def test_a_share_above_a_vpns_ports_is_refused_at_the_start() -> None:
    """Ten engines on two ranges of two ports cannot be: the settings say so, and name the range."""
    with pytest.raises(ConfigError, match="GLUETUN_PORT_RANGE_1"):
        two_vpns(MIN_REPLICAS="10", GLUETUN_PORT_RANGE_1="19000-19001", GLUETUN_PORT_RANGE_2="19100-19101")
    two_vpns(MIN_REPLICAS="4", GLUETUN_PORT_RANGE_1="19000-19001", GLUETUN_PORT_RANGE_2="19100-19101")


def test_full_capacity_makes_room_for_the_vpn_that_recovered() -> None:
    """MAX_REPLICAS is MIN_REPLICAS: after recovery engines move back one by one, and few are missing at any time."""

    async def scenario(s: Sidecar) -> None:
        s.host.set_truth(SECOND, good=False)
        await asyncio.sleep(180)
        assert (working(s.host, FIRST), len(own(s.host, SECOND))) == (10, 0)
        s.host.set_truth(SECOND, good=True)
        shown = await sampled(3600, lambda: working(s.host, FIRST, SECOND), every_s=0.1)
        assert min(shown[100:]) >= 9
        assert (working(s.host, FIRST), working(s.host, SECOND)) == (5, 5)
        deeds = Deeds(s)
        await asyncio.sleep(3600)
        assert deeds.effects == []

    play(scenario, EMERGENCY_CAPACITY="full", MIN_REPLICAS="10", MAX_REPLICAS="10")


@pytest.mark.parametrize("back_s", [0.5, 1.0, 1.9, 5.5, 6.5])
def test_a_fill_that_waited_is_made_only_if_it_is_still_needed(back_s: float) -> None:
    """All engines are to go to one VPN, and while its forwarded port is asked for the other one is back."""

    async def scenario(s: Sidecar) -> None:
        async def slow(vpn: str) -> int | None:
            del vpn
            await asyncio.sleep(2)
            return None

        s.app.provisioning._forwarded_port = slow
        await asyncio.sleep(30)
        s.host.pause(SECOND)
        await asyncio.sleep(back_s)
        s.host.unpause(SECOND)
        back_at = s.host.docker_time()
        await asyncio.sleep(600)
        late = [box.name for box in own(s.host, FIRST) if box.created_at > back_at + 0.1]
        assert late == [], "made after the need had gone"
        assert len(own(s.host, SECOND)) == 1

    play(scenario, EMERGENCY_CAPACITY="full", MIN_REPLICAS="2", MAX_REPLICAS="8")


# --- a Mayday that holds ---------------------------------------------------------------------------------------------


def test_a_mayday_that_holds_says_so_and_takes_over() -> None:
    """Beside an older one it touches nothing, and its metrics tell why; when that one has ended it goes on."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4")
        elder = s.host.add_sidecar("mayday-old", [FIRST, SECOND])
        await asyncio.sleep(2)
        me, deeds = s.host.add_sidecar("mayday-new", [FIRST, SECOND]), Deeds(s)
        s.app = s.new_app(own_id=me.id)
        async with s.app:
            await asyncio.sleep(120)
            assert deeds.effects == []
            assert s.metric("mayday_held", reason="sibling") == 1
            s.host.stop(elder)
            await asyncio.sleep(120)
            assert s.metric("mayday_held", reason="sibling") == 0
            assert working(s.host, FIRST, SECOND) == 4

    run_virtual(main)


def test_ports_of_stopped_engines_of_others_are_not_given_away() -> None:
    """Their owner starts them again, and finds nobody at their ports."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4", MAX_REPLICAS="12")
        theirs = [s.host.add_engine(FIRST, 19000 + number, f"media-{number}", LABELS) for number in range(2)]
        for box in theirs:
            s.host.stop(box)
        async with s.app:
            await asyncio.sleep(120)
            assert all(box.state is ContainerState.EXITED for box in theirs)
            assert len(own(s.host, FIRST)) == 2
            for box in theirs:
                s.host.start(box)
            assert held_twice(s.host) == []
            assert all(works(s.host, box) for box in on(s.host, FIRST))

    run_virtual(main)
