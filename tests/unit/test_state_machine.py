"""The core against a model of its own: whatever happens, in whatever order, both say the same."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from exporter.core import alerts, evacuation, plan
from exporter.core.alerts import Alert, Incident
from exporter.core.decision import drills_to_end, judge
from exporter.core.model import (
    WRECKED,
    Container,
    ContainerHealth,
    ContainerState,
    Engine,
    Fleet,
    Mode,
    Moment,
    Orphan,
    Phase,
    Reason,
    Signal,
    Source,
    Verdict,
)
from exporter.core.parking import to_park
from exporter.core.phases import ModeChange, PhaseChange, initial_state, step
from exporter.core.policy import Capacity, Policy, Response
from exporter.core.verdict import Judgement, Sighting, docker_signal, observe
from tests.support.memory import Memory, read, written
from tests.support.moments import moment
from tests.unit import reference

EXPIRY_S = 3600.0
PROBE_S = 10.0
HEALTHS = ("none", "starting", "healthy", "unhealthy")
PLACE = st.integers(0, 4)
"""Which VPN; taken modulo how many there are."""
ALERT = st.integers(0, 5)
BEGINS = st.sampled_from([-300.0, -100.0, -10.0, -2.0, -1.0, 0.0, 60.0, 3600.0])
"""Starts of alerts before or after now: clocks differ, and copies come late."""
LASTS = st.sampled_from([None, 0.0, 1.0, 50.0, 200.0])
"""How long an alert lasted; None: its sender does not tell."""
STATES = {word: ContainerState(word) for word in reference.DOWN - {"missing"}}


class CoreAgainstModel(RuleBasedStateMachine):
    """Does to both what happens to a fleet; acts as the executor does, by what the core plans."""

    policy: Policy

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self.jumped = 0.0
        self.boots = 0
        self.numbers = 0
        self.entries = 0
        self.messages: list[tuple[int, float, float | None, bool]] = []
        self.book: dict[str, Incident] | Any = {}
        self.drills: dict[str, Signal] = {}
        self.suspicions: dict[str, Signal] = {}
        self.containers: dict[str, Container | None] = {}
        self.engines: dict[str, Engine] = {}
        self.pending: list[tuple[str, int, bool, Moment]] = []
        """Creations under way: VPN, port, whether somebody asked, and since when the VPN was in its phase."""
        self.judgements: dict[str, Judgement] = {}

    @property
    def now(self) -> Moment:
        at = moment(self.passed)
        return Moment(at.mono, moment(self.passed + self.jumped).wall)

    @property
    def fleet(self) -> Fleet:
        return Fleet.of(dict(self.containers), self.engines.values())

    def name(self, place: int) -> str:
        return self.policy.vpns[place % len(self.policy.vpns)]

    @initialize(
        count=st.integers(2, 5),
        minimum=st.integers(0, 11),
        more=st.integers(0, 6),
        ports=st.lists(st.integers(1, 8), min_size=5, max_size=5),
        capacity=st.sampled_from(Capacity),
        probed=st.booleans(),
        first=st.sampled_from(["healthy", "starting", "missing"]),
        delay=st.sampled_from([0.0, 5.05, 60.05]),
        others=st.sampled_from(Response),
    )
    def begin(
        self,
        count: int,
        minimum: int,
        more: int,
        ports: list[int],
        capacity: Capacity,
        *,
        probed: bool,
        first: str,
        delay: float,
        others: Response,
    ) -> None:
        names = tuple(f"vpn{number}" for number in range(1, count + 1))
        ranges = {
            name: range(100 * n, 100 * n + size) for n, (name, size) in enumerate(zip(names, ports, strict=False), 1)
        }
        self.policy = Policy(
            names,
            min_replicas=minimum,
            max_replicas=minimum + more,
            ports=ranges,
            capacity=capacity,
            evacuation_delay_s=delay,
            others=others,
            start_timeout_s=60.0,
        )
        self.probed = probed
        self.state = initial_state(self.policy, self.now)
        self.sightings = dict.fromkeys(names, Sighting())
        self.containers = dict.fromkeys(names)
        sizes = {name: len(ports) for name, ports in ranges.items()}
        self.model = reference.Reference(
            list(names),
            minimum,
            minimum + more,
            str(capacity),
            sizes,
            120.0,
            60.0,
            EXPIRY_S,
            PROBE_S,
            delay,
            str(others),
        )
        note(f"{self.policy}")
        for name in names:
            self._show(name, first)
        self.look()
        self.automatic_provisioning()
        self._end_creations()

    # --- what happens ------------------------------------------------------------------------------------------------

    def _show(self, name: str, word: str, *, anew: bool = False) -> None:
        running = word in HEALTHS
        self.numbers += 1
        vpn = self.model.vpns[name]
        if running and (anew or vpn.container in reference.DOWN):
            vpn.start = self.numbers
        # No two alike, though they are shown at the same time.
        vpn.probe_wall = self.passed + self.jumped + self.numbers * 0.001
        probed_at = moment(vpn.probe_wall).wall.timestamp()
        self.containers[name] = (
            None
            if word == "missing"
            else Container(
                f"id-{name}",
                name,
                ContainerState.RUNNING if running else STATES[word],
                ContainerHealth(word) if running else ContainerHealth.HEALTHY,
                started_at=float(vpn.start),
                probed_at=probed_at if running and self.probed and word != "none" else None,
                probe_period_s=PROBE_S if self.probed else None,
            )
        )
        vpn.container = word
        vpn.probe = self.numbers if running and self.probed and word != "none" else None

    @rule(place=PLACE, word=st.sampled_from(sorted(reference.DOWN)) | st.sampled_from(HEALTHS), anew=st.booleans())
    def docker_shows(self, place: int, word: str, *, anew: bool) -> None:
        """A running container may have been started anew between two looks, or its daemon has reset its health."""
        self._show(self.name(place), word, anew=anew)
        self.look()

    @rule(word=st.sampled_from(["exited", "unhealthy", "starting"]))
    def all_of_them_fail(self, word: str) -> None:
        for name in self.policy.vpns:
            self._show(name, word)
        self.look()

    @rule(place=PLACE)
    def docker_shows_healthy(self, place: int) -> None:
        self._show(self.name(place), "healthy")
        self.look()

    @rule(seconds=st.sampled_from([0.0, 1.0, 5.0, 6.0, 29.0, 60.0, 119.0, 119.9, 120.0, 121.0, 3599.0, 3601.0]))
    def time_passes(self, seconds: float) -> None:
        self.passed += seconds
        self.look()

    @rule(seconds=st.sampled_from([-7200.0, -90.0, 90.0, 7200.0]))
    def the_wall_clock_jumps(self, seconds: float) -> None:
        self.jumped += seconds
        self.look()

    @rule(key=ALERT, start=BEGINS, lasted=LASTS, firing=st.booleans())
    def an_alert_is_heard(self, key: int, start: float, lasted: float | None, *, firing: bool) -> None:
        start += self.passed
        self.messages.append((key, start, lasted, firing))
        self._hear(key, start, lasted, firing=firing)

    @precondition(lambda self: self.messages)
    @rule(data=st.data(), ends=st.booleans())
    def an_alert_is_heard_again(self, data: st.DataObject, *, ends: bool) -> None:
        """A late copy, or its end."""
        key, start, lasted, firing = data.draw(st.sampled_from(self.messages))
        self._hear(key, start, lasted, firing=firing and not ends)

    def _hear(self, key: int, start: float, lasted: float | None, *, firing: bool) -> None:
        name = self.name(key)
        end = None if firing or lasted is None else start + lasted
        ends_at = None if end is None else moment(end).wall
        alert = Alert(f"alert-{key}", moment(start).wall, name, "Probe", firing, ends_at=ends_at)
        self.book, _ = alerts.hear(self.book, alert, self.now, EXPIRY_S)
        wall = self.passed + self.jumped
        self.model.alert(f"alert-{key}", name, start, firing=firing, now=self.now.mono, wall=wall, end=end)
        self.look()

    @rule(
        firing=st.dictionaries(ALERT, BEGINS, max_size=2),
        silent=st.sets(ALERT, max_size=2),
        whole=st.sampled_from([True, True, True, False]),
    )
    def alertmanager_lists_its_alerts(self, firing: dict[int, float], silent: set[int], *, whole: bool) -> None:
        silent = silent - firing.keys()
        found = [
            Alert(f"alert-{key}", moment(start + self.passed).wall, self.name(key), "Probe", firing=True)
            for key, start in firing.items()
        ]
        listing = alerts.Listing(tuple(found), frozenset(f"alert-{key}" for key in silent), whole=whole)
        self.book = alerts.synchronise(self.book, listing, self.now.mono, self.now, EXPIRY_S)
        self.model.listed(
            {f"alert-{key}": (self.name(key), start + self.passed) for key, start in firing.items()},
            {f"alert-{key}" for key in silent},
            whole=whole,
            now=self.now.mono,
            wall=self.passed + self.jumped,
        )
        self.look()

    @rule()
    def alertmanager_gives_no_answer(self) -> None:
        self.book = alerts.synchronise(self.book, None, self.now.mono, self.now, EXPIRY_S)
        self.model.unanswered()
        self.look()

    @rule(place=PLACE, seconds=st.sampled_from([5.0, 300.0]))
    def a_drill_begins(self, place: int, seconds: float) -> None:
        """It is refused where its VPN is needed."""
        name, now = self.name(place), self.now
        drill = Signal(name, Source.OPERATOR, Verdict.UNHEALTHY, Reason.DRILL, "", now, now.mono + seconds)
        refused = bool(drills_to_end(self.policy.vpns, [*self._signals(), drill], now))
        assert refused == self.model.needs_drilled({name, *self.model.drills}, now.mono)
        if not refused:
            self.drills[name], self.model.drills[name] = drill, now.mono + seconds
        self.look()

    @rule(place=PLACE, seconds=st.sampled_from([0.0, 5.0, 300.0]))
    def a_vpn_is_suspected(self, place: int, seconds: float) -> None:
        name, now = self.name(place), self.now
        ends = now.mono + seconds
        self.suspicions[name] = Signal(name, Source.ALERTMANAGER, Verdict.SUSPECT, Reason.ALERT, "odd", now, ends)
        self.model.suspicions[name] = ends
        self.look()

    @rule(
        place=PLACE,
        state=st.sampled_from(["running", "restarting", "paused", "exited"]),
        response=st.none() | st.sampled_from(Response),
        late=st.booleans(),
    )
    def others_make_an_engine(self, place: int, state: str, response: Response | None, *, late: bool) -> None:
        """By Docker's clock before any failure, or after all of them."""
        name = self.name(place)
        taken = [port for vpn, port, *_ in self.pending if vpn == name]
        free = plan.free_ports(self.fleet, self.policy, name, taken)
        if free:
            at = moment(1e8).wall.timestamp() if late else 0.0
            state_of = ContainerState(state)
            self._add(name, free[0], explicit=False, own=False, state=state_of, response=response, created_at=at)
        self.look()

    @rule(place=PLACE)
    def a_drill_is_taken_back(self, place: int) -> None:
        self.drills.pop(self.name(place), None)
        self.model.drills.pop(self.name(place), None)
        self.look()

    @precondition(lambda self: self.engines)
    @rule(data=st.data(), fate=st.sampled_from(["vanish", "stop", "pause", "sicken", "die", "recover", *Orphan]))
    def something_happens_to_an_engine(self, data: st.DataObject, fate: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.engines)))
        engine = self.engines[key]
        if fate == "vanish":
            del self.engines[key]
        elif engine.state in WRECKED:
            pass
        elif fate == "stop":
            self.engines[key] = replace(engine, state=ContainerState.EXITED)
        elif fate == "pause":
            self.engines[key] = replace(engine, state=ContainerState.PAUSED)
        elif fate == "die":
            self.engines[key] = replace(engine, state=data.draw(st.sampled_from(sorted(WRECKED))))
        elif fate == "sicken":
            self.engines[key] = replace(engine, healthy=False)
        elif fate == "recover":
            self.engines[key] = replace(engine, state=ContainerState.RUNNING, healthy=True, orphan=None)
        else:
            state = ContainerState.CREATED if fate == Orphan.NEVER_STARTED else engine.state
            self.engines[key] = replace(engine, orphan=Orphan(fate), state=state)
        self.look()

    @rule(away=st.sampled_from([0.0, 5.0, 100.0, 4000.0]), reboot=st.booleans(), kept=st.booleans())
    def mayday_is_killed_and_started_again(self, away: float, *, reboot: bool, kept: bool) -> None:
        """Invariant 7. What was under way is gone, or stands there and was never started."""
        memory = Memory(self.state, self.book, self.drills, 0.0)
        text = json.dumps(written(memory, self.policy, self.now, f"boot {self.boots}"))
        self.passed += away
        self.boots += reboot
        found = read(json.loads(text), self.policy, self.now, f"boot {self.boots}")
        self.state, self.book, self.drills = found.state, found.alerts, dict(found.drills)
        for vpn, port, explicit, _ in self.pending if kept else ():
            self._add(vpn, port, explicit=explicit, state=ContainerState.CREATED, orphan=Orphan.NEVER_STARTED)
        self.pending.clear()
        self.model.unanswered()  # how long an alert has been missing from Alertmanager's list is not remembered
        self.suspicions.clear()
        self.model.suspicions.clear()
        for name, known in self.state.vpns.items():
            self.sightings[name] = Sighting()
            if known.phase is Phase.FAILED:
                assert known.since.mono == pytest.approx(self.model.vpns[name].failed_at, abs=1e-5)
                self.model.vpns[name].failed_at = known.since.mono
            of_model = self.model.vpns[name]
            of_model.healthy_start, of_model.starting_since, of_model.probe_seen = None, None, None
        self.look()

    # --- what Mayday does --------------------------------------------------------------------------------------------

    @rule()
    def look(self) -> None:
        """Decide, here and in the model; every change of a phase is told once, and so is every change of the mode."""
        now, before = self.now, self.state
        self._follow()
        self.book = alerts.prune(self.book, now)
        self.drills = {key: drill for key, drill in self.drills.items() if (drill.expires or 0.0) > now.mono}
        for name in self.policy.vpns:
            self.sightings[name] = observe(self.sightings[name], self.containers[name], now)
        for name in drills_to_end(self.policy.vpns, self._signals(), now):
            del self.drills[name]
        self.judgements = judge(self.policy.vpns, self._signals(), now)
        state, changes = step(before, self.judgements, self.policy, now)
        self.state = plan.with_relief(state, self.fleet, self.policy)
        told = {c.vpn: c.after for c in changes if isinstance(c, PhaseChange)}
        assert told == {n: v.phase for n, v in state.vpns.items() if v.phase is not before.vpns[n].phase}
        modes = [c for c in changes if isinstance(c, ModeChange)]
        assert [(c.before, c.after) for c in modes] == (
            [(before.mode, state.mode)] if before.mode is not state.mode else []
        )
        assert all(state.vpns[c.vpn].reason for c in modes)
        self.entries += sum(c.after is Mode.EMERGENCY for c in modes)
        self.model.look(now.mono, self.passed + self.jumped)

    def _signals(self) -> list[Signal]:
        now, found = self.now, [*self.drills.values(), *self.suspicions.values()]
        for name in self.policy.vpns:
            seen = self.sightings[name]
            said = docker_signal(name, self.containers[name], seen, self.policy.start_timeout_s, now)
            found += [*([said] if said else []), *alerts.alert_signals(self.book, name)]
        return found

    def _follow(self) -> None:
        """The model's engines are the fleet's."""
        self.model.engines = {
            key: reference.Engine(
                engine.vpn,
                engine.port or 0,
                state=str(engine.state),
                answers=engine.healthy is not False,
                orphan=str(engine.orphan or ""),
                explicit=engine.explicit,
                own=engine.own,
                label=str(engine.response or ""),
                owner_at_work=engine.created_at > 0,
            )
            for key, engine in self.engines.items()
        }

    def _own(self) -> int:
        return sum(engine.own for engine in self.engines.values())

    def _add(self, vpn: str, port: int, *, explicit: bool, **more: Any) -> None:
        self.numbers += 1
        key = f"engine-{self.numbers}"
        state = more.pop("state", ContainerState.RUNNING)
        self.engines[key] = Engine(key, key, vpn, state, port, explicit=explicit, own=more.pop("own", True), **more)

    def _begin(self, vpn: str, *, explicit: bool) -> None:
        taken = [port for name, port, *_ in self.pending if name == vpn]
        port = plan.free_ports(self.fleet, self.policy, vpn, taken)[0]
        assert self.model.vpns[vpn].phase == "healthy", "invariant 1"
        assert (vpn, port) not in {(e.vpn, e.port) for e in self.engines.values()}
        self.pending.append((vpn, port, explicit, self.state.vpns[vpn].since))

    def _pending(self) -> dict[str, int]:
        return {name: sum(place[0] == name for place in self.pending) for name in self.policy.vpns}

    @rule()
    def automatic_provisioning(self) -> None:
        """Invariant 6: exactly what the contract asks for, no engine more, where it may be."""
        fills = plan.fills(self.state, self.fleet, self.policy, self._pending())
        assert {fill.vpn: fill.count for fill in fills} == self.model.missing([place[:3] for place in self.pending])
        for fill in fills:
            relief = self.state.mode is Mode.EMERGENCY and self.policy.capacity is Capacity.REDUCED
            assert fill.reason is (plan.ProvisionReason.RELIEF if relief else plan.ProvisionReason.FILL)
            for _ in range(fill.count):
                self._begin(fill.vpn, explicit=False)

    @rule(place=st.none() | PLACE)
    def somebody_asks_for_an_engine(self, place: int | None) -> None:
        """The least loaded VPN in phase healthy and not in doubt, or a refusal that says how long."""
        wanted = None if place is None else self.name(place)
        chosen = plan.choose_vpn(self.state, self.fleet, self.policy, self._pending(), self.now.mono, wanted)
        load = {name: sum(e.vpn == name for e in self.engines.values()) for name in self.policy.vpns}
        used = {name: {e.port for e in self.engines.values() if e.vpn == name} for name in self.policy.vpns}
        begun = self._pending()
        possible = [
            name
            for name in ([wanted] if wanted else self.policy.vpns)
            if self.model.vpns[name].phase == "healthy"
            and name not in self.model.doubtful
            and self.model.ports[name] > len(used[name]) + begun[name]
        ]
        full = self._own() + len(self.pending) >= self.policy.max_replicas
        if full or not possible:
            assert isinstance(chosen, plan.Refusal)
            assert (chosen.code == "max_replicas") == full
            left = [
                self.model.vpns[n].deadline - self.now.mono
                for n in ([wanted] if wanted else self.model.names)
                if self.model.vpns[n].phase == "stabilizing"
            ]
            if chosen.code == "stabilizing":
                assert chosen.retry_after_s == pytest.approx(max(0.0, min(left)), abs=1e-6)
            return
        assert isinstance(chosen, str)
        assert chosen == min(possible, key=lambda name: load[name] + begun[name])
        self._begin(chosen, explicit=True)

    def _end_creations(self) -> None:
        for vpn, port, explicit, _ in self.pending:
            self._add(vpn, port, explicit=explicit)
        self.pending.clear()
        self.look()

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def a_creation_ends(self, data: st.DataObject) -> None:
        """Invariant 1: it stays only where the VPN is, and was all the while, in phase healthy."""
        vpn, port, explicit, since = self.pending.pop(data.draw(st.integers(0, len(self.pending) - 1)))
        if plan.may_create_on(self.state, vpn) and self.state.vpns[vpn].since == since:
            assert self.model.vpns[vpn].phase == "healthy"
            self._add(vpn, port, explicit=explicit)
        self.look()

    @rule()
    def cleanup(self) -> None:
        """Invariants 2, 3, 4 and 11: on failed VPNs alone, once that is safe, own engines go and others' are stopped;
        and what can never run again goes."""
        fleet, now = self.fleet, self.now.mono
        for vpn in self.policy.vpns:
            waits = evacuation.assess(self.state, fleet, self.policy, now, vpn)
            assert waits == self.model.evacuation(vpn, now)
            assert evacuation.may_evacuate(self.state, fleet, self.policy, now, vpn) == (waits == "safe")
            removed = {e.id for e in evacuation.ghosts(fleet, vpn)} if waits == "safe" else set()
            parked = {e.id for e in to_park(self.state, fleet, self.policy, vpn)} if waits == "safe" else set()
            if waits == "safe":
                assert self.model.vpns[vpn].phase == "failed"
                assert self.model.carriers() or not self.policy.min_replicas
                assert (removed, parked) == (self.model.to_remove(vpn), self.model.to_stop(vpn))
            wrecks = {e.id for e in evacuation.wrecks(self.state, fleet, vpn)}
            assert wrecks == {key for key in self.model.wrecks() if self.model.engines[key].vpn == vpn}
            for key in removed | wrecks:
                gone = self.engines.pop(key)
                assert gone.own or gone.response is Response.REMOVE, "invariant 11"
            for key in parked:
                self.engines[key] = replace(self.engines[key], state=ContainerState.EXITED)
        self.look()

    @rule()
    def repair(self) -> None:
        """Orphans are repaired on VPNs in phase healthy, all that can be, and nothing else is touched."""
        found = {engine.id for engine in plan.orphans(self.state, self.fleet)}
        assert found == self.model.to_repair()
        for key in found:
            self.engines[key] = replace(self.engines[key], state=ContainerState.RUNNING, orphan=None, healthy=None)
        self.look()

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def both_say_the_same(self) -> None:
        if not hasattr(self, "model"):
            return
        assert {n: str(v.phase) for n, v in self.state.vpns.items()} == {n: v.phase for n, v in self.model.vpns.items()}
        assert str(self.state.mode) == self.model.mode
        assert self.state.doubtful == self.model.doubtful
        assert self.drills.keys() == self.model.drills.keys()
        for name, vpn in self.state.vpns.items():
            assert (vpn.deadline is not None) == (vpn.phase is Phase.STABILIZING)
            if vpn.deadline is not None:
                assert vpn.deadline == pytest.approx(self.model.vpns[name].deadline, abs=1e-6)
        emergency = self.state.emergency
        assert (emergency is not None) == (self.model.mode == "emergency")
        if emergency is not None:
            assert emergency.entered.mono == pytest.approx(self.model.entered, abs=1e-6)
            assert emergency.relief == self.model.relief
        assert self.entries == self.model.entries, "an emergency is counted once, restarts or not"

    @invariant()
    def the_limit_is_kept(self) -> None:
        if hasattr(self, "model"):
            assert self._own() + len(self.pending) <= self.policy.max_replicas
            places = [(e.vpn, e.port) for e in self.engines.values()]
            assert len(places) == len(set(places)), "two engines on one port"

    def teardown(self) -> None:
        """Invariant 6: the faults stop, everything converges, and then nothing is left to do."""
        if not hasattr(self, "model"):
            return
        self.drills.clear()
        self.model.drills.clear()
        self.suspicions.clear()
        self.model.suspicions.clear()
        self.book = {}
        self.model.incidents.clear()
        for _ in range(4):
            for name in self.policy.vpns:
                self._show(name, "healthy")
            self.time_passes(121.0)
            self.cleanup()
            self.repair()
            for key, engine in self.engines.items():
                if engine.state not in WRECKED:
                    self.engines[key] = replace(engine, state=ContainerState.RUNNING, healthy=True)
            self.automatic_provisioning()
            self._end_creations()
            self.the_limit_is_kept()
        assert {v.phase for v in self.state.vpns.values()} == {Phase.HEALTHY}
        assert self.state.mode is Mode.NORMAL
        assert (plan.orphans(self.state, self.fleet), plan.fills(self.state, self.fleet, self.policy, {})) == ([], [])
        assert not any(evacuation.wrecks(self.state, self.fleet, vpn) for vpn in self.policy.vpns)
        for name, share in self.model.shared(self.model.names).items():
            carried = sum(e.vpn == name and e.own and not e.explicit for e in self.engines.values())
            full = self._own() == self.policy.max_replicas
            ports = {e.port for e in self.engines.values() if e.vpn == name}
            assert carried >= share or full or len(ports) == self.model.ports[name]


def test_the_core_says_what_the_model_says() -> None:
    """Sightings, alerts, suspicions, drills, time, own and others' engines, creations, restarts, in any order, under
    any policy of two to five VPNs: phases, doubt, mode, entry, relief, counts, removals, repairs and refusals are those
    of the model."""
    some = settings(
        max_examples=250,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(CoreAgainstModel, settings=some)
