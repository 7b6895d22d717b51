"""Faults that users met, as scenarios: containers that Mayday did not make.

What stands here is what is right for the user.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from exporter.core.model import ContainerState, Phase
from exporter.errors import ConflictError, MissingError
from exporter.runtime.simulated import Faults
from tests.simulation.field import (
    COMPOSE,
    FIRST,
    LABELS,
    SECOND,
    Deeds,
    calm,
    ids,
    kill,
    on,
    own,
    run_by_others,
    sampled,
    working,
    works,
)
from tests.support.sidecar import Sidecar, play
from tests.support.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.core.spec import EngineSpec
    from exporter.runtime.simulated_host import Box


def test_engines_of_others_are_never_replaced() -> None:
    """They answer nobody, and Mayday is to make none: they stay as they are, over starts of Mayday and for hours."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="0")
        others = [*run_by_others(s, FIRST, 2), *run_by_others(s, SECOND, 2)]
        for box in others:
            box.broken = True
        deeds = Deeds(s)
        for _ in range(2):
            async with s.app:
                await asyncio.sleep(3600)
            s.app = s.new_app()
        assert deeds.effects == []
        assert all(box.id in s.host.boxes and box.state is ContainerState.RUNNING for box in others)

    run_virtual(main)


def test_an_engine_that_its_owner_stopped_stays_stopped() -> None:
    """It is neither removed, with its logs, nor started, nor made good."""

    async def scenario(s: Sidecar) -> None:
        box = run_by_others(s, FIRST, 1)[0]
        await asyncio.sleep(60)
        deeds = Deeds(s)
        s.host.stop(box)
        await asyncio.sleep(900)
        assert deeds.effects == []
        assert s.host.boxes[box.id].state is ContainerState.EXITED

    play(scenario)


def test_engines_of_others_do_not_count_towards_the_share() -> None:
    """Compose's engines come on top: Mayday makes its own share beside them."""

    async def scenario(s: Sidecar) -> None:
        run_by_others(s, FIRST, 2)
        await asyncio.sleep(120)
        assert (len(own(s.host, FIRST)), len(own(s.host, SECOND))) == (2, 2)
        assert (len(on(s.host, FIRST)), len(on(s.host, SECOND))) == (4, 2)

    play(scenario, MIN_REPLICAS="4", MAX_REPLICAS="20")


def test_engines_of_others_are_parked_and_come_back() -> None:
    """While their VPN is failed they are stopped; after its stabilization they run again, the same containers."""

    async def scenario(s: Sidecar) -> None:
        others, deeds = run_by_others(s, SECOND, 3), Deeds(s)
        await asyncio.sleep(60)
        s.host.set_truth(SECOND, good=False)
        await asyncio.sleep(60)
        assert [box.state for box in others] == [ContainerState.EXITED] * 3
        assert own(s.host, SECOND) == []
        s.host.set_truth(SECOND, good=True)
        await asyncio.sleep(240)
        assert all(box.id in s.host.boxes and works(s.host, box) for box in others)
        assert not {box.name for box in others} & set(deeds.removed)
        assert len(own(s.host, SECOND)) == 2

    play(scenario, MIN_REPLICAS="4", MAX_REPLICAS="20")


