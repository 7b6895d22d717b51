"""What was parked: who is stopped, who is started again, and when a container is its owner's again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exporter.core.dependents import RESPONSE_LABEL, ManagedLabel
from exporter.core.evacuation import ghosts
from exporter.core.model import Container, ContainerState, Engine, EngineState, Phase
from exporter.core.parking import may_bring_back, to_park
from exporter.core.policy import Policy, Response
from exporter.fleet.facts import LIST_LATE_S, Facts
from exporter.fleet.ledger import Change, Entry, Ledger
from exporter.fleet.parked import LATE_S, Parked, Stage
from exporter.journal.memory import Reading, Writing
from tests.support.moments import moment
from tests.support.values import NOW, build_fleet, fleet_of, state_of, with_engines

if TYPE_CHECKING:
    from exporter.core.phases import FleetState

LABEL = ManagedLabel("orchestrator.managed", "acestream")
LABELS = {"orchestrator.managed": "acestream"}
RUNNING, EXITED = ContainerState.RUNNING, ContainerState.EXITED
THEIRS = Engine("theirs", "theirs", "gluetun_2", RUNNING, 19000)


class Host:
    """One engine of others on the second VPN, as it is read."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.facts = Facts(policy.vpns, LABEL)
        self.parked = Parked()
        self.seconds = 0.0

    def shows(
        self, state: ContainerState | None, phase: Phase, seconds: float = 1.0, network: str = "vpn", **more: bool
    ) -> set[str]:
        """One look at what Docker shows; None: the engine is gone."""
        self.seconds += seconds
        now = moment(self.seconds)
        listing = [Container("vpn", "gluetun_2", RUNNING)]
        if state is not None:
            listing.append(Container("theirs", "theirs", state, labels=LABELS, network=network))
        self.facts.take_all(listing, now.mono, now)
        return self.parked.look(self.state(phase, **more), self.facts, now.mono)

    def state(self, phase: Phase, *, doubtful: bool = False) -> FleetState:
        state = state_of(self.policy, Phase.HEALTHY, phase)
        return replace(state, doubtful=frozenset({"gluetun_2"} if doubtful else ()))


@pytest.fixture
def host(policy: Policy) -> Host:
    host = Host(policy)
    host.parked.ask(THEIRS, NOW)
    return host


def test_what_was_stopped_is_started_when_its_vpn_is_healthy(host: Host) -> None:
    """Not while the VPN is failed, stabilizes, or is in doubt."""
    host.parked.stopped("theirs")
    assert host.shows(EXITED, Phase.FAILED) == set()
    assert host.shows(EXITED, Phase.STABILIZING) == set()
    assert host.shows(EXITED, Phase.HEALTHY, doubtful=True) == set()
    assert host.shows(EXITED, Phase.HEALTHY) == {"gluetun_2"}
    assert [one.id for one in host.parked.due("gluetun_2", host.state(Phase.HEALTHY))] == ["theirs"]
    assert host.parked.due("gluetun", host.state(Phase.HEALTHY)) == []


def test_a_stop_of_which_nothing_is_known_may_have_been_ours(host: Host) -> None:
    """Mayday was cut off between the note and the result: what is found stopped is started again, later too."""
    assert host.shows(RUNNING, Phase.FAILED) == set()
    assert host.parked.taken_back == set(), "it is still to be stopped"
    assert host.shows(RUNNING, Phase.HEALTHY) == set()
    assert host.shows(EXITED, Phase.HEALTHY) == {"gluetun_2"}


def test_what_was_not_stopped_after_all_is_forgotten(host: Host) -> None:
    """It runs when its VPN is healthy again, and a stop that came late would have come by now."""
    host.shows(RUNNING, Phase.HEALTHY, LATE_S / 2)
    assert len(host.parked) == 1
    host.shows(RUNNING, Phase.HEALTHY, LATE_S)
    assert len(host.parked) == 0
    assert host.shows(EXITED, Phase.HEALTHY) == set(), "its owner has stopped it"


