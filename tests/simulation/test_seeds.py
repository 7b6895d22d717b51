"""The whole program, in virtual time, under faults drawn from seeds."""

from __future__ import annotations

import os

import pytest

from tests.simulation.faults import FAULTS, FIELD_FAULTS
from tests.simulation.run import Lived, lived, lives

pytestmark = pytest.mark.timeout(900)
SEEDS = int(os.environ.get("MAYDAY_SEEDS", "100"))
FIELD_SEEDS = int(os.environ.get("MAYDAY_FIELD_SEEDS", "0"))
"""How many seeds are lived with all that was met in the field besides."""
KEPT = (4704, 900262)
"""Seeds that once showed what no other did."""
TELL_EVERY = 10


@pytest.fixture(scope="module")
def all_lived(request: pytest.FixtureRequest) -> list[Lived]:
    """All seeds of this run."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    found = list[Lived]()
    for life in lives(range(1, SEEDS + 1)):
        found.append(life)
        if life.seed % TELL_EVERY == 0:
            with capture.global_and_fixture_disabled():
                print(f"\n{life.seed} of {SEEDS} seeds", end=" ", flush=True)
    return found


def test_every_invariant_holds(all_lived: list[Lived]) -> None:
    """Under any faults the invariants hold after every step, and when the faults stop the fleet converges."""
    failed = [f"{life.failure}\n{life.notes}" for life in all_lived if life.failure is not None]
    assert not failed, "\n\n".join(failed)
    assert len(all_lived) == SEEDS


@pytest.mark.parametrize("seed", KEPT)
def test_a_seed_that_once_failed(seed: int) -> None:
    """What was found is kept."""
    life = lived(seed)
    assert life.failure is None, f"{life.failure}\n{life.notes}"


@pytest.fixture(scope="module")
def field_lived() -> list[Lived]:
    """All seeds of this run with the faults of the field."""
    return list(lives(range(1, FIELD_SEEDS + 1), field=True))


@pytest.mark.skipif(FIELD_SEEDS == 0, reason="MAYDAY_FIELD_SEEDS is 0")
def test_every_invariant_holds_in_the_field(field_lived: list[Lived]) -> None:
    """The same, with everything that was met in the field."""
    failed = [f"{life.failure}\n{life.notes}" for life in field_lived if life.failure is not None]
    assert not failed, "\n\n".join(failed)


@pytest.mark.skipif(FIELD_SEEDS < 50, reason="few seeds do not show every fault")
@pytest.mark.parametrize("fault", FIELD_FAULTS)
def test_every_fault_of_the_field_strikes(fault: str, field_lived: list[Lived]) -> None:
    """Each has struck in the seeds above."""
    assert sum(life.tally[fault] for life in field_lived) > 0


def test_a_seed_is_a_history() -> None:
    """The same seed gives the same history, byte for byte."""
    first, second = lived(7), lived(7)
    assert first == second
    assert first.calls > 0


@pytest.mark.skipif(SEEDS < 50, reason="few seeds do not show every fault")
@pytest.mark.parametrize("fault", [fault for faults in FAULTS.values() for fault in faults])
def test_every_fault_strikes(fault: str, all_lived: list[Lived]) -> None:
    """A fault that never comes about tests nothing: each has struck in the seeds above."""
    assert sum(life.tally[fault] for life in all_lived) > 0
