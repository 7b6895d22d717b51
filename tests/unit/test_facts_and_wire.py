"""Docker's JSON as it comes, and readings that overtake each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exporter.core.dependents import ManagedLabel
from exporter.core.model import Container, ContainerHealth, ContainerState, Orphan
from exporter.fleet.facts import Facts
from exporter.runtime import docker_wire as wire
from tests.support.moments import moment

LABELS = {"orchestrator.managed": "acestream", "acestream.vpn_container": "gluetun", "acestream.http_port": "19000"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Up Less than a second", 1.0),
        ("Up 1 second (healthy)", 2.0),
        ("Up 59 seconds", 60.0),
        ("Up About a minute (health: starting)", 120.0),
        ("Up 45 minutes", 2760.0),
        ("Up About an hour", 7200.0),
        ("Up 3 days", 4 * 86400.0),
        ("Exited (0) 3 minutes ago", None),
        ("Created", None),
    ],
)
def test_how_long_a_container_can_have_run(status: str, expected: float | None) -> None:
    """The upper bound of Docker's human text."""
    assert wire.uptime_at_most(status) == expected


def listed(**changes: Any) -> dict[str, Any]:
    return {
        "Id": "a" * 64,
        "Names": ["/other/alias", "/gluetun"],
        "State": "running",
        "Status": "Up 5 minutes (unhealthy)",
        "Labels": None,
        "Created": 1700000000,
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
        **changes,
    }


def test_an_item_of_a_list() -> None:
    """Own name among aliases, health from the text, no labels at all."""
    container = wire.listed(listed())
    assert (container.name, container.health, container.address) == ("gluetun", ContainerHealth.UNHEALTHY, "172.17.0.2")
    assert wire.listed(listed(Health={"Status": "healthy"})).health is ContainerHealth.HEALTHY
    assert wire.listed(listed(Status="Up 5 minutes")).health is ContainerHealth.NONE
    assert wire.listed(listed(HostConfig={"NetworkMode": "container:xyz"})).network == "xyz"
    assert wire.listed(listed(State="something new")).state is ContainerState.DEAD


@pytest.mark.parametrize("state", ["running", "exited", "paused"])
def test_a_list_and_an_inspection_of_one_container_agree(state: str) -> None:
    """An inspection tells the last health of a container that does not run, a list does not. Taken for a change, every
    second audit would have the event stream opened anew."""
    running = state == "running"
    shown = wire.listed(listed(State=state, Status="Up 5 minutes (unhealthy)" if running else "Exited (137)"))
    inspection = {"Id": "a" * 64, "Name": "/gluetun", "State": {"Status": state, "Health": {"Status": "unhealthy"}}}
    looked_at = wire.inspected(inspection)
    assert (shown.state, shown.health) == (looked_at.state, looked_at.health)
    assert (looked_at.health is ContainerHealth.UNHEALTHY) is running


def test_times_of_docker() -> None:
    """Nine digits, offsets, and the zero time."""
    assert wire.unix_time("2025-11-07T22:03:33.123456789Z") == pytest.approx(1762553013.123456)
    assert wire.unix_time("2025-11-07T23:03:33+01:00") == pytest.approx(1762553013.0)
    assert wire.unix_time("0001-01-01T00:00:00Z") is None


VPN = Container("v1", "gluetun", ContainerState.RUNNING, ContainerHealth.HEALTHY, started_at=100.0)
ENGINE = Container("e1", "acestream-1", ContainerState.RUNNING, labels=LABELS, network="v1", created_at=150.0)


def facts_of(*containers: Container, asked_at: float = 0.0) -> Facts:
    facts = Facts(["gluetun"], ManagedLabel("orchestrator.managed", "acestream"))
    facts.take_all(containers, asked_at, moment(0))
    return facts


def test_an_old_answer_does_not_replace_a_newer_one() -> None:
    """The time of asking decides, not that of the answer."""
    facts = facts_of(VPN, ENGINE)
    facts.take_vpn("gluetun", replace(VPN, health=ContainerHealth.UNHEALTHY), 5.0, moment(5))
    facts.take_all([VPN, ENGINE], 4.0, moment(6))
    vpn = facts.vpn("gluetun")
    assert vpn is not None
    assert vpn.health is ContainerHealth.UNHEALTHY
    facts.take_all([VPN, ENGINE], 7.0, moment(8))
    vpn = facts.vpn("gluetun")
    assert vpn is not None
    assert vpn.health is ContainerHealth.HEALTHY


