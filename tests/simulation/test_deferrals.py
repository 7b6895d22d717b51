"""What the log says of an evacuation that waits."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from tests.simulation.field import FIRST, SECOND, own
from tests.support.sidecar import Sidecar, play
from tests.support.simulated import OWN_LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAITS = "Evacuation of VPN 'gluetun_2' waits"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What was logged of evacuations, and of emergencies that are entered."""
    with caplog.at_level(logging.INFO, "mayday"):
        yield lambda: [m for m in caplog.messages if m.startswith(("Evacuation", "Removing"))]


def test_an_evacuation_that_waits_is_told_once_and_when_it_begins(said: Callable[[], list[str]]) -> None:
    """After the words of the entry; in the next emergency anew."""

    async def scenario(s: Sidecar) -> None:
        for number in (1, 2):
            s.host.set_truth(SECOND, good=False)
            await s.until(lambda: s.app.controller.is_emergency_mode() and not own(s.host, SECOND))
            assert said() == number * [
                "Removing 2 engines from failed VPN 'gluetun_2'",
                f"{WAITS} until the failure has lasted 5 s (EVACUATION_DELAY_S); its engines are out of service",
                "Evacuation of VPN 'gluetun_2' begins: it has 2 engines",
            ]
            s.host.set_truth(SECOND, good=True)
            await asyncio.sleep(200)

    play(scenario, MIN_REPLICAS="4")


def test_without_a_carrier_the_log_says_what_is_waited_for(said: Callable[[], list[str]]) -> None:
    """Engines of the healthy VPN do not work: that is told, once however long it takes."""

    async def scenario(s: Sidecar) -> None:
        s.host.pause(FIRST)
        s.host.pause(SECOND)
        await asyncio.sleep(60)
        s.host.unpause(FIRST)
        await asyncio.sleep(100)
        waits = [line for line in said() if line.startswith(WAITS)]
        assert waits[1:] == [
            f"{WAITS} until another VPN that is healthy has an engine that works; its engines are out of service"
        ], "but for the moment before the second VPN failed"
        await asyncio.sleep(60)
        assert said()[-1] == "Evacuation of VPN 'gluetun_2' begins: it has 2 engines"

    play(scenario, MIN_REPLICAS="4")


def test_a_dry_run_tells_of_no_evacuation(said: Callable[[], list[str]]) -> None:
    """It has none."""

    async def scenario(s: Sidecar) -> None:
        for number in range(4):
            s.host.add_engine((FIRST, SECOND)[number % 2], 19000 + number, f"e{number}", OWN_LABELS)
        await asyncio.sleep(60)
        s.host.set_truth(SECOND, good=False)
        await asyncio.sleep(60)
        assert s.app.controller.is_emergency_mode()
        assert said() == []

    play(scenario, CONTROL="dry-run")
