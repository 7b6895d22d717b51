"""Every benchmark, one after the other, with its tables in Markdown: `python -m benchmarks`, or some by their names.

Tables go to standard output, what is being done to standard error. Each part can be run alone with options of its own:
`python -m benchmarks.failover --help`.
"""

from __future__ import annotations

import argparse
import importlib

from benchmarks.figures import machine, say

PARTS = ("failover", "detection", "idle", "scrape", "scale", "startup")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parts = parser.parse_args().parts
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    print(f"Measured on {machine()}.")
    for name in parts:
        say(f"--- {name}")
        module = importlib.import_module(f"benchmarks.{name}")
        own = argparse.ArgumentParser()
        module.options_of(own)
        module.run(own.parse_args([]))
    say("done")


if __name__ == "__main__":
    main()