def test_what_is_gone_stays_gone() -> None:
    """A listing that was asked for before a removal does not bring the container back."""
    facts = facts_of(VPN, ENGINE)
    facts.gone("e1", 5.0)
    facts.take_all([VPN, ENGINE], 4.0, moment(6))
    assert facts.fleet().engines == ()


def test_what_was_created_after_the_question_stays() -> None:
    """A listing that was asked for before a creation does not take the container away."""
    facts = facts_of(VPN)
    facts.take_one(ENGINE, 5.0, moment(5))
    facts.take_all([VPN], 4.0, moment(6))
    assert [engine.id for engine in facts.fleet().engines] == ["e1"]
    facts.take_all([VPN], 6.0, moment(7))
    assert facts.fleet().engines == ()


def test_a_vpn_that_was_recreated_orphans_its_engines_even_without_a_label() -> None:
    """The id of the old container is remembered as long as an engine is attached to it."""
    engine = replace(ENGINE, labels={"orchestrator.managed": "acestream"})
    facts = facts_of(VPN, engine)
    facts.take_vpn("gluetun", replace(VPN, id="v2", started_at=200.0), 5.0, moment(5))
    assert [(e.vpn, e.orphan) for e in facts.fleet().engines] == [("gluetun", Orphan.RECREATE)]


def orphans(facts: Facts) -> list[Orphan | None]:
    return [engine.orphan for engine in facts.fleet().engines]


def test_a_clock_that_was_set_back_hides_no_orphan() -> None:
    """A VPN that restarts after the clock went back starts, by the clock, before its engines did."""
    facts = facts_of(VPN, ENGINE)
    assert orphans(facts) == [None]
    facts.take_vpn("gluetun", replace(VPN, started_at=50.0), 5.0, moment(5))
    assert (orphans(facts), facts.to_inspect()) == ([None], ["e1"]), "it is looked at first"
    facts.take_one(replace(ENGINE, started_at=150.5), moment(6).mono, moment(6))
    assert (orphans(facts), facts.to_inspect()) == ([Orphan.RESTART], [])
    facts.started("e1", ("v1", 50.0), moment(7), moment(7).wall.timestamp())
    facts.take_one(replace(ENGINE, started_at=40.0), moment(8).mono, moment(8))
    assert orphans(facts) == [None], "our own restart joined the namespace, whatever the clock says"


def test_an_answer_asked_for_before_a_start_does_not_stop_the_engine_again() -> None:
    """An inspection under way while the engine was started shows it exited, and is older than what is known."""
    facts = facts_of(VPN, replace(ENGINE, state=ContainerState.EXITED))
    facts.started("e1", ("v1", 50.0), moment(7), moment(7).wall.timestamp())
    facts.take_one(replace(ENGINE, state=ContainerState.EXITED), moment(6).mono, moment(8))
    assert [engine.state for engine in facts.fleet().engines] == [ContainerState.RUNNING]
    facts.take_one(replace(ENGINE, state=ContainerState.EXITED), moment(9).mono, moment(9))
    assert [engine.state for engine in facts.fleet().engines] == [ContainerState.EXITED]


def test_an_engine_that_was_restarted_after_its_vpn_is_no_orphan() -> None:
    """A daemon that comes back starts both anew: the inspection shows it, and nobody cuts the engine off again."""
    wall = moment(0).wall.timestamp()
    facts = facts_of(replace(VPN, started_at=wall - 100))
    facts.take_one(replace(ENGINE, created_at=wall - 50, started_at=None), 1.0, moment(1))
    facts.started("e1", ("v1", wall - 100), moment(2), wall + 1)
    facts.take_vpn("gluetun", replace(VPN, started_at=wall + 20), 25.0, moment(25))
    facts.take_one(replace(ENGINE, created_at=wall - 50, started_at=wall + 1.5), moment(24).mono, moment(26))
    assert orphans(facts) == [None], "that question was older than the VPN's start"
    assert facts.to_inspect() == ["e1"]
    facts.take_one(replace(ENGINE, created_at=wall - 50, started_at=wall + 21), moment(27).mono, moment(27))
    assert (orphans(facts), facts.to_inspect()) == ([None], [])


def test_a_restart_that_no_event_told_of_is_seen_in_the_uptime() -> None:
    """A VPN known for an hour that is "Up 5 seconds" was started since: when, is unknown again."""
    long_ago = moment(0).wall.timestamp() - 3600
    facts = facts_of(replace(VPN, started_at=long_ago))
    facts.take_all([replace(VPN, started_at=None, uptime_at_most_s=6.0)], 1.0, moment(1))
    vpn = facts.vpn("gluetun")
    assert vpn is not None
    assert vpn.started_at is None
