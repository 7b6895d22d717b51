"""The core explored to its end for small fleets: every reachable state, every signal, every small fleet, every policy.

What must hold is said by the contract's own words and by the model in `reference`, which knows nothing of the core.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import pytest

from exporter.core import evacuation, plan
from exporter.core.decision import drills_to_end
from exporter.core.model import ContainerState, Engine, Fleet, Mode, Orphan, Phase, Reason, Signal, Source, Verdict
from exporter.core.parking import to_park
from exporter.core.phases import FleetState, ModeChange, PhaseChange, initial_state, step
from exporter.core.policy import Capacity, Policy, Response
from exporter.core.verdict import Judgement, combine
from tests.support.memory import Memory, read, written
from tests.support.moments import moment
from tests.unit import reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.core.model import Moment

NOW = moment(0)
STABILIZATION_S = 2.0


def policy_of(count: int, **more: object) -> Policy:
    names = tuple(f"v{number}" for number in range(1, count + 1))
    ports = {name: range(number * 100, number * 100 + 4) for number, name in enumerate(names)}
    policy = Policy(names, min_replicas=5, max_replicas=20, ports=ports, stabilization_s=STABILIZATION_S)
    return replace(policy, **more)  # type: ignore[arg-type]


# --- signals ----------------------------------------------------------------------------------------------------------

WORDS = ("none", "firing", "expired")
SAID: list[tuple[Verdict | None, str, str, str]] = list(
    product((Verdict.HEALTHY, Verdict.UNHEALTHY, None), WORDS, WORDS, WORDS)
)
"""All that Docker, an alert, a suspicion and a drill can say together about one VPN."""


def signals(name: str, docker: Verdict | None, alert: str, suspicion: str, drill: str, now: Moment) -> list[Signal]:
    reason = Reason.DOCKER_HEALTHY if docker is Verdict.HEALTHY else Reason.DOCKER_EXITED
    found = [] if docker is None else [Signal(name, Source.DOCKER, docker, reason, "", now)]
    ends = {"firing": now.mono + 1, "expired": now.mono}
    if alert != "none":
        found.append(Signal(name, Source.ALERTMANAGER, Verdict.UNHEALTHY, Reason.ALERT, "", now, ends[alert]))
    if suspicion != "none":
        found.append(Signal(name, Source.ALERTMANAGER, Verdict.SUSPECT, Reason.ALERT, "odd", now, ends[suspicion]))
    if drill != "none":
        found.append(Signal(name, Source.OPERATOR, Verdict.UNHEALTHY, Reason.DRILL, "", now, ends[drill]))
    return found


def test_every_combination_of_signals() -> None:
    """Unhealthy if any source in force says so, with the first of them as its reason; else suspect if any says so; else
    healthy if Docker says so; otherwise unknown. In every order of the signals."""
    for docker, alert, suspicion, drill in SAID:
        found = signals("v1", docker, alert, suspicion, drill, NOW)
        reasons = [Reason.DOCKER_EXITED] * (docker is Verdict.UNHEALTHY)
        reasons += [Reason.ALERT] * (alert == "firing") + [Reason.DRILL] * (drill == "firing")
        for order in (found, found[::-1], found[1:] + found[:1]):
            judgement = combine(order, NOW)
            if reasons:
                assert judgement.verdict is Verdict.UNHEALTHY
                assert judgement.deciding is not None
                assert judgement.deciding.reason is reasons[0]
            elif suspicion == "firing":
                assert judgement.verdict is Verdict.SUSPECT
            else:
                assert judgement.verdict is (Verdict.HEALTHY if docker is Verdict.HEALTHY else Verdict.UNKNOWN)


@pytest.mark.parametrize("count", [1, 2])
def test_every_drill_with_every_combination_of_signals(count: int) -> None:
    """Drilled VPNs that are needed are those drilled while none of the others is known to be healthy."""
    names = policy_of(count).vpns
    for said in product(SAID, repeat=count):
        found = [signal for name, words in zip(names, said, strict=True) for signal in signals(name, *words, NOW)]
        drilled = [name for name, words in zip(names, said, strict=True) if words[3] != "none"]
        healthy = [
            n for n, (d, a, s, _) in zip(names, said, strict=True) if d is Verdict.HEALTHY and "firing" not in (a, s)
        ]
        needed = [] if set(healthy) - set(drilled) else drilled
        assert drills_to_end(names, found, NOW) == needed


# --- states -----------------------------------------------------------------------------------------------------------


def shape(state: FleetState, now: Moment) -> tuple[object, ...]:
    """What of a state can make a difference later."""
    vpns = tuple((v.phase, v.stabilization_remaining_s(now.mono)) for v in state.vpns.values())
    return (*vpns, state.emergency and state.emergency.vpn)


def explore(policy: Policy) -> Iterator[tuple[FleetState, FleetState, tuple[Verdict, ...], tuple[object, ...], Moment]]:
    """Every step from every reachable state: before, after, what was said, what was told, when."""
    start = initial_state(policy, NOW)
    seen, todo = {shape(start, NOW)}, [(start, 0.0)]
    said = {verdict: _judgement(verdict) for verdict in Verdict}
    # With two VPNs all of every verdict; with more, of the two doubts one for each VPN: phases tell them apart nowhere.
    doubts = [
        (Verdict.SUSPECT, Verdict.UNKNOWN)[n % 2 :][: 1 if len(policy.vpns) > 2 else 2] for n in range(len(policy.vpns))
    ]
    words = [(Verdict.HEALTHY, Verdict.UNHEALTHY, *doubt) for doubt in doubts]
    while todo:
        state, at = todo.pop()
        for verdicts in product(*words):
            for passed in (0.0, 1.0, STABILIZATION_S):
                now = moment(at + passed)
                judgements = {name: said[verdict] for name, verdict in zip(policy.vpns, verdicts, strict=True)}
                after, changes = step(state, judgements, policy, now)
                yield state, after, verdicts, changes, now
                assert step(after, judgements, policy, now) == (after, ()), "it is not settled at once"
                if shape(after, now) not in seen:
                    seen.add(shape(after, now))
                    todo.append((after, at + passed))


def _judgement(verdict: Verdict) -> Judgement:
    if verdict is Verdict.UNKNOWN:
        return Judgement()
    reason = Reason.DOCKER_HEALTHY if verdict is Verdict.HEALTHY else Reason.DOCKER_EXITED
    return Judgement(verdict, Signal("", Source.DOCKER, verdict, reason, "", NOW))


NEXT = {
    Phase.UNKNOWN: {Verdict.HEALTHY: Phase.HEALTHY, Verdict.UNHEALTHY: Phase.FAILED},
    Phase.HEALTHY: {Verdict.HEALTHY: Phase.HEALTHY, Verdict.UNHEALTHY: Phase.FAILED},
    Phase.FAILED: {Verdict.HEALTHY: Phase.STABILIZING, Verdict.UNHEALTHY: Phase.FAILED},
    Phase.STABILIZING: {Verdict.HEALTHY: Phase.STABILIZING, Verdict.UNHEALTHY: Phase.FAILED},
}
"""The contract's table of phases, but for the deadline."""


