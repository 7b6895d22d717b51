"""The rules of the core, as tables of named cases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exporter.core import plan
from exporter.core.dependents import ManagedLabel
from exporter.core.model import (
    Container,
    ContainerHealth,
    ContainerState,
    Orphan,
    Phase,
    Reason,
    Signal,
    Source,
    Verdict,
)
from exporter.core.verdict import Sighting, combine, docker_signal, observe
from tests.support.moments import moment
from tests.support.values import NOW, build_fleet, fleet_of, signal, state_of, with_engines

if TYPE_CHECKING:
    from exporter.core.policy import Policy

LABEL = ManagedLabel("orchestrator.managed", "acestream")


def vpn(**changes: Any) -> Container:
    base = Container("v1", "gluetun", ContainerState.RUNNING, ContainerHealth.HEALTHY, started_at=100.0)
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("container", "sighting", "expected"),
    [
        pytest.param(None, Sighting(), Reason.DOCKER_MISSING, id="missing"),
        pytest.param(
            vpn(state=ContainerState.EXITED), Sighting(), Reason.DOCKER_EXITED, id="exited with health healthy"
        ),
        pytest.param(
            vpn(state=ContainerState.PAUSED), Sighting(), Reason.DOCKER_PAUSED, id="paused with health healthy"
        ),
        pytest.param(vpn(state=ContainerState.RESTARTING), Sighting(), Reason.DOCKER_RESTARTING, id="restarting"),
        pytest.param(vpn(state=ContainerState.CREATED), Sighting(), Reason.DOCKER_EXITED, id="created, never started"),
        pytest.param(vpn(health=ContainerHealth.UNHEALTHY), Sighting(), Reason.DOCKER_UNHEALTHY, id="unhealthy"),
        pytest.param(vpn(), Sighting(), Reason.DOCKER_HEALTHY, id="healthy"),
        pytest.param(vpn(health=ContainerHealth.NONE), Sighting(), Reason.DOCKER_HEALTHY, id="no health check"),
        pytest.param(vpn(health=ContainerHealth.STARTING), Sighting(), None, id="starting for the first time"),
        pytest.param(
            vpn(health=ContainerHealth.STARTING),
            Sighting(healthy_run=("v1", 90.0)),
            Reason.DOCKER_STARTING,
            id="starting anew",
        ),
        pytest.param(
            vpn(health=ContainerHealth.STARTING),
            Sighting(healthy_run=("v0", None)),
            Reason.DOCKER_STARTING,
            id="recreated",
        ),
        pytest.param(
            vpn(health=ContainerHealth.STARTING),
            Sighting(healthy_run=("v1", 100.0)),
            None,
            id="starting with an unchanged start: the daemon came back",
        ),
        pytest.param(
            vpn(health=ContainerHealth.STARTING, started_at=None),
            Sighting(healthy_run=("v1", 100.0)),
            None,
            id="starting with an unknown start",
        ),
        pytest.param(
            vpn(health=ContainerHealth.STARTING),
            Sighting(starting_since=800.0),
            Reason.DOCKER_START_TIMEOUT,
            id="too long",
        ),
        pytest.param(vpn(), Sighting(frozen=True), None, id="healthy, frozen"),
        pytest.param(vpn(health=ContainerHealth.UNHEALTHY), Sighting(frozen=True), None, id="unhealthy, frozen"),
        pytest.param(
            vpn(state=ContainerState.EXITED), Sighting(frozen=True), Reason.DOCKER_EXITED, id="exited, frozen"
        ),
    ],
)
def test_what_docker_says_of_a_vpn(container: Container | None, sighting: Sighting, expected: Reason | None) -> None:
    """State comes before health; starting and frozen say nothing, or too much."""
    said = docker_signal("gluetun", container, sighting, 120.0, NOW)
    assert (said.reason if said else None) == expected


def test_a_health_freezes_when_its_newest_probe_stays_the_same() -> None:
    """Three probe periods without a new probe, by the monotonic clock alone; a new probe ends it."""
    container = vpn(probed_at=moment(-5).wall.timestamp(), probe_period_s=10.0)
    seen = observe(Sighting(), container, moment(0))
    assert not observe(seen, container, moment(30)).frozen
    frozen = observe(seen, container, moment(31))
    assert frozen.frozen
    assert not observe(frozen, replace(container, probed_at=51.0), moment(32)).frozen
    assert observe(frozen, replace(container, probed_at=None), moment(33)).frozen, "a list call tells nothing of probes"


def test_a_health_that_was_frozen_before_the_first_look_says_nothing() -> None:
    """Docker's clock tells how old the newest probe is; where that clock is wrong, the next probe shows it."""
    container = vpn(probed_at=moment(-31).wall.timestamp(), probe_period_s=10.0)
    assert not observe(Sighting(), container, moment(-1)).frozen
    frozen = observe(Sighting(), container, moment(0))
    assert frozen.frozen
    assert docker_signal("gluetun", container, frozen, 120.0, NOW) is None
    assert observe(frozen, container, moment(1)).frozen
    assert not observe(frozen, replace(container, probed_at=moment(-30).wall.timestamp()), moment(5)).frozen


