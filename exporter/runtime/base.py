"""What Mayday asks of a container runtime. Implementations are thin: they hold no rule of failover."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias

from exporter.errors import ConflictError, MissingError, RuntimeFailure, UnreachableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from exporter.core.model import Container
    from exporter.core.spec import EngineSpec


class Operation(StrEnum):
    """The calls to a runtime, as they are counted."""

    LIST = "list"
    INSPECT = "inspect"
    CREATE = "create"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    REMOVE = "remove"
    RENAME = "rename"
    EVENTS = "events"


READS = frozenset({Operation.LIST, Operation.INSPECT, Operation.EVENTS})
"""The operations that change nothing."""


class CallResult(StrEnum):
    """How a call to a runtime ended, as it is counted."""

    OK = "ok"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    ERROR = "error"
    UNREACHABLE = "unreachable"

    @classmethod
    def of(cls, failure: RuntimeFailure) -> CallResult:
        """The result that a failure is counted as."""
        match failure:
            case MissingError():
                return cls.NOT_FOUND
            case ConflictError():
                return cls.CONFLICT
            case UnreachableError():
                return cls.UNREACHABLE
            case _:
                return cls.ERROR


OnRequest: TypeAlias = "Callable[[Operation, CallResult, float], None]"
"""Is told operation, result and seconds of each call."""


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """A change of a container: a reason to read it again, never a fact by itself."""

    id: str
    name: str
    action: str
    """Docker's action: `die`, `start`, `destroy`, `health_status: unhealthy`, …"""
    labels: Mapping[str, str] = field(default_factory=dict)
    at: float = 0.0
    """Unix seconds by the runtime's clock."""


class EventStream(Protocol):
    """One connection to the runtime's event stream."""

    def __aiter__(self) -> AsyncIterator[ContainerEvent]:
        """Events as they come; iteration ends, or raises `UnreachableError`, when the connection is lost."""

    async def close(self) -> None:
        """Drop the connection; a pending iteration ends."""


class Runtime(Protocol):
    """A container runtime.

    Every call may raise `UnreachableError` (no answer: its effect is unknown) and `RejectedError`.
    """

    async def containers(self) -> list[Container]:
        """All containers, running or not, in one call; without start times and probe times."""

    async def inspect(self, ref: str) -> Container | None:
        """One container by id or exact name, with every field; None when it does not exist."""

    async def create(self, spec: EngineSpec) -> str:
        """Create (not start) and return the new id. `ConflictError`: name taken. `MissingError`: no such image."""

    async def start(self, container_id: str) -> None:
        """Start; nothing to do when it runs. `MissingError`: it, or the VPN that it joins, is gone.
        `ConflictError`: the VPN that it joins does not run."""

    async def stop(self, container_id: str, grace_s: int | None) -> None:
        """Send SIGTERM, and SIGKILL after `grace_s` seconds; nothing to do when it is stopped. `MissingError`: gone.

        None: the container's own stop timeout."""

    async def restart(self, container_id: str, grace_s: int) -> None:
        """Stop with `grace_s`, then start. Errors as `start`."""

    async def remove(self, container_id: str, *, volumes: bool = False) -> None:
        """Kill if needed and remove, with `volumes` its anonymous volumes too. `MissingError`: gone already.
        `ConflictError`: it is being removed by another call."""

    async def blueprint(self, container_id: str) -> EngineSpec:
        """The container's own configuration, such that `create` with it (and another `network`) makes its twin."""

    async def events(self) -> EventStream:
        """Open the event stream: life-cycle and health events of all containers from now on."""

    async def close(self) -> None:
        """Close all connections; begin no more calls."""
