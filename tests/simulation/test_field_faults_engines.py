"""Faults that users met, as scenarios: engines that do not work, seem not to work, or cannot be made, or removed.

What stands here is what is right for the user.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from exporter.core.model import EngineState, Mode, Phase
from exporter.runtime.simulated import Faults
from exporter.runtime.simulated_host import Trouble
from tests.simulation.field import (
    FIRST,
    LABELS,
    SECOND,
    Deeds,
    ids,
    kill,
    made_with,
    on,
    own,
    run_by_others,
    working,
    works,
)
from tests.support.sidecar import Sidecar, play
from tests.support.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.runtime.simulated_host import SimulatedHost


def counted(s: Sidecar, vpn: str, state: EngineState) -> int:
    return s.app.controller.fleet.counts.get((vpn, str(state)), 0)


# --- the way to engines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vpns", [{FIRST}, {FIRST, SECOND}])
def test_a_broken_way_to_engines_costs_none(vpns: set[str]) -> None:
    """All engines of a VPN that did answer cease at once: that is Mayday's way to them, and none is replaced."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(120)
        before, deeds = ids(s.host, FIRST, SECOND), Deeds(s)
        s.host.cut_off |= vpns
        await asyncio.sleep(4 * 3600)
        assert deeds.effects == []
        s.host.cut_off.clear()
        await asyncio.sleep(600)
        assert ids(s.host, FIRST, SECOND) == before
        assert s.app.controller.state.mode is Mode.NORMAL

    play(scenario)


def test_replacing_is_bounded_where_every_successor_fails() -> None:
    """One engine after another breaks as soon as it is made, beside one that works: an hour sees a bounded number."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(120)
        good, deeds = own(s.host, FIRST)[0], Deeds(s)
        for _ in range(3600):
            await asyncio.sleep(1)
            for box in own(s.host, FIRST):
                box.broken = box.id != good.id
        assert good.id in s.host.boxes
        assert 1 <= len(deeds.removed) <= 40

    play(scenario)


# --- repair ----------------------------------------------------------------------------------------------------------


def tuned(host: SimulatedHost) -> list[str]:
    return [b.id for b in on(host, FIRST) if b.spec is not None and b.spec.environment.get("CACHE") == "large"]


@pytest.mark.parametrize("faults", [Faults(refuses=frozenset({"create"})), Faults(ignores=frozenset({"create"}))])
def test_repair_keeps_the_original_until_its_twin_runs(faults: Faults) -> None:
    """Its VPN was recreated and Docker makes no container for a while: the engine's configuration is not lost."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4", EVACUATION_DELAY_S="60")
        original = made_with(s, "tuned", FIRST, 19300, CACHE="large")
        async with s.app:
            await asyncio.sleep(60)
            s.runtime.faults = faults
            s.host.recreate(FIRST)
            await asyncio.sleep(300)
            assert tuned(s.host) == [original.id]
            s.runtime.faults = Faults()
            await asyncio.sleep(600)
            assert len(tuned(s.host)) == 1
            assert works(s.host, s.host.find(tuned(s.host)[0]))

    run_virtual(main)