@pytest.mark.parametrize("told", [True, False])
def test_what_its_owner_starts_is_not_stopped_again_for_this_failure(host: Host, told: bool) -> None:  # noqa: FBT001
    """By an event or by a reading; when the owner stops it once more it stays so; the next failure is another one."""
    host.parked.stopped("theirs")
    if told:
        host.parked.started_elsewhere("theirs")
    else:
        host.shows(RUNNING, Phase.FAILED)
    assert host.parked.taken_back == {"theirs"}
    host.shows(EXITED, Phase.FAILED)
    host.shows(EXITED, Phase.STABILIZING)
    assert host.parked.taken_back == {"theirs"}
    assert host.shows(EXITED, Phase.HEALTHY) == set()
    assert len(host.parked) == 0


@pytest.mark.parametrize("told", [True, False])
def test_a_list_that_lags_behind_the_stop_is_no_start_by_the_owner(host: Host, told: bool) -> None:  # noqa: FBT001
    """Docker answers a stop before its list shows it. An event of a start is believed at once, a list later."""
    host.shows(RUNNING, Phase.FAILED)
    host.facts.stopped("theirs", moment(host.seconds))
    host.parked.stopped("theirs")
    if told:
        host.facts.started_elsewhere("theirs")
    host.shows(RUNNING, Phase.FAILED, LIST_LATE_S / 2)
    assert host.parked.taken_back == ({"theirs"} if told else set())
    host.shows(RUNNING, Phase.FAILED, LIST_LATE_S)
    assert host.parked.taken_back == {"theirs"}


@pytest.mark.parametrize("state", [None, ContainerState.DEAD, ContainerState.REMOVING])
def test_what_is_removed_is_forgotten(host: Host, state: ContainerState | None) -> None:
    """Whoever does it, and whenever."""
    host.parked.stopped("theirs")
    host.shows(state, Phase.FAILED)
    assert len(host.parked) == 0


def test_what_cannot_be_started_is_shown(host: Host) -> None:
    """Its VPN was recreated: only its owner can make it anew, and Mayday does not try for ever."""
    host.parked.stopped("theirs")
    host.shows(EXITED, Phase.FAILED)
    assert host.parked.problems == ()
    other, labels = moment(host.seconds + 1), {**LABELS, "acestream.vpn_container": "gluetun_2"}
    host.facts.take_all(
        [
            Container("new", "gluetun_2", RUNNING),
            Container("theirs", "theirs", EXITED, labels=labels, network="vpn"),
        ],
        other.mono,
        other,
    )
    assert host.parked.look(host.state(Phase.HEALTHY), host.facts, other.mono) == set()
    assert len(host.parked.problems) == 1
    assert host.parked.problems[0].startswith("recreate container 'theirs'")
    host.seconds += 2
    host.shows(None, Phase.HEALTHY)
    assert host.parked.problems == ()


def test_what_was_parked_survives_as_it_was(host: Host) -> None:
    """Every stage, through what is written down; without anything written nothing is parked."""
    for stage in Stage:
        host.parked.ask(replace(THEIRS, id=stage), NOW)
        host.parked._stopped[stage].stage = stage
    again = Parked()
    again.restore(host.parked.remember(Writing(moment(10))), Reading(moment(110), 100.0))
    assert again._stopped == host.parked._stopped
    again.restore((), Reading(moment(110), 100.0))
    assert len(again) == 0


