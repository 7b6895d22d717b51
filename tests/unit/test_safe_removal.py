"""The rules of safe removal: out of service at once, removed only when that is safe, needed, and Mayday's to do."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from exporter.core import decision, evacuation, plan
from exporter.core.model import ContainerState, Fleet, Mode, Orphan, Phase, Reason, Source, Verdict
from exporter.core.parking import to_park
from exporter.core.phases import Emergency, FleetState, VpnState, step
from exporter.core.policy import Policy, Response
from exporter.core.verdict import Judgement
from exporter.telemetry.deferrals import Deferrals
from exporter.web.words import WAITS
from tests.support.moments import START, moment
from tests.support.values import NOW, fleet_of, signal, state_of, with_engines

D, A, O = Source.DOCKER, Source.ALERTMANAGER, Source.OPERATOR  # noqa: E741 - short in a table
H, U, S = Verdict.HEALTHY, Verdict.UNHEALTHY, Verdict.SUSPECT
SAFE, DELAY, NO_CARRIER = evacuation.Evacuation.SAFE, evacuation.Evacuation.DELAY, evacuation.Evacuation.NO_CARRIER
LATER = NOW.mono + 5.0
"""When a failure that began now has lasted EVACUATION_DELAY_S."""


def evacuations(
    state: FleetState, fleet: Fleet, policy: Policy, mono: float = LATER
) -> dict[str, evacuation.Evacuation]:
    """What is due or waits, by VPN, as the guard of each removal and the decision as a whole say it."""
    found = {vpn: evacuation.assess(state, fleet, policy, mono, vpn) for vpn in state.vpns}
    for vpn, waits in found.items():
        assert evacuation.may_evacuate(state, fleet, policy, mono, vpn) == (waits is SAFE)
    return {vpn: waits for vpn, waits in found.items() if waits is not None}


def test_evacuation_exists_in_an_emergency_only(policy: Policy) -> None:
    """The engines of the failed VPN, of no other, and none at all in an outage."""
    fleet = fleet_of(gluetun=2, gluetun_2=3)
    assert evacuations(state_of(policy, Phase.HEALTHY, Phase.FAILED), fleet, policy) == {"gluetun_2": SAFE}
    for phases in product(Phase, Phase):
        if sorted(phases) not in ([Phase.FAILED, Phase.HEALTHY], [Phase.FAILED, Phase.STABILIZING]):
            assert evacuations(state_of(policy, *phases), fleet, policy) == {}, phases


def test_a_failure_has_to_last_before_anything_is_removed(policy: Policy) -> None:
    """EVACUATION_DELAY_S from the VPN's failure on; with 0 it is due at once."""
    state, fleet = state_of(policy, Phase.HEALTHY, Phase.FAILED), fleet_of(gluetun=1, gluetun_2=1)
    assert evacuations(state, fleet, policy, LATER - 0.001) == {"gluetun_2": DELAY}
    assert evacuations(state, fleet, policy, LATER) == {"gluetun_2": SAFE}
    assert evacuations(state, fleet, replace(policy, evacuation_delay_s=0.0), NOW.mono) == {"gluetun_2": SAFE}


