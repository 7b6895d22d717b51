"""One whole simulated life: faults, one VPN that stays down, recovery, calm, and what must have come of it."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.core.model import ContainerState
from tests.simulation.books import Ear
from tests.simulation.engines import MANAGED, ON_FAILURE, own
from tests.simulation.fate import Fate
from tests.simulation.fate_field import FieldFate
from tests.simulation.steps import even
from tests.simulation.truth import BY_HAND, NEVER, REQUESTED
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.oracle import Oracle
    from tests.support.virtual_time import VirtualClock

CONVERGED_WITHIN_S = 3600.0
"""How long after the last fault the fleet may take to be whole, seconds: what a VPN that has flapped for an hour is
held back, a stabilization, a start, back-offs, and three rounds of the health manager for each engine that does not
answer, of which it replaces no more than some an hour."""
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


async def live(seed: int, clock: VirtualClock, hours: float = 2.0, *, field: bool = False) -> Oracle:
    """One whole life, with `field` under all that was met in the field besides.

    Raises where a claim is false, with the end of the story and how to see it again."""
    directory = simulated_directory()
    with listening() as ear:
        world = World(seed, clock, directory, ear, field=field)
        try:
            return await _live(world, hours)
        except BaseException as error:
            error.add_note("\n".join(world.oracle.story[-int(os.environ.get("MAYDAY_STORY", "60")) :]))
            again = f"--seeds 1 --first {seed} --hours {hours:g} --story" + " --field" * field
            error.add_note(f"replay: python -m tests.simulation.run {again}")
            raise
        finally:
            shutil.rmtree(directory, ignore_errors=True)


async def _live(world: World, hours: float) -> Oracle:
    oracle = world.oracle
    await world.start()
    await (FieldFate if world.field else Fate)(world).happen(hours * 3600)
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
    ghosts = [b.name for b in oracle.truth.own_engines(down) if oracle.truth.traceable(b) and not b.troubles]
    carriers = oracle.truth.carriers(down, 0.0, strict=True)
    policy = world.settings.policy
    if carriers or policy.min_replicas == 0:
        oracle.require(not ghosts, f"{down} stays failed beside {carriers} and has {ghosts} (invariant 2)")
        check_parked(world, down)
    left = [vpn for vpn in policy.vpns if vpn != down]
    share = even(policy.min_replicas, policy.vpns)
    carried = {vpn: planned(world, vpn) for vpn in left}
    # Where the engines of the failed VPN take every place of MAX_REPLICAS, there is no room for relief.
    room = len(oracle.truth.own_engines()) < policy.max_replicas
    if room and all(share[vpn] for vpn in left):
        oracle.require(bool(carriers) or any(carried.values()), "an emergency left no engine at all")
    wanted = dict.fromkeys(left, 0)
    if str(policy.capacity) == "share":
        wanted = {vpn: share[vpn] for vpn in left}
    if str(policy.capacity) == "full":
        wanted = even(policy.min_replicas, left)
    if room:
        check_carried(world, wanted)


def planned(world: World, vpn: str) -> int:
    """How many engines of its share a VPN has."""
    return sum(box.labels.get(REQUESTED) != "true" for box in world.oracle.truth.own_engines(vpn))


def check_carried(world: World, wanted: dict[str, int]) -> None:
    """Every VPN has what it should carry, but for what requests and full ports leave no room for."""
    oracle, policy = world.oracle, world.settings.policy
    beside = sum(box.labels.get(REQUESTED) == "true" for box in oracle.truth.own_engines())
    counted = {vpn: min(planned(world, vpn), wanted.get(vpn, 0)) for vpn in policy.vpns}
    for vpn, number in wanted.items():
        ports = {str(port) for port in policy.ports[vpn]}
        strangers = {b.labels.get("acestream.http_port") for b in oracle.truth.engines(vpn) if not own(b)}
        requested = {
            b.labels.get("acestream.http_port")
            for b in oracle.truth.own_engines(vpn)
            if b.labels.get(REQUESTED) == "true"
        }
        possible = min(number, len(ports - strangers - requested))
        full = beside + sum(counted.values()) >= policy.max_replicas
        oracle.require(
            planned(world, vpn) >= possible or full,
            f"{vpn} has {planned(world, vpn)} engines and should carry {possible}; {beside} were requested, "
            f"of the rest {counted} count, the limit is {policy.max_replicas} (invariant 6)",
        )


def check_parked(world: World, down: str) -> None:
    """Engines of others on a VPN that stays failed do not run, but for those that their owner took back.

    Nor those that their owner made during the failure, for all that Docker's clock tells: set back, it may be wrong.
    """
    oracle = world.oracle
    failed_wall = oracle.failed_wall.get(down, NEVER)
    for box in oracle.truth.engines(down):
        theirs = not own(box) and box.labels.get(ON_FAILURE, "park") == "park"
        known = oracle.truth.traceable(box) and box.id not in oracle.owners_again and not box.troubles
        running = box.state is ContainerState.RUNNING and box.created_at < failed_wall
        oracle.require(
            not (theirs and known and running), f"{box.name} on the failed {down} was not parked (section 4)"
        )


def check_brought_back(world: World) -> None:
    """Invariant 11: what Mayday stopped runs again, wherever it can."""
    oracle = world.oracle
    for key in sorted(oracle.parked - oracle.owners_again):
        box = world.host.boxes.get(key)
        if box is not None and box.network in world.host.boxes:
            running = box.state is ContainerState.RUNNING or box.crashes or bool(box.troubles)
            oracle.require(running, f"{box.name} was parked, and was not started again (invariant 11)")


def check_whole(world: World) -> None:
    """Invariant 6: every VPN carries its share, and all of it works."""
    oracle, policy = world.oracle, world.settings.policy
    assert world.app is not None
    mode = str(world.app.controller.state.mode)
    oracle.require(mode == "normal", f"the faults have stopped and the mode is {mode}")
    check_carried(world, even(policy.min_replicas, policy.vpns))
    check_brought_back(world)
    for vpn in policy.vpns:
        engines = [b for b in oracle.truth.own_engines(vpn) if oracle.truth.traceable(b) and not b.troubles]
        # Which of two was started first, nobody can tell after the clock was set back, but an engine that can be asked.
        told = [b for b in engines if "acestream.http_port" in b.labels or oracle.truth.set_back_at == NEVER]
        told = [b for b in told if not oracle.truth.looks_connected(b)]
        if not any(oracle.truth.engines_are.works(box) for box in oracle.truth.engines(vpn)):
            # Where none answers it may be Mayday's own way to them that is broken, and none is replaced.
            told = [b for b in told if not (b.broken and b.state is ContainerState.RUNNING)]
        idle = [f"{b.name} ({b.state}, broken {b.broken})" for b in told if not oracle.truth.engines_are.works(b)]
        oracle.require(not idle, f"{vpn} has {len(engines)} engines of Mayday's own, and these do not work: {idle}")
    for box in world.host.boxes.values():
        if not own(box) and (box.name.startswith(BY_HAND) or MANAGED not in box.labels):
            continue
        known = box.name in policy.vpns or box.name.startswith("other") or oracle.truth.vpn_of(box) is not None
        oracle.require(known, f"{box.name} is a container that nobody made")
