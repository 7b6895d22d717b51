"""Runs the simulation on many seeds: `python -m tests.simulation.run --seeds 200`."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.faults import table
from tests.simulation.life import live
from tests.support.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.simulation.oracle import Oracle

TELL_EVERY_S = 10.0


@dataclass(frozen=True)
class Lived:
    """What came of one seed."""

    seed: int
    story: list[str] = dataclasses.field(default_factory=list)
    tally: Counter[str] = dataclasses.field(default_factory=Counter)
    calls: int = 0
    failure: str | None = None
    """None: every invariant held."""
    notes: str = ""
    """How a failure came about, and how to play it again."""


def lived(seed: int, hours: float = 1.0, *, field: bool = False) -> Lived:
    """Live one seed; what goes wrong is told, never raised."""
    try:
        oracle = run_virtual(partial(_live, seed, hours, field))
    except Exception as error:  # noqa: BLE001 - told, with its seed
        failure = f"seed {seed} FAILED: {type(error).__name__}: {error}"
        return Lived(seed, failure=failure, notes="\n".join(getattr(error, "__notes__", [])))
    return Lived(seed, oracle.story, oracle.tally, oracle.calls)


def lives(seeds: Iterable[int], hours: float = 1.0, *, field: bool = False) -> Iterator[Lived]:
    """Live many seeds, one on each core; in the order of the seeds."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn, initializer=_quieten) as pool:
        try:
            yield from pool.map(partial(lived, hours=hours, field=field), seeds)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--hours", type=float, default=1.0, help="simulated hours of faults on each seed")
    parser.add_argument("--field", action="store_true", help="with all that was met in the field")
    parser.add_argument("--story", action="store_true", help="print what happened")
    parser.add_argument("--faults", action="store_true", help="print how often each fault has struck")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    options = parser.parse_args()
    began = told = time.monotonic()
    calls, failed = 0, list[int]()
    struck: Counter[str] = Counter()
    for done, life in enumerate(
        lives(range(options.first, options.first + options.seeds), options.hours, field=options.field), start=1
    ):
        calls += life.calls
        struck.update(life.tally)
        if options.story and life.story:
            print("\n".join(life.story))
        if life.failure is not None:
            failed.append(life.seed)
            print(life.failure, flush=True)
            if not options.keep_going:
                print(life.notes)
                break
        if time.monotonic() - told > TELL_EVERY_S or done == options.seeds:
            told = time.monotonic()
            print(
                f"{done} of {options.seeds} seeds, {done * options.hours:g} h of faults, {calls} calls, "
                f"{told - began:.0f} s, {(told - began) / (done * options.hours) * 24:.1f} s for a simulated day",
                flush=True,
            )
    if options.faults:
        print(table(struck))
    print(f"{'failed: ' + str(failed) if failed else 'every invariant held'}")
    return 1 if failed else 0


def _quieten() -> None:
    """A worker of the pool does not tell what asyncio says of tasks that a simulated kill left behind."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)


async def _live(seed: int, hours: float, field: bool, clock: VirtualClock) -> Oracle:  # noqa: FBT001 - a partial
    return await live(seed, clock, hours, field=field)


if __name__ == "__main__":
    sys.exit(main())
