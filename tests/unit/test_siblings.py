"""Two Maydays on the same VPNs by mistake, each with a STATE_DIR of its own."""

from __future__ import annotations

import asyncio

import pytest

from exporter.core.dependents import SIDECAR_LABEL
from exporter.core.model import Container, ContainerState
from exporter.core.peers import elder
from exporter.errors import RefusedError
from exporter.peers.host import own_container_id
from exporter.runtime.docker_wire import inspected
from tests.support.sidecar import Sidecar
from tests.support.virtual_time import VirtualClock, run_virtual

VPNS = ("gluetun", "gluetun_2")


def mayday(number: int, created_at: float, *watches: str) -> Container:
    return Container(
        str(number) * 64, f"m{number}", ContainerState.RUNNING, created_at=created_at, watches=frozenset(watches)
    )


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        pytest.param([], None, id="alone"),
        pytest.param([mayday(1, 50, "gluetun")], "m1", id="an older one on one of our VPNs"),
        pytest.param([mayday(1, 50, "elsewhere")], None, id="an older one on other VPNs"),
        pytest.param([mayday(1, 50)], None, id="an older one that does not act"),
        pytest.param([mayday(1, 150, "gluetun")], None, id="a younger one"),
        pytest.param([mayday(1, 100, "gluetun_2")], "m1", id="created in the same second: the lesser id"),
        pytest.param([mayday(9, 100, "gluetun_2")], None, id="created in the same second: ours is the lesser id"),
        pytest.param([mayday(1, 60, "gluetun"), mayday(2, 50, "gluetun_2")], "m2", id="the first of several"),
    ],
)
def test_who_acts(others: list[Container], expected: str | None) -> None:
    """The first created of those that act on one of our VPNs, and all of them come to the same answer."""
    found = elder(mayday(5, 100, *VPNS), others, VPNS)
    assert (found and found.name) == expected


@pytest.mark.parametrize(
    ("environment", "watched"),
    [
        (["GLUETUN_CONTAINER_NAME=a", "GLUETUN_CONTAINER_NAME_2=b", "GLUETUN_API_KEY=x"], {"a", "b"}),
        (["GLUETUN_CONTAINER_NAME=a", "CONTROL=on"], {"a"}),
        (["GLUETUN_CONTAINER_NAME=a", "CONTROL= ON "], {"a"}),
        (["GLUETUN_CONTAINER_NAME=a", "CONTROL=dry-run"], set()),
        (["GLUETUN_CONTAINER_NAME=a", "CONTROL=off"], set()),
        (["GLUETUN_CONTAINER_NAME=", "PATH"], set()),
        (None, set()),
    ],
)
def test_what_a_mayday_watches(environment: list[str] | None, watched: set[str]) -> None:
    """The VPNs in its settings, nothing where it does not act; only a Mayday's environment is looked into."""
    body = {
        "Id": "x",
        "Name": "/x",
        "State": {"Status": "running"},
        "Config": {"Env": environment, "Labels": {SIDECAR_LABEL: "true"}},
    }
    assert inspected(body).watches == watched
    body["Config"] = {"Env": environment, "Labels": {}}
    assert inspected(body).watches == set()


def test_the_own_container_is_found_by_what_is_mounted_from_it() -> None:
    """Docker and Podman mount `/etc/hostname` from a folder that carries the container's id."""
    docker = f"7 6 8:1 /var/lib/docker/containers/{'a' * 64}/hostname /etc/hostname rw - ext4 /dev/sda rw\n"
    podman = f"7 6 0:2 /containers/overlay-containers/{'b' * 64}/userdata/hostname /etc/hostname rw - tmpfs tmpfs rw\n"
    assert own_container_id("1 0 8:1 / / rw - ext4 /dev/sda rw\n" + docker) == "a" * 64
    assert own_container_id(podman) == "b" * 64
    assert own_container_id("1 0 8:1 / / rw - ext4 /dev/sda rw\n") is None


def test_the_second_holds_and_takes_over() -> None:
    """It touches nothing, refuses what it is asked, and says why; when the first is gone it goes on by itself."""

    async def main(clock: VirtualClock) -> None:
        sidecar = Sidecar(clock)
        host = sidecar.host
        first = host.add_sidecar("mayday", VPNS)
        await asyncio.sleep(5)
        own = host.add_sidecar("mayday_2", VPNS)
        sidecar.app = sidecar.new_app(own_id=own.id)
        async with sidecar.app:
            await asyncio.sleep(60)
            assert sidecar.counts() == [0, 0]
            controller = sidecar.app.controller
            assert "another Mayday, in the container 'mayday'" in " ".join(controller.snapshot.problems)
            with pytest.raises(RefusedError):
                await sidecar.app.provisioning.provision_one(None, {})
            host.kill("gluetun_2")
            await asyncio.sleep(1)
            assert controller.is_emergency_mode(), "it goes on watching"
            host.start(host.find("gluetun_2"))
            host.remove(first)
            await asyncio.sleep(300)
            assert sidecar.counts() == [5, 5]
            assert controller.snapshot.problems == ()

    run_virtual(main)


def test_the_second_of_the_same_second_holds_too() -> None:
    """A listing shows whole seconds, and the lesser id is the younger one's: it holds all the same."""

    async def main(clock: VirtualClock) -> None:
        sidecar = Sidecar(clock)
        host = sidecar.host
        await asyncio.sleep(1.1 - clock.wall().timestamp() % 1)
        first = host.add_sidecar("mayday", VPNS)
        await asyncio.sleep(0.5)
        while (own := host.add_sidecar("mayday_2", VPNS)).id > first.id:
            host.remove(own)
        assert int(own.created_at) == int(first.created_at)
        sidecar.app = sidecar.new_app(own_id=own.id)
        async with sidecar.app:
            await asyncio.sleep(60)
            assert "another Mayday, in the container 'mayday'" in " ".join(sidecar.app.controller.snapshot.problems)
            assert sidecar.counts() == [0, 0]

    run_virtual(main)


def test_the_first_is_not_held() -> None:
    """A younger Mayday on the same VPNs changes nothing for it."""

    async def main(clock: VirtualClock) -> None:
        sidecar = Sidecar(clock)
        own = sidecar.host.add_sidecar("mayday", VPNS)
        await asyncio.sleep(5)
        sidecar.host.add_sidecar("mayday_2", VPNS)
        sidecar.app = sidecar.new_app(own_id=own.id)
        async with sidecar.app:
            await asyncio.sleep(60)
            assert sidecar.counts() == [5, 5]

    run_virtual(main)
