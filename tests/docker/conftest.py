"""A Docker Engine of the tests' own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from exporter.runtime.docker import DockerRuntime
from tests.docker.engines import VERSIONS, Daemons, Version
from tests.docker.runtimes import GENEROUS_S
from tests.support.lab import Lab
from tests.support.lab_fixtures import daemon_number, dockerd, lab, sidecar  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def daemons() -> Iterator[Daemons]:
    """Engines of several versions, each from its first use to the end of the session."""
    kept = Daemons(daemon_number(4))
    try:
        yield kept
    finally:
        kept.destroy()


@pytest.fixture(params=VERSIONS, ids=str)
def version(request: pytest.FixtureRequest) -> Version:
    """Every version of the engine in turn."""
    value: Version = request.param
    return value


@pytest.fixture
def live_restore() -> bool:
    """Whether containers outlive their daemon; to be parametrized where they do."""
    return False


@pytest.fixture
def each_lab(daemons: Daemons, version: Version, live_restore: bool) -> Iterator[Lab]:  # noqa: FBT001
    """An engine of every version in turn: no containers before, none after."""
    each = Lab(daemons.get(version, live_restore=live_restore))
    each.purge()
    yield each
    each.purge()
    each.api.close()


@pytest.fixture
def requests() -> Counter[tuple[str, str]]:
    """Operation and result of every call, counted."""
    return Counter()


@pytest.fixture
async def runtime(
    lab: Lab,  # noqa: F811 - the fixture
    requests: Counter[tuple[str, str]],
) -> AsyncIterator[DockerRuntime]:
    def count(operation: str, result: str, seconds: float) -> None:
        assert seconds >= 0
        requests[operation, result] += 1

    runtime = DockerRuntime({"DOCKER_HOST": lab.dockerd.url}, timeout_s=GENEROUS_S, on_request=count)
    yield runtime
    await runtime.close()
