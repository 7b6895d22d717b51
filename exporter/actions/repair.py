"""Repairs orphans, and replaces engines that fail their health check."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from exporter.actions.calls import RETRY_S, OvertakenError
from exporter.core import plan
from exporter.core.dependents import SUCCESSOR_LABEL
from exporter.core.model import Orphan
from exporter.core.plan import Outcome, ProvisionReason, RemoveReason
from exporter.errors import MissingError, RuntimeFailure
from exporter.fleet.ledger import Change, Entry
from exporter.fleet.results import Begun, Connected, Dropped, Ended

if TYPE_CHECKING:
    from exporter.actions.calls import Calls
    from exporter.actions.cleanup import Cleanup
    from exporter.actions.provisioning import Provisioning
    from exporter.actions.rehearsal import Rehearsal
    from exporter.core.model import Engine
    from exporter.core.spec import EngineSpec
    from exporter.sources.engines import EngineProbe


class Repair:
    """Gives engines back what they need to work."""

    def __init__(
        self, calls: Calls, cleanup: Cleanup, provisioning: Provisioning, rehearsal: Rehearsal, probe: EngineProbe
    ) -> None:
        self._calls = calls
        self._controller = calls.controller
        self._cleanup = cleanup
        self._provisioning = provisioning
        self._rehearsal = rehearsal
        self._probe = probe

    # --- orphans -----------------------------------------------------------------------------------------------------

    async def repair(self) -> float | None:
        """Give orphans their network back; seconds until to try again, None when none is left."""
        controller = self._controller
        undone = {engine.id for engine in controller.ledger.to_undo(controller.fleet.engines)}
        targets = [
            engine
            for engine in plan.orphans(controller.state, controller.fleet)
            if engine.id not in undone and not controller.ledger.changing(engine.id, engine.name)
        ]
        if not controller.acting:
            for engine in targets:
                self._rehearsal.provision(engine, ProvisionReason.REPAIR)
            return None
        results = await asyncio.gather(*(self._repair(engine) for engine in targets))
        # Successors that were made just now work as far as is known: what they were made from goes in the same pass.
        retired = plan.superseded(controller.state, controller.fleet)
        results += await asyncio.gather(*(self._retire(engine) for engine in retired))
        if targets or retired:
            await self._calls.read_again()
        return RETRY_S if Outcome.ERROR in results else None

    async def _repair(self, engine: Engine) -> Outcome:
        if engine.orphan is Orphan.RECREATE:
            return await self._make_anew(engine)
        if await self._works(engine):
            self._controller.take(Connected(engine.id))
            return Outcome.OK
        return await self._restart(engine)

    async def _restart(self, engine: Engine) -> Outcome:
        controller = self._controller
        entry = Entry(Change.RESTART, engine.vpn, engine.name, container_id=engine.id)
        controller.note(Begun(entry))
        before = self._calls.before_start(engine.vpn)
        grace_s = controller.settings.engine_stop_timeout_s
        try:
            await self._calls.restart(engine.id, grace_s, lambda: plan.may_repair_on(controller.state, engine.vpn))
        except OvertakenError:
            controller.note(Dropped(entry))
            return Outcome.UNDONE
        except RuntimeFailure as error:
            controller.note(Ended(entry))
            controller.recorder.provisioned(engine.vpn, engine.name, ProvisionReason.REPAIR, Outcome.ERROR, str(error))
            self._calls.failed(error)
            return Outcome.ERROR
        controller.note(self._calls.started(entry, engine.id, before))
        controller.recorder.provisioned(engine.vpn, engine.name, ProvisionReason.REPAIR, Outcome.OK)
        return Outcome.OK

    async def _works(self, engine: Engine) -> bool:
        """Whether an engine that start times make an orphan answers all the same: a restart would cut it off.

        Only where no other engine could answer in its place.
        """
        controller = self._controller
        if not plan.may_be_connected(engine, controller.fleet) or controller.facts.surely_orphaned(engine.id):
            return False
        address = controller.fleet.address(engine.vpn)
        return address is not None and await self._probe(engine, address)

    async def _make_anew(self, engine: Engine) -> Outcome:
        """Make the successor of an orphan whose VPN has another id now, from the orphan's own configuration.

        The orphan is stopped before its successor starts, for both have the same volumes; it is removed once the
        successor works. Whatever fails or is cut off in between, one of the two is there to go on from.
        """
        controller = self._controller
        try:
            blueprint = await self._calls.blueprint(engine.id)
        except MissingError:
            return Outcome.OK
        except RuntimeFailure as error:
            self._calls.failed(error)
            return Outcome.ERROR

        def spec(_entry: Entry) -> EngineSpec:
            vpn = controller.facts.vpn(engine.vpn)
            if vpn is None:
                raise OvertakenError
            return replace(blueprint, network=vpn.id, labels={**blueprint.labels, SUCCESSOR_LABEL: engine.id})

        place = self._provisioning.begin(Entry(Change.CREATE, engine.vpn, self._provisioning.free_name(), engine.port))
        return await self._provisioning.create(place, ProvisionReason.REPAIR, spec, lambda: self._stop(engine))

    async def _stop(self, engine: Engine) -> None:
        """Stop an orphan; errors as `Calls.stop`, but that it is gone is fine."""
        controller = self._controller
        entry = Entry(Change.STOP, engine.vpn, engine.name, container_id=engine.id)
        controller.note(Begun(entry))
        grace_s = controller.settings.engine_stop_timeout_s
        try:
            await self._calls.stop(engine.id, grace_s, lambda: plan.may_repair_on(controller.state, engine.vpn))
        except MissingError:
            pass
        finally:
            controller.note(Ended(entry))

    async def _retire(self, engine: Engine) -> Outcome:
        """Remove an orphan whose successor works."""
        controller = self._controller

        def wanted() -> bool:
            return any(known.id == engine.id for known in plan.superseded(controller.state, controller.fleet))

        return await self._cleanup.remove(engine, RemoveReason.ORPHANED, wanted)

    # --- engines that fail their health check ------------------------------------------------------------------------

    async def replace_engine(self, engine: Engine) -> Outcome:
        """Remove an engine that fails its health check, and create another in its place if one is needed."""
        controller = self._controller

        def wanted() -> bool:
            return plan.may_replace_on(controller.state, engine.vpn)

        if not controller.acting:
            self._rehearsal.provision(engine, ProvisionReason.REPLACE)
            return Outcome.UNDONE
        # The new place is taken before the old one is given up: no fill counts on the gap between the two.
        place = self._provisioning.take_place(engine.vpn, engine) if wanted() else None
        if place is None:
            return Outcome.UNDONE
        gone = await self._cleanup.remove(engine, RemoveReason.UNHEALTHY, wanted)
        needed = plan.needs_successor(engine, controller.fleet, controller.policy)
        if gone is not Outcome.OK or not needed:
            controller.note(Dropped(place))
            return gone
        spec = partial(self._provisioning.spec, explicit=engine.explicit)
        return await self._provisioning.create(place, ProvisionReason.REPLACE, spec)