@pytest.mark.parametrize(
    ("phase", "doubtful", "engine", "expected"),
    [
        pytest.param(Phase.HEALTHY, False, {}, SAFE, id="healthy, and an engine works"),
        pytest.param(Phase.HEALTHY, False, {"own": False}, SAFE, id="it may be an engine of others"),
        pytest.param(Phase.HEALTHY, True, {}, NO_CARRIER, id="in doubt"),
        pytest.param(Phase.STABILIZING, False, {}, NO_CARRIER, id="stabilizing"),
        pytest.param(Phase.HEALTHY, False, {"healthy": False}, NO_CARRIER, id="its engine does not answer"),
        pytest.param(Phase.HEALTHY, False, {"state": ContainerState.EXITED}, NO_CARRIER, id="its engine has stopped"),
        pytest.param(Phase.HEALTHY, False, {"orphan": Orphan.RESTART}, NO_CARRIER, id="its engine is an orphan"),
    ],
)
def test_what_makes_a_carrier(
    policy: Policy,
    phase: Phase,
    doubtful: bool,  # noqa: FBT001
    engine: dict[str, Any],
    expected: evacuation.Evacuation,
) -> None:
    """A VPN in phase healthy, not in doubt, on which an engine works; without one nothing is removed, unless
    MIN_REPLICAS is 0."""
    fleet = fleet_of(gluetun=1, gluetun_2=2)
    fleet = with_engines(fleet, "gluetun", replace(fleet.on("gluetun")[0], **engine))
    state = replace(state_of(policy, phase, Phase.FAILED), doubtful=frozenset({"gluetun"} if doubtful else ()))
    assert evacuations(state, fleet, policy) == {"gluetun_2": expected}
    assert evacuations(state, fleet, replace(policy, min_replicas=0)) == {"gluetun_2": SAFE}


@pytest.mark.parametrize("minimum", [0, 10])
def test_nothing_is_removed_while_the_failure_itself_is_in_doubt(policy: Policy, minimum: int) -> None:
    """No source says any more that the VPN is unhealthy: its phase stays, and so do its engines."""
    fleet = fleet_of(gluetun=1, gluetun_2=2)
    state = replace(state_of(policy, Phase.HEALTHY, Phase.FAILED), doubtful=frozenset({"gluetun_2"}))
    assert evacuations(state, fleet, replace(policy, min_replicas=minimum)) == {
        "gluetun_2": evacuation.Evacuation.IN_DOUBT
    }


def test_what_others_made_is_removed_only_where_they_ask_for_it(policy: Policy) -> None:
    """On a failed VPN their engines are stopped as far as they run, or left; own ones are ghosts without asking."""
    fleet = fleet_of(gluetun=1, gluetun_2=len(ContainerState))
    mixed = [replace(e, state=s, own=False) for e, s in zip(fleet.on("gluetun_2"), ContainerState, strict=True)]
    own, asked = replace(mixed[0], id="own", own=True), replace(mixed[0], id="asked", response=Response.REMOVE)
    fleet = with_engines(fleet, "gluetun_2", *mixed, own, asked)
    state = state_of(policy, Phase.HEALTHY, Phase.FAILED)
    assert evacuation.ghosts(fleet, "gluetun_2") == (own, asked)
    parked = to_park(state, fleet, policy, "gluetun_2")
    assert {engine.state for engine in parked} == {ContainerState.RUNNING, ContainerState.RESTARTING}
    assert to_park(state, fleet, replace(policy, others=Response.LEAVE), "gluetun_2") == ()
    theirs = with_engines(fleet, "gluetun_2", *mixed)
    assert evacuations(state, theirs, policy) == {"gluetun_2": SAFE}
    assert evacuations(state, theirs, replace(policy, others=Response.LEAVE)) == {}, "there is nothing to evacuate"


@pytest.mark.parametrize(
    ("changes", "others", "parked"),
    [
        pytest.param({}, Response.PARK, True, id="as the setting says"),
        pytest.param({"response": Response.LEAVE}, Response.PARK, False, id="its label says leave"),
        pytest.param({"response": Response.PARK}, Response.LEAVE, True, id="its label says park"),
        pytest.param({"created_at": START.timestamp()}, Response.PARK, False, id="made during the failure"),
        pytest.param({"id": "taken-back"}, Response.PARK, False, id="taken back by its owner"),
    ],
)
def test_which_engines_of_others_are_parked(
    policy: Policy,
    changes: dict[str, Any],
    others: Response,
    parked: bool,  # noqa: FBT001
) -> None:
    """The label outweighs the setting; where the owner is at work during the failure, the owner knows better."""
    fleet = fleet_of(gluetun=1, gluetun_2=1)
    fleet = with_engines(fleet, "gluetun_2", replace(fleet.on("gluetun_2")[0], own=False, **changes))
    state = state_of(policy, Phase.HEALTHY, Phase.FAILED)
    found = to_park(state, fleet, replace(policy, others=others), "gluetun_2", {"taken-back"})
    assert bool(found) == parked