def test_who_is_stopped(policy: Policy) -> None:
    """The label goes before the setting; nothing that its owner made during the failure, or took back."""
    state = state_of(policy, Phase.HEALTHY, Phase.FAILED)
    leave = replace(policy, others=Response.LEAVE)
    failed_at = state.vpns["gluetun_2"].since.wall.timestamp()
    cases: dict[str, tuple[dict[str, Any], bool, bool]] = {
        "plain": ({}, True, False),
        "park": ({"response": Response.PARK}, True, True),
        "leave": ({"response": Response.LEAVE}, False, False),
        "remove": ({"response": Response.REMOVE}, False, False),
        "no engine": ({"response": Response.PARK, "managed": False}, True, True),
        "own": ({"own": True, "response": Response.PARK}, False, False),
        "new": ({"created_at": failed_at}, False, False),
        "stopped": ({"state": EXITED}, False, False),
        "paused": ({"state": ContainerState.PAUSED}, False, False),
    }
    engines = [replace(THEIRS, id=name, **changes) for name, (changes, _, _) in cases.items()]
    fleet = with_engines(fleet_of(gluetun=1, gluetun_2=0), "gluetun_2", *engines)
    for chosen, index in ((policy, 1), (leave, 2)):
        expected = {name for name, case in cases.items() if case[index]}
        assert {one.id for one in to_park(state, fleet, chosen, "gluetun_2")} == expected
    assert {one.id for one in to_park(state, fleet, leave, "gluetun_2", {"park"})} == {"no engine"}
    assert {one.id for one in ghosts(fleet, "gluetun_2")} == {"own", "remove"}
    assert not may_bring_back(state, "gluetun_2")
    assert may_bring_back(state, "gluetun")


@pytest.mark.parametrize(
    ("word", "expected"),
    [("park", Response.PARK), ("leave", Response.LEAVE), ("remove", Response.REMOVE), ("restart", Response.LEAVE)],
)
def test_the_label_of_a_container(policy: Policy, word: str, expected: Response) -> None:
    """With it a container without the managed label is of interest, but no engine; what is no word leaves it alone."""
    vpn = Container("vpn", "gluetun_2", RUNNING)
    browser = Container("browser", "browser", RUNNING, labels={RESPONSE_LABEL: word, "mayday.made": "1"}, network="vpn")
    fleet = build_fleet([vpn, browser], policy.vpns, LABEL, {"vpn": "gluetun_2"}, {}, {})
    assert fleet.engines == ()
    assert [(one.response, one.own) for one in fleet.dependents("gluetun_2")] == [(expected, False)]
    assert fleet.counts.get(("gluetun_2", EngineState.WORKING), 0) == 0
    facts = Facts(policy.vpns, LABEL)
    facts.take_all([vpn, browser], 0.0, NOW)
    facts.fleet()
    assert bool(facts.problems) is (word == "restart")
    facts.take_all([vpn], 1.0, moment(1))
    facts.fleet()
    assert facts.problems == ()


@pytest.mark.parametrize(("mark", "undone"), [("1-1", True), ("1-2", False), (None, False)])
def test_a_creation_without_an_answer_is_known_by_its_mark(policy: Policy, mark: str | None, undone: bool) -> None:  # noqa: FBT001
    """An engine under the same name is another's, and the name is taken for an hour at most."""
    facts, ledger = Facts(policy.vpns, LABEL), Ledger()
    entry = Entry(Change.CREATE, "gluetun_2", "acestream-1", 19000, made="1-1")
    ledger.unsure(ledger.begin(entry), 0.0, 30.0)
    labels = LABELS if mark is None else {**LABELS, "mayday.made": mark}
    listing = [
        Container("vpn", "gluetun_2", RUNNING),
        Container("found", "acestream-1", RUNNING, labels=labels, network="vpn"),
    ]
    facts.take_all(listing, 1.0, moment(1))
    ledger.look(state_of(policy, Phase.HEALTHY, Phase.HEALTHY), facts, 1.0)
    assert bool(ledger.to_undo(facts.fleet().engines)) is undone
    assert ("acestream-1" in ledger.names()) is not undone
    ledger.look(state_of(policy, Phase.HEALTHY, Phase.HEALTHY), facts, 3600.0)
    assert ledger.names() == set()
