"""Which engines may be given streams."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.core.model import ContainerState, Engine, Mode, Orphan, Phase
from exporter.core.phases import FleetState, VpnState
from exporter.core.service import NotUsable, not_usable_because, out_of_service
from tests.support.moments import moment

NOW = moment(0)


def state(*phases: Phase) -> FleetState:
    return FleetState({f"vpn{number}": VpnState(phase, NOW) for number, phase in enumerate(phases, start=1)})


def engine(
    container: ContainerState = ContainerState.RUNNING, *, orphan: Orphan | None = None, healthy: bool | None = True
) -> Engine:
    return Engine("id", "engine", "vpn1", container, 19000, orphan=orphan, healthy=healthy)


@pytest.mark.parametrize(
    ("phase", "reason"),
    [
        (Phase.HEALTHY, None),
        (Phase.STABILIZING, None),
        (Phase.FAILED, NotUsable.VPN_FAILED),
        (Phase.UNKNOWN, NotUsable.VPN_UNKNOWN),
    ],
)
@pytest.mark.parametrize("other", list(Phase))
def test_the_phase_of_its_own_vpn_takes_an_engine_out_of_service(
    phase: Phase, other: Phase, reason: NotUsable | None
) -> None:
    """Whatever the other VPN does; and in an outage no engine is usable."""
    fleet = state(phase, other)
    assert out_of_service(fleet, "vpn1") is not_usable_because(fleet, engine()) is reason
    assert reason is not None or fleet.mode is not Mode.OUTAGE


@pytest.mark.parametrize("phase", [Phase.HEALTHY, Phase.STABILIZING])
def test_a_doubt_takes_the_engines_of_that_vpn_out_of_service_and_no_others(phase: Phase) -> None:
    """While it is suspect, or its health is unknown; the phase stays as it is."""
    fleet = replace(state(phase, phase), doubtful=frozenset({"vpn1"}))
    assert not_usable_because(fleet, engine()) is NotUsable.VPN_IN_DOUBT
    assert out_of_service(fleet, "vpn2") is None


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (engine(healthy=None), None),
        (engine(healthy=False), NotUsable.UNHEALTHY),
        *[(engine(kind), NotUsable.STOPPED) for kind in ContainerState if kind is not ContainerState.RUNNING],
        *[(engine(orphan=orphan), NotUsable.ORPHANED) for orphan in Orphan],
    ],
)
def test_an_engine_that_does_not_work_is_not_usable(item: Engine, reason: NotUsable | None) -> None:
    """On a healthy VPN: not running, without its network, or failing its check. One not checked yet is usable."""
    assert not_usable_because(state(Phase.HEALTHY, Phase.HEALTHY), item) is reason


def test_what_is_wrong_with_its_vpn_comes_first() -> None:
    """An engine that was parked for its failed VPN is told to wait for that one, not that it is stopped."""
    parked = engine(ContainerState.EXITED, healthy=False)
    assert not_usable_because(state(Phase.FAILED, Phase.HEALTHY), parked) is NotUsable.VPN_FAILED
