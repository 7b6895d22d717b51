"""How many of ten engines are missing after everyday events: `python -m tests.docker.losses --trials 3`.

Run it in a network of its own: `scripts/own-network.sh .venv/bin/python -m tests.docker.losses --version trixie`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.docker.engines import VERSIONS, Daemons, Version
from tests.docker.trouble import EVENTS, LATER_S, fleet
from tests.support.lab import Lab
from tests.support.lab_sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.lab import PrivateDockerd

SHARE = 5


def lost(daemon: PrivateDockerd, event: Callable[[Lab, Sidecar], None], later_s: float) -> str:
    """The engines that are not there any more, and the emergencies that were entered."""
    lab = Lab(daemon)
    lab.purge()
    with tempfile.TemporaryDirectory(prefix="mayday-") as directory:
        sidecar = Sidecar(lab, Path(directory))
        try:
            before = set(fleet(lab, sidecar, SHARE, later_s).values())
            event(lab, sidecar)
            gone = before - set(lab.ids().values())
            entered = sum("ENTERING" in line for line in sidecar.log.read_text().splitlines())
            return f"{len(gone)} of {len(before)} ({entered} emergencies)"
        except AssertionError as error:
            gone = before - set(lab.ids().values())
            return f"{len(gone)} of {len(before)}, and then {str(error).splitlines()[0]}"
        finally:
            sidecar.stop()
            lab.purge()
            lab.api.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", type=Version, action="append", help="a Debian suite; empty: the installed engine")
    parser.add_argument("--trials", type=int, default=1)
    parser.add_argument("--only", default="", help="events whose name holds this")
    parser.add_argument("--later", type=float, default=LATER_S, help="how much later one VPN is probed, seconds")
    options = parser.parse_args()
    daemons = Daemons(first_number=40)
    try:
        for version in options.version or VERSIONS:
            for name, event in EVENTS.items():
                for live_restore in (True, False) if name == "daemon restarted" else (False,):
                    full = f"{name}, live-restore" if live_restore else name
                    if options.only not in full:
                        continue
                    daemon = daemons.get(version, live_restore=live_restore)
                    results = [lost(daemon, event, options.later) for _ in range(options.trials)]
                    print(f"{version!s:<10} {full:<42} {'; '.join(results)}", flush=True)
    finally:
        daemons.destroy()
    return 0


if __name__ == "__main__":
    sys.exit(main())
