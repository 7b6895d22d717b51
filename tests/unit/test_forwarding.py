"""Which engine is made for the forwarded port, and which one goes for it, as tables of named cases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exporter.core import forwarding
from exporter.core.model import ContainerState, Engine, Fleet, Orphan, Phase
from exporter.core.policy import Policy
from tests.support.values import fleet_of, state_of, with_engines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.core.phases import FleetState

POLICY = Policy(("a", "b"), min_replicas=4, max_replicas=5, ports={"a": range(19000, 19003), "b": range(19500, 19510)})
NORMAL = state_of(POLICY, Phase.HEALTHY, Phase.HEALTHY)
FLEET = fleet_of(a=2, b=2)
OLDER, NEWER = (replace(engine, created_at=index) for index, engine in enumerate(FLEET.on("a")))
PORT = 41000


def fleet(*engines: Engine) -> Fleet:
    """With these engines on VPN a."""
    return with_engines(FLEET, "a", *engines)


def on_port(engine: Engine, port: int = PORT, **changes: object) -> Engine:
    return replace(engine, forwarded=True, forwarded_port=port, **changes)  # type: ignore[arg-type]


OTHERS = replace(OLDER, id="media", own=False, forwarded=True)


@pytest.mark.parametrize(
    ("engines", "known", "promised", "instead_of", "given"),
    [
        pytest.param((OLDER, NEWER), PORT, (), None, PORT, id="no engine has it"),
        pytest.param((OLDER, NEWER), None, (), None, None, id="none is known"),
        pytest.param((on_port(OLDER), NEWER), PORT, (), None, None, id="an engine has it"),
        pytest.param((on_port(OLDER, 1), NEWER), PORT, (), None, PORT, id="an engine has an old one"),
        pytest.param((OLDER, NEWER), PORT, (PORT,), None, None, id="a creation under way has it"),
        pytest.param((OTHERS, NEWER), PORT, (), None, None, id="others' engine may have it"),
        pytest.param(
            (on_port(OLDER, state=ContainerState.DEAD), NEWER), PORT, (), None, PORT, id="a wreck has no port"
        ),
        pytest.param((on_port(OLDER), NEWER), PORT, (), on_port(OLDER), PORT, id="the one that goes has it"),
        pytest.param((on_port(OLDER), NEWER), None, (), on_port(OLDER), PORT, id="passed on while none is known"),
        pytest.param((on_port(OLDER, 1),), PORT, (), on_port(OLDER, 1), PORT, id="not passed on when another is known"),
        pytest.param((OLDER, NEWER), None, (), OLDER, None, id="the one that goes has none"),
    ],
)
def test_the_port_of_the_next_engine(
    engines: tuple[Engine, ...], known: int | None, promised: tuple[int, ...], instead_of: Engine | None, given: object
) -> None:
    """One engine at a time is made for the port."""
    assert forwarding.to_give(fleet(*engines), "a", known, promised, instead_of) == given


STABILIZING = state_of(POLICY, Phase.STABILIZING, Phase.HEALTHY)
EMERGENCY = state_of(POLICY, Phase.HEALTHY, Phase.FAILED)


@pytest.mark.parametrize(
    ("engines", "state", "pending", "goes"),
    [
        pytest.param((OLDER, NEWER), NORMAL, {}, NEWER, id="the newest"),
        pytest.param((on_port(OLDER, 1), NEWER), NORMAL, {}, on_port(OLDER, 1), id="the one on an old port"),
        pytest.param((on_port(OLDER), NEWER), NORMAL, {}, None, id="an engine has the port"),
        pytest.param((OTHERS, NEWER, OLDER), NORMAL, {}, None, id="others' engine may have it"),
        pytest.param((OLDER,), NORMAL, {}, None, id="one is to be made anyway"),
        pytest.param((OLDER, NEWER), NORMAL, {"a": 1}, None, id="one is being made"),
        pytest.param((OLDER, NEWER), EMERGENCY, {}, None, id="an emergency"),
        pytest.param((OLDER, NEWER), STABILIZING, {}, None, id="the VPN stabilizes"),
        pytest.param((OLDER, NEWER), replace(NORMAL, doubtful=frozenset("a")), {}, None, id="the VPN is in doubt"),
        pytest.param(
            (OLDER, replace(NEWER, healthy=False)),
            NORMAL,
            {},
            OLDER,
            id="one that does not work is the health manager's",
        ),
        pytest.param(
            (OLDER, replace(NEWER, explicit=True), replace(NEWER, id="x", own=False), replace(OLDER, id="y")),
            NORMAL,
            {},
            replace(OLDER, id="y"),
            id="not one that was asked for, not one of others",
        ),
    ],
)
def test_which_engine_goes_for_one_on_the_port(
    engines: tuple[Engine, ...], state: FleetState, pending: Mapping[str, int], goes: Engine | None
) -> None:
    """Only where all is well, and only if none is made anyway."""
    found = forwarding.to_move(state, fleet(*engines), POLICY, PORT, pending, "a")
    assert (found and found.created_at, found and found.forwarded_port) == (
        goes and goes.created_at,
        goes and goes.forwarded_port,
    )
    assert forwarding.to_move(state, fleet(*engines), POLICY, None, pending, "a") is None


SUCCESSOR = on_port(replace(NEWER, id="s", name="s", successor_of=OLDER.id))


@pytest.mark.parametrize(
    ("engines", "goes"),
    [
        pytest.param((OLDER, SUCCESSOR), True, id="no engine answers, or was asked"),
        pytest.param((OLDER, replace(NEWER, healthy=True), SUCCESSOR), False, id="others answer, it does not yet"),
        pytest.param((OLDER, replace(NEWER, healthy=True), replace(SUCCESSOR, healthy=True)), True, id="it answers"),
        pytest.param((OLDER, replace(SUCCESSOR, healthy=False)), False, id="it fails its check"),
        pytest.param((OLDER, replace(SUCCESSOR, state=ContainerState.CREATED)), False, id="it does not run yet"),
        pytest.param((OLDER, replace(SUCCESSOR, forwarded_port=None)), False, id="a successor of another kind"),
        pytest.param((replace(OLDER, own=False), SUCCESSOR), False, id="not ours"),
        pytest.param((replace(OLDER, orphan=Orphan.RECREATE), SUCCESSOR), False, id="the repair's"),
    ],
)
def test_when_the_predecessor_goes(engines: tuple[Engine, ...], *, goes: bool) -> None:
    """Only once its successor works, and only where all is well."""
    assert [e.id for e in forwarding.relieved(NORMAL, fleet(*engines), "a")] == ([OLDER.id] if goes else [])
    assert forwarding.relieved(EMERGENCY, fleet(*engines), "a") == []


@pytest.mark.parametrize(
    ("pending", "taken", "room"),
    [({}, (), True), ({"b": 1}, (), False), ({}, (19002,), False)],
    ids=["room", "MAX_REPLICAS is reached", "no port is left"],
)
def test_a_successor_comes_first_only_where_there_is_room(
    pending: Mapping[str, int], taken: tuple[int, ...], *, room: bool
) -> None:
    """For a container more, and a port."""
    assert forwarding.room_for_successor(FLEET, POLICY, pending, "a", taken) is room
