"""Which engines may be given streams."""

from __future__ import annotations

import pytest

from exporter.core.model import ContainerState, Engine, Mode, Orphan, Phase
from exporter.core.phases import FleetState, VpnState
from exporter.core.service import in_service, usable
from tests.support.moments import moment

NOW = moment(0)


def state(*phases: Phase) -> FleetState:
    return FleetState({f"vpn{number}": VpnState(phase, NOW) for number, phase in enumerate(phases, start=1)})


def engine(
    container: ContainerState = ContainerState.RUNNING, *, orphan: Orphan | None = None, healthy: bool | None = True
) -> Engine:
    return Engine("id", "engine", "vpn1", container, 19000, orphan=orphan, healthy=healthy)


@pytest.mark.parametrize(
    ("phase", "served"),
    [(Phase.HEALTHY, True), (Phase.STABILIZING, True), (Phase.FAILED, False), (Phase.UNKNOWN, False)],
)
@pytest.mark.parametrize("other", list(Phase))
def test_the_phase_of_its_own_vpn_takes_an_engine_out_of_service(phase: Phase, other: Phase, *, served: bool) -> None:
    """Whatever the other VPN does; and in an outage no engine is usable."""
    fleet = state(phase, other)
    assert in_service(fleet, "vpn1") is usable(fleet, engine()) is served
    assert not served or fleet.mode is not Mode.OUTAGE


@pytest.mark.parametrize(
    ("item", "served"),
    [
        (engine(healthy=None), True),
        (engine(healthy=False), False),
        *[(engine(container), False) for container in ContainerState if container is not ContainerState.RUNNING],
        *[(engine(orphan=orphan), False) for orphan in Orphan],
    ],
)
def test_an_engine_that_does_not_work_is_not_usable(item: Engine, *, served: bool) -> None:
    """On a healthy VPN: not running, without its network, or failing its check. One not checked yet is usable."""
    assert usable(state(Phase.HEALTHY, Phase.HEALTHY), item) is served
