"""One simulated life of a fleet: everything drawn from a seed, faults included, until the faults stop."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.app import App
from exporter.config import from_environment
from exporter.core.alerts import Alert
from exporter.core.model import ContainerState
from exporter.errors import ConflictError, MissingError
from exporter.runtime.simulated import Faults, SimulatedRuntime
from exporter.runtime.simulated_host import SimulatedHost
from tests.simulation.oracle import LOOKS_EVERY_S, AuditedRuntime, Oracle, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.config import Settings
    from exporter.core.model import Engine
    from tests.simulation.virtual_time import VirtualClock

STABILIZATION_S = 120.0
CONVERGED_WITHIN_S = 900.0
"""How long after the last fault the fleet may take to be whole, seconds: a stabilization, a start, back-offs, and
three rounds of the health manager for each engine that does not answer."""
CALM_S = 300.0


class World:
    """The host, the lives of Mayday on it, and what happens to both."""

    def __init__(self, seed: int, clock: VirtualClock, directory: Path) -> None:
        self.rng = random.Random(seed)
        self.clock = clock
        self.settings = self._settings(directory)
        policy = self.settings.policy
        self.host = SimulatedHost(clock, random.Random(seed + 1))
        self.runtime = SimulatedRuntime(self.host)
        self.oracle = Oracle(self.host, policy.vpns, policy.max_replicas, policy.stabilization_s)
        self.app: App | None = None
        self.lives = 0
        self.firing: dict[str, Alert] = {}
        self.jumped = False
        for name in policy.vpns:
            self.host.add_vpn(name, interval_s=self.rng.choice([None, 5.0, 5.0]), retries=3)
        self.oracle.tell(
            f"seed {seed}: {len(policy.vpns)} VPNs, MIN_REPLICAS {policy.min_replicas}, "
            f"MAX_REPLICAS {policy.max_replicas}, EMERGENCY_CAPACITY {policy.capacity}"
        )

    def _settings(self, directory: Path) -> Settings:
        count = self.rng.choice([2, 2, 2, 3, 4, 5])
        minimum = self.rng.choice([0, 1, 2, 3, 5, 7, 10])
        names = [f"vpn{number}" for number in range(1, count + 1)]
        environment = {
            "GLUETUN_CONTAINER_NAME": names[0],
            **{f"GLUETUN_CONTAINER_NAME_{number}": name for number, name in enumerate(names[1:], start=2)},
            "MIN_REPLICAS": str(minimum),
            "MAX_REPLICAS": str(minimum + self.rng.choice([0, 1, minimum, 2 * minimum])),
            "EMERGENCY_CAPACITY": self.rng.choice(["reduced", "share", "full"]),
            "ENGINE_STOP_TIMEOUT_S": self.rng.choice(["0", "0", "3"]),
            "STATE_DIR": str(directory),
        }
        return replace(from_environment(environment), alert_expiry_s=3600.0)

    # --- lives -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start Mayday."""
        runtime: Callable[..., AuditedRuntime] = lambda _settings, _count: AuditedRuntime(self.runtime, self.oracle)

        async def probe(engine: Engine, _address: str, /) -> bool:
            await asyncio.sleep(0.01)
            return self.host.answers(engine.id)

        self.lives += 1
        self.oracle.tell(f"Mayday starts, life {self.lives}")
        self.app = App(self.settings, runtime, clock=self.clock, probe=probe, serve=False, threaded=False)
        self.oracle.app = self.app
        self.oracle.phases.clear()
        await self.app.__aenter__()

    async def stop(self) -> None:
        """Stop Mayday as SIGTERM does."""
        if self.app is not None:
            self.oracle.tell("Mayday is stopped")
            before = self.oracle.changes
            await self.app.__aexit__()
            self.oracle.require(self.oracle.changes == before, "stopping began something new (invariant 7)")
            await self._books()
            self.app = self.oracle.app = None

    async def kill(self) -> None:
        """Kill Mayday between two steps: its tasks are gone, the calls it sent are carried out all the same."""
        app = self.app
        if app is None:
            return
        self.oracle.tell("Mayday is killed")
        self.app = self.oracle.app = None
        ours = {asyncio.current_task(), *self.runtime._calls}
        app.jobs._closing = True
        app.jobs._scheduler.shutdown(wait=False)
        mayday = [task for task in asyncio.all_tasks() if task not in ours]
        for task in mayday:
            task.cancel()
        await asyncio.gather(*mayday, return_exceptions=True)
        await self.runtime.close()
        await app.journal.close()

    async def _books(self) -> None:
        """Invariant 8: the counters and the history tell the same."""
        # The journal is closed by now; what it wrote is read back from its file.
        assert self.app is not None
        from exporter.journal import read_history

        records = read_history(Path(str(self.settings.state_dir)) / "mayday.db", kind="phase", limit=100_000)
        started = read_history(Path(str(self.settings.state_dir)) / "mayday.db", kind="life", limit=10_000)
        last_start = max(record.id for record in started if record.reason == "started")
        told = sum(record.id > last_start for record in records)
        registry = self.app.metrics.registry
        counted = sum(
            sample.value
            for family in registry.collect()
            if family.name == "mayday_vpn_transitions"
            for sample in family.samples
        )
        self.oracle.require(counted == told, f"{counted} transitions counted, {told} in the history (invariant 8)")

    # --- what happens ------------------------------------------------------------------------------------------------

    async def happen(self, seconds: float) -> None:
        """Faults for so many seconds, at random times."""
        end = self.clock.mono() + seconds
        actions = [
            (12, self._flap),
            (8, self._container),
            (4, self._engine),
            (5, self._alert),
            (2, self._drill),
            (3, self._calls),
            (3, self._daemon),
            (2, self._wall),
            (2, self._restart),
        ]
        weights = [weight for weight, _ in actions]
        while self.clock.mono() < end:
            await self._pass(self.rng.choice([0.0, 0.05, 0.3, 2.0, 10.0, 60.0, 200.0]) * self.rng.random())
            act = self.rng.choices([action for _, action in actions], weights)[0]
            await act()

    async def _pass(self, seconds: float) -> None:
        """Time passes; the oracle looks now and then."""
        end = self.clock.mono() + seconds
        while True:
            left = end - self.clock.mono()
            await asyncio.sleep(min(max(left, 0.0), LOOKS_EVERY_S))
            self.oracle.look()
            if self.oracle.violation is not None:
                raise self.oracle.violation
            if left <= LOOKS_EVERY_S:
                return

    def _vpn(self) -> str:
        return self.rng.choice(self.oracle.vpns)

    async def _flap(self) -> None:
        name, good = self._vpn(), self.rng.random() < 0.5
        with suppress(MissingError):
            self.host.set_truth(name, good=good)
            self.oracle.tell(f"the tunnel of {name} is {'good' if good else 'bad'}")

    async def _container(self) -> None:
        name = self._vpn()
        word = self.rng.choice(["kill", "stop", "start", "start", "pause", "unpause", "unpause", "restart", "recreate"])
        self.oracle.tell(f"somebody: {word} {name}")
        with suppress(MissingError, ConflictError):
            box = self.host.find(name)
            if word in {"stop", "start", "restart"}:
                getattr(self.host, word)(box)
            else:
                getattr(self.host, word)(name)

    async def _engine(self) -> None:
        engines = self.oracle.engines()
        if not engines:
            return
        box = self.rng.choice(engines)
        word = self.rng.choice(["crash", "break", "remove", "start", "stubborn"])
        self.oracle.tell(f"engine {box.name}: {word}")
        with suppress(MissingError, ConflictError):
            if word == "crash":
                box.restarts_itself = self.rng.random() < 0.5
                self.host.kill(box.name)
            elif word == "break":
                box.broken = True
            elif word == "remove":
                self.host.remove(box)
            elif word == "start":
                self.host.start(box)
            else:
                box.stubborn = True

    async def _alert(self) -> None:
        if self.app is None:
            return
        vpn = self._vpn()
        name = self.rng.choice(["ProbeFailed", "TunnelSlow"])
        key = f"{name}-{vpn}"
        if key in self.firing and self.rng.random() < 0.6:
            alert = replace(self.firing.pop(key), firing=False)
        else:
            alert = self.firing.get(key) or Alert(key, self.clock.wall(), vpn, name, firing=True)
            self.firing[key] = alert
        heard = self.app.controller.hear(alert)
        self.oracle.tell(f"alert {name} about {vpn} firing={alert.firing}: {heard}")

    async def _drill(self) -> None:
        if self.app is not None:
            vpn = self._vpn()
            self.oracle.tell(f"drill on {vpn}")
            self.app.controller.start_drill(vpn, self.rng.choice([5.0, 60.0]), "simulated")

    async def _calls(self) -> None:
        r = self.rng.random
        self.runtime.faults = Faults(
            unanswered=self.rng.choice([0, 0, 0.05]),
            late=self.rng.choice([0, 0, 0.1]),
            refused=self.rng.choice([0, 0, 0.2]),
            lost_events=self.rng.choice([0, 0.3, 1.0]),
            repeated_events=r() * 0.3,
            delayed_events_s=self.rng.choice([0, 0, 0.2, 20.0]),
            deaf=r() < 0.2,
            image_missing=r() < 0.1,
            slow=self.rng.choice([1, 1, 5, 40]),
        )
        self.oracle.tell(f"calls: {self.runtime.faults}")
        if r() < 0.5:
            await self._pass(30 * r())
            self.runtime.faults = Faults()
            self.oracle.tell("calls: no more faults")

    async def _daemon(self) -> None:
        self.oracle.tell("Docker goes away")
        self.runtime.daemon_down()
        await self._pass(self.rng.choice([0.5, 20.0, 120.0]) * self.rng.random())
        self.runtime.daemon_up()
        self.oracle.tell("Docker is back")

    async def _wall(self) -> None:
        seconds = self.rng.choice([-7200.0, -30.0, 30.0, 7200.0])
        self.jumped = True
        self.clock.jump(seconds)
        self.oracle.tell(f"the wall clock jumps by {seconds:g} s")

    async def _restart(self) -> None:
        await (self.kill() if self.rng.random() < 0.6 else self.stop())
        await self._pass(self.rng.choice([0.0, 1.0, 100.0]) * self.rng.random())
        await self.start()

    # --- the end of all faults ---------------------------------------------------------------------------------------

    async def recover(self, *, except_for: str | None = None) -> None:
        """No more faults: every VPN runs and is healthy, but for one that may stay down."""
        self.oracle.tell(f"the faults stop{f', but {except_for} stays down' if except_for else ''}")
        self.runtime.faults = Faults()
        self.runtime.daemon_up()
        if self.app is None:
            await self.start()
        assert self.app is not None
        for alert in list(self.firing.values()):
            self.app.controller.hear(replace(alert, firing=False))
        self.firing.clear()
        for name in self.oracle.vpns:
            self.app.controller.end_drill(name)
            box = self.host.find(name)
            if name == except_for:
                self.host.set_truth(name, good=False)
                self.host.stop(box)
                continue
            self.host.set_truth(name, good=True)
            if box.state is ContainerState.PAUSED:
                self.host.unpause(name)
            if not running(box):
                self.host.start(box)


