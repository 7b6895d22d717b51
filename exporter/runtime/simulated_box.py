"""One simulated container."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from exporter.core.model import ContainerHealth, ContainerState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.core.spec import EngineSpec

ALIVE = frozenset({ContainerState.RUNNING, ContainerState.PAUSED})
"""States in which a container has a process."""


class Trouble(StrEnum):
    """How Docker answers calls about one container, while it answers all others well."""

    HANGS = "hangs"
    """No answer until the caller's time-out, as when the container's shim stands still."""
    FAILS = "fails"
    """Status 500."""
    CONFLICT = "conflict"
    """Status 409: something is in progress with it, for ever."""


@dataclass(slots=True)
class Box:
    """One simulated container."""

    id: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    spec: EngineSpec | None = None
    state: ContainerState = ContainerState.CREATED
    health: ContainerHealth = ContainerHealth.NONE
    created_at: float = 0.0
    started_at: float | None = None
    interval_s: float | None = None
    """Health check interval, None: no health check."""
    retries: int = 1
    truth: bool = True
    """Whether its health check would pass now."""
    namespace: int = 0
    """Number of the namespace it is in; a VPN gets a new one at each start."""
    policy: str = "unless-stopped"
    """Restart policy; followed when the daemon starts, and by `crash`."""
    restarts_itself: bool = False
    """Its restart policy is followed after `kill` too, which otherwise stands for a `docker kill` by hand."""
    crashes: bool = False
    """Its process ends moments after each start, as with a stranger on its port: a restart loop."""
    backoff_s: float = 0.0
    """How long Docker waits before it starts it again."""
    resumes: bool = False
    """The daemon was stopped while it ran, and starts it again."""
    broken: bool = False
    """An engine whose HTTP API does not answer."""
    stubborn: bool = False
    """An engine that ignores SIGTERM."""
    epoch: int = 0
    """Counts starts and stops, so that a timer of an earlier run does nothing."""
    addresses: dict[str, str] = field(default_factory=dict)
    """Its own addresses, by the name of the Docker network."""
    watches: frozenset[str] = frozenset()
    """Where it is a Mayday: the VPNs that it acts on."""
    frozen: float | None = None
    """Docker's time at which its health checks ceased without an event, as after a restart with live-restore."""
    troubles: dict[str, Trouble] = field(default_factory=dict)
    """By operation (inspect, start, stop, restart, remove): what is wrong with calls about this container alone."""

    @property
    def address(self) -> str | None:
        """Any of its addresses."""
        return next(iter(self.addresses.values()), None)
