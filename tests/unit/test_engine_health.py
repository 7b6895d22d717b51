"""Which engines are replaced: the rules of one round after the other, by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exporter.core.engine_health import (
    REPLACEMENTS_AT_MOST,
    REPLACEMENTS_WITHIN_S,
    HealthBook,
    after_replacing,
    after_round,
    askable,
    exhausted,
    known_unhealthy,
    replaceable,
)
from exporter.core.model import Container, ContainerHealth, ContainerState, Engine, EngineState, Fleet, Orphan, Phase
from exporter.core.peers import own_networks
from exporter.core.phases import FleetState, VpnState, initial_state
from exporter.core.policy import Policy
from exporter.core.service import not_usable_because
from tests.support.moments import moment

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 3
VPNS = ("a", "b")
RUNNING, EXITED, RESTARTING = ContainerState.RUNNING, ContainerState.EXITED, ContainerState.RESTARTING
ANSWERS, SILENT, NOT_ASKED = True, False, None

Look = tuple[ContainerState, ContainerHealth, bool | None]
"""One engine in one round: its state, Docker's health, whether it answered."""
GOOD: Look = (RUNNING, ContainerHealth.NONE, ANSWERS)
MUTE: Look = (RUNNING, ContainerHealth.NONE, SILENT)
SICK: Look = (RUNNING, ContainerHealth.UNHEALTHY, ANSWERS)
GONE: Look = (EXITED, ContainerHealth.NONE, NOT_ASKED)
DEAD: Look = (ContainerState.DEAD, ContainerHealth.NONE, NOT_ASKED)
FROZEN: Look = (ContainerState.PAUSED, ContainerHealth.NONE, NOT_ASKED)
LOOPS: Look = (RESTARTING, ContainerHealth.NONE, NOT_ASKED)
BETWEEN: Look = (RUNNING, ContainerHealth.NONE, NOT_ASKED)


def state_of(**phases: Phase) -> FleetState:
    """All VPNs in phase healthy, but for these."""
    known = {vpn: phases.get(vpn, Phase.HEALTHY) for vpn in VPNS}
    return replace(initial_state(Policy(VPNS), moment(0)), vpns={v: VpnState(p, moment(0)) for v, p in known.items()})


HEALTHY = state_of()


def fleet_of(*engines: Engine) -> Fleet:
    return Fleet.of({vpn: Container(vpn, vpn, RUNNING, addresses={"net": f"10.0.0.{vpn}"}) for vpn in VPNS}, engines)


def engine(name: str, look: Look = GOOD, vpn: str = "a", *, own: bool = True, orphan: Orphan | None = None) -> Engine:
    return Engine(name, name, vpn, look[0], 19000, own=own, orphan=orphan, docker_health=look[1])


def played(
    rounds: Iterable[dict[str, Look]], state: FleetState = HEALTHY, *, own: bool = True
) -> tuple[HealthBook, Fleet]:
    """The book after these rounds over engines of one VPN, and the fleet of the last one."""
    book, fleet = HealthBook(), fleet_of()
    for looks in rounds:
        fleet = fleet_of(*(engine(name, look, own=own) for name, look in looks.items()))
        book = after_round(book, state, fleet, {n: look[2] for n, look in looks.items() if look[2] is not None})
    return book, fleet


def replaced(rounds: Iterable[dict[str, Look]], state: FleetState = HEALTHY, *, own: bool = True) -> list[str]:
    book, fleet = played(rounds, state, own=own)
    return [e.name for e in replaceable(book, state, fleet, LIMIT)]