def test_own_engines_that_can_never_run_again(policy: Policy) -> None:
    """They are removed wherever they are, but in an outage; what others made is not."""
    fleet = fleet_of(gluetun=3, gluetun_2=0)
    works, dead, removing = fleet.on("gluetun")
    dead, removing = replace(dead, state=ContainerState.DEAD), replace(removing, state=ContainerState.REMOVING)
    fleet = with_engines(fleet, "gluetun", works, dead, removing, replace(dead, id="theirs", own=False))
    assert evacuation.wrecks(state_of(policy, Phase.HEALTHY, Phase.HEALTHY), fleet, "gluetun") == (dead, removing)
    assert evacuation.wrecks(state_of(policy, Phase.FAILED, Phase.FAILED), fleet, "gluetun") == ()


def test_relief_is_one_engine_at_least(policy: Policy) -> None:
    """A VPN whose share is none would never become a carrier otherwise."""
    policy = replace(policy, min_replicas=1)
    fleet = fleet_of(gluetun=1, gluetun_2=0)
    state = FleetState(
        state_of(policy, Phase.FAILED, Phase.HEALTHY).vpns, emergency=Emergency(NOW, "gluetun", Reason.DOCKER_EXITED)
    )
    relieved = plan.with_relief(state, fleet, policy)
    assert relieved.relief == "gluetun_2"
    assert plan.fills(relieved, fleet, policy, {}) == [plan.Fill("gluetun_2", 1, plan.ProvisionReason.RELIEF)]


def test_nothing_new_is_asked_of_a_vpn_in_doubt(policy: Policy) -> None:
    """A request goes to the other VPN, however loaded that is, or is refused by what is in doubt."""
    state = replace(state_of(policy, Phase.HEALTHY, Phase.HEALTHY), doubtful=frozenset({"gluetun_2"}))
    fleet = fleet_of(gluetun=5, gluetun_2=0)
    assert plan.choose_vpn(state, fleet, policy, {}, 0.0) == "gluetun"
    refusal = plan.choose_vpn(state, fleet, policy, {}, 0.0, "gluetun_2")
    assert isinstance(refusal, plan.Refusal)
    assert (refusal.code, refusal.retry_after_s) == ("vpn_in_doubt", None)
    everywhere = replace(state, doubtful=frozenset(policy.vpns))
    assert isinstance(plan.choose_vpn(everywhere, fleet, policy, {}, 0.0), plan.Refusal)


def test_doubt_leaves_the_phase_and_takes_out_of_service(policy: Policy) -> None:
    """Unknown and suspect change no phase and no mode; the VPN is in doubt until its verdict is clear again."""
    state = state_of(policy, Phase.HEALTHY, Phase.FAILED)
    for verdict in (Verdict.SUSPECT, Verdict.UNKNOWN):
        judgement = Judgement() if verdict is Verdict.UNKNOWN else Judgement(verdict, signal(A, S))
        after, changes = step(state, {"gluetun": judgement, "gluetun_2": Judgement(U, signal(D, U))}, policy, NOW)
        assert (after.vpns, len(changes), after.doubtful) == (state.vpns, 0, frozenset({"gluetun"}))
        clear = {"gluetun": Judgement(H, signal(D, H)), "gluetun_2": Judgement(U, signal(D, U))}
        assert step(after, clear, policy, NOW)[0].doubtful == frozenset()


