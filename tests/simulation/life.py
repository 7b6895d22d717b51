"""One whole simulated life: faults, one VPN that stays down, recovery, calm, and what must have come of it."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulation.books import Ear
from tests.simulation.fate import Fate
from tests.simulation.steps import even
from tests.simulation.truth import BY_HAND, NEVER, REQUESTED
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.oracle import Oracle
    from tests.support.virtual_time import VirtualClock

CONVERGED_WITHIN_S = 900.0
"""How long after the last fault the fleet may take to be whole, seconds: a stabilization, a start, back-offs, and
three rounds of the health manager for each engine that does not answer."""
CALM_S = 300.0


@contextmanager
def listening() -> Iterator[Ear]:
    """Hear what Mayday logs, and let nobody else."""
    ear = Ear()
    mayday, scheduler = logging.getLogger("mayday"), logging.getLogger("apscheduler")
    before = mayday.level, mayday.propagate, scheduler.level
    mayday.setLevel(logging.INFO)
    mayday.propagate = False
    mayday.addHandler(ear)
    scheduler.setLevel(logging.CRITICAL + 1)
    try:
        yield ear
    finally:
        mayday.removeHandler(ear)
        mayday.level, mayday.propagate, scheduler.level = before


def simulated_directory() -> Path:
    """A directory for one simulation's journal; in memory where the system has such a place."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="mayday-sim-", dir=shared if shared.is_dir() else None))


async def live(seed: int, clock: VirtualClock, hours: float = 2.0) -> Oracle:
    """One whole life. Raises where a claim is false, with the end of the story and how to see it again."""
    directory = simulated_directory()
    with listening() as ear:
        world = World(seed, clock, directory, ear)
        try:
            return await _live(world, hours)
        except BaseException as error:
            error.add_note("\n".join(world.oracle.story[-int(os.environ.get("MAYDAY_STORY", "60")) :]))
            error.add_note(f"replay: python -m tests.simulation.run --seeds 1 --first {seed} --hours {hours:g} --story")
            raise
        finally:
            shutil.rmtree(directory, ignore_errors=True)


async def _live(world: World, hours: float) -> Oracle:
    oracle = world.oracle
    await world.start()
    await Fate(world).happen(hours * 3600)
    down = world.rng.choice(oracle.truth.vpns)
    await world.recover(except_for=down)
    await world.pass_(CONVERGED_WITHIN_S)
    check_one_down(world, down)
    await check_a_restart_changes_nothing(world)
    check_one_down(world, down)
    await world.recover()
    await world.pass_(CONVERGED_WITHIN_S)
    check_whole(world)
    before = oracle.changes
    await world.pass_(CALM_S)
    oracle.require(oracle.changes == before, "the fleet was whole, and something was changed (invariant 6)")
    check_whole(world)
    await check_a_restart_changes_nothing(world)
    check_whole(world)
    await world.look_at_pages()
    await world.stop()
    return oracle


async def check_a_restart_changes_nothing(world: World) -> None:
    """Invariant 7: with nothing to do, a restart touches no container and shows the same."""
    assert world.app is not None
    before = world.oracle.changes
    shown = world.app.controller.get_emergency_mode_info()
    await (world.kill() if world.rng.random() < 0.5 else world.stop())
    await world.pass_(5.0)
    await world.start()
    await world.pass_(CALM_S)
    assert world.oracle.life is not None
    again = world.app.controller.get_emergency_mode_info()
    # A clock that was set back makes engines that do not answer look like orphans to a new Mayday: they are restarted.
    touched = world.oracle.changes - before
    world.oracle.require(
        not touched or world.oracle.truth.set_back_at > NEVER, "a restart touched a container (invariant 7)"
    )
    world.oracle.require(not world.oracle.life.changes, "a restart changed a phase (invariant 7)")
    world.oracle.require(not world.oracle.life.entries, "a restart counted a second entry (invariant 7)")
    same = shown["entered_at"] == again["entered_at"] and shown["failed_vpn"] == again["failed_vpn"]
    world.oracle.require(same, f"before the restart {shown}, after it {again} (invariant 7)")