def test_what_is_parked_comes_back_after_a_restart_of_mayday_too(tmp_path: object) -> None:
    """Another Mayday in between knows what was stopped by the first."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4", MAX_REPLICAS="20", STATE_DIR=str(tmp_path))
        others = run_by_others(s, SECOND, 3)
        async with s.app:
            await asyncio.sleep(60)
            s.host.set_truth(SECOND, good=False)
            await asyncio.sleep(60)
            assert [box.state for box in others] == [ContainerState.EXITED] * 3
        s.app = s.new_app()
        async with s.app:
            await asyncio.sleep(10)
            s.host.set_truth(SECOND, good=True)
            await asyncio.sleep(240)
            assert all(box.id in s.host.boxes and works(s.host, box) for box in others)

    run_virtual(main)


@pytest.mark.parametrize("word", ["start", "remove", "recreate"])
def test_what_its_owner_touches_meanwhile_is_the_owners_again(word: str) -> None:
    """A parked engine that its owner starts is not stopped again; one that is removed or made anew is let be."""

    async def scenario(s: Sidecar) -> None:
        box = run_by_others(s, SECOND, 1)[0]
        await asyncio.sleep(60)
        s.host.set_truth(SECOND, good=False)
        await asyncio.sleep(60)
        assert box.state is ContainerState.EXITED
        deeds = Deeds(s)
        if word == "start":
            s.host.start(box)
        else:
            s.host.remove(box)
            if word == "recreate":
                box = s.host.add_dependent(SECOND, box.name, dict(box.labels))
        await asyncio.sleep(120)
        s.host.set_truth(SECOND, good=True)
        await asyncio.sleep(300)
        assert (box.id in s.host.boxes) is (word != "remove")
        assert box.name not in deeds.names("remove", "create", "restart")
        assert not (word == "start" and box.name in deeds.names("stop"))
        assert word == "remove" or works(s.host, box)

    play(scenario, MIN_REPLICAS="4")


@pytest.mark.parametrize("how", ["health", "kill"])
def test_a_dependent_without_the_managed_label_is_never_touched(how: str) -> None:
    """Whatever happens to its VPN, a container that only shares the network is no business of Mayday's."""

    async def scenario(s: Sidecar) -> None:
        box, deeds = s.host.add_dependent(SECOND, "browser", {"com.docker.compose.project": "media"}), Deeds(s)
        if how == "health":
            s.host.set_truth(SECOND, good=False)
        else:
            s.host.kill(SECOND)
        await asyncio.sleep(120)
        s.host.set_truth(SECOND, good=True)
        s.host.start(s.host.find(SECOND))
        await asyncio.sleep(600)
        assert box.name not in deeds.names("stop", "start", "restart", "remove")
        assert box.state is ContainerState.RUNNING

    play(scenario)


@pytest.mark.parametrize(("label", "state"), [("leave", "running"), ("park", "exited"), ("remove", None)])
def test_a_label_says_what_happens_to_a_container(label: str, state: str | None) -> None:
    """`mayday.on-failure` goes before the setting, with the managed label or without."""

    async def scenario(s: Sidecar) -> None:
        box = s.host.add_dependent(SECOND, "browser", {"mayday.on-failure": label})
        s.host.set_truth(SECOND, good=False)
        await asyncio.sleep(60)
        assert (s.host.boxes[box.id].state if box.id in s.host.boxes else None) == state

    play(scenario)


async def compose_up(s: Sidecar, engines: list[Box]) -> list[str]:
    """What `docker compose up -d` does where all of a project has changed; the refusals that it meets."""
    refused = []
    vpns = [s.host.find(FIRST), s.host.find(SECOND)]
    homes = {engine.name: s.host.boxes[engine.network or ""].name for engine in engines}
    await s.host.terminate([*engines, *vpns])
    for box in [*engines, *vpns]:
        await asyncio.sleep(0.1)
        try:
            s.host.remove(box)
        except MissingError:
            refused.append(f"{box.name} is gone already")
    for vpn in vpns:
        await asyncio.sleep(0.3)
        try:
            s.host.add_vpn(vpn.name, healthy=False)
        except ConflictError:
            refused.append(f"{vpn.name} is there already")
    for engine in engines:
        await asyncio.sleep(0.2)
        try:
            s.host.add_dependent(homes[engine.name], engine.name, dict(engine.labels))
        except (MissingError, ConflictError) as error:
            refused.append(str(error))
    return refused


@pytest.mark.parametrize("own_engines", ["0", "4"])
def test_compose_recreates_vpns_and_engines(own_engines: str) -> None:
    """Mayday keeps out of the way of compose's containers; its own engines are whole again after it."""

    async def scenario(s: Sidecar) -> None:
        engines = [*run_by_others(s, FIRST, 2), *run_by_others(s, SECOND, 2)]
        await asyncio.sleep(60)
        deeds = Deeds(s)
        assert await compose_up(s, engines) == []
        await asyncio.sleep(400)
        assert not {engine.name for engine in engines} & set(deeds.names("stop", "restart", "remove", "create"))
        theirs = [s.host.find(engine.name) for engine in engines]
        assert all(works(s.host, box) for box in theirs)
        assert len(own(s.host, FIRST)) == len(own(s.host, SECOND)) == int(own_engines) // 2
        assert working(s.host, FIRST, SECOND) == 4 + int(own_engines)

    play(scenario, MIN_REPLICAS=own_engines, MAX_REPLICAS="20")


# --- names -----------------------------------------------------------------------------------------------------------


def asked_names(s: Sidecar) -> list[str]:
    """The names under which engines are created from now on, whatever comes of it."""
    names, create = list[str](), s.runtime.create

    async def noted(spec: EngineSpec) -> str:
        names.append(spec.name)
        return await create(spec)

    s.runtime.create = noted  # type: ignore[method-assign]
    return names


