"""The settings that decisions depend on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Capacity(StrEnum):
    """`EMERGENCY_CAPACITY`: how much is provisioned automatically during an emergency."""

    REDUCED = "reduced"
    SHARE = "share"
    FULL = "full"


class Response(StrEnum):
    """What happens to a dependent of others when its VPN fails: `OTHERS_ON_FAILURE`, or its own label."""

    PARK = "park"
    """It is stopped, and started again when its VPN is healthy."""
    LEAVE = "leave"
    REMOVE = "remove"  # by the label alone: only its owner can want that


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decisions depend on."""

    vpns: tuple[str, ...]
    """Names of the VPN containers, in configured order."""
    redundant: bool = True
    min_replicas: int = 10
    max_replicas: int = 20
    """The most own engines at any time; those of others are not Mayday's to bound."""
    ports: Mapping[str, range] = field(default_factory=dict)
    """Per VPN, the engine ports that it publishes."""
    capacity: Capacity = Capacity.REDUCED
    evacuation_delay_s: float = 5.0
    """How long a failure has to last before engines are removed for it, seconds."""
    others: Response = Response.PARK
    """What happens to engines owned by others when their VPN fails."""
    stabilization_s: float = 120.0
    start_timeout_s: float = 120.0
    """How long a VPN that was not yet seen healthy may stay in health `starting`, seconds."""
