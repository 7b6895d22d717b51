"""Failover on a real Docker Engine, beside the bare daemon and beside a loop that polls.

All three do the same work on the same daemon in the same run, in turn, so that what else the machine does hits all of
them. Mayday fails over from `gluetun_2`, the poller from `poll_2`; the bare calls work on a VPN of their own while
Mayday is in the emergency. For every size the bare calls are tried at several concurrencies first; the best for
removing and the best for creating go on through all rounds, and Mayday is compared with them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.bare import Bare
from benchmarks.daemon import Events, Watch, private_lab, sidecar
from benchmarks.figures import ratio, say, spread, table
from tests.support.lab import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.lab import Lab
    from tests.support.lab_sidecar import Sidecar

STABILIZATION_S = 5.0
KEPT = 1
"""Concurrencies of the bare calls, for removing and for creating, that are measured in every round after the first."""
LARGE = 100
"""From so many engines on a round takes a minute, and there are fewer."""


@dataclass(frozen=True)
class Kind:
    """How engines take SIGTERM, and with what grace they are stopped."""

    name: str
    grace_s: int
    environment: tuple[str, ...]
    sweep: tuple[int, ...]


KINDS = (
    Kind("killed at once, the default", 0, (), (2, 4, 8, 16, 32)),
    Kind("ignoring SIGTERM, 1 s of grace", 1, ("IGNORE_SIGTERM=1",), (8, 16, 32, 64, 100)),
)


@dataclass
class Rows:
    """Seconds, as they were measured; bare ones by concurrency."""

    detect: list[float] = field(default_factory=list)
    remove: list[float] = field(default_factory=list)
    restore: list[float] = field(default_factory=list)
    poll_remove: list[float] = field(default_factory=list)
    poll_restore: list[float] = field(default_factory=list)
    bare_create: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    bare_remove: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))


def options_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engines", type=int, nargs="+", default=[10, 50, 100], help="on the VPN that fails")
    parser.add_argument("--runs", type=int, default=4, help="rounds; fewer with grace and with many engines")
    parser.add_argument("--kinds", type=int, nargs="+", default=[0, 1], help="0: killed at once, 1: ignoring SIGTERM")


def run(options: argparse.Namespace) -> None:
    with private_lab() as lab:
        measured: dict[tuple[str, int], Rows] = {}
        for kind in (KINDS[index] for index in options.kinds):
            for count in options.engines:
                lab.purge()
                say(f"failover of {count} engines, {kind.name}: the first fill")
                rounds = options.runs - (count >= LARGE) - 2 * bool(kind.grace_s)
                measured[kind.name, count] = measure(lab, kind, count, max(2, rounds))
    report(measured)


def measure(lab: Lab, kind: Kind, count: int, runs: int) -> Rows:
    rows = Rows()
    for name in ("gluetun", "gluetun_2", "poll_1", "poll_2"):
        lab.vpn(name)
    bare = Bare(lab, environment=kind.environment, grace_s=kind.grace_s)
    own = " ".join(["HTTP_PORT={http_port}", *kind.environment])
    polling = kind.grace_s == 0
    with sidecar(
        lab,
        MIN_REPLICAS=str(2 * count),
        VPN_STABILIZATION_PERIOD_S=str(STABILIZATION_S),
        ENGINE_STOP_TIMEOUT_S=str(kind.grace_s),
        ENGINE_ENV=own,
    ) as mayday:
        poller = _poller(lab, count) if polling else None
        try:
            wait_for(lambda: len(lab.engines(running=True)) == 2 * count, "the first fill", 300)
            if polling:
                wait_for(
                    lambda: len(lab.api.containers(filters={"label": "poller.vpn=poll_2"})) == count, "polled", 300
                )
            for number in range(runs):
                say(f"  round {number + 1} of {runs}")
                _round(lab, mayday, bare, kind, count, rows)
                if polling and number < 2:
                    _poll_round(lab, rows, count)
        finally:
            if poller is not None:
                poller.terminate()
                poller.wait(10)
    return rows


def _poller(lab: Lab, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.poller", lab.dockerd.url, str(STABILIZATION_S)]
    return subprocess.Popen([*command, "poll_1=1", f"poll_2={count}"])


def _round(lab: Lab, mayday: Sidecar, bare: Bare, kind: Kind, count: int, rows: Rows) -> None:
    """One failure and one recovery of Mayday, with the bare calls while it is in the emergency."""
    events, watch = Events(lab), Watch(mayday.url)
    lab.fail("gluetun_2")
    active_at = watch.until_active(active=True)
    unhealthy = events.wait("health_status: unhealthy", "gluetun_2", 1)
    rows.detect.append(active_at - unhealthy)
    rows.remove.append(events.wait("destroy", "gluetun_2", count) - unhealthy)
    wait_for(lambda: not lab.engines("gluetun_2"), "nothing left")
    time.sleep(1.0)
    _bare_round(bare, _concurrencies(kind, count, rows), count, rows)
    lab.heal("gluetun_2")
    stable = events.wait("health_status: healthy", "gluetun_2", 1) + STABILIZATION_S
    rows.restore.append(events.wait("start", "gluetun_2", count) - stable)
    wait_for(lambda: len(lab.engines("gluetun_2", running=True)) == count, "whole again")
    events.close()
    watch.close()
    time.sleep(1.0)


def _concurrencies(kind: Kind, count: int, rows: Rows) -> list[int]:
    """All of them in the first round, then the best two for removing and for creating; each round begins elsewhere."""
    if not rows.bare_remove:
        return sorted({min(at_once, count) for at_once in kind.sweep})
    kept = {*_best(rows.bare_remove)[:KEPT], *_best(rows.bare_create)[:KEPT]}
    order = sorted(kept)
    turn = len(rows.detect) % len(order)
    return order[turn:] + order[:turn]


def _best(measured: dict[int, list[float]]) -> list[int]:
    most = max(len(values) for values in measured.values())
    full = {at_once: values for at_once, values in measured.items() if len(values) == most}
    return sorted(full, key=lambda at_once: statistics.median(full[at_once]))


def _bare_round(bare: Bare, concurrencies: Sequence[int], count: int, rows: Rows) -> None:
    for at_once in concurrencies:
        ids, seconds = bare.create(count, at_once)
        rows.bare_create[at_once].append(seconds)
        time.sleep(0.5)
        rows.bare_remove[at_once].append(bare.remove(ids, at_once))
        time.sleep(0.5)


def _poll_round(lab: Lab, rows: Rows, count: int) -> None:
    events = Events(lab)
    lab.fail("poll_2")
    unhealthy = events.wait("health_status: unhealthy", "poll_2", 1)
    rows.poll_remove.append(events.wait("destroy", "poll_2", count) - unhealthy)
    lab.heal("poll_2")
    stable = events.wait("health_status: healthy", "poll_2", 1) + STABILIZATION_S
    rows.poll_restore.append(events.wait("start", "poll_2", count) - stable)
    events.close()


def report(measured: dict[tuple[str, int], Rows]) -> None:
    removals, restorations, sweeps = [], [], []
    for (kind, count), rows in measured.items():
        best_remove, best_create = _best(rows.bare_remove)[0], _best(rows.bare_create)[0]
        bare_remove, bare_create = rows.bare_remove[best_remove], rows.bare_create[best_create]
        removals.append(
            (
                kind,
                count,
                spread(rows.detect, "ms"),
                spread(rows.remove),
                f"{spread(bare_remove)} by {best_remove}",
                f"**{ratio(rows.remove, bare_remove)}**",
                spread(rows.poll_remove) if rows.poll_remove else "–",
            )
        )
        restorations.append(
            (
                kind,
                count,
                spread(rows.restore),
                f"{spread(bare_create)} by {best_create}",
                f"**{ratio(rows.restore, bare_create)}**",
                spread(rows.poll_restore) if rows.poll_restore else "–",
            )
        )
        for name, by_concurrency in (("remove", rows.bare_remove), ("create and start", rows.bare_create)):
            shown = "; ".join(f"{key}: {statistics.median(values):.2f} s" for key, values in by_concurrency.items())
            sweeps.append((kind, count, name, shown))
    head = ["engines are", "engines"]
    table(
        "Failover: from Docker's health event to the last engine gone",
        [*head, "→ `emergency_mode.active` on HTTP", "→ last engine gone", "bare, best", "ratio", "polling loop"],
        removals,
    )
    table(
        "Recovery: from the end of the stabilization to the last engine running",
        [*head, "→ last engine running", "bare, best", "ratio", "polling loop"],
        restorations,
    )
    table("The bare daemon: median by calls at once", [*head, "work", "calls at once: seconds"], sweeps)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    options_of(arguments)
    run(arguments.parse_args())