def check_one_down(world: World, down: str) -> None:
    """Invariant 2, and what an emergency shows and keeps."""
    oracle, app = world.oracle, world.app
    assert app is not None
    info = app.controller.get_emergency_mode_info()
    oracle.require(bool(info["active"]), f"{down} is down, and there is no emergency: {info}")
    oracle.require(info["failed_vpn"] == down, f"{down} is down, and {info['failed_vpn']} is shown as failed")
    ghosts = [box.name for box in oracle.truth.engines(down) if oracle.truth.traceable(box)]
    oracle.require(not ghosts, f"{down} stays failed and has {ghosts} (invariant 2)")
    policy = world.settings.policy
    left = [vpn for vpn in policy.vpns if vpn != down]
    share = {vpn: min(n, len(policy.ports[vpn])) for vpn, n in even(policy.min_replicas, policy.vpns).items()}
    carried = {vpn: sum(b.labels.get(REQUESTED) != "true" for b in oracle.truth.engines(vpn)) for vpn in left}
    room = len(oracle.truth.engines()) < policy.max_replicas
    if all(share[vpn] for vpn in left):
        oracle.require(any(carried.values()), "an emergency left no engine at all")
    if str(policy.capacity) == "share" and room:
        short = [vpn for vpn in left if carried[vpn] < share[vpn]]
        oracle.require(not short, f"{short} carry less than their share: {carried} (section 4)")
    if str(policy.capacity) == "full" and room:
        wanted = {vpn: min(n, len(policy.ports[vpn])) for vpn, n in even(policy.min_replicas, left).items()}
        taken = {vpn: {b.labels.get("acestream.http_port") for b in oracle.truth.engines(vpn)} for vpn in left}
        free = {vpn: any(str(port) not in taken[vpn] for port in policy.ports[vpn]) for vpn in left}
        short = [vpn for vpn in left if carried[vpn] < wanted[vpn] and free[vpn]]
        oracle.require(not short, f"{short} carry less than their part of all: {carried} (section 4)")


def check_whole(world: World) -> None:
    """Invariant 6: every VPN carries its share, and all of it works."""
    oracle, policy = world.oracle, world.settings.policy
    assert world.app is not None
    mode = str(world.app.controller.state.mode)
    oracle.require(mode == "normal", f"the faults have stopped and the mode is {mode}")
    total = len(oracle.truth.engines())
    for vpn, wanted in even(policy.min_replicas, policy.vpns).items():
        share = min(wanted, len(policy.ports[vpn]))
        engines = [box for box in oracle.truth.engines(vpn) if oracle.truth.traceable(box)]
        working = sum(world.host.answers(box.id) for box in engines)
        enough = sum(b.labels.get(REQUESTED) != "true" for b in engines) >= share
        taken = {box.labels.get("acestream.http_port") for box in oracle.truth.engines(vpn)}
        room = total < policy.max_replicas and any(str(port) not in taken for port in policy.ports[vpn])
        oracle.require(enough or not room, f"{vpn} has {working} engines, its share is {share}")
        # Which of two was started first, nobody can tell after the clock was set back, but an engine that can be asked.
        told = [b for b in engines if "acestream.http_port" in b.labels or oracle.truth.set_back_at == NEVER]
        idle = [f"{b.name} ({b.state}, broken {b.broken})" for b in told if not oracle.host.answers(b.id)]
        oracle.require(not idle, f"{vpn} has {len(engines)} engines, and these do not work: {idle}")
    for box in world.host.boxes.values():
        if box.name.startswith(BY_HAND):
            continue
        known = box.name in policy.vpns or box.name.startswith("other") or oracle.truth.vpn_of(box) is not None
        oracle.require(known, f"{box.name} is a container that nobody made")