@pytest.mark.parametrize(
    ("said", "ended"),
    [
        pytest.param({"a": H, "b": H}, [], id="another is healthy"),
        pytest.param({"a": U, "b": H}, ["b"], id="the other has failed"),
        pytest.param({"a": S, "b": H}, ["b"], id="the other is suspect"),
        pytest.param({"b": H}, ["b"], id="of the other nothing is known"),
        pytest.param({"a": U, "b": U}, ["b"], id="all have failed besides"),
    ],
)
def test_a_drill_ends_as_soon_as_its_vpn_is_needed(said: dict[str, Verdict], ended: list[str]) -> None:
    """It makes no real failure worse: without another VPN known to be healthy there is none."""
    signals = [replace(signal(D, verdict), vpn=name) for name, verdict in said.items()]
    drill = replace(signal(O, U), vpn="b", reason=Reason.DRILL)
    assert decision.drills_to_end(["a", "b"], [*signals, drill], NOW) == ended
    assert decision.drills_to_end(["a", "b"], signals, NOW) == []


def test_the_decision_says_what_waits_and_until_when(policy: Policy) -> None:
    """A failure with a carrier beside it: deferred for the delay, looked at again as it ends, and then cleaned up."""
    signals = [replace(signal(D, H)), replace(signal(D, U), vpn="gluetun_2")]
    fleet = fleet_of(gluetun=1, gluetun_2=1)
    first = decision.decide(state_of(policy, Phase.HEALTHY, Phase.HEALTHY), fleet, signals, policy, NOW)
    assert (first.cleanup, first.deferred, first.look_again_at) == ((), {"gluetun_2": DELAY}, LATER)
    then = decision.decide(first.state, fleet, signals, policy, moment(5))
    assert (then.cleanup, then.deferred, then.look_again_at) == (("gluetun_2",), {}, None)
    doubt = [*signals, signal(A, S)]
    held = decision.decide(first.state, fleet, doubt, policy, moment(5))
    assert (held.cleanup, held.deferred) == ((), {"gluetun_2": NO_CARRIER})


def test_single_mode_knows_no_emergency() -> None:
    """With one VPN a failure is an outage: nothing is removed, and it stabilizes after recovery."""
    policy = Policy(("v",), redundant=False, ports={"v": range(1, 9)})
    state = FleetState({"v": VpnState(Phase.HEALTHY, NOW)}, redundant=False)
    state, _ = step(state, {"v": Judgement(U, signal(D, U))}, policy, NOW)
    assert (state.mode, evacuations(state, fleet_of(v=2), policy)) == (Mode.OUTAGE, {})
    state, _ = step(state, {"v": Judgement(H, signal(D, H))}, policy, NOW)
    assert state.vpns["v"].phase is Phase.STABILIZING
    assert NOW.wall == START


def test_there_is_no_relief_where_nobody_wants_an_engine(policy: Policy) -> None:
    """MIN_REPLICAS is 0: evacuation needs no carrier, so an engine that was not asked for has no use."""
    policy = replace(policy, min_replicas=0)
    fleet = fleet_of(gluetun=1, gluetun_2=0)
    state = FleetState(
        state_of(policy, Phase.FAILED, Phase.HEALTHY).vpns, emergency=Emergency(NOW, "gluetun", Reason.DOCKER_EXITED)
    )
    assert plan.fills(plan.with_relief(state, fleet, policy), fleet, policy, {}) == []


def test_relief_looks_past_a_vpn_in_doubt() -> None:
    """One has failed, the engines of the second are out of service, the third is healthy and has none: it is filled."""
    names = ("a", "b", "c")
    policy = Policy(names, min_replicas=3, ports={name: range(n * 10 + 1, n * 10 + 9) for n, name in enumerate(names)})
    state = FleetState(
        state_of(policy, Phase.FAILED, Phase.HEALTHY, Phase.HEALTHY).vpns,
        emergency=Emergency(NOW, "a", Reason.DOCKER_EXITED),
        doubtful=frozenset({"b"}),
    )
    assert plan.with_relief(state, fleet_of(a=1, b=1, c=0), policy).relief == "c"


def test_every_reason_to_wait_has_its_words() -> None:
    """Log and page say for each of them why the evacuation waits."""
    reasons = set(evacuation.Evacuation) - {SAFE}
    assert set(Deferrals(5.0, lambda: True)._why) == reasons
    assert set(WAITS) == reasons