@pytest.mark.parametrize("later_s", [0.0, 20.0, 3 * 3600.0])
def test_a_container_under_the_name_of_a_creation_without_an_answer_is_its_makers(later_s: float) -> None:
    """At once or long after it, an engine that somebody makes under such a name is never taken for Mayday's own."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4")
        names = asked_names(s)
        s.runtime.faults = Faults(ignores=frozenset({"create"}))
        async with s.app:
            await s.until(lambda: names)
            await asyncio.sleep(12)
            s.runtime.faults = Faults()
            await asyncio.sleep(later_s)
            taken = {box.name for box in s.host.boxes.values()}
            theirs = []
            for number, name in enumerate(sorted(set(names) - taken)):
                with suppress(ConflictError):
                    theirs.append(s.host.add_engine(FIRST, 19400 + number, name, COMPOSE))
            await asyncio.sleep(600)
            assert theirs or later_s
            assert all(box.id in s.host.boxes for box in theirs)

    run_virtual(main)


def test_creations_that_time_out_for_an_hour_reserve_no_names_for_ever() -> None:
    """Afterwards engines are made under the first names again, and few tries were made."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4")
        names = asked_names(s)
        s.runtime.faults = Faults(ignores=frozenset({"create"}))
        async with s.app:
            await asyncio.sleep(3600)
            s.runtime.faults = Faults()
            tries = len(names)
            await asyncio.sleep(900)
            assert working(s.host, FIRST, SECOND) == 4
            assert tries <= 400
            await asyncio.sleep(2 * 3600)
            for box in own(s.host, FIRST):
                s.host.remove(box)
            await asyncio.sleep(300)
            assert max(int(box.name.rsplit("-", 1)[1]) for box in own(s.host, FIRST)) <= 40

    run_virtual(main)


def test_a_failure_costs_nobody_elses_engine_while_both_are_there() -> None:
    """Own and others' engines side by side on a VPN that dies: the own ones go, the others' are the same after it."""

    async def scenario(s: Sidecar) -> None:
        theirs = [*run_by_others(s, SECOND, 2), s.host.add_engine(SECOND, 19950, "by-hand", LABELS)]
        await asyncio.sleep(60)
        s.host.kill(SECOND)
        await asyncio.sleep(60)
        assert s.phase(SECOND) is Phase.FAILED
        assert own(s.host, SECOND) == []
        s.host.start(s.host.find(SECOND))
        await asyncio.sleep(300)
        assert {box.id for box in theirs} <= ids(s.host, SECOND)
        assert all(works(s.host, box) for box in theirs)

    play(scenario, MIN_REPLICAS="4", MAX_REPLICAS="20")


# --- parking that is cut off, and owners at work ---------------------------------------------------------------------


@pytest.mark.parametrize("step", range(12))
@pytest.mark.parametrize("when", ["fails", "recovers"])
def test_a_killed_mayday_leaves_nothing_parked_and_forgotten(tmp_path: Path, when: str, step: int) -> None:
    """Killed at any moment of stopping or of starting: the next Mayday knows what the first one stopped."""

    async def main(clock: VirtualClock) -> None:
        limits = {"MIN_REPLICAS": "2", "MAX_REPLICAS": "20", "VPN_STABILIZATION_PERIOD_S": "20"}
        s = Sidecar(clock, **limits, STATE_DIR=str(tmp_path))
        theirs = run_by_others(s, SECOND, 3)
        stopped_by_hand = s.host.add_engine(SECOND, 19990, "by-hand", LABELS)
        s.host.stop(stopped_by_hand)
        await s.app.__aenter__()
        await asyncio.sleep(30)
        s.host.kill(SECOND)
        if when == "recovers":
            await asyncio.sleep(60)
            s.host.start(s.host.find(SECOND))
            await s.until(lambda: any(box.state is ContainerState.RUNNING for box in theirs) or calm(s))
        else:
            await asyncio.sleep(5)
        await asyncio.sleep(0.03 * step)
        await kill(s)
        await asyncio.sleep(5)
        s.app = s.new_app()
        async with s.app:
            await asyncio.sleep(30)
            s.host.start(s.host.find(SECOND))
            await asyncio.sleep(120)
            assert all(works(s.host, box) for box in theirs)
            assert stopped_by_hand.state is ContainerState.EXITED
            assert len(s.app.controller.ledger.parked) == 0

    run_virtual(main)


