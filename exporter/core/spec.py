"""What a container is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Everything needed to create an engine. `options` holds further fields of Docker's container create call."""

    name: str
    image: str
    network: str
    """Id of the VPN container whose network namespace it joins."""
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str | None] = field(default_factory=dict)
    """None as a value: the variable is named without one."""
    command: tuple[str, ...] | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    """Body fields merged over the above as they are (`HostConfig` is merged one level deep; its `NetworkMode` is
    always set from `network`)."""