def mode_of(phases: list[Phase]) -> Mode:
    failed = phases.count(Phase.FAILED)
    if failed == len(phases):
        return Mode.OUTAGE
    return Mode.EMERGENCY if failed and failed + phases.count(Phase.UNKNOWN) < len(phases) else Mode.NORMAL


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_every_step_from_every_reachable_state(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Under every verdict on every VPN and every passing of time: the phases of the contract's table, the mode that
    they make, one record for each change and none besides, and a restart in between that changes nothing."""
    policy = policy_of(count)
    steps, states, modes = 0, set(), set()
    for before, after, verdicts, changes, now in explore(policy):
        steps += 1
        new_state = shape(after, now) not in states
        states.add(shape(after, now))
        modes.add(after.mode)
        for (name, old), verdict in zip(before.vpns.items(), verdicts, strict=True):
            new = after.vpns[name]
            expected = NEXT[old.phase].get(verdict, old.phase)
            if old.phase is Phase.STABILIZING and verdict is Verdict.HEALTHY and now.mono >= (old.deadline or 0):
                expected = Phase.HEALTHY
            assert new.phase is expected
            assert (new.deadline is not None) == (new.phase is Phase.STABILIZING)
            if new.phase is Phase.STABILIZING:
                assert new.deadline == (old.deadline if old.phase is Phase.STABILIZING else now.mono + STABILIZATION_S)
            assert (new is old) == (new.phase is old.phase)
            assert new is old or new.since == now, "a failure lasts from its beginning on"
        doubted = {n for n, v in zip(before.vpns, verdicts, strict=True) if v in {Verdict.SUSPECT, Verdict.UNKNOWN}}
        assert after.doubtful == doubted
        assert after.mode is mode_of([vpn.phase for vpn in after.vpns.values()])
        check_told(before, after, changes)
        check_emergency(before, after, now)
        if new_state:
            check_restart(after, policy, now)
    assert modes == set(Mode)
    with capsys.disabled():
        print(f"\n{count} VPNs: {len(states)} states, {steps} steps checked")


def check_told(before: FleetState, after: FleetState, changes: tuple[object, ...]) -> None:
    """Invariant 8: one reason and one record for each transition."""
    phases = [(c.vpn, c.before, c.after) for c in changes if isinstance(c, PhaseChange)]
    pairs = [(name, before.vpns[name].phase, vpn.phase) for name, vpn in after.vpns.items()]
    assert phases == [pair for pair in pairs if pair[1] is not pair[2]]
    modes = [c for c in changes if isinstance(c, ModeChange)]
    assert len(modes) == (before.mode is not after.mode)
    for change in modes:
        assert (change.before, change.after) == (before.mode, after.mode)
        assert set(change.failed) == {n for n, v in after.vpns.items() if v.phase is Phase.FAILED}
        assert after.vpns[change.vpn].reason
        assert change.vpn in change.failed or after.mode is not Mode.EMERGENCY
    assert len(phases) + len(modes) == len(changes)


def check_emergency(before: FleetState, after: FleetState, now: Moment) -> None:
    """What is remembered of an emergency lasts exactly as long as it does."""
    assert (after.emergency is not None) == (after.mode is Mode.EMERGENCY)
    if after.emergency is not None:
        lasting = before.emergency is not None
        assert after.emergency.entered == (before.emergency.entered if before.emergency and lasting else now)


def check_restart(state: FleetState, policy: Policy, now: Moment) -> None:
    """Invariant 7: killed and started again at this instant it is the same, and after a while only time has passed."""
    text = json.dumps(written(Memory(state), policy, now, "boot"))
    assert remembered(text, policy.vpns, now.mono) == state
    found = remembered(text, policy.vpns, now.mono + 1)
    assert found == state, "its moments are absolute on the monotonic clock, so being away changes none"


@cache
def remembered(text: str, vpns: tuple[str, ...], mono: float) -> FleetState:
    """What is read from a journal's text; many ways lead to the same text, and each is read once."""
    return read(json.loads(text), policy_of(len(vpns)), replace(NOW, mono=mono), "boot").state


# --- plans ------------------------------------------------------------------------------------------------------------

RUNNING = ContainerState.RUNNING
OWN = Engine("", "", "", RUNNING, None, own=True)
KINDS = {
    "works": OWN,
    "asked for": replace(OWN, explicit=True),
    "sick": replace(OWN, healthy=False),
    "stopped": replace(OWN, state=ContainerState.EXITED),
    "dead": replace(OWN, state=ContainerState.DEAD),
    "lost": replace(OWN, orphan=Orphan.RESTART),
    "left": replace(OWN, orphan=Orphan.RECREATE),
    "unstarted": replace(OWN, state=ContainerState.CREATED, orphan=Orphan.NEVER_STARTED),
    "theirs": replace(OWN, own=False),
    "theirs, paused": replace(OWN, own=False, state=ContainerState.PAUSED),
    "theirs, stopped": replace(OWN, own=False, state=ContainerState.EXITED),
    "theirs, dead": replace(OWN, own=False, state=ContainerState.DEAD),
    "theirs, lost": replace(OWN, own=False, orphan=Orphan.RESTART),
    "theirs, left": replace(OWN, own=False, orphan=Orphan.RECREATE),
    "theirs, to park": replace(OWN, own=False, response=Response.PARK),
    "theirs, to leave": replace(OWN, own=False, response=Response.LEAVE),
    "theirs, to remove": replace(OWN, own=False, response=Response.REMOVE),
    "theirs, new": replace(OWN, own=False, created_at=NOW.wall.timestamp() + 1000),
}
GROUPS: dict[int, list[tuple[str, ...]]] = {
    2: [
        (),
        ("works",),
        ("works", "works", "works"),
        ("asked for",),
        ("works", "asked for"),
        ("sick",),
        ("stopped", "works"),
        ("lost",),
        ("left", "sick"),
        ("unstarted", "dead"),
        ("works",) * 4,
        ("theirs",),
        ("theirs, stopped", "dead"),
        ("theirs, paused", "theirs, dead"),
        ("theirs, lost", "theirs, left", "works"),
        ("theirs, to leave", "theirs, to park"),
        ("theirs, to remove",),
        ("theirs, new", "theirs, to leave"),
    ],
    3: [(), ("works",), ("works", "asked for", "works"), ("sick", "theirs, stopped"), ("lost",), ("theirs",)],
}
"""Engines that one VPN may carry, by the number of VPNs."""


def fleet_of(policy: Policy, groups: tuple[tuple[str, ...], ...]) -> Fleet:
    engines = [
        replace(KINDS[kind], id=f"{name}-{place}", name=f"{name}-{place}", vpn=name, port=policy.ports[name][place])
        for name, group in zip(policy.vpns, groups, strict=True)
        for place, kind in enumerate(group)
    ]
    return Fleet.of(dict.fromkeys(policy.vpns), engines)


def states_of(policy: Policy) -> Iterator[FleetState]:
    """Every reachable combination of phases, with every VPN that may have been chosen for relief before."""
    seen = set()
    for _, after, _, _, _ in explore(policy):
        phases = tuple(vpn.phase for vpn in after.vpns.values())
        if phases in seen:
            continue
        seen.add(phases)
        yield after
        if after.emergency is not None:
            for name in policy.vpns:
                yield replace(after, emergency=replace(after.emergency, relief=name))
    assert len(seen) == 4 ** len(policy.vpns), "every combination is reachable"


def model_of(policy: Policy, fleet: Fleet) -> reference.Reference:
    ports = {name: len(found) for name, found in policy.ports.items()}
    model = reference.Reference(
        list(policy.vpns), policy.min_replicas, policy.max_replicas, str(policy.capacity), ports, 2.0, 60.0, 60.0, 10.0
    )
    for engine in fleet.engines:
        model.engines[engine.id] = reference.Engine(
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
    return model


def put_into(model: reference.Reference, state: FleetState) -> None:
    """Let the model be in a state, in which it has to choose relief itself."""
    for name, vpn in state.vpns.items():
        model.vpns[name].phase, model.vpns[name].failed_at = str(vpn.phase), vpn.since.mono
    model.doubtful = set(state.doubtful)
    model.relief = state.emergency.relief if state.emergency else None
    model._choose_relief()


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_every_plan_for_every_small_fleet(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    """In every combination of phases, with every policy and every limit: what is repaired and created is what the
    contract asks for, no more and no less (invariants 1 and 6)."""
    plain = policy_of(count)
    states = list(states_of(plain))
    most = count * max(len(group) for group in GROUPS[count])
    policies = [
        [replace(plain, capacity=capacity, max_replicas=limit) for capacity, limit in limits]
        for limits in (product(Capacity, {max(5, size), size + 2}) for size in range(most + 1))
    ]
    checked = 0
    for groups in product(GROUPS[count], repeat=count):
        fleet = fleet_of(plain, groups)
        model = model_of(plain, fleet)
        for state in states:
            put_into(model, state)
            relieved = plan.with_relief(state, fleet, plain)
            assert (relieved.emergency.relief if relieved.emergency else None) == model.relief
            assert {engine.id for engine in plan.orphans(state, fleet)} == model.to_repair()
            for policy in policies[sum(engine.own for engine in fleet.engines)]:
                model.maximum, model.capacity = policy.max_replicas, str(policy.capacity)
                check_fills(relieved, fleet, policy, model)
                checked += 1
    with capsys.disabled():
        print(f"\n{count} VPNs: {checked} plans checked")


def check_fills(state: FleetState, fleet: Fleet, policy: Policy, model: reference.Reference) -> None:
    """As many as the model says; then, with all of them made or under way, none. `state` has the relief chosen."""
    fills = {fill.vpn: fill.count for fill in plan.fills(state, fleet, policy, {})}
    assert fills == model.missing([])
    assert all(state.vpns[vpn].phase is Phase.HEALTHY for vpn in fills)
    assert sum(engine.own for engine in fleet.engines) + sum(fills.values()) <= policy.max_replicas
    assert plan.fills(state, fleet, policy, fills) == [], "what is under way is asked for once more"


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_every_removal_for_every_small_fleet(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    """In every combination of phases, with every doubt, before and after the delay, with and without MIN_REPLICAS: own
    engines are removed, and others' stopped, on failed VPNs alone, and only when that is safe (invariants 2, 3, 4, 11).
    An engine that is asked for goes to a VPN in phase healthy that is not in doubt, or is refused."""
    plain = policy_of(count)
    states = [state for state in states_of(plain) if state.relief is None]
    doubts = [
        frozenset(n for n, out in zip(plain.vpns, chosen, strict=True) if out)
        for chosen in product((0, 1), repeat=count)
    ]
    checked = 0
    for groups in product(GROUPS[count], repeat=count):
        fleet = fleet_of(plain, groups)
        model = model_of(plain, fleet)
        for state, doubtful in product(states, doubts):
            doubted = replace(state, doubtful=doubtful)
            check_request(doubted, fleet, plain)
            if state.mode is not Mode.EMERGENCY and doubtful:
                continue  # nothing is evacuated, whatever is in doubt
            put_into(model, doubted)
            assert evacuation.carriers(doubted, fleet) == model.carriers()
            assert {e.id for vpn in plain.vpns for e in evacuation.wrecks(doubted, fleet, vpn)} == model.wrecks()
            for minimum, response in ((5, Response.PARK), (5, Response.LEAVE), (0, Response.PARK)):
                policy = replace(plain, min_replicas=minimum, others=response)
                model.minimum, model.others = minimum, str(response)
                check_removals(doubted, fleet, policy, model)
                checked += 1
    with capsys.disabled():
        print(f"\n{count} VPNs: {checked} removals checked")


def check_removals(state: FleetState, fleet: Fleet, policy: Policy, model: reference.Reference) -> None:
    """On every VPN, as its failure begins, right before the delay has passed, and as it has."""
    for name, vpn in state.vpns.items():
        assert {engine.id for engine in evacuation.ghosts(fleet, name)} == model.to_remove(name)
        assert {engine.id for engine in to_park(state, fleet, policy, name)} == model.to_stop(name)
        for passed in (0.0, 4.999, 5.0) if vpn.phase is Phase.FAILED else (5.0,):
            at = vpn.since.mono + passed
            assert evacuation.assess(state, fleet, policy, at, name) == model.evacuation(name, at)
            assert evacuation.may_evacuate(state, fleet, policy, at, name) == (model.evacuation(name, at) == "safe")


def check_request(state: FleetState, fleet: Fleet, policy: Policy) -> None:
    possible = {name for name, vpn in state.vpns.items() if vpn.phase is Phase.HEALTHY} - state.doubtful
    chosen = plan.choose_vpn(state, fleet, policy, {}, NOW.mono)
    if isinstance(chosen, str):
        assert chosen in possible
        assert sum(engine.own for engine in fleet.engines) < policy.max_replicas
    else:
        assert chosen.message
        assert not any(len(fleet.on(name)) < 4 for name in possible), "it is refused where there is room"


def test_single_mode_knows_no_emergency() -> None:
    """One VPN: every step from every reachable state is normal or an outage; nothing is ever removed."""
    policy = replace(policy_of(1), redundant=False)
    fleet = fleet_of(policy, (("works", "lost"),))
    phases = set()
    for _, after, _, _, _ in explore(policy):
        phases.add(after.vpns["v1"].phase)
        assert after.mode is (Mode.OUTAGE if after.vpns["v1"].phase is Phase.FAILED else Mode.NORMAL)
        assert after.emergency is None
        assert not evacuation.may_evacuate(after, fleet, policy, NOW.mono + 1e6, "v1")
    assert phases == set(Phase)
