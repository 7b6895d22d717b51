"""The forwarded port is followed: asked for, shown, and one own engine of the VPN listens on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exporter.core.model import Phase
from tests.simulation.field import COMPOSE, FIRST, SECOND, Deeds, own, working, works
from tests.support.sidecar import Sidecar
from tests.support.simulated import mayday_on
from tests.support.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LABEL = "mayday.forwarded-port"


class Vpns:
    """What Gluetun's control servers answer: a port, 0 for none, None where they do not answer."""

    def __init__(self) -> None:
        self.ports: dict[str, int | None] = {FIRST: 0, SECOND: 0}
        self.asked: list[str] = []

    async def __call__(self, vpn: str) -> int | None:
        self.asked.append(vpn)
        await asyncio.sleep(0.01)
        return self.ports[vpn]


def play(scenario: Callable[[Sidecar, Vpns], Awaitable[None]], **environment: str) -> None:
    """Run a scenario from the start of Mayday on."""

    async def main(clock: VirtualClock) -> None:
        s, vpns = Sidecar(clock, **{"MIN_REPLICAS": "4", "MAX_REPLICAS": "20", **environment}), Vpns()
        s.app = mayday_on(s.host, s.settings, s.runtime, clock=clock, serve=False, threaded=False, forwarded_port=vpns)
        async with s.app:
            await scenario(s, vpns)

    run_virtual(main)


def listening(s: Sidecar, vpn: str) -> list[str]:
    """The forwarded ports that own engines of a VPN were made for, of those that work."""
    return [box.labels[LABEL] for box in own(s.host, vpn) if LABEL in box.labels and works(s.host, box)]


def test_a_port_that_is_there_at_the_first_fill_is_used_at_once() -> None:
    """One engine of each VPN is made for it, and none is replaced."""

    async def scenario(s: Sidecar, vpns: Vpns) -> None:
        vpns.ports = {FIRST: 41000, SECOND: None}
        deeds = Deeds(s)
        await asyncio.sleep(300)
        assert (listening(s, FIRST), listening(s, SECOND)) == (["41000"], [])
        assert (len(deeds.names("create")), deeds.removed) == (4, [])
        assert s.metric("mayday_vpn_forwarded_port", vpn=FIRST) == 41000
        assert s.metric("mayday_vpn_forwarded_port", vpn=SECOND) == 0
        box = next(box for box in own(s.host, FIRST) if LABEL in box.labels)
        assert box.labels["acestream.forwarded"] == "true"

    play(scenario)


def test_a_port_that_comes_some_seconds_after_health_is_used() -> None:
    """All engines are there: one of them is replaced, its successor first, and only one."""

    async def scenario(s: Sidecar, vpns: Vpns) -> None:
        await asyncio.sleep(8)
        deeds = Deeds(s)
        vpns.ports[FIRST] = 41000
        least = [4]

        async def look() -> None:
            while True:
                await asyncio.sleep(0.05)
                least.append(working(s.host, FIRST, SECOND))

        looking = asyncio.get_running_loop().create_task(look())
        await asyncio.sleep(45)
        looking.cancel()
        assert listening(s, FIRST) == ["41000"]
        assert (len(deeds.names("create")), len(deeds.removed)) == (1, 1)
        assert min(least) == 4, "its successor works before it goes"
        assert s.metric("mayday_engines_removed_total", vpn=FIRST, reason="forwarded_port", result="ok") == 1
        await asyncio.sleep(3600)
        assert (len(deeds.names("create")), len(deeds.removed)) == (1, 1)
        assert (len(own(s.host, FIRST)), len(own(s.host, SECOND))) == (2, 2)

    play(scenario)


def test_without_room_for_a_successor_one_goes_first() -> None:
    """The fleet is never larger than MAX_REPLICAS."""

    async def scenario(s: Sidecar, vpns: Vpns) -> None:
        await asyncio.sleep(60)
        vpns.ports[FIRST] = 41000
        for _ in range(1300):
            await asyncio.sleep(0.1)
            assert len(own(s.host, FIRST)) + len(own(s.host, SECOND)) <= 4
        assert listening(s, FIRST) == ["41000"]
        assert (len(own(s.host, FIRST)), len(own(s.host, SECOND))) == (2, 2)

    play(scenario, MAX_REPLICAS="4")