@pytest.mark.parametrize("step", range(0, 60, 4))
def test_a_kill_in_the_middle_of_a_repair_loses_no_configuration(tmp_path: Path, step: int) -> None:
    """Wherever Mayday is killed while it makes an engine anew, the next one ends with that engine, once."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4", EVACUATION_DELAY_S="60", STATE_DIR=str(tmp_path))
        made_with(s, "tuned", FIRST, 19300, CACHE="large")
        await s.app.__aenter__()
        await asyncio.sleep(60)
        s.host.recreate(FIRST)
        deeds = Deeds(s)
        await s.until(lambda: s.phase(FIRST) is Phase.FAILED)
        async with asyncio.timeout(300):
            while not deeds.effects:
                await asyncio.sleep(0.01)
        await asyncio.sleep(step / 100)
        await kill(s)
        assert tuned(s.host), "at that moment nothing but Mayday's memory had the configuration"
        s.app = s.new_app()
        async with s.app:
            await asyncio.sleep(600)
            assert len(tuned(s.host)) == 1
            assert works(s.host, s.host.find(tuned(s.host)[0]))

    run_virtual(main)


# --- one container that Docker cannot tell of, or get rid of ----------------------------------------------------------


@pytest.mark.parametrize("trouble", [Trouble.HANGS, Trouble.FAILS])
@pytest.mark.parametrize("kind", ["an engine", "an engine of somebody else"])
def test_one_engine_that_cannot_be_inspected_blinds_to_nothing_else(trouble: Trouble, kind: str) -> None:
    """The other VPN dies: it is evacuated, and filled again when it is back, for as long as the trouble lasts."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(60)
        box = own(s.host, FIRST)[0] if kind == "an engine" else run_by_others(s, FIRST, 1)[0]
        box.troubles = dict.fromkeys(("inspect", "stop", "start", "restart", "remove"), trouble)
        s.host.restart(box)
        await asyncio.sleep(60)
        s.host.kill(SECOND)
        await asyncio.sleep(90)
        assert s.phase(SECOND) is Phase.FAILED
        assert own(s.host, SECOND) == []
        assert s.app.controller.snapshot.ready
        s.host.start(s.host.find(SECOND))
        await asyncio.sleep(300)
        assert working(s.host, SECOND) == 5
        assert box.id in s.host.boxes

    play(scenario, MAX_REPLICAS="20")


@pytest.mark.parametrize("trouble", [Trouble.HANGS, Trouble.FAILS])
def test_one_vpn_that_cannot_be_inspected_hides_no_failure(trouble: Trouble) -> None:
    """Whichever of the two then dies, what the list shows of it counts, and no engine of the other is touched."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(60)
        kept, deeds = ids(s.host, FIRST), Deeds(s)
        s.host.find(FIRST).troubles["inspect"] = trouble
        await asyncio.sleep(120)
        assert s.app.controller.snapshot.docker_up
        s.host.kill(SECOND)
        await asyncio.sleep(90)
        assert s.phase(SECOND) is Phase.FAILED
        assert kept == ids(s.host, FIRST)
        assert not {box.name for box in on(s.host, FIRST)} & set(deeds.names("remove", "stop", "restart"))

    play(scenario)


@pytest.mark.parametrize("trouble", [Trouble.HANGS, Trouble.FAILS])
def test_a_vpn_that_cannot_be_inspected_and_stops_is_failed(trouble: Trouble) -> None:
    """The list shows that it is stopped, and that counts: it is evacuated."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(60)
        s.host.find(SECOND).troubles["inspect"] = trouble
        await asyncio.sleep(60)
        s.host.kill(SECOND)
        await asyncio.sleep(120)
        assert s.phase(SECOND) is Phase.FAILED
        assert own(s.host, SECOND) == []
        assert working(s.host, FIRST) == 5

    play(scenario)


def test_an_engine_that_cannot_be_removed_holds_no_place_for_ever() -> None:
    """Its removal stands still: another works in its place, it is tried with pauses, and it goes once it can."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(60)
        box, tries = own(s.host, FIRST)[0], Counter[str]()
        remove = s.runtime.remove

        async def noted(container_id: str, *, volumes: bool = False) -> None:
            tries[container_id] += 1
            await remove(container_id, volumes=volumes)

        s.runtime.remove = noted  # type: ignore[method-assign]
        s.host.stick(box)
        await asyncio.sleep(900)
        assert working(s.host, FIRST) == 5
        await asyncio.sleep(3600)
        assert tries[box.id] <= 100
        s.host.come_loose(box)
        await asyncio.sleep(900)
        assert box.id not in s.host.boxes
        assert working(s.host, FIRST) == 5
        assert len(on(s.host, FIRST)) == 5

    play(scenario, MAX_REPLICAS="20")


@pytest.mark.parametrize("trouble", list(Trouble))
def test_one_engine_that_stays_on_a_failed_vpn_keeps_nobody_else(trouble: Trouble) -> None:
    """Of the failed VPN's engines one cannot be removed: the others go, and it goes once it can."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(60)
        box = own(s.host, SECOND)[0]
        box.troubles["remove"] = trouble
        s.host.set_truth(SECOND, good=False)
        await asyncio.sleep(90)
        assert own(s.host, SECOND) == [box]
        assert working(s.host, FIRST) == 5
        box.troubles.clear()
        await asyncio.sleep(600)
        assert own(s.host, SECOND) == []

    play(scenario)


