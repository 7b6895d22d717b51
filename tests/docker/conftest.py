"""A Docker Engine of the tests' own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from exporter.runtime.docker import DockerRuntime
from tests.docker.runtimes import GENEROUS_S
from tests.support.lab_fixtures import dockerd, lab, sidecar  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.lab import Lab


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