D, A, O = Source.DOCKER, Source.ALERTMANAGER, Source.OPERATOR  # noqa: E741 - short in a table
H, U, S = Verdict.HEALTHY, Verdict.UNHEALTHY, Verdict.SUSPECT


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        pytest.param([], Verdict.UNKNOWN, id="nobody says anything"),
        pytest.param([signal(D, H)], Verdict.HEALTHY, id="Docker says healthy"),
        pytest.param([signal(D, U)], Verdict.UNHEALTHY, id="Docker says unhealthy"),
        pytest.param([signal(D, H), signal(A, U)], Verdict.UNHEALTHY, id="an alert objects"),
        pytest.param([signal(D, H), signal(O, U)], Verdict.UNHEALTHY, id="a drill objects"),
        pytest.param([signal(A, U)], Verdict.UNHEALTHY, id="an alert alone"),
        pytest.param([signal(A, H)], Verdict.UNKNOWN, id="only Docker can say healthy"),
        pytest.param([signal(D, H), signal(A, U, expires=1000.0)], Verdict.HEALTHY, id="an alert that has expired"),
        pytest.param([signal(D, H), signal(A, S)], Verdict.SUSPECT, id="suspicion outweighs healthy"),
        pytest.param([signal(A, S)], Verdict.SUSPECT, id="suspicion alone"),
        pytest.param([signal(D, S), signal(A, U)], Verdict.UNHEALTHY, id="unhealthy outweighs suspicion"),
        pytest.param([signal(D, H), signal(A, S, expires=1000.0)], Verdict.HEALTHY, id="a suspicion that has expired"),
    ],
)
def test_the_rule_that_combines_signals(signals: list[Signal], expected: Verdict) -> None:
    """Unhealthy if any says so; else suspect if any says so; else healthy if Docker says so; otherwise unknown."""
    assert combine(signals, NOW).verdict is expected
    assert combine(reversed(signals), NOW) == combine(signals, NOW), "order does not matter"


# --- fleet ------------------------------------------------------------------------------------------------------------


def engine_container(**changes: Any) -> Container:
    labels = {"orchestrator.managed": "acestream", "acestream.vpn_container": "gluetun", "acestream.http_port": "19000"}
    base = Container("e1", "acestream-1", ContainerState.RUNNING, labels=labels, network="v1", created_at=150.0)
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        pytest.param(engine_container(), None, id="created after its VPN's start"),
        pytest.param(engine_container(created_at=50.0, started_at=120.0), None, id="restarted after it"),
        pytest.param(engine_container(created_at=50.0, started_at=60.0), Orphan.RESTART, id="its VPN started after it"),
        pytest.param(engine_container(created_at=50.0), None, id="not known yet"),
        pytest.param(engine_container(network="dead"), Orphan.RECREATE, id="its VPN has another id"),
        pytest.param(engine_container(state=ContainerState.CREATED), Orphan.NEVER_STARTED, id="never started"),
    ],
)
def test_which_engine_is_an_orphan(engine: Container, expected: Orphan | None) -> None:
    """The namespace decides, told by ids and start times."""
    fleet = build_fleet([vpn(), engine], ["gluetun"], LABEL, {"v1": "gluetun"}, {}, {})
    assert [item.orphan for item in fleet.engines] == [expected]


def test_what_is_no_engine() -> None:
    """No managed label, no shared network, or the network of a stranger: not ours, never touched."""
    strangers = [
        engine_container(id="a", labels={}),
        engine_container(id="b", network=None),
        engine_container(id="c", network="stranger", labels={"orchestrator.managed": "acestream"}),
        engine_container(id="d", labels={"orchestrator.managed": "other", "acestream.vpn_container": "gluetun"}),
    ]
    assert build_fleet([vpn(), *strangers], ["gluetun"], LABEL, {"v1": "gluetun"}, {}, {}).engines == ()


# --- plan -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "count", "expected"), [(10, 2, [5, 5]), (11, 2, [6, 5]), (11, 3, [4, 4, 3]), (0, 2, [0, 0])]
)
def test_the_share(total: int, count: int, expected: list[int]) -> None:
    """Divided evenly, the remainder to the first."""
    assert list(plan.divide(total, [str(number) for number in range(count)]).values()) == expected


def test_only_phase_healthy_is_filled(policy: Policy) -> None:
    """A stabilizing VPN blocks provisioning to itself alone."""
    state = state_of(policy, Phase.HEALTHY, Phase.STABILIZING)
    assert plan.fills(state, fleet_of(gluetun=2, gluetun_2=0), policy, {}) == [
        plan.Fill("gluetun", 3, plan.ProvisionReason.FILL)
    ]