# --- engines that do not work ----------------------------------------------------------------------------------------


def test_an_engine_in_a_restart_loop_is_replaced() -> None:
    """A stranger sits on its port: it is not shown as working, and another takes its place."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(60)
        box = own(s.host, FIRST)[0]
        s.host.loop(box)
        await asyncio.sleep(180)
        assert box.id not in s.host.boxes or counted(s, FIRST, EngineState.WORKING) <= 4
        await asyncio.sleep(720)
        assert box.id not in s.host.boxes
        assert working(s.host, FIRST) == 5

    play(scenario)


def test_an_engine_that_docker_calls_unhealthy_is_replaced() -> None:
    """Its API answers, and its own health check fails: it is shown as unhealthy, and replaced."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(60)
        box = own(s.host, FIRST)[0]
        s.host.give_health_check(box)
        await asyncio.sleep(30)
        s.host.set_truth(box.name, good=False)
        await asyncio.sleep(60)
        assert box.id not in s.host.boxes or counted(s, FIRST, EngineState.UNHEALTHY) == 1
        await asyncio.sleep(600)
        assert box.id not in s.host.boxes
        assert working(s.host, FIRST) == 5

    play(scenario)


def test_an_unhealthy_engine_of_somebody_else_is_shown_and_let_be() -> None:
    """Docker calls it unhealthy, and so does Mayday, and does nothing."""

    async def scenario(s: Sidecar) -> None:
        box, deeds = run_by_others(s, FIRST, 1)[0], Deeds(s)
        s.host.give_health_check(box)
        await asyncio.sleep(60)
        s.host.set_truth(box.name, good=False)
        await asyncio.sleep(900)
        assert counted(s, FIRST, EngineState.UNHEALTHY) == 1
        assert deeds.effects == []

    play(scenario)


# --- retries ---------------------------------------------------------------------------------------------------------


def test_a_missing_image_makes_no_storm() -> None:
    """For an hour no engine can be made: tries become rare, records are few; the fleet is filled once it is there."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock)
        s.runtime.faults.image_missing = True
        async with s.app:
            await asyncio.sleep(3600)
            assert s.runtime.happened["call: the image is missing"] <= 600
            assert len(await s.app.journal.query(limit=10_000)) <= 100
            s.runtime.faults.image_missing = False
            await asyncio.sleep(600)
            assert working(s.host, FIRST, SECOND) == 10

    run_virtual(main)


@pytest.mark.parametrize("chance", range(12))
def test_what_was_overtaken_is_counted_once(chance: int) -> None:
    """A VPN fails in the middle of its fill: each engine that goes is one removal, where cleanup and undo meet too."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="12")
        s.host.rng.seed(1000 + chance)
        s.runtime.faults.slow = 10.0
        gone = list[str]()
        s.host.listeners.append(lambda event: gone.append(event.name) if event.action == "destroy" else None)
        for number in range(2):
            s.host.add_engine(FIRST, 19000 + number, f"old-{number}", LABELS, own=True)
        async with s.app:
            await s.until(lambda: len(own(s.host, SECOND)) > chance % 5)
            s.host.pause(SECOND)
            await asyncio.sleep(120)
            told = sum(
                sample.value
                for family in s.app.metrics.registry.collect()
                for sample in family.samples
                if sample.name == "mayday_engines_removed_total" and sample.labels["result"] == "ok"
            )
            assert told == len(gone) > 0

    run_virtual(main)
