"""The one gate that every call which changes a container goes through.

Before each call Mayday must be acting and the call's guard must still want it: things may have changed while other
calls were under way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exporter.core.dependents import namespace_of
from exporter.errors import RefusedError, RuntimeFailure, UnreachableError
from exporter.fleet.results import Started
from exporter.settings.settings import Control
from exporter.work import Work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.controller import Controller
    from exporter.core.dependents import Namespace
    from exporter.core.model import Container
    from exporter.core.spec import EngineSpec
    from exporter.fleet.ledger import Entry
    from exporter.runtime.base import Runtime

    Guard = Callable[[], bool]

RETRY_S = 1.0
"""How soon a pass that left something undone is repeated, seconds; the scheduler backs off from there."""


class OvertakenError(Exception):
    """What was to be done must not be done any more; not a failure."""


class Calls:
    """Makes calls one guarded step at a time."""

    def __init__(self, controller: Controller, runtime: Runtime, read_again: Callable[[], Awaitable[None]]) -> None:
        self.controller = controller
        self._runtime = runtime
        self.read_again = read_again
        """Reads the facts anew."""
        self.queue = asyncio.Semaphore(controller.settings.docker_workers)
        """Held while containers are created, started or removed. Calls wait for the daemon here, not behind it: a guard
        is asked when its call is about to be made, and engines come one by one, not all at the end."""

    # --- reading -----------------------------------------------------------------------------------------------------

    async def blueprint(self, container_id: str) -> EngineSpec:
        """Read a container's own configuration; errors as `Runtime.blueprint`."""
        return await self._runtime.blueprint(container_id)

    # --- changing ----------------------------------------------------------------------------------------------------

    async def create(self, spec: EngineSpec, guard: Guard) -> str:
        """Create a container, return its id; errors as `Runtime.create`, and `OvertakenError`."""
        self._pass(guard)
        return await self._runtime.create(spec)

    async def start(self, container_id: str, guard: Guard) -> None:
        """Start a container; errors as `Runtime.start`, and `OvertakenError`."""
        self._pass(guard)
        await self._runtime.start(container_id)

    async def stop(self, container_id: str, grace_s: int | None, guard: Guard) -> None:
        """Stop a container; errors as `Runtime.stop`, and `OvertakenError`."""
        self._pass(guard)
        await self._runtime.stop(container_id, grace_s)

    async def restart(self, container_id: str, grace_s: int, guard: Guard) -> None:
        """Restart a container; errors as `Runtime.restart`, and `OvertakenError`."""
        self._pass(guard)
        await self._runtime.restart(container_id, grace_s)

    async def remove(self, container_id: str, guard: Guard, *, volumes: bool) -> None:
        """Remove a container, `volumes`: its anonymous ones too; errors as `Runtime.remove`, and `OvertakenError`."""
        self._pass(guard)
        await self._runtime.remove(container_id, volumes=volumes)

    def _pass(self, guard: Guard) -> None:
        if not self.controller.acting or not guard():
            raise OvertakenError

    # --- around a call -----------------------------------------------------------------------------------------------

    def require_acting(self) -> None:
        """Refuse what would touch containers while that is not allowed.

        Raises:
            RefusedError: says why.
        """
        controller = self.controller
        if controller.settings.control is not Control.ON:
            raise RefusedError(f"CONTROL is {controller.settings.control}: no container is touched", code="control")
        if not controller.acting:
            held = "; ".join(controller.snapshot.holds.values())
            message = f"no container is touched: {held}" if held else "Docker is unreachable, or Mayday is stopping"
            raise RefusedError(message, code="unavailable", retry_after_s=5)

    def failed(self, error: RuntimeFailure) -> None:
        """After a call that got no answer, have everything read anew before anything else is decided."""
        if isinstance(error, UnreachableError):
            self.controller.request(Work.RESYNC, None, 0)

    def before_start(self, vpn: str) -> tuple[Namespace | None, float]:
        """The VPN's namespace and the time (Unix seconds) before a call that starts an engine in it."""
        return namespace_of(self.controller.facts.vpn(vpn)), self.controller.clock.wall().timestamp()

    def started(
        self,
        entry: Entry,
        container_id: str,
        before: tuple[Namespace | None, float],
        made: Container | None = None,
    ) -> Started:
        """The result of a start: the engine is in the VPN's namespace if that is the same as before the call."""
        namespace, began = before
        controller = self.controller
        joined = namespace if namespace == namespace_of(controller.facts.vpn(entry.vpn)) else None
        return Started(entry, container_id, joined, began, made, controller.clock.mono())