@pytest.mark.parametrize(
    ("looks", "sibling", "expected"),
    [
        pytest.param([MUTE] * 3, GOOD, True, id="no answer, and a sibling answers"),
        pytest.param([MUTE] * 2, GOOD, False, id="no answer, not often enough"),
        pytest.param([MUTE] * 9, MUTE, False, id="no answer, and none of any sibling"),
        pytest.param([MUTE] * 9, SICK, False, id="no answer, and the sibling that answers is unhealthy"),
        pytest.param([MUTE] * 9, GONE, False, id="no answer, and no sibling runs"),
        pytest.param([SICK] * 3, GOOD, True, id="Docker says unhealthy, and a sibling works"),
        pytest.param([SICK] * 9, SICK, False, id="Docker says unhealthy of all: it may be the tunnel"),
        pytest.param([MUTE, MUTE, SICK], GOOD, True, id="one failure and another are failures in a row"),
        pytest.param([MUTE, MUTE, GOOD, MUTE], GOOD, False, id="an answer begins the count anew"),
        pytest.param([MUTE, MUTE, BETWEEN, MUTE], GOOD, True, id="not asked: the count stays"),
        pytest.param([MUTE, MUTE, MUTE, BETWEEN], GOOD, False, id="not asked: nothing is held against it now"),
        pytest.param([LOOPS] * 3, MUTE, True, id="a restart loop needs no sibling"),
        pytest.param([GONE] * 3, MUTE, True, id="exited needs no sibling"),
        pytest.param([DEAD] * 3, MUTE, True, id="dead needs no sibling"),
        pytest.param([FROZEN] * 3, MUTE, True, id="paused needs no sibling"),
        pytest.param([LOOPS, MUTE, LOOPS, BETWEEN, LOOPS], MUTE, True, id="a flicker between two starts is no answer"),
        pytest.param([LOOPS, MUTE, MUTE, MUTE], MUTE, False, id="a restart proves nothing of the silence after it"),
        pytest.param([*[MUTE] * 9, LOOPS], MUTE, False, id="nor of the silence before it"),
        pytest.param([LOOPS, LOOPS, GOOD, LOOPS], MUTE, False, id="an engine that came up has come up"),
        pytest.param([(ContainerState.CREATED, ContainerHealth.NONE, None)] * 9, GOOD, False, id="not started yet"),
    ],
)
def test_what_is_held_against_an_engine(looks: list[Look], sibling: Look, *, expected: bool) -> None:
    """Silence and Docker's unhealthy need a sibling that works in the same round, Docker's own word needs none."""
    rounds = [{"one": look, "sibling": sibling if sibling is not GONE else BETWEEN} for look in looks]
    rounds[-1]["sibling"] = sibling
    assert ("one" in replaced(rounds)) is expected
    assert "one" not in replaced(rounds, own=False), "an engine of others"


def test_the_proof_is_of_the_same_round() -> None:
    """A sibling that answered until a round ago proves nothing now."""
    rounds = [{"one": MUTE, "two": GOOD}] * 9
    assert replaced(rounds) == ["one"]
    assert replaced([*rounds, {"one": MUTE, "two": MUTE}]) == []
    assert replaced([*rounds, {"one": MUTE, "two": BETWEEN}]) == []


def test_a_sibling_on_another_vpn_proves_nothing() -> None:
    """Mayday may reach one VPN and not the other."""
    fleet = fleet_of(engine("one", MUTE), engine("two", GOOD, "b"))
    book = HealthBook()
    for _ in range(9):
        book = after_round(book, HEALTHY, fleet, {"one": False, "two": True})
    assert replaceable(book, HEALTHY, fleet, LIMIT) == []


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(state_of(a=Phase.STABILIZING), id="it stabilizes"),
        pytest.param(state_of(a=Phase.FAILED), id="it has failed"),
        pytest.param(state_of(b=Phase.FAILED), id="an emergency"),
        pytest.param(replace(HEALTHY, doubtful=frozenset({"a"})), id="it is in doubt"),
    ],
)
def test_nothing_is_replaced_but_on_a_healthy_vpn_in_normal_mode(state: FleetState) -> None:
    """Neither what fails now nor what failed before: the state decides at that moment."""
    for look in (MUTE, GONE, LOOPS):
        book, fleet = played([{"one": look, "two": GOOD}] * 5)
        assert [e.name for e in replaceable(book, HEALTHY, fleet, LIMIT)] == ["one"]
        assert replaceable(book, state, fleet, LIMIT) == []


