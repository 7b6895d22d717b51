"""Which network namespace an engine is known to have joined, and when that is only a guess."""

from __future__ import annotations

import pytest

from exporter.core.model import Container, ContainerState
from exporter.fleet.namespaces import Namespaces
from tests.support.moments import moment

FIRST, SECOND = 1000.0, 2000.0
"""Two starts of the VPN, by Docker's clock."""


def vpn(started_at: float) -> Container:
    return Container("v" * 64, "gluetun", ContainerState.RUNNING, started_at=started_at)


def engine(started_at: float | None = None) -> Container:
    return Container(
        "e" * 64, "acestream-1", ContainerState.RUNNING, network="v" * 64, created_at=1500.0, started_at=started_at
    )


def started_by_us(began: float) -> Namespaces:
    """An engine that we started into the VPN's first namespace, and whose VPN was started again since."""
    namespaces = Namespaces()
    namespaces.vpns_read([vpn(FIRST)], 0.0)
    namespaces.started(engine().id, ("v" * 64, FIRST), moment(1), began)
    namespaces.vpns_read([vpn(SECOND)], 2.0)
    return namespaces


@pytest.mark.parametrize(
    ("shown", "joined"),
    [
        pytest.param(0.5, ("v" * 64, FIRST), id="the start that we made"),
        pytest.param(3.0, ("v" * 64, FIRST), id="a start moments later"),
        pytest.param(60.0, None, id="another start"),
    ],
)
def test_a_start_of_ours_whose_time_was_never_read(shown: float, joined: tuple[str, float] | None) -> None:
    """A daemon that came back may have made another start, moments later: it is a guess, and the engine is asked."""
    wall = moment(1).wall.timestamp()
    namespaces = started_by_us(wall - 1.0)
    present = engine(wall - 1.0 + shown)
    namespaces.inspected(present, 3.0)
    assert namespaces.of(present) == joined
    assert namespaces.guessed(present.id)
    namespaces.answered(present)
    assert namespaces.of(present) == ("v" * 64, SECOND)
    assert not namespaces.guessed(present.id)


def test_a_start_whose_time_was_read_is_known() -> None:
    """It was read while its VPN had the first namespace: it is in that one, whatever its VPN does since."""
    namespaces = Namespaces()
    namespaces.vpns_read([vpn(FIRST)], 0.0)
    namespaces.started(engine().id, ("v" * 64, FIRST), moment(1), moment(1).wall.timestamp())
    namespaces.inspected(engine(1500.0), 1.5)
    namespaces.vpns_read([vpn(SECOND)], 2.0)
    namespaces.inspected(engine(1500.0), 3.0)
    assert namespaces.of(engine(1500.0)) == ("v" * 64, FIRST)
    assert not namespaces.guessed(engine().id)
