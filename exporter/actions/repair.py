"""Repairs orphans, and replaces engines that fail their health check."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from exporter.actions.executor import RETRY_S, OvertakenError
from exporter.actions.provisioning import Place
from exporter.core import plan
from exporter.core.dependents import namespace_of
from exporter.core.model import ContainerState, Orphan
from exporter.core.plan import ProvisionReason, RemoveReason
from exporter.errors import MissingError, RuntimeFailure

if TYPE_CHECKING:
    from exporter.actions.executor import Executor
    from exporter.actions.provisioning import Provisioner
    from exporter.core.model import Engine
    from exporter.core.spec import EngineSpec
    from exporter.sources.engines import EngineProbe


class Repairer:
    """Gives engines back what they need to work."""

    def __init__(self, executor: Executor, provisioner: Provisioner, probe: EngineProbe) -> None:
        self._executor = executor
        self._probe = probe
        self._provisioner = provisioner
        self._controller = executor.controller
        self._runtime = executor.runtime

    async def repair(self) -> float | None:
        """Give orphans their network back; seconds until to try again, None when none is left."""
        controller = self._controller
        making = {place.name for place in self._provisioner.places}
        targets = [
            engine
            for engine in plan.orphans(controller.state, controller.fleet)
            if engine.name not in making
            and engine.id not in self._executor.busy
            and engine.id not in controller.leftovers.containers
        ]
        if not controller.acting:
            for engine in targets:
                self._executor.tell_once("repair", engine.id, engine, ProvisionReason.REPAIR)
            return None
        results = await asyncio.gather(*(self._repair(engine) for engine in targets))
        if targets:
            await self._executor.read_again()
        return None if all(results) else RETRY_S

    async def _repair(self, engine: Engine) -> bool:
        controller = self._controller
        if engine.orphan is Orphan.RECREATE:
            return await self._make_anew(engine)

        def guard() -> None:
            if not controller.acting or not plan.may_repair_on(controller.state, engine.vpn):
                raise OvertakenError

        if await self._works(engine):
            controller.facts.proven_connected(engine.id)
            controller.evaluate()
            return True
        self._executor.busy.add(engine.id)
        grace_s = controller.settings.engine_stop_timeout_s
        namespace, began = namespace_of(controller.facts.vpn(engine.vpn)), controller.clock.wall().timestamp()
        try:
            await self._executor.call(guard, lambda: self._runtime.restart(engine.id, grace_s))
        except OvertakenError:
            return True
        except RuntimeFailure as error:
            controller.recorder.provisioned(engine.vpn, engine.name, ProvisionReason.REPAIR, "error", str(error))
            self._executor.after(error)
            return False
        finally:
            self._executor.busy.discard(engine.id)
        self._executor.note_started(engine.id, engine.vpn, namespace, began)
        controller.recorder.provisioned(engine.vpn, engine.name, ProvisionReason.REPAIR, "ok")
        return True

    async def _works(self, engine: Engine) -> bool:
        """Whether an engine that start times make an orphan answers all the same: a restart would cut it off.

        Only where no other engine could answer in its place.
        """
        controller = self._controller
        alone = sum(other.port == engine.port for other in controller.fleet.on(engine.vpn)) == 1
        if engine.state is not ContainerState.RUNNING or engine.port is None or not alone:
            return False
        if engine.orphan is not Orphan.RESTART or controller.facts.surely_orphaned(engine.id):
            return False
        vpn = controller.facts.vpn(engine.vpn)
        return await self._probe(engine, (vpn.address if vpn else None) or engine.vpn)

    async def _make_anew(self, engine: Engine) -> bool:
        """Remove an orphan whose VPN has another id now, and create its twin from its own configuration."""
        controller = self._controller
        try:
            blueprint = await self._runtime.blueprint(engine.id)
        except MissingError:
            return True
        except RuntimeFailure as error:
            self._executor.after(error)
            return False
        place = Place(engine.vpn, engine.name, engine.port or 0)
        self._provisioner.places.add(place)
        gone = await self._executor.remove(
            engine, RemoveReason.ORPHANED, lambda: plan.may_repair_on(controller.state, engine.vpn)
        )
        if not gone or any(known.id == engine.id for known in controller.fleet.engines):
            self._provisioner.places.discard(place)
            return gone

        def spec(_place: Place) -> EngineSpec:
            vpn = controller.facts.vpn(engine.vpn)
            if vpn is None:
                raise OvertakenError
            return replace(blueprint, network=vpn.id)

        result, _ = await self._provisioner.create(place, ProvisionReason.REPAIR, spec)
        return result != "error"

    async def replace_engine(self, engine: Engine, *, trial: bool) -> bool:
        """Remove an engine that fails its health check, and create another in its place if one is needed.

        A `trial` always has a successor: it is made to see whether that one answers. False: not done.
        """
        controller = self._controller

        def wanted() -> bool:
            healthy = plan.may_create_on(controller.state, engine.vpn)
            return healthy and plan.health_manager_runs(controller.state)

        if not controller.acting:
            self._executor.tell_once("replace", engine.id, engine, ProvisionReason.REPLACE)
            return False
        place = self._provisioner.take_place(engine.vpn, engine) if wanted() else None
        if place is None:
            return False
        # The new place is taken before the old one is given up: nobody fills the gap between the two.
        gone = await self._executor.remove(engine, RemoveReason.UNHEALTHY, wanted)
        if not gone or any(known.id == engine.id for known in controller.fleet.engines):
            self._provisioner.places.discard(place)
            return False
        if not trial and not plan.needs_successor(engine, controller.fleet, controller.policy):
            self._provisioner.places.discard(place)
            return True
        spec = partial(self._provisioner.spec, explicit=engine.explicit)
        result, _ = await self._provisioner.create(place, ProvisionReason.REPLACE, spec)
        return result != "error"