@pytest.mark.parametrize(
    "state", [state_of(a=Phase.FAILED), state_of(a=Phase.STABILIZING), replace(HEALTHY, doubtful=frozenset({"a"}))]
)
def test_what_failed_with_its_vpn_is_not_held_against_it(state: FleetState) -> None:
    """Engines that ended while their VPN was down have as many rounds as any other once it is healthy."""
    book, fleet = played([{"one": GONE}] * 9, state)
    book = after_round(book, HEALTHY, fleet, {})
    assert replaceable(book, HEALTHY, fleet, LIMIT) == []


def test_an_orphan_is_repaired_and_not_replaced() -> None:
    """What it cannot answer without a network does not count later either."""
    orphan, good = engine("one", GONE, orphan=Orphan.RESTART), engine("two")
    book = HealthBook()
    for _ in range(5):
        book = after_round(book, HEALTHY, fleet_of(orphan, good), {"two": True})
    mended = fleet_of(engine("one"), good)
    assert replaceable(after_round(book, HEALTHY, mended, {"one": False, "two": True}), HEALTHY, mended, LIMIT) == []


def test_one_that_became_an_orphan_since_the_round_is_repaired() -> None:
    """Its VPN was restarted a moment ago, and the round has not seen that yet."""
    book, _ = played([{"one": MUTE, "two": GOOD}] * 5)
    orphan = fleet_of(engine("one", MUTE, orphan=Orphan.RESTART), engine("two"))
    assert replaceable(book, HEALTHY, orphan, LIMIT) == []


@pytest.mark.parametrize(
    ("look", "now", "still"),
    [
        (MUTE, GONE, False),
        (MUTE, SICK, True),
        (SICK, GOOD, False),
        (GONE, GOOD, False),
        (LOOPS, BETWEEN, False),
        (LOOPS, GONE, False),
    ],
)
def test_what_has_changed_since_the_round_is_not_held_against_it(look: Look, now: Look, *, still: bool) -> None:
    """It is replaced for what still is so."""
    book, _ = played([{"one": look, "two": GOOD}] * 5)
    assert bool(replaceable(book, HEALTHY, fleet_of(engine("one", now), engine("two")), LIMIT)) is still


def test_one_at_a_time_and_who_failed_longest_first() -> None:
    """Of several on one VPN the first is replaced; one that could not be has its next turn after the others."""
    rounds = [{"one": GOOD, "two": MUTE, "good": GOOD}, *[{"one": MUTE, "two": MUTE, "good": GOOD}] * 3]
    book, fleet = played(rounds)
    assert [e.name for e in replaceable(book, HEALTHY, fleet, LIMIT)] == ["two"]
    book = after_replacing(book, replaceable(book, HEALTHY, fleet, LIMIT), 0.0)
    assert [e.name for e in replaceable(book, HEALTHY, fleet, LIMIT)] == ["one"]


def test_a_vpn_sees_a_bounded_number_of_replacements_an_hour() -> None:
    """The hour rolls: with the first replacement over an hour old there is one more; the other VPN has its own."""
    book, one = HealthBook(), engine("one")
    for number in range(REPLACEMENTS_AT_MOST):
        assert not exhausted(book, "a", 60.0 * number)
        book = after_replacing(book, [one], 60.0 * number)
    assert exhausted(book, "a", 400.0)
    assert not exhausted(book, "b", 400.0)
    assert exhausted(book, "a", REPLACEMENTS_WITHIN_S - 0.1)
    assert not exhausted(book, "a", REPLACEMENTS_WITHIN_S)
    book = after_replacing(book, [one], REPLACEMENTS_WITHIN_S)
    assert exhausted(book, "a", REPLACEMENTS_WITHIN_S + 59.9)
    assert len(book.replaced["a"]) == REPLACEMENTS_AT_MOST, "older ones are forgotten"


