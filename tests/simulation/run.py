"""Runs the simulation on many seeds: `python -m tests.simulation.run --seeds 200`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.virtual_time import VirtualClock, run_virtual
from tests.simulation.world import live

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--hours", type=float, default=2.0, help="simulated hours of faults on each seed")
    parser.add_argument("--story", action="store_true", help="print what happened")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    options = parser.parse_args()
    logging.getLogger("mayday").setLevel(logging.CRITICAL + 1)
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL + 1)
    began, calls, failed = time.monotonic(), 0, []
    for seed in range(options.first, options.first + options.seeds):
        try:
            oracle = run_virtual(partial(_live, seed, options.hours))
            calls += oracle.calls
            if options.story:
                print("\n".join(oracle.story))
        except Exception as error:  # noqa: BLE001 - told, with its seed
            failed.append(seed)
            notes = "\n".join(getattr(error, "__notes__", []))
            print(f"seed {seed} FAILED: {type(error).__name__}: {error}")
            print("" if options.keep_going else notes)
            if not options.keep_going:
                break
        done = seed - options.first + 1
        if done % 20 == 0 or done == options.seeds:
            print(
                f"{done} seeds, {done * options.hours:g} h of faults, {calls} calls, {time.monotonic() - began:.0f} s"
            )
    print(f"{'failed: ' + str(failed) if failed else 'every invariant held'}")
    return 1 if failed else 0


async def _live(seed: int, hours: float, clock: VirtualClock) -> Oracle:
    return await live(seed, clock, hours)


if __name__ == "__main__":
    sys.exit(main())
