"""Settings of small fleets."""

from __future__ import annotations

from collections.abc import Callable

from exporter.settings.settings import Settings, from_environment

SettingsOf = Callable[..., Settings]
"""What the fixture `settings_of` is."""


def vpn_variables(*names: str) -> dict[str, str]:
    """The variables that name these VPNs."""
    numbered = {f"GLUETUN_CONTAINER_NAME_{number}": name for number, name in enumerate(names[1:], start=2)}
    return {"GLUETUN_CONTAINER_NAME": names[0], **numbered}


def vpn_names(count: int) -> list[str]:
    """`gluetun`, `gluetun_2`, and so on."""
    return ["gluetun", *(f"gluetun_{number}" for number in range(2, count + 1))]


TWO_VPNS = vpn_variables(*vpn_names(2))
"""What every redundant fleet in the tests has, where its VPNs' names do not matter."""


def two_vpns(**more: str) -> Settings:
    """Settings from an environment with two VPNs, and what is given besides."""
    return from_environment({**TWO_VPNS, **more})