def test_who_is_shown_as_unhealthy() -> None:
    """One that fails often enough where any ever answered, and one in a restart loop; before that nobody knows."""
    book, fleet = played([{"one": MUTE}] * 9)
    assert not known_unhealthy(book, fleet.engines[0], LIMIT), "perhaps it cannot be reached, or is no AceStream engine"
    book, fleet = played([{"one": GOOD}, *[{"one": MUTE}] * 3], own=False)
    assert known_unhealthy(book, fleet.engines[0], LIMIT)
    book, fleet = played([{"one": GOOD}, *[{"one": MUTE}] * 2])
    assert not known_unhealthy(book, fleet.engines[0], LIMIT)
    book, fleet = played([{"one": LOOPS}] * 3, own=False)
    assert known_unhealthy(book, fleet.engines[0], LIMIT)


def test_a_vpn_falls_silent_when_none_of_its_engines_answers() -> None:
    """Rounds are counted as long as any was asked; that none was asked says nothing."""
    silent = [{"one": MUTE, "two": MUTE}] * 4
    assert played(silent)[0].silent == {"a": 4}
    assert played([*silent, {"one": MUTE, "two": GOOD}])[0].silent == {}
    assert played([*silent, {"one": BETWEEN}])[0].silent == {}


@pytest.mark.parametrize(
    ("look", "healthy", "expected"),
    [
        (GOOD, True, EngineState.WORKING),
        (BETWEEN, None, EngineState.WORKING),
        (MUTE, False, EngineState.UNHEALTHY),
        (SICK, True, EngineState.UNHEALTHY),
        (LOOPS, True, EngineState.STOPPED),
        (GONE, True, EngineState.STOPPED),
    ],
)
def test_what_does_not_work_is_neither_counted_as_working_nor_used(
    look: Look, *, healthy: bool | None, expected: EngineState
) -> None:
    """Docker's unhealthy counts, whatever the API said, and an engine that is being restarted does not run."""
    one = replace(engine("one", look), healthy=healthy)
    assert one.counted_as is expected
    assert (not_usable_because(HEALTHY, one) is None) is (expected is EngineState.WORKING)


# --- the way to engines ----------------------------------------------------------------------------------------------

TWO = {"backend": "10.1.0.2", "media": "10.2.0.2"}


@pytest.mark.parametrize(
    ("addresses", "networks", "expected"),
    [
        pytest.param(TWO, {"media"}, "10.2.0.2", id="the network that both are on, not the first"),
        pytest.param(TWO, {"media", "backend"}, "10.1.0.2", id="either"),
        pytest.param(TWO, {"bridge"}, None, id="no network that both are on"),
        pytest.param(TWO, None, "10.1.0.2", id="Mayday is no container there: any"),
        pytest.param({}, {"media"}, "a", id="the VPN has no address: its name"),
        pytest.param(None, {"media"}, "a", id="the VPN is missing: its name"),
    ],
)
def test_the_address_of_a_vpn(
    addresses: dict[str, str] | None, networks: set[str] | None, expected: str | None
) -> None:
    """It is one that Mayday can reach; where there is none, engines of that VPN are not asked."""
    container = None if addresses is None else Container("a", "a", RUNNING, addresses=addresses)
    fleet = replace(
        Fleet.of({"a": container, "b": None}, [engine("one")]),
        networks=None if networks is None else frozenset(networks),
    )
    assert fleet.address("a") == expected
    assert bool(askable(HEALTHY, fleet)) is (expected is not None)


def test_the_networks_that_mayday_is_on() -> None:
    """Those of its own container, or of the container whose network it has; None where it has none of its own."""
    me = Container("m", "mayday", RUNNING, addresses={"media": "10.2.0.3"})
    inside = Container("i", "inside", RUNNING, network="m")
    host = Container("h", "on-the-host", RUNNING)
    lost = Container("l", "lost", RUNNING, network="gone")
    everyone = [me, inside, host, lost]
    assert own_networks(everyone, "m") == frozenset({"media"})
    assert own_networks(everyone, "i") == frozenset({"media"})
    for nobody in ("h", "l", "x", None):
        assert own_networks(everyone, nobody) is None
