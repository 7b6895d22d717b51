"""What many tests share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from exporter.core.model import Moment, Policy
from exporter.settings.settings import Settings, from_environment

START = datetime(2025, 11, 7, 22, 3, 33, tzinfo=UTC)

SettingsOf = Callable[..., Settings]


def moment(seconds: float) -> Moment:
    """So many seconds after a start, on both clocks."""
    return Moment(1000.0 + seconds, START + timedelta(seconds=seconds))


@pytest.fixture
def policy() -> Policy:
    """Two VPNs, ten engines."""
    ports = {"gluetun": range(19000, 19500), "gluetun_2": range(19500, 20000)}
    return Policy(("gluetun", "gluetun_2"), ports=ports)


@pytest.fixture
def settings_of() -> SettingsOf:
    """Settings from an environment with two VPNs, and what is given besides."""

    def make(**more: Any) -> Settings:
        return from_environment({"GLUETUN_CONTAINER_NAME": "gluetun", "GLUETUN_CONTAINER_NAME_2": "gluetun_2", **more})

    return make
