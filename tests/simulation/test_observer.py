"""How events and readings go together, in virtual time."""

from __future__ import annotations

import asyncio
import logging

import pytest

from exporter.core.model import Phase
from exporter.runtime.simulated import Faults
from tests.support.sidecar import Sidecar, play

MISSED = "the event stream missed a change"


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mayday")


def test_a_stream_that_tells_nothing_is_noticed_and_opened_anew(caplog: pytest.LogCaptureFixture) -> None:
    """Half open: the failure is found by the next audit, and the stream is not trusted any longer."""

    async def scenario(s: Sidecar) -> None:
        s.runtime.faults = Faults(deaf=True)
        s.host.kill("gluetun_2")
        await asyncio.sleep(35)
        assert s.phase("gluetun_2") is Phase.FAILED
        await asyncio.sleep(2)
        assert caplog.text.count(MISSED) == 1
        assert s.app.controller.snapshot.events_connected

    play(scenario, RESYNC_INTERVAL_S="30")


@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.9])
def test_an_event_that_comes_after_the_reading_was_not_missed(caplog: pytest.LogCaptureFixture, delay_s: float) -> None:
    """A restart shows in a reading before its event has come: the stream stands, nobody is alarmed."""

    async def scenario(s: Sidecar) -> None:
        s.runtime.faults = Faults(delayed_events_s=delay_s)
        s.host.kill("gluetun_2")
        await s.app.observer.audit()
        assert s.phase("gluetun_2") is Phase.FAILED
        await asyncio.sleep(10)
        assert MISSED not in caplog.text

    play(scenario)
