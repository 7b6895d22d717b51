"""What things cost, in calls, operations and bytes, never in seconds: no later change can spend more unseen."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest

from exporter.core.dependents import ManagedLabel
from exporter.core.model import Container, ContainerState, Moment
from exporter.fleet.facts import Facts
from tests.support.fleet import SimulatedFleet, settings_for
from tests.support.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

ROOT = Path(__file__).parents[2]


# --- imports ----------------------------------------------------------------------------------------------------------

HEAVY = {"aiohttp", "apscheduler", "docker", "requests", "prometheus_client", "rich", "sqlite3", "asyncio"}


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ("from exporter.cli import main; main(['--help'])", set[str]()),
        ("from exporter.cli import main; main(['--check-config'])", set[str]()),
        ("import exporter.app, exporter.runtime.docker", HEAVY - {"rich"}),
    ],
    ids=["help", "check-config", "serve"],
)
def test_only_what_is_needed_is_imported(command: str, allowed: set[str]) -> None:
    """Help, a look at the settings, and the sidecar itself load no library that they do not use."""
    script = f"import sys\ntry:\n    {command}\nexcept SystemExit: pass\nprint(*sys.modules, sep='\\n')"
    environment = {"PYTHONPATH": str(ROOT), "GLUETUN_CONTAINER_NAME": "a", "GLUETUN_CONTAINER_NAME_2": "b"}
    output = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in output.stdout.splitlines()}
    assert loaded & HEAVY <= allowed


# --- calls ------------------------------------------------------------------------------------------------------------


def fails_over(vpns: int, engines: int, work: Counter[str] | None = None) -> tuple[Counter[str], int]:
    """The calls to Docker of one failover of half of the VPNs and of the recovery, and the engines that fail.

    With `work` every Python function that is called meanwhile is counted in it.
    """

    async def scenario(clock: VirtualClock) -> tuple[Counter[str], int]:
        fleet = SimulatedFleet(settings_for(vpns, engines), clock, at_once=8)
        fleet.populate(engines)
        failing = fleet.settings.policy.vpns[vpns // 2 :]
        async with fleet.running(clock) as app:
            await asyncio.sleep(60)
            fleet.calls.clear()
            with counted(work):
                for name in failing:
                    fleet.host.tell_health(name, good=False)
                await asyncio.sleep(20)
                assert not any(app.controller.fleet.on(name) for name in failing)
                for name in failing:
                    fleet.host.tell_health(name, good=True)
                await asyncio.sleep(160)
                assert app.controller.fleet.own == engines
        return fleet.calls, engines // 2

    return run_virtual(scenario)


@contextmanager
def counted(work: Counter[str] | None) -> Iterator[None]:
    """Count the calls of Mayday's own functions."""

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and work is not None and "/exporter/" in frame.f_code.co_filename:
            work[frame.f_code.co_qualname] += 1

    if work is not None:
        sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def test_a_failover_costs_one_call_for_each_engine_that_goes_and_two_for_each_that_comes() -> None:
    """Beside these only a handful of readings, however many engines there are."""
    for engines in (20, 200):
        calls, failed = fails_over(2, engines)
        assert calls["remove"] == failed
        assert calls["create"] == calls["start"] == failed
        assert calls["stop"] == calls["restart"] == 0
        # Two for each audit: three minutes have six, and each end of the work, and each change of the VPN, one more.
        assert calls["list"] <= 18
        assert calls["inspect"] <= 24


def test_idling_for_a_day_makes_four_calls_a_minute() -> None:
    """A list and an inspection in every half minute, whatever the number of engines."""

    async def day(clock: VirtualClock, engines: int) -> Counter[str]:
        fleet = SimulatedFleet(settings_for(2, engines), clock)
        fleet.populate(engines)
        async with fleet.running(clock):
            await asyncio.sleep(45)  # between two audits
            fleet.calls.clear()
            await asyncio.sleep(24 * 3600 if engines < 50 else 3600)
        return fleet.calls

    assert run_virtual(partial(day, engines=4)).total() <= 4 * 24 * 60
    assert run_virtual(partial(day, engines=200)).total() <= 4 * 60


def test_the_exposition_does_not_grow_with_the_engines() -> None:
    """As many lines for a thousand engines as for ten, and hardly a byte more."""

    async def text(clock: VirtualClock, engines: int) -> bytes:
        fleet = SimulatedFleet(settings_for(2, engines), clock)
        fleet.populate(engines)
        async with fleet.running(clock) as app:
            await asyncio.sleep(1)
            return generate_latest(app.metrics.registry)

    few, many = (run_virtual(partial(text, engines=count)) for count in (10, 1000))
    assert few.count(b"\n") == many.count(b"\n")
    assert abs(len(few) - len(many)) < 200


# --- work -------------------------------------------------------------------------------------------------------------


def test_the_work_of_a_failover_grows_no_faster_than_its_engines() -> None:
    """Four times as many engines: four times as many calls of Mayday's own functions, not sixteen times."""
    few, many = Counter[str](), Counter[str]()
    fails_over(2, 50, few)
    fails_over(2, 200, many)
    assert few.total() > 1000
    assert many.total() < 4 * 1.25 * few.total()


@pytest.mark.parametrize("seed", range(20))
def test_a_fleet_that_is_renewed_is_the_fleet_that_is_read_as_a_whole(seed: int) -> None:
    """Whatever was read, in whatever order: what was taken over from before is as it would be read now."""
    rng = random.Random(seed)
    names = ("gluetun", "gluetun_2")
    facts = Facts(names, ManagedLabel("managed"))

    def vpn(name: str) -> Container:
        state = rng.choice([ContainerState.RUNNING, ContainerState.RUNNING, ContainerState.EXITED])
        started = rng.choice([None, 100.0, 900.0])
        return Container(f"{name}-{rng.randrange(3)}", name, state, started_at=started)

    def engine() -> Container:
        number = rng.randrange(12)
        return Container(
            f"e{number}",
            f"acestream-{number}",
            rng.choice([ContainerState.RUNNING, ContainerState.RUNNING, ContainerState.CREATED, ContainerState.EXITED]),
            labels={"managed": "", "acestream.vpn_container": names[number % 2]},
            network=f"{rng.choice(names)}-{rng.randrange(3)}",
            created_at=rng.choice([50.0, 500.0, 1000.0]),
            started_at=rng.choice([None, None, 60.0, 950.0]),
        )

    for mono in range(200):
        now = Moment(float(mono), datetime.fromtimestamp(1000.0 + mono, UTC))
        match rng.randrange(5):
            case 0:
                listed = {c.id: c for c in [vpn("gluetun"), vpn("gluetun_2"), *(engine() for _ in range(8))]}
                facts.take_all(listed.values(), now.mono, now)
            case 1:
                name = rng.choice(names)
                facts.take_vpn(name, rng.choice([None, vpn(name), vpn(name)]), now.mono, now)
            case 2:
                facts.take_one(engine(), now.mono, now)
            case 3:
                facts.heard_from(f"e{rng.randrange(12)}", healthy=rng.random() < 0.5)
            case 4 if rng.random() < 0.05:
                facts.gone(f"e{rng.randrange(12)}", now.mono)
        renewed = facts.fleet()
        facts._fleet = None
        whole = facts.fleet()
        assert renewed.vpns == whole.vpns
        for name in names:
            assert {e.id: e for e in renewed.on(name)} == {e.id: e for e in whole.on(name)}
            one, other = renewed.groups[name], whole.groups[name]
            assert (one.states, one.planned, one.orphans) == (other.states, other.planned, other.orphans)
