"""Runs the simulation on many seeds: `python -m tests.simulation.run --seeds 200`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.faults import table
from tests.simulation.life import live
from tests.simulation.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle

TELL_EVERY_S = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--hours", type=float, default=1.0, help="simulated hours of faults on each seed")
    parser.add_argument("--story", action="store_true", help="print what happened")
    parser.add_argument("--faults", action="store_true", help="print how often each fault has struck")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    options = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    began = told = time.monotonic()
    calls, failed = 0, list[int]()
    struck: Counter[str] = Counter()
    for done, seed in enumerate(range(options.first, options.first + options.seeds), start=1):
        try:
            oracle = run_virtual(partial(_live, seed, options.hours))
            calls += oracle.calls
            struck.update(oracle.tally)
            if options.story:
                print("\n".join(oracle.story))
        except Exception as error:  # noqa: BLE001 - told, with its seed
            failed.append(seed)
            print(f"seed {seed} FAILED: {type(error).__name__}: {error}", flush=True)
            if not options.keep_going:
                print("\n".join(getattr(error, "__notes__", [])))
                break
        if time.monotonic() - told > TELL_EVERY_S or done == options.seeds:
            told = time.monotonic()
            per_day = (told - began) / (done * options.hours) * 24
            print(
                f"{done} of {options.seeds} seeds, {done * options.hours:g} h of faults, {calls} calls, "
                f"{told - began:.0f} s, {per_day:.1f} s for a simulated day",
                flush=True,
            )
    if options.faults:
        print(table(struck))
    print(f"{'failed: ' + str(failed) if failed else 'every invariant held'}")
    return 1 if failed else 0


async def _live(seed: int, hours: float, clock: VirtualClock) -> Oracle:
    return await live(seed, clock, hours)


if __name__ == "__main__":
    sys.exit(main())
