"""The whole program, in virtual time, under faults drawn from seeds."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.simulation.faults import FAULTS
from tests.simulation.life import live
from tests.simulation.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle

SEEDS = int(os.environ.get("MAYDAY_SEEDS", "100"))
BATCH = 10
STRUCK: Counter[str] = Counter()
"""How often each fault has struck in the seeds of this run."""


def _lived(seed: int, hours: float = 1.0) -> Oracle:
    async def main(clock: VirtualClock) -> Oracle:
        return await live(seed, clock, hours)

    oracle = run_virtual(main)
    STRUCK.update(oracle.tally)
    return oracle


@pytest.mark.parametrize("first", range(1, SEEDS + 1, BATCH))
def test_every_invariant_holds(first: int) -> None:
    """Under any faults the invariants hold after every step, and when the faults stop the fleet converges."""
    for seed in range(first, min(first + BATCH, SEEDS + 1)):
        _lived(seed)


def test_a_seed_is_a_history() -> None:
    """The same seed gives the same history, byte for byte."""
    first, second = _lived(7), _lived(7)
    assert first.story == second.story
    assert first.tally == second.tally
    assert first.calls == second.calls > 0


@pytest.mark.skipif(SEEDS < 50, reason="few seeds do not show every fault")
@pytest.mark.parametrize("fault", [fault for faults in FAULTS.values() for fault in faults])
def test_every_fault_strikes(fault: str) -> None:
    """A fault that never comes about tests nothing: each has struck in the seeds above."""
    if not STRUCK:
        for seed in range(1, 51):
            _lived(seed)
    assert STRUCK[fault] > 0
