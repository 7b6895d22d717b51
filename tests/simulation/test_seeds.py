"""The whole program, in virtual time, under faults drawn from seeds."""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.simulation.virtual_time import VirtualClock, run_virtual
from tests.simulation.world import live

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.oracle import Oracle

SEEDS = int(os.environ.get("MAYDAY_SEEDS", "200"))
BATCH = 10
REGRESSIONS = {
    "an undo ran while Docker was unreachable": 9,
    "an emergency on a VPN whose engines were all broken was given no relief": 60,
    "the wall clock jumped, Mayday was killed, and the stabilization came out short": 85,
    "a working engine was undone because Docker had been lost for a moment": 87,
    "engines broken before Mayday's start were never replaced": 148,
    "a creation that got no answer appeared later, beside its substitute": 195,
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A simulated day logs more than anyone reads."""
    loggers = [logging.getLogger(name) for name in ("mayday", "apscheduler")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def _lived(seed: int, hours: float = 1.0) -> Oracle:
    async def main(clock: VirtualClock) -> Oracle:
        return await live(seed, clock, hours)

    return run_virtual(main)


@pytest.mark.parametrize("first", range(1, SEEDS + 1, BATCH))
def test_every_invariant_holds(first: int) -> None:
    """Under any faults the invariants hold after every step, and when the faults stop the fleet converges."""
    for seed in range(first, min(first + BATCH, SEEDS + 1)):
        _lived(seed)


@pytest.mark.parametrize("seed", [pytest.param(seed, id=name) for name, seed in REGRESSIONS.items()])
def test_a_bug_that_was_found_stays_mended(seed: int) -> None:
    """Seeds that once broke an invariant."""
    _lived(seed)


def test_a_seed_is_a_history() -> None:
    """The same seed gives the same history, byte for byte."""
    first, second = (partial(_lived, 7)() for _ in range(2))
    assert first.story == second.story
    assert first.calls == second.calls > 0
