"""Removes engines, and makes every call that changes a container: one guarded call at a time.

Before each call the plan's guard is asked again, because the state may have changed while other calls were under way.
Every result goes back to the controller as a fact.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from exporter.controller import Work
from exporter.core import plan
from exporter.core.dependents import namespace_of
from exporter.core.plan import ProvisionReason, RemoveReason
from exporter.errors import BadRequestError, ConflictError, MissingError, RefusedError, RuntimeFailure, UnreachableError
from exporter.fleet.echoes import REMOVAL
from exporter.settings.settings import Control

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from exporter.controller import Controller
    from exporter.core.dependents import Namespace
    from exporter.core.model import Engine
    from exporter.runtime.base import Runtime

log = logging.getLogger("mayday")

RETRY_S = 1.0
"""How soon a pass that left something undone is repeated; whoever schedules backs off from there."""

R = TypeVar("R")


class OvertakenError(Exception):
    """What was to be done must not be done any more; not a failure."""


class Executor:
    """Removes engines, and makes calls for whoever creates and repairs them."""

    def __init__(self, controller: Controller, runtime: Runtime, read_again: Callable[[], Awaitable[None]]) -> None:
        self.controller = controller
        self.runtime = runtime
        self.read_again = read_again
        """Reads the facts anew."""
        self.busy: set[str] = set()
        """Ids of containers that a call is changing."""
        self.gate = asyncio.Semaphore(controller.settings.docker_workers)
        """Held while containers are created, started or removed. Who waits for the daemon waits here, not behind it: a
        guard is asked when its call is about to be made, and engines come one by one, not all at the end."""
        self._told_dry: set[tuple[str, str]] = set()

    # --- cleanup -----------------------------------------------------------------------------------------------------

    async def clean_up(self, vpn: str) -> float | None:
        """Remove the ghosts on a failed VPN, and creations that were overtaken; seconds until to try again, or None."""
        controller = self.controller
        targets = plan.ghosts(controller.state, controller.fleet, vpn)
        overtaken = [e for e in controller.fleet.on(vpn) if e.id in controller.leftovers.containers and not targets]
        if not targets and not overtaken:
            return None
        if not controller.acting:
            self._tell_dry(targets, RemoveReason.VPN_FAILED)
            return None
        results = await asyncio.gather(
            *(
                self.remove(e, RemoveReason.VPN_FAILED, lambda: plan.must_evacuate(controller.state, vpn))
                for e in targets
            ),
            *(self.remove(e, RemoveReason.OVERTAKEN, lambda: True) for e in overtaken),
        )
        # Docker has the last word on whether they are gone.
        await self.read_again()
        controller.request(Work.PROVISION, None, 0)
        return None if all(results) else RETRY_S

    async def remove(self, engine: Engine, reason: RemoveReason, still_wanted: Callable[[], bool]) -> bool:
        """Stop and remove one engine if it is still to be; False: it has to be tried again."""
        controller, runtime = self.controller, self.runtime
        grace_s = controller.settings.engine_stop_timeout_s

        def guard() -> None:
            if not controller.acting or not still_wanted():
                raise OvertakenError

        async def remove() -> None:
            if grace_s:
                await self.call(guard, lambda: runtime.stop(engine.id, grace_s))
            async with self.gate:
                await self.call(guard, lambda: runtime.remove(engine.id))

        if engine.id in self.busy:
            return False
        self.busy.add(engine.id)
        controller.echoes.expect(engine.name, REMOVAL)
        try:
            await remove()
        except OvertakenError:
            return True
        except MissingError:
            pass
        except ConflictError:
            # Its removal is in progress elsewhere; the next pass sees whether it has ended.
            return False
        except RuntimeFailure as error:
            controller.recorder.removed(engine.vpn, engine.name, reason, "error", str(error))
            self.after(error)
            return False
        finally:
            self.busy.discard(engine.id)
            controller.echoes.ended(engine.name, engine.id)
        controller.facts.gone(engine.id, controller.clock.mono())
        controller.leftovers.containers.pop(engine.id, None)
        controller.recorder.removed(engine.vpn, engine.name, reason, "ok")
        controller.evaluate()
        return True

    async def remove_one(self, ref: str) -> Engine:
        """Remove the engine with this id, unambiguous id prefix, or name, because somebody asked.

        Raises:
            BadRequestError: no engine, or several, go by that.
            RefusedError: it cannot be removed now.
        """
        self.require_acting()
        engines = self.controller.fleet.engines
        found = [e for e in engines if ref in {e.id, e.name}] or [e for e in engines if e.id.startswith(ref)]
        if len(found) != 1:
            raise BadRequestError(f"{len(found) or 'no'} engine{'s' if len(found) > 1 else ''} go by '{ref[:80]}'")
        done = await self.remove(found[0], RemoveReason.REQUESTED, lambda: True)
        # Docker may have been lost between the stop and the removal, and then nothing more was done.
        if not done or any(known.id == found[0].id for known in self.controller.fleet.engines):
            raise RefusedError(
                f"engine '{found[0].name}' could not be removed; see /history", code="failed", retry_after_s=5
            )
        return found[0]

    def require_acting(self) -> None:
        """Refuse what would touch containers while that is not allowed.

        Raises:
            RefusedError: says why.
        """
        controller = self.controller
        if controller.settings.control is not Control.ON:
            raise RefusedError(f"CONTROL is {controller.settings.control}: nothing is touched", code="control")
        if not controller.acting:
            raise RefusedError(
                "Docker is unreachable, Mayday is stopping, or another Mayday is at work",
                code="unavailable",
                retry_after_s=5,
            )

    # --- calls -------------------------------------------------------------------------------------------------------

    async def call(self, guard: Callable[[], None], call: Callable[[], Awaitable[R]]) -> R:
        """Make a call if its guard lets it pass; the guard raises `OvertakenError` if it does not."""
        guard()
        return await call()

    def after(self, error: RuntimeFailure) -> None:
        """After a call that got no answer, everything is read anew before anything else is decided."""
        if isinstance(error, UnreachableError):
            self.controller.request(Work.RESYNC, None, 0)

    def _tell_dry(self, engines: Iterable[Engine], reason: RemoveReason) -> None:
        for engine in engines:
            self.tell_once("remove", engine.id, engine, reason)

    def tell_once(self, action: str, key: str, engine: Engine, reason: RemoveReason | ProvisionReason) -> None:
        recorder = self.controller.recorder
        if self.controller.settings.control is Control.DRY_RUN and (action, key) not in self._told_dry:
            self._told_dry.add((action, key))
            tell = recorder.removed if action == "remove" else recorder.provisioned
            tell(engine.vpn, engine.name, reason, "dry_run")

    def note_started(self, container_id: str, vpn: str, before: Namespace | None, began: float) -> None:
        """An engine was started by a call made at `began` (Unix seconds).

        It is in the VPN's namespace if that is the same after the call as before it.
        """
        controller = self.controller
        joined = before if before == namespace_of(controller.facts.vpn(vpn)) else None
        controller.facts.started(container_id, joined, controller.clock.now(), began)
