"""Fixtures of a Docker Engine of the tests' own, for the conftest of every folder whose tests need one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.lab import Lab, PrivateDockerd
from tests.support.lab_sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator


def daemon_number(number: int) -> int:
    """A number that no other test process gives its daemon."""
    return number + 10 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@pytest.fixture(scope="session")
def dockerd() -> Iterator[PrivateDockerd]:
    """The engine, for the whole session."""
    if os.geteuid() != 0:
        raise AssertionError("these tests start a Docker Engine of their own and have to be run as root")
    # A short path: the sockets in it have names of at most 107 characters.
    daemon = PrivateDockerd(Path(tempfile.mkdtemp(prefix="mayday-")), number=daemon_number(1))
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.destroy()


@pytest.fixture
def lab(dockerd: PrivateDockerd) -> Iterator[Lab]:
    """No containers before, none after."""
    lab = Lab(dockerd)
    lab.purge()
    yield lab
    lab.purge()
    lab.api.close()


@pytest.fixture
def sidecar(lab: Lab, tmp_path: Path) -> Iterator[Sidecar]:
    """A Mayday to be started on that engine."""
    sidecar = Sidecar(lab, tmp_path)
    yield sidecar
    sidecar.stop()