def test_an_engine_that_was_asked_for_goes_where_fewest_are(policy: Policy) -> None:
    """What is under way counts as carried; a VPN that was named is taken whatever it carries."""
    state = state_of(policy, Phase.HEALTHY, Phase.HEALTHY)
    fleet = fleet_of(gluetun=2, gluetun_2=1)
    assert plan.choose_vpn(state, fleet, policy, {}, 0.0) == "gluetun_2"
    assert plan.choose_vpn(state, fleet, policy, {"gluetun_2": 2}, 0.0) == "gluetun"
    assert plan.choose_vpn(state, fleet, policy, {}, 0.0, "gluetun") == "gluetun"


def test_engines_that_were_asked_for_come_on_top_of_the_share(policy: Policy) -> None:
    """They fill no place of the share, as the engines come and as they go; they count towards MAX_REPLICAS."""
    state = state_of(policy, Phase.HEALTHY, Phase.HEALTHY)
    fleet = fleet_of(gluetun=5, gluetun_2=5)
    engines = fleet.on("gluetun")
    mixed = with_engines(fleet, "gluetun", *(replace(engine, explicit=True) for engine in engines[:2]), *engines[2:])
    assert [(fill.vpn, fill.count) for fill in plan.fills(state, mixed, policy, {})] == [("gluetun", 2)]
    tight = replace(policy, max_replicas=10)
    assert sum(fill.count for fill in plan.fills(state, mixed, tight, {})) == 10 - sum(e.own for e in mixed.engines)


def test_what_is_under_way_counts(policy: Policy) -> None:
    """Creations that the fleet does not show yet are not asked for twice."""
    state = state_of(policy, Phase.HEALTHY, Phase.HEALTHY)
    assert plan.fills(state, fleet_of(gluetun=2, gluetun_2=5), policy, {"gluetun": 3}) == []


def test_the_limit_and_the_ports_bound_a_fill(policy: Policy) -> None:
    """MAX_REPLICAS counts all own engines; a VPN is never given more than it has ports."""
    state = state_of(policy, Phase.HEALTHY, Phase.HEALTHY)
    tight = replace(policy, max_replicas=10, ports={"gluetun": range(19000, 19002), "gluetun_2": range(19500, 20000)})
    fills = plan.fills(state, fleet_of(gluetun=0, gluetun_2=0), tight, {})
    assert [(fill.vpn, fill.count) for fill in fills] == [("gluetun", 2), ("gluetun_2", 5)]
    assert plan.fills(state, fleet_of(gluetun=1, gluetun_2=9), tight, {}) == []


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"own": False}, id="owned by others"),
        pytest.param({"state": ContainerState.DEAD}, id="dead"),
        pytest.param({"state": ContainerState.REMOVING}, id="being removed"),
    ],
)
def test_what_holds_no_place_of_the_share(policy: Policy, changes: dict[str, Any]) -> None:
    """Only own engines count, and none that can never run again; that one counts towards MAX_REPLICAS until it is gone.

    However many others have made, there is room for as many own ones as before.
    """
    state = state_of(policy, Phase.HEALTHY, Phase.HEALTHY)
    fleet = fleet_of(gluetun=5, gluetun_2=5)
    engines = fleet.on("gluetun")
    mixed = with_engines(fleet, "gluetun", *(replace(engine, **changes) for engine in engines[:2]), *engines[2:])
    assert [(fill.vpn, fill.count) for fill in plan.fills(state, mixed, policy, {})] == [("gluetun", 2)]
    tight = replace(policy, max_replicas=10)
    assert sum(fill.count for fill in plan.fills(state, mixed, tight, {})) == 10 - sum(e.own for e in mixed.engines)


def test_a_successor_that_lost_its_network_again_leaves_no_second_one(policy: Policy) -> None:
    """Its VPN was recreated twice: the oldest goes first, once the last one works, and none is made anew twice."""
    state = state_of(policy, Phase.HEALTHY, Phase.HEALTHY)
    one, two, three = fleet_of(gluetun=3).on("gluetun")
    one = replace(one, orphan=Orphan.RECREATE)
    two = replace(two, orphan=Orphan.RECREATE, successor_of=one.id)
    fleet = with_engines(fleet_of(gluetun=0), "gluetun", one, two)
    assert (plan.orphans(state, fleet), plan.superseded(state, fleet), fleet.own) == ([two], [], 1)
    three = replace(three, successor_of=two.id)
    fleet = with_engines(fleet_of(gluetun=0), "gluetun", one, two, three)
    assert (plan.orphans(state, fleet), plan.superseded(state, fleet), fleet.own) == ([], [one], 1)
    fleet = with_engines(fleet_of(gluetun=0), "gluetun", two, three)
    assert (plan.orphans(state, fleet), plan.superseded(state, fleet), fleet.own) == ([], [two], 1)