def test_a_change_of_the_port_is_followed_and_not_too_often() -> None:
    """The engine on the old port goes for one on the new; a port that changes each minute costs one in ten minutes."""

    async def scenario(s: Sidecar, vpns: Vpns) -> None:
        vpns.ports[FIRST] = 41000
        await asyncio.sleep(700)
        old = next(box for box in own(s.host, FIRST) if LABEL in box.labels)
        deeds = Deeds(s)
        vpns.ports[FIRST] = 42000
        await asyncio.sleep(130)
        assert listening(s, FIRST) == ["42000"]
        assert deeds.removed == [old.name]
        for port in range(43000, 43060):
            vpns.ports[FIRST] = port
            await asyncio.sleep(60)
        assert len(deeds.removed) <= 1 + 6
        assert (len(own(s.host, FIRST)), len(own(s.host, SECOND))) == (2, 2)

    play(scenario)


def test_an_engine_that_is_replaced_passes_its_port_on() -> None:
    """The one on the port stops answering: the one that the health manager makes for it is made for the port too."""

    async def scenario(s: Sidecar, vpns: Vpns) -> None:
        vpns.ports[FIRST] = 41000
        await asyncio.sleep(120)
        old = next(box for box in own(s.host, FIRST) if LABEL in box.labels)
        vpns.ports[FIRST] = None
        deeds = Deeds(s)
        old.broken = True
        await asyncio.sleep(300)
        assert old.id not in s.host.boxes
        assert listening(s, FIRST) == ["41000"]
        assert len(deeds.names("create")) == 1

    play(scenario)


def test_nothing_is_moved_for_a_port_while_not_all_is_well() -> None:
    """In an emergency the healthy VPN's engines stay; and those of the failed one come back with the new port."""

    async def scenario(s: Sidecar, vpns: Vpns) -> None:
        vpns.ports = {FIRST: 41000, SECOND: 42000}
        await asyncio.sleep(60)
        kept = {box.id for box in own(s.host, FIRST)}
        s.host.set_truth(SECOND, good=False)
        await s.until(lambda: s.phase(SECOND) is Phase.FAILED)
        vpns.ports = {FIRST: 41001, SECOND: 42001}
        await asyncio.sleep(300)
        assert {box.id for box in own(s.host, FIRST)} == kept
        assert s.metric("mayday_vpn_forwarded_port", vpn=SECOND) == 0
        s.host.set_truth(SECOND, good=True)
        await asyncio.sleep(300)
        assert (listening(s, FIRST), listening(s, SECOND)) == (["41001"], ["42001"])

    play(scenario)


def test_engines_of_others_and_dry_runs_are_let_be() -> None:
    """Where others' engine has the port none of ours is made for it; a dry run replaces nothing, and shows the port."""

    async def others(s: Sidecar, vpns: Vpns) -> None:
        s.host.add_engine(FIRST, 19400, "media", {**COMPOSE, "acestream.forwarded": "true"})
        vpns.ports[FIRST] = 41000
        await asyncio.sleep(300)
        assert listening(s, FIRST) == []
        assert len(own(s.host, FIRST)) == 2

    async def dry(s: Sidecar, vpns: Vpns) -> None:
        vpns.ports[FIRST] = 41000
        deeds = Deeds(s)
        await asyncio.sleep(300)
        assert deeds.effects == []
        assert s.metric("mayday_vpn_forwarded_port", vpn=FIRST) == 41000

    play(others)
    play(dry, CONTROL="dry-run")


def test_a_vpn_without_a_port_is_asked_once_a_minute() -> None:
    """More often only in the first minute, and a few times."""

    async def scenario(s: Sidecar, vpns: Vpns) -> None:
        await asyncio.sleep(60)
        first = vpns.asked.count(FIRST)
        assert 3 <= first <= 12
        await asyncio.sleep(600)
        assert 8 <= vpns.asked.count(FIRST) - first <= 12
        assert len(own(s.host, FIRST)) == 2

    play(scenario)
