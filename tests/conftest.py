"""What many tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.core.policy import Policy
from tests.support.settings import two_vpns

if TYPE_CHECKING:
    from tests.support.settings import SettingsOf


@pytest.fixture
def policy() -> Policy:
    """Two VPNs, ten engines."""
    ports = {"gluetun": range(19000, 19500), "gluetun_2": range(19500, 20000)}
    return Policy(("gluetun", "gluetun_2"), ports=ports)


@pytest.fixture
def settings_of() -> SettingsOf:
    """Settings from an environment with two VPNs, and what is given besides."""
    return two_vpns
