"""Removes engines: ghosts of failed VPNs, creations that were overtaken, and what an operator asks for."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from exporter.actions.backoff import BackOff
from exporter.actions.calls import OvertakenError
from exporter.core import balance, evacuation
from exporter.core.plan import Outcome, RemoveReason
from exporter.errors import BadRequestError, ConflictError, MissingError, NotFoundError, RefusedError, RuntimeFailure
from exporter.fleet.ledger import Change, Entry
from exporter.fleet.results import Begun, Dropped, Ended, Removed
from exporter.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.actions.calls import Calls
    from exporter.actions.rehearsal import Rehearsal
    from exporter.core.model import Engine


NOT_OWN = "not_own"
"""The code of a refusal to remove what others made."""


class Cleanup:
    """Stops and removes engines, each at most once at a time."""

    def __init__(self, calls: Calls, rehearsal: Rehearsal) -> None:
        self._calls = calls
        self._controller = calls.controller
        self._rehearsal = rehearsal
        self._back_off = BackOff(self._controller.clock)

    async def clean_up(self, vpn: str) -> None:
        """Remove the ghosts on a failed VPN, and creations that were overtaken; what stays is tried again."""
        controller = self._controller
        ghosts = evacuation.ghosts(controller.fleet, vpn) if self._may_evacuate(vpn) else ()
        targets = self._due(ghosts)
        wrecks = [] if ghosts else self._due(evacuation.wrecks(controller.state, controller.fleet, vpn))
        overtaken = [] if ghosts else self._due(controller.ledger.to_undo(controller.fleet.on(vpn)))
        if not controller.acting:
            for engine in targets:
                self._rehearsal.remove(engine, RemoveReason.VPN_FAILED)
            return
        results = await asyncio.gather(
            *(self.remove(e, RemoveReason.VPN_FAILED, lambda: self._may_evacuate(vpn)) for e in targets),
            *(self.undo(e.id, e.name, e.vpn, grace_s=controller.settings.engine_stop_timeout_s) for e in overtaken),
            *(self.remove(e, RemoveReason.UNHEALTHY, lambda: True) for e in wrecks),
        )
        for engine, outcome in zip((*targets, *overtaken, *wrecks), results, strict=True):
            (self._back_off.failed if outcome is Outcome.ERROR else self._back_off.succeeded)(engine.id)
        if results:
            # Docker has the last word on whether they are gone.
            await self._calls.read_again()
            controller.request(Work.PROVISION, None, 0)
        waiting = [engine.id for engine in controller.fleet.on(vpn) if not self._back_off.is_due(engine.id)]
        if waiting:
            controller.request(Work.CLEANUP, vpn, self._back_off.wait_s(waiting) or 0)

    def _due(self, engines: Iterable[Engine]) -> list[Engine]:
        """Those whose removal may be tried now: one that cannot be removed keeps no other waiting."""
        return [engine for engine in engines if self._back_off.is_due(engine.id)]

    def _may_evacuate(self, vpn: str) -> bool:
        controller = self._controller
        return evacuation.may_evacuate(
            controller.state, controller.fleet, controller.policy, controller.clock.mono(), vpn
        )

    async def remove(self, engine: Engine, reason: RemoveReason, wanted: Callable[[], bool]) -> Outcome:
        """Stop and remove one engine as long as that is wanted."""
        grace_s = self._controller.settings.engine_stop_timeout_s
        # What was made anew has taken over the volumes of the one that it was made from; others' are theirs.
        volumes = engine.own and reason is not RemoveReason.ORPHANED
        return await self._remove(engine.id, engine.name, engine.vpn, reason, wanted, grace_s, volumes=volumes)

    async def undo(self, container_id: str, name: str, vpn: str, *, grace_s: int = 0) -> Outcome:
        """Remove what a creation made and should not have."""
        return await self._remove(container_id, name, vpn, RemoveReason.OVERTAKEN, lambda: True, grace_s, volumes=True)

    async def _remove(
        self,
        container_id: str,
        name: str,
        vpn: str,
        reason: RemoveReason,
        wanted: Callable[[], bool],
        grace_s: int,
        *,
        volumes: bool,
    ) -> Outcome:
        controller = self._controller
        if controller.facts.is_gone(container_id):
            return Outcome.OK
        if controller.ledger.changing(container_id, name):
            return Outcome.ERROR
        entry = Entry(Change.REMOVE, vpn, name, container_id=container_id)
        controller.note(Begun(entry))
        try:
            if grace_s:
                await self._calls.stop(container_id, grace_s, wanted)
            async with self._calls.queue:
                await self._calls.remove(container_id, wanted, volumes=volumes)
        except OvertakenError:
            controller.note(Dropped(entry))
            return Outcome.UNDONE
        except MissingError:
            pass
        except ConflictError:
            # Its removal is in progress elsewhere; the next pass sees whether it has ended.
            controller.note(Ended(entry))
            return Outcome.ERROR
        except RuntimeFailure as error:
            controller.note(Ended(entry))
            controller.recorder.removed(vpn, name, reason, Outcome.ERROR, str(error))
            self._calls.failed(error)
            return Outcome.ERROR
        told = controller.facts.is_gone(container_id)  # by its event, on which everything was decided anew
        controller.note(Removed(entry, container_id))
        controller.recorder.removed(vpn, name, reason, Outcome.OK)
        if not told:
            controller.evaluate()
        return Outcome.OK

    async def remove_one(self, ref: str, *, force: bool = False) -> Engine:
        """Remove the engine with this id, unambiguous id prefix, or name, because an operator asked for it.

        One that Mayday did not make only with `force`; its volumes stay.

        Raises:
            NotFoundError: no engine has it.
            BadRequestError: several have it.
            RefusedError: it cannot be removed now.
        """
        self._calls.require_acting()
        engines = self._controller.fleet.engines
        found = [e for e in engines if ref in {e.id, e.name}] or [e for e in engines if e.id.startswith(ref)]
        if not found:
            raise NotFoundError(f"no engine has the id or name '{ref[:80]}'")
        if len(found) > 1:
            raise BadRequestError(f"{len(found)} engines have the id or name '{ref[:80]}'")
        if not found[0].own and not force:
            raise RefusedError(
                f"engine '{found[0].name}' was not made by Mayday; ask again with ?force=true if it is to be removed",
                code=NOT_OWN,
            )
        outcome = await self.remove(found[0], RemoveReason.REQUESTED, lambda: True)
        # Docker may have been lost between the stop and the removal, and then nothing more was done.
        if outcome is not Outcome.OK or any(known.id == found[0].id for known in self._controller.fleet.engines):
            raise RefusedError(
                f"engine '{found[0].name}' could not be removed; see /history", code="failed", retry_after_s=5
            )
        return found[0]

    async def remove_surplus(self, vpn: str | None, *, dry_run: bool = False) -> list[tuple[Engine, Outcome]]:
        """Remove the own engines above the share (of one VPN, or of all), because an operator asked for it.

        Raises:
            BadRequestError: there is no such VPN.
            RefusedError: nothing can be removed now.
        """
        controller = self._controller
        if vpn is not None and vpn not in controller.state.vpns:
            raise BadRequestError(f"there is no VPN '{vpn:.80}'; there are {', '.join(controller.policy.vpns)}")
        if dry_run:
            return [(engine, Outcome.DRY_RUN) for engine in self._surplus(vpn)]
        self._calls.require_acting()
        await self._calls.read_again()
        # One after the other: each is asked for anew when the ones before it are gone.
        return [
            (engine, await self.remove(engine, RemoveReason.REQUESTED, partial(self._is_surplus, engine)))
            for engine in self._surplus(vpn)
        ]

    def _surplus(self, vpn: str | None) -> list[Engine]:
        controller = self._controller
        return balance.surplus(controller.state, controller.fleet, controller.policy, vpn)

    def _is_surplus(self, engine: Engine) -> bool:
        return any(other.id == engine.id for other in self._surplus(engine.vpn))