def test_what_was_started_again_is_its_owners_for_the_next_mayday_too(tmp_path: Path) -> None:
    """Its owner stops it after it was brought back, and then Mayday is killed: it stays stopped."""

    async def main(clock: VirtualClock) -> None:
        limits = {"MIN_REPLICAS": "2", "MAX_REPLICAS": "20", "VPN_STABILIZATION_PERIOD_S": "20"}
        s = Sidecar(clock, **limits, STATE_DIR=str(tmp_path))
        box = run_by_others(s, SECOND, 1)[0]
        await s.app.__aenter__()
        await asyncio.sleep(30)
        s.host.kill(SECOND)
        await s.until(lambda: box.state is ContainerState.EXITED)
        s.host.start(s.host.find(SECOND))
        await s.until(lambda: box.state is ContainerState.RUNNING)
        await asyncio.sleep(2)
        s.host.stop(box)
        await asyncio.sleep(2)
        await kill(s)
        s.app = s.new_app()
        deeds = Deeds(s)
        async with s.app:
            await asyncio.sleep(120)
            assert box.name not in deeds.names("start", "restart")

    run_virtual(main)


def test_what_compose_makes_anew_during_a_failure_is_not_stopped() -> None:
    """One VPN and its engines are recreated while the other carries on: the new engines run from their first start."""

    async def scenario(s: Sidecar) -> None:
        old = run_by_others(s, SECOND, 2)
        await asyncio.sleep(60)
        deeds = Deeds(s)
        vpn = s.host.find(SECOND)
        await s.host.terminate([vpn])
        await asyncio.sleep(1)
        s.host.remove(vpn)
        s.host.add_vpn(SECOND, healthy=False)
        s.host.set_truth(SECOND, good=False)
        await asyncio.sleep(10)
        new = []
        for box in old:
            s.host.remove(box)
            new.append(s.host.add_dependent(SECOND, box.name, dict(box.labels)))
        await asyncio.sleep(60)
        assert s.phase(SECOND) is Phase.FAILED
        assert all(box.state is ContainerState.RUNNING for box in new)
        s.host.set_truth(SECOND, good=True)
        await asyncio.sleep(300)
        assert not {box.name for box in old} & set(deeds.names("remove", "create", "start", "restart"))
        assert all(works(s.host, box) for box in new)

    play(scenario, MIN_REPLICAS="4", MAX_REPLICAS="20")


def test_what_cannot_be_started_is_left_and_shown() -> None:
    """Its VPN was recreated under it: no call is wasted on it, and the page says what to do until that is done."""

    async def scenario(s: Sidecar) -> None:
        box = run_by_others(s, SECOND, 1)[0]
        await asyncio.sleep(60)
        s.host.set_truth(SECOND, good=False)
        await asyncio.sleep(30)
        deeds = Deeds(s)
        s.host.recreate(SECOND)
        await asyncio.sleep(600)
        assert box.name not in deeds.names("start", "remove", "create", "restart")
        assert any(box.name in problem for problem in s.app.controller.snapshot.problems)
        s.host.remove(box)
        await asyncio.sleep(60)
        assert s.app.controller.snapshot.problems == ()

    play(scenario, MIN_REPLICAS="4")


def test_dry_run_tells_of_parking_once_and_stops_nothing() -> None:
    """As with everything that would be done."""

    async def scenario(s: Sidecar) -> None:
        box = run_by_others(s, SECOND, 1)[0]
        s.host.add_engine(FIRST, 19450, "carrier", LABELS, own=True)
        await asyncio.sleep(60)
        s.host.set_truth(SECOND, good=False)
        await asyncio.sleep(600)
        assert box.state is ContainerState.RUNNING
        told = {"vpn": SECOND, "action": "park", "result": "dry_run"}
        assert s.metric("mayday_engines_parked_total", **told) == 1

    play(scenario, MIN_REPLICAS="2", CONTROL="dry-run")


def test_a_parked_engine_has_its_own_time_to_end() -> None:
    """One that is slow to end is not cut short by the grace of Mayday's own engines, and is counted once."""

    async def scenario(s: Sidecar) -> None:
        box = run_by_others(s, SECOND, 1)[0]
        box.stubborn = True
        await asyncio.sleep(60)
        s.host.set_truth(SECOND, good=False)
        await s.until(lambda: s.phase(SECOND) is Phase.FAILED)
        states = await sampled(20, lambda: float(box.state is ContainerState.EXITED))
        assert 25 <= states.index(1.0) <= 35, "5 s until the evacuation, 10 s of grace, looked at twice a second"
        counted = {"vpn": SECOND, "action": "park", "result": "ok"}
        assert s.metric("mayday_engines_parked_total", **counted) == 1

    play(scenario, MIN_REPLICAS="2", ENGINE_STOP_TIMEOUT_S="0")