def simulated_directory() -> Path:
    """A directory for one simulation's journal; in memory where the system has such a place."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="mayday-sim-", dir=shared if shared.is_dir() else None))


async def live(seed: int, clock: VirtualClock, hours: float = 2.0) -> Oracle:
    """One whole life: faults, one VPN that stays down, recovery, calm. Raises where a claim is false."""
    directory = simulated_directory()
    world = World(seed, clock, directory)
    try:
        return await _live(world, hours)
    except BaseException as error:
        error.add_note("\n".join(world.oracle.story[-60:]))
        error.add_note(f"replay: python -m tests.simulation.run --seeds 1 --first {seed} --hours {hours:g} --story")
        raise
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _live(world: World, hours: float) -> Oracle:
    oracle = world.oracle
    await world.start()
    await world.happen(hours * 3600)
    down = world.rng.choice(oracle.vpns)
    await world.recover(except_for=down)
    await world._pass(CONVERGED_WITHIN_S)
    check_one_down(world, down)
    await world.recover()
    await world._pass(CONVERGED_WITHIN_S)
    check_whole(world)
    before = oracle.changes
    await world._pass(CALM_S)
    oracle.require(oracle.changes == before, "the fleet was whole, and something was changed (invariant 6)")
    check_whole(world)
    await world.stop()
    return oracle


def check_one_down(world: World, down: str) -> None:
    """Invariant 2, and what an emergency shows."""
    oracle, app = world.oracle, world.app
    assert app is not None
    info = app.controller.get_emergency_mode_info()
    oracle.require(bool(info["active"]), f"{down} is down, and there is no emergency: {info}")
    oracle.require(info["failed_vpn"] == down, f"{down} is down, and {info['failed_vpn']} is shown as failed")
    oracle.require(not oracle.engines(down), f"{down} stays failed and has engines (invariant 2)")
    left = [vpn for vpn in oracle.vpns if vpn != down]
    if world.settings.policy.min_replicas >= len(oracle.vpns):
        oracle.require(any(oracle.engines(vpn) for vpn in left), "an emergency left no engine at all")


def check_whole(world: World) -> None:
    """Invariant 6: every VPN carries its share, and all of it works."""
    oracle, policy = world.oracle, world.settings.policy
    assert world.app is not None
    oracle.require(
        str(world.app.controller.state.mode) == "normal", "the faults have stopped and the mode is not normal"
    )
    each, rest = divmod(policy.min_replicas, len(oracle.vpns))
    total = len(oracle.engines())
    for index, vpn in enumerate(oracle.vpns):
        share = each + (index < rest)
        engines = oracle.engines(vpn)
        working = sum(world.host.answers(box.id) for box in engines)
        room = total < policy.max_replicas
        oracle.require(working >= share or not room, f"{vpn} has {working} working engines, its share is {share}")
        oracle.require(working == len(engines), f"{vpn} has {len(engines)} engines, {working} of them work")
