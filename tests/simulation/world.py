"""The host, and the lives of Mayday on it: started, stopped, killed between two steps, rebooted."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from exporter.app import App
from exporter.core.model import ContainerState
from exporter.runtime.simulated import Effect, Faults, SimulatedRuntime
from exporter.runtime.simulated_host import SimulatedHost
from tests.simulation.alertmanager import Alertmanager, own
from tests.simulation.audit import AuditedRuntime, Snare
from tests.simulation.books import check_books, check_history, check_pages, check_restored, check_same, document
from tests.simulation.drawn import ALERT_EXPIRY_S, draw_settings
from tests.simulation.network import Door, Network
from tests.simulation.oracle import Oracle
from tests.simulation.steps import PATIENCE_S
from tests.simulation.truth import NEVER, Truth
from tests.simulation.watch import Life

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exporter.runtime.base import ContainerEvent
    from exporter.runtime.simulated_host import Box
    from tests.simulation.books import Ear
    from tests.support.virtual_time import VirtualClock

STABILIZATION_S = 120.0
LOOKS_EVERY_S = 1.0
DISK_TRIED_WITHIN_S = 62.0
"""How soon a journal that was kept in memory is on disk again once that is possible, seconds."""


class World:
    """One host, everything on it drawn from a seed."""

    def __init__(self, seed: int, clock: VirtualClock, directory: Path, ear: Ear, *, field: bool = False) -> None:
        """With `field`, everything that was met in the field happens too."""
        self.field = field
        self.rng = random.Random(seed)
        self.clock = clock
        self.directory = directory
        self.ear = ear
        self.settings, delay_s = draw_settings(self.rng, directory / "state", field=field)
        policy = self.settings.policy
        self.host = SimulatedHost(clock, random.Random(seed + 1))
        self.runtime = SimulatedRuntime(self.host, on_effect=self._born, before_effect=self._taken)
        self.truth = Truth(self.host, clock, policy.vpns)
        self.oracle = Oracle(self.host, clock, self.settings, self.truth)
        self.oracle.tally = self.runtime.happened
        self.oracle.evacuation_delay_s = delay_s
        self.oracle.crisp = self._crisp
        self._eventful_at = 0.0
        """When events were last lost or late, or Docker answered badly."""
        self.tally = self.oracle.tally
        self.alertmanager = Alertmanager(self.truth, self.rng, self.tally, self._deliver)
        self.network = Network(self.truth, self.alertmanager, self.tally, self.oracle.unreachable)
        self.oracle.forwards = self.network.forwarded
        self.snare = Snare()
        self.lives = 0
        self.app: App | None = None
        self.door: Door | None = None
        self.audited: AuditedRuntime | None = None
        self.born_broken = 0.0
        self.disk_s = 0.0
        """How long a write to the journal waits for the disk at most."""
        self.disk_away = False
        self.disk_back_at = NEVER
        self._write: asyncio.TimerHandle | None = None
        self._was: Life | None = None
        self.checks: dict[str, float | None] = {}
        """Health check intervals of the VPNs."""
        for name in policy.vpns:
            self.checks[name] = self.rng.choice([None, 5.0, 5.0])
            self.host.add_vpn(name, interval_s=self.checks[name], retries=3)
        self.truth.begin()
        self.host.listeners.append(lambda _event: self.oracle.count())
        self.host.listeners.append(self._started)
        self.tally[f"fleet: {len(policy.vpns)} VPNs"] += 1
        self.tally[f"fleet: EMERGENCY_CAPACITY {policy.capacity}"] += 1
        self.tally["fleet: MIN_REPLICAS leaves a remainder"] += policy.min_replicas % len(policy.vpns) != 0
        self.tally["fleet: few ports"] += len(policy.ports["vpn1"]) < 10
        self.tally["fleet: ALERTMANAGER_URL is set"] += self.settings.alertmanager_url is not None
        self.oracle.tell(
            f"seed {seed}: {len(policy.vpns)} VPNs, MIN_REPLICAS {policy.min_replicas}, "
            f"MAX_REPLICAS {policy.max_replicas}, EMERGENCY_CAPACITY {policy.capacity}"
        )

    def _born(self, effect: Effect) -> None:
        """A container was made: it may never work."""
        if effect.operation == "create" and self.rng.random() < self.born_broken:
            box = self.host.find(effect.name)
            # Without the label of its port nobody can ask it, and nobody can tell.
            if "acestream.http_port" in box.labels:
                self.tally["engine: never becomes healthy"] += 1
                box.broken = True

    def _taken(self, operation: str, box: Box, _begun: float) -> None:
        """Mayday's call takes a container away at this moment."""
        if operation in {"remove", "stop"}:
            self.oracle.capacity.taken(box)

    def _started(self, event: ContainerEvent) -> None:
        if event.action == "start" and event.id in self.host.boxes:
            self.oracle.capacity.started(self.host.boxes[event.id])
            # It is back; what happens to it from now on is not Mayday's doing.
            self.oracle.parked.discard(event.id)

    # --- lives -------------------------------------------------------------------------------------------------------

    @property
    def _path(self) -> Path:
        return self.directory / "state" / "mayday.db"

    async def start(self) -> None:
        """Start Mayday."""
        oracle = self.oracle
        remembered = None if self.disk_away else document(self._path)
        self.lives += 1
        oracle.tell(f"Mayday starts, life {self.lives}")
        self.audited = audited = AuditedRuntime(self.runtime, oracle, self.snare)
        make: Callable[..., AuditedRuntime] = lambda _settings, _count: audited
        session: Any = self.network
        self.app = app = App(self.settings, make, clock=self.clock, session=session, serve=False, threaded=False)
        self._slow_disk(app)
        self._watch(app)
        self.ear.heard.clear()
        life = Life(app, self.lives)
        audited.life = oracle.life = life
        self.network.life = self.lives
        self.truth.life_began = self.clock.age()
        oracle.phase_since = dict.fromkeys(oracle.truth.vpns, self.clock.age())
        await app.__aenter__()
        self.door = Door(app)
        check_restored(oracle, app, remembered)
        if self._was is not None:
            check_same(oracle, self._was, app)
        life.shown = app.controller.snapshot
        oracle.targets.clear()

    def _watch(self, app: App) -> None:
        """Have the oracle look after each step of the controller."""
        publish = app.controller.publish

        def publish_and_look() -> None:
            publish()
            if self.app is app:
                self.oracle.look()
                self.snare.step()

        app.controller.publish = publish_and_look  # type: ignore[method-assign]

    def _slow_disk(self, app: App) -> None:
        """Let the journal write a moment after it was told, as its thread does: a kill in between loses it."""
        journal = app.journal

        def later() -> None:
            if journal._usable and self._write is None:
                delay = self.disk_s * self.rng.random()
                self._write = asyncio.get_running_loop().call_later(delay, write)

        def write() -> None:
            self._write = None
            journal._guarded(journal._drain)

        journal._schedule = later  # type: ignore[method-assign]

    async def stop(self, *, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Stop Mayday as SIGTERM does; something else may happen as soon as it was told."""
        app, life = self.app, self.oracle.life
        if app is None or life is None:
            return
        self.oracle.tell("Mayday is stopped")
        self.tally["Mayday: stopped"] += 1
        app.controller.close()
        before = self.oracle.changes
        meanwhile()
        await app.__aexit__()
        self._cancel_write()
        self.oracle.require(self.oracle.changes == before, "stopping began something new (invariant 7)")
        check_books(self.oracle, life, self.ear.heard)
        if self._disk_steady():
            check_history(self.oracle, life, self._path)
        self._was = life if self._disk_steady() else None
        self._bury(life)

    async def kill(self) -> None:
        """Kill Mayday between two steps: its tasks are gone, the calls it sent are carried out all the same."""
        app, life = self.app, self.oracle.life
        if app is None or life is None:
            return
        self.oracle.tell("Mayday is killed")
        self.tally["Mayday: killed"] += 1
        check_books(self.oracle, life, self.ear.heard)
        journal = app.journal
        lost = bool(journal._rows) or journal._document is not None
        self.tally["journal: last writes lost at a kill"] += lost
        self._cancel_write()
        journal._closed = True
        journal._store.close()
        self._was = life if self._disk_steady() and not lost else None
        self._bury(life)
        app.jobs._closing = True
        app.jobs._scheduler.shutdown(wait=False)
        ours = {asyncio.current_task(), *self.runtime._calls}
        mayday = [task for task in asyncio.all_tasks() if task not in ours]
        for task in mayday:
            task.cancel()
        await asyncio.gather(*mayday, return_exceptions=True)
        await self.runtime.close()

    def _disk_steady(self) -> bool:
        """Whether the disk is there for so long that the journal must be on it."""
        return not self.disk_away and self.clock.age() - self.disk_back_at > DISK_TRIED_WITHIN_S

    def _bury(self, life: Life) -> None:
        life.dead = True
        if not self._disk_steady():
            # What it kept in memory only has died with it, and no container tells that Mayday had stopped it.
            self.oracle.parked.clear()
        self.app = self.door = self.audited = self.oracle.life = None
        self.oracle.requests = 0

    def _cancel_write(self) -> None:
        if self._write is not None:
            self._write.cancel()
            self._write = None

    def set_minimum(self, minimum: int) -> None:
        """Mayday's next life has another MIN_REPLICAS; what the last one showed is not what the next one must."""
        self.settings = replace(self.settings, policy=replace(self.settings.policy, min_replicas=minimum))
        self.oracle.settings = self.settings

    # --- time --------------------------------------------------------------------------------------------------------

    async def pass_(self, seconds: float) -> None:
        """Time passes; the oracle looks also where Mayday does nothing."""
        end = self.clock.age() + seconds
        while True:
            left = end - self.clock.age()
            await asyncio.sleep(min(max(left, 0.0), LOOKS_EVERY_S))
            self.look()
            if left <= LOOKS_EVERY_S:
                return

    def look(self) -> None:
        """Note how Docker answers, look, and end where something is wrong."""
        answering = self._answers() and self.app is not None
        if not answering:
            self.oracle.answering_since = None
        elif self.oracle.answering_since is None:
            self.oracle.answering_since = self.clock.age()
        self._crisp()
        self.oracle.look()
        self.tally["alert: expires unheard"] += self.truth.expire(ALERT_EXPIRY_S)
        if self.app is not None:
            self.app.journal._guarded(self.app.journal._store.housekeep)
        if self.oracle.violation is not None:
            raise self.oracle.violation

    def _answers(self) -> bool:
        """Whether Docker answers every call about as soon as usual, and makes engines that work."""
        faults = self.runtime.faults
        trouble = max(faults.unanswered, faults.late, faults.refused, faults.misread) or faults.image_missing
        stuck = any(box.troubles for box in self.host.boxes.values())
        return self.host.up and not trouble and not stuck and faults.slow <= 5 and not self.born_broken

    def _crisp(self) -> bool:
        """Whether for a while Docker has answered at once, and every event was told."""
        faults = self.runtime.faults
        late = faults.lost_events or faults.delayed_events_s or faults.deaf or faults.slow > 1
        if late or not self._answers():
            self._eventful_at = self.clock.age()
        snapshot = self.app.controller.snapshot if self.app else None
        if snapshot is None or not snapshot.events_connected or not snapshot.docker_up:
            self._eventful_at = self.clock.age()
        return self.clock.age() - self._eventful_at > PATIENCE_S

    async def look_at_pages(self) -> None:
        """Compare what the web pages say."""
        if self.app is not None and self.door is not None:
            self.tally["pages: compared"] += 1
            await check_pages(self.oracle, self.door, self.app)

    # --- messages ----------------------------------------------------------------------------------------------------

    async def _deliver(self, message: dict[str, Any]) -> None:
        """A webhook reaches Mayday, if it is there."""
        door, life, oracle = self.door, self.oracle.life, self.oracle
        if door is None or life is None:
            self.tally["webhook: nobody there"] += 1
            return
        # Noted first: by the time of the answer the next step may have been taken.
        for item in (item for item in message["alerts"] if not own(item)):
            firing = item["status"] == "firing"
            vpn, starts_at = item["labels"]["vpn"], item["startsAt"]
            self.truth.hear(item["fingerprint"], vpn, starts_at, firing=firing, life=0)
        status, body = await door.call("POST", "/webhook/alertmanager", message)
        oracle.tell(f"webhook: {[(i['fingerprint'], i['status']) for i in message['alerts']]}: {status} {body}")
        if oracle.life is not life:
            return
        oracle.require(status == 200, f"a webhook was answered {status}: {body}")
        if all(own(item) for item in message["alerts"]):
            self.tally["alert: Mayday's own"] += 1
            oracle.require(body == {"alerts": {"own": len(message["alerts"])}}, f"own alerts: {body} (invariant 10)")
        for item in message["alerts"]:
            told = self.truth.told.get(item["fingerprint"])
            if told is not None and told.starts_at == item["startsAt"] and told.firing:
                told.life = life.number

    # --- the end of all faults ---------------------------------------------------------------------------------------

    async def recover(self, *, except_for: str | None = None) -> None:
        """No more faults: every VPN runs and is healthy, but for one that may stay down."""
        self.oracle.tell(f"the faults stop{f', but {except_for} stays down' if except_for else ''}")
        self.runtime.faults = Faults()
        self.runtime.daemon_up()
        for box in self.host.boxes.values():
            box.troubles.clear()
            box.crashes = False
            if box.state in {ContainerState.REMOVING, ContainerState.DEAD}:
                box.state = ContainerState.DEAD
        self.network.unreachable.clear()
        self.born_broken = self.disk_s = 0.0
        if self.disk_away:
            self.disk_back()
        last_words = self.alertmanager.end()
        if self.app is None:
            await self.start()
        assert self.door is not None
        for item in last_words:
            await self._deliver({"version": "4", "alerts": [item]})
        for name in self.oracle.truth.vpns:
            self.truth.drills.pop(name, None)
            await self.door.call("DELETE", f"/control/drill/{name}")
            self._mend(name, down=name == except_for)

    def _mend(self, name: str, *, down: bool) -> None:
        if not any(box.name == name for box in self.host.boxes.values()):
            self.host.add_vpn(name, interval_s=self.checks[name], retries=3)
        box = self.host.find(name)
        self.host.set_truth(name, good=not down)
        if down:
            self.host.stop(box)
            return
        if box.state is ContainerState.PAUSED:
            self.host.unpause(name)
        if box.frozen is not None:
            self.host.stop(box)
        if box.state is ContainerState.RESTARTING:
            self.host.stop(box)
        if box.state is not ContainerState.RUNNING:
            self.host.start(box)

    def disk_goes(self) -> None:
        """STATE_DIR cannot be used: something else stands in its place."""
        self.tally["journal: the disk goes away"] += 1
        self.disk_away = True
        state = self.directory / "state"
        if state.exists():
            state.rename(self.directory / "away")
        state.write_text("in the way")

    def disk_back(self) -> None:
        """STATE_DIR is there again, as it was."""
        self.disk_away = False
        self.disk_back_at = self.clock.age()
        state = self.directory / "state"
        state.unlink()
        if (self.directory / "away").exists():
            (self.directory / "away").rename(state)
