"""What happens to a world: every fault of the list, drawn from its seed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from exporter.core.model import ContainerState
from exporter.core.spec import EngineSpec
from exporter.errors import ConflictError, MissingError
from exporter.runtime.simulated import Faults
from exporter.runtime.simulated_box import Trouble
from tests.simulation.truth import BY_HAND, MADE, MANAGED, VPN
from tests.simulation.watch import ViolationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.runtime.simulated_host import Box
    from tests.simulation.world import World

RUBBISH: tuple[tuple[str, str, object], ...] = (
    ("POST", "/webhook/alertmanager", b"{"),
    ("POST", "/webhook/alertmanager", {"version": "9", "alerts": []}),
    ("POST", "/webhook/alertmanager", {"version": "4", "alerts": [{"status": "firing", "labels": {"vpn": "vpn1"}}]}),
    ("POST", "/engines", {"vpn": "nobody"}),
    ("POST", "/engines", {"vpm": "vpn1"}),
    ("DELETE", "/engines/nobody", None),
    ("POST", "/control/drill", {"vpn": "vpn1", "duration_seconds": -1}),
    ("POST", "/control/drill", {"vpn": "nobody"}),
    ("POST", "/control/emergency/enter", {"failed_vpn": "vpn1"}),
    ("GET", "/history?kind=nothing", None),
)


Action = tuple[int, "Callable[[], Awaitable[None]]"]
"""How likely something is, and what it is."""


class Fate:
    """Acts on one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self.host = world.host
        self.oracle = world.oracle
        self.tally = world.tally
        self._by_hand = 0

    async def happen(self, seconds: float) -> None:
        """Faults for so many seconds, at random times."""
        end = self.world.clock.age() + seconds
        actions = self.actions()
        weights = [weight for weight, _ in actions]
        while self.world.clock.age() < end:
            await self.world.pass_(self.rng.choice([0.0, 0.05, 0.3, 2.0, 10.0, 60.0, 200.0]) * self.rng.random())
            act = self.rng.choices([action for _, action in actions], weights)[0]
            await act()
            if self.rng.random() < 0.05:
                await self.world.look_at_pages()

    def actions(self) -> list[Action]:
        """What may happen, each with its weight."""
        return [
            (12, self._flap),
            (8, self._container),
            (3, self._all_vpns),
            (5, self._engine),
            (2, self._by_somebody),
            (5, self._alert),
            (2, self._api),
            (2, self._drill),
            (3, self._calls),
            (3, self._daemon),
            (2, self._wall),
            (2, self._restart),
            (3, self._snare),
            (1, self._reboot),
            (2, self._disk),
            (3, self._requests),
            (1, self._rubbish),
        ]

    def _vpn(self) -> str:
        return self.rng.choice(self.oracle.truth.vpns)

    def _did(self, what: str, story: str) -> None:
        self.tally[what] += 1
        self.oracle.tell(story)

    # --- VPNs --------------------------------------------------------------------------------------------------------

    async def _flap(self) -> None:
        name, good = self._vpn(), self.rng.random() < 0.5
        with suppress(MissingError):
            self.host.set_truth(name, good=good)
            self._did("VPN: health flaps", f"the tunnel of {name} is {'good' if good else 'bad'}")

    async def _container(self) -> None:
        word = self.rng.choice(
            ["kill", "stop", "start", "start", "pause", "unpause", "unpause", "restart", "recreate", "remove"]
        )
        self._to_vpn(self._vpn(), word)

    def _to_vpn(self, name: str, word: str) -> None:
        self.oracle.tell(f"somebody: {word} {name}")
        box = next((box for box in self.host.boxes.values() if box.name == name), None)
        with suppress(ConflictError):
            if box is None:
                self.host.add_vpn(name, interval_s=self.world.checks[name], retries=3, healthy=False)
                word = "made again"
            elif word in {"stop", "start", "restart", "remove"}:
                getattr(self.host, word)(box)
            else:
                getattr(self.host, word)(name)
            self.tally[f"VPN: {word}"] += 1

    async def _all_vpns(self) -> None:
        """All VPNs fail, in some order, and come back in another."""
        order = list(self.oracle.truth.vpns)
        self.rng.shuffle(order)
        pace = self.rng.choice([0.0, 0.2, 5.0, 30.0])
        down, up = self.rng.choice([("pause", "unpause"), ("stop", "start"), ("kill", "start")])
        for name in order:
            self._to_vpn(name, down)
            await self.world.pass_(pace * self.rng.random())
        await self.world.pass_(self.rng.choice([1.0, 60.0]) * self.rng.random())
        self.rng.shuffle(order)
        for name in order:
            self._to_vpn(name, up)
            await self.world.pass_(pace * self.rng.random())

    # --- engines -----------------------------------------------------------------------------------------------------

    async def _engine(self) -> None:
        engines = self.oracle.truth.engines()
        if not engines:
            return
        box = self.rng.choice(engines)
        word = self.rng.choice(["crash", "break", "vanish", "start", "stubborn", "cling", "pause"])
        self.oracle.tell(f"engine {box.name}: {word}")
        with suppress(MissingError, ConflictError):
            self._to_engine(box, word)

    def _to_engine(self, box: Box, word: str) -> None:
        if word == "crash":
            box.restarts_itself = self.rng.random() < 0.5
            self.host.kill(box.name)
        elif word == "break":
            if "acestream.http_port" not in box.labels:
                return
            box.broken = True
        elif word == "vanish":
            self.host.remove(box)
            if self.rng.random() < 0.5:
                delay = self.rng.choice([0.5, 20.0, 200.0]) * self.rng.random()
                asyncio.get_running_loop().call_later(delay, self._come_back, box)
        elif word == "start":
            self.host.start(box)
        elif word == "stubborn":
            box.stubborn = True
        elif word == "pause":
            self.host.pause(box.name)
        else:
            box.troubles["remove"] = self.rng.choice([Trouble.FAILS, Trouble.CONFLICT])
            delay = self.rng.choice([5.0, 60.0])
            asyncio.get_running_loop().call_later(delay, box.troubles.pop, "remove", None)
        self.tally[f"engine: {word}"] += 1

    def _come_back(self, box: Box) -> None:
        """Somebody makes the engine that vanished again, by hand."""
        spec = box.spec
        if spec is None or not self.host.up:
            return
        with suppress(MissingError, ConflictError):
            vpn = self.host.find(self.oracle.truth.ids.get(spec.network, ""))
            self._make(vpn, {key: value for key, value in spec.labels.items() if key != MADE})
            self.tally["engine: comes back"] += 1

    def _make(self, vpn: Box, labels: dict[str, str]) -> None:
        self._by_hand += 1
        box = self.host.create(EngineSpec(f"{BY_HAND}-{self._by_hand}", "simulated", vpn.id, labels))
        self.oracle.tell(f"somebody makes {box.name} on {vpn.name}")
        self.host.start(box)

    async def _by_somebody(self) -> None:
        """Engines by hand, with labels missing, and containers that are none of Mayday's business."""
        if self._by_hand > 12:
            return
        word = self.rng.choice(
            ["labelled", "no port label", "no label but the managed one", "not managed", "elsewhere"]
        )
        labels = {MANAGED: "acestream", VPN: self._vpn(), "acestream.http_port": str(self.rng.randint(19000, 19999))}
        vpn = next((b for b in self.host.boxes.values() if b.name == labels[VPN]), None)
        if vpn is None:
            return
        if word in {"no port label", "no label but the managed one"}:
            del labels["acestream.http_port"]
        if word == "no label but the managed one":
            del labels[VPN]
        if word == "not managed":
            del labels[MANAGED]
        if word == "elsewhere":
            vpn = self.host.add_vpn(f"other-{self._by_hand}", interval_s=None)
            del labels[VPN]
        with suppress(MissingError, ConflictError):
            self._make(vpn, labels)
            self.tally[f"by hand: {word}"] += 1

    # --- signals -----------------------------------------------------------------------------------------------------

    async def _alert(self) -> None:
        self.oracle.tell(self.world.alertmanager.change(self._vpn()))
        if self.rng.random() < 0.2:
            self.world.alertmanager.repeat()

    async def _api(self) -> None:
        manager = self.world.alertmanager
        manager.fault = self.rng.choice([None, None, "away", "slow", "rubbish"])
        manager.lossy = self.rng.choice([0.0, 0.0, 0.3, 1.0])
        self.oracle.tell(f"Alertmanager's API: {manager.fault}; webhooks lost: {manager.lossy}")

    async def _drill(self) -> None:
        life, door = self.oracle.life, self.world.door
        if life is None or door is None:
            return
        vpn, seconds = self._vpn(), self.rng.choice([5.0, 60.0])
        now = self.world.clock.age()
        known = self.oracle.truth.drills.get(vpn)
        self.oracle.truth.drills[vpn] = max(now + seconds, known[0] if known else 0.0), 0
        status, _ = await door.call("POST", "/control/drill", {"vpn": vpn, "duration_seconds": seconds})
        if status == 503:
            self.oracle.refused_drill(vpn)
            self._did("drill: refused", f"drill on {vpn} is refused")
            return
        self.oracle.require(status == 201, f"a drill was answered {status}")
        self.oracle.truth.drills[vpn] = now + seconds, life.number
        self._did("drill: declared", f"drill on {vpn} for {seconds:g} s")

    # --- Docker ------------------------------------------------------------------------------------------------------

    async def _calls(self) -> None:
        r = self.rng.random
        self.world.runtime.faults = Faults(
            unanswered=self.rng.choice([0, 0, 0.05]),
            late=self.rng.choice([0, 0, 0.1]),
            refused=self.rng.choice([0, 0, 0.2]),
            misread=self.rng.choice([0, 0, 0.2, 1.0]),
            lost_events=self.rng.choice([0, 0.3, 1.0]),
            repeated_events=r() * 0.3,
            delayed_events_s=self.rng.choice([0, 0, 0.2, 20.0]),
            deaf=r() < 0.2,
            image_missing=r() < 0.1,
            slow=self.rng.choice([1, 1, 5, 40]),
        )
        self.world.born_broken = self.rng.choice([0.0, 0.0, 0.3])
        self.oracle.unreachable.update(v for v in self.oracle.truth.vpns if r() < 0.1)
        self.world.network.forwards = {v: 50000 + i for i, v in enumerate(self.oracle.truth.vpns) if r() < 0.5}
        self.oracle.tell(f"calls: {self.world.runtime.faults}")
        if r() < 0.5:
            await self.world.pass_(30 * r())
            self.world.runtime.faults = Faults()
            self.world.born_broken = 0.0
            self.oracle.unreachable.clear()
            self.oracle.tell("calls: no more faults")

    async def _daemon(self) -> None:
        """Docker goes away for a while; its containers run on, or end with it and are started again."""
        how = self.rng.choice(["live-restore", "live-restore", "without live-restore", "health checks end"])
        self._did(f"Docker: restarted, {how}", f"Docker goes away ({how})")
        self.world.runtime.daemon_down()
        await self.world.pass_(self.rng.choice([0.5, 20.0, 120.0]) * self.rng.random())
        if how == "without live-restore":
            self._all_containers_restart()
        if how == "health checks end":
            for box in self.host.boxes.values():
                if box.interval_s is not None and box.state is ContainerState.RUNNING:
                    box.frozen = self.host.docker_time()
        self.world.runtime.daemon_up()
        self.oracle.tell("Docker is back")

    def _all_containers_restart(self) -> None:
        """As a daemon does at its start: what ran is started again, in no order; some engines find no network."""
        ran = [b for b in self.host.boxes.values() if b.state in {ContainerState.RUNNING, ContainerState.PAUSED}]
        for box in ran:
            self.host.stop(box)
        self.rng.shuffle(ran)
        for box in ran:
            with suppress(MissingError, ConflictError):
                self.host.start(box)

    async def _wall(self) -> None:
        seconds = self.rng.choice([-7200.0, -30.0, 30.0, 7200.0])
        self.world.clock.jump(seconds)
        if seconds < 0:
            self.oracle.truth.set_back_at = self.world.clock.age()
        self._did(f"clock: jumps {'back' if seconds < 0 else 'ahead'}", f"the wall clock jumps by {seconds:g} s")

    # --- Mayday ------------------------------------------------------------------------------------------------------

    async def _restart(self) -> None:
        await (self.world.kill() if self.rng.random() < 0.6 else self.world.stop())
        await self.world.pass_(self.rng.choice([0.0, 1.0, 100.0]) * self.rng.random())
        await self.world.start()

    async def _snare(self) -> None:
        """Something fails, and Mayday is killed at some step of what it does about it."""
        self.world.snare.set(self.rng.randint(1, 40))
        self._to_vpn(self._vpn(), self.rng.choice(["kill", "pause", "unpause", "start", "restart", "recreate"]))
        try:
            async with asyncio.timeout(10):
                await self.world.snare.sprung.wait()
        except TimeoutError:
            return
        finally:
            self.world.snare.left = None
        self.tally["Mayday: killed in the middle of its work"] += 1
        await self.world.kill()
        await self.world.pass_(self.rng.choice([0.0, 0.0, 30.0]) * self.rng.random())
        await self.world.start()

    async def _reboot(self) -> None:
        """The host goes down, with SIGTERM or without, and everything comes up again after a while."""
        softly = self.rng.random() < 0.5
        self._did(f"host: {'shut down' if softly else 'power lost'} and booted", f"the host reboots, softly={softly}")

        def everything_stops() -> None:
            for box in list(self.host.boxes.values()):
                self.host.stop(box)

        ran = [b for b in self.host.boxes.values() if b.state is ContainerState.RUNNING]
        if softly:
            await self.world.stop(meanwhile=everything_stops)
        else:
            await self.world.kill()
            everything_stops()
        self.world.runtime.daemon_down()
        await self.world.pass_(self.rng.choice([20.0, 90.0, 600.0]) * self.rng.random())
        self.world.clock.reboot()
        self.oracle.truth.rebooted_at = self.world.clock.age()
        await self.world.pass_(5.0)
        self.rng.shuffle(ran)
        for box in ran:
            with suppress(MissingError, ConflictError):
                self.host.start(box)
        self.world.runtime.daemon_up()
        await self.world.start()

    async def _disk(self) -> None:
        if self.world.disk_away:
            self.world.disk_back()
            self.oracle.tell("STATE_DIR is there again")
        elif self.rng.random() < 0.3:
            self.world.disk_goes()
            self.oracle.tell("STATE_DIR cannot be used")
        else:
            self.world.disk_s = self.rng.choice([0.0, 0.01, 0.5, 20.0])
            self.oracle.tell(f"a write of the journal takes up to {self.world.disk_s:g} s")

    # --- the API -----------------------------------------------------------------------------------------------------

    async def _requests(self) -> None:
        """Somebody asks for engines, or for one to be removed."""
        engines = self.oracle.truth.engines()
        if engines and self.rng.random() < 0.3:
            box = self.rng.choice(engines)
            self.oracle.asked_to_remove |= {box.id}
            self.oracle.tell(f"somebody asks for {box.name} to be removed")
            self._call("DELETE", f"/engines/{box.name}", None)
            return
        for _ in range(self.rng.choice([1, 1, 3])):
            self._call("POST", "/engines", {"vpn": self._vpn()} if self.rng.random() < 0.5 else {})

    def _call(self, method: str, path: str, body: Any) -> None:
        door, life = self.world.door, self.oracle.life
        if door is None or life is None:
            return

        async def call() -> None:
            created = method == "POST"
            self.oracle.requests += created
            try:
                status, answer = await door.call(method, path, body)
            except ViolationError:
                return  # it is kept, and ends the simulation
            finally:
                if self.oracle.life is life:
                    self.oracle.requests -= created
            self.oracle.tell(f"{method} {path} {body}: {status} {answer}")
            self.tally[f"API: {method} {path.split('/')[1]} answered {status}"] += 1
            self.oracle.require(status in {200, 201, 400, 403, 404, 409, 503}, f"{method} {path} was answered {status}")

        task = asyncio.get_running_loop().create_task(call(), name="client")
        self.world.network.clients.add(task)
        task.add_done_callback(self.world.network.clients.discard)

    async def _rubbish(self) -> None:
        """Invariant 9: what is refused changes nothing."""
        app, door = self.world.app, self.world.door
        if app is None or door is None:
            return
        method, path, body = self.rng.choice(RUBBISH)
        alerts, operator = app.controller.alerts, app.controller.operator
        before = app.controller.state, alerts.book, dict(operator.drills), self.oracle.changes
        status, answer = await door.call(method, path, body)
        after = app.controller.state, alerts.book, dict(operator.drills), self.oracle.changes
        self._did("input: refused", f"{method} {path} {body!r}: {status} {answer}")
        self.oracle.require(
            400 <= status < 500 or status == 503, f"{method} {path} was answered {status} (invariant 9)"
        )
        self.oracle.require(before == after, f"{method} {path} {body!r} changed something (invariant 9)")
        status, _ = await door.call("POST", "/engines", {}, secret="wrong")
        self.oracle.require(status == 401, f"a wrong secret was answered {status} (invariant 9)")
