"""Carries out what the core planned, one guarded call at a time.

Before each call that changes a container the plan's guard is asked again, because the state may have changed while
other calls were under way. Every result goes back to the controller as a fact.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from exporter.config import Control
from exporter.controller import Work
from exporter.core import plan
from exporter.core.fleet import namespace_of
from exporter.core.model import Orphan
from exporter.core.plan import ProvisionReason, RemoveReason
from exporter.errors import (
    BadRequestError,
    ConflictError,
    MissingError,
    RefusedError,
    RuntimeFailure,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from exporter.controller import Controller
    from exporter.core.fleet import Namespace
    from exporter.core.model import Engine
    from exporter.runtime.base import EngineSpec, Runtime

log = logging.getLogger("mayday")

RETRY_S = 1.0
"""How soon a pass that left something undone is repeated; whoever schedules backs off from there."""
NAME_TRIES = 5

R = TypeVar("R")


class OvertakenError(Exception):
    """What was to be done must not be done any more; not a failure."""


class ForwardedPort(Protocol):
    """Asks a VPN for the port that its provider forwards."""

    async def __call__(self, vpn: str) -> int | None:
        """The port, None when there is none or nobody answers."""


@dataclass(frozen=True, slots=True)
class Place:
    """A name and a port on a VPN that are taken for a creation under way."""

    vpn: str
    name: str
    port: int


class Executor:
    """Removes, creates and repairs engines."""

    def __init__(
        self,
        controller: Controller,
        runtime: Runtime,
        read_again: Callable[[], Awaitable[None]],
        forwarded_port: ForwardedPort | None = None,
    ) -> None:
        self._controller = controller
        self._runtime = runtime
        self._read_again = read_again
        self._forwarded_port = forwarded_port
        self._places: set[Place] = set()
        self._unsure: dict[str, str] = {}
        """Names whose creation got no answer, with their VPN: a container may yet appear under them."""
        self._busy: set[str] = set()
        self._told_dry: set[tuple[str, str]] = set()
        self.in_flight = 0
        """Calls that change something and have not ended."""

    # --- cleanup -----------------------------------------------------------------------------------------------------

    async def clean_up(self, vpn: str) -> float | None:
        """Remove the ghosts on a failed VPN, and creations that were overtaken; seconds until to try again, or None."""
        controller = self._controller
        self._find_overtaken()
        targets = [engine for engine in plan.ghosts(controller.state, controller.fleet) if engine.vpn == vpn]
        overtaken = [e for e in controller.fleet.on(vpn) if e.id in controller.overtaken and e not in targets]
        if not targets and not overtaken:
            return None
        if not controller.acting:
            self._tell_dry(targets, RemoveReason.VPN_FAILED)
            return None
        results = await asyncio.gather(
            *(
                self._remove(e, RemoveReason.VPN_FAILED, lambda: plan.must_evacuate(controller.state, vpn))
                for e in targets
            ),
            *(self._remove(e, RemoveReason.OVERTAKEN, lambda: True) for e in overtaken),
        )
        # Docker has the last word on whether they are gone.
        await self._read_again()
        controller.request(Work.PROVISION, None, 0)
        return None if all(results) else RETRY_S

    async def _remove(self, engine: Engine, reason: RemoveReason, still_wanted: Callable[[], bool]) -> bool:
        """Stop and remove one engine if it is still to be; False: it has to be tried again."""
        controller, runtime = self._controller, self._runtime
        grace_s = controller.settings.engine_stop_timeout_s

        def guard() -> None:
            if not controller.acting or not still_wanted():
                raise OvertakenError

        async def remove() -> None:
            if grace_s:
                await self._call(guard, lambda: runtime.stop(engine.id, grace_s))
            await self._call(guard, lambda: runtime.remove(engine.id))

        if engine.id in self._busy:
            return False
        self._busy.add(engine.id)
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
            self._after(error)
            return False
        finally:
            self._busy.discard(engine.id)
        controller.facts.gone(engine.id, controller.clock.mono())
        controller.overtaken.pop(engine.id, None)
        controller.recorder.removed(engine.vpn, engine.name, reason, "ok")
        controller.evaluate()
        return True

    def _find_overtaken(self) -> None:
        """Mark containers that appeared under a name whose creation got no answer."""
        for engine in self._controller.fleet.engines:
            if self._unsure.get(engine.name) == engine.vpn:
                self._controller.overtaken[engine.id] = engine.vpn
                del self._unsure[engine.name]

    # --- provisioning ------------------------------------------------------------------------------------------------

    async def provision(self) -> float | None:
        """Create what automatic provisioning asks for; seconds until to try again, None when nothing is left to do."""
        controller = self._controller
        if not self._fills():
            return None
        await self._read_again()
        self._find_overtaken()
        for vpn in set(controller.overtaken.values()):
            controller.request(Work.CLEANUP, vpn, 0)
        fills = self._fills()
        if not controller.acting:
            self._tell_dry_fills(fills)
            return None
        results = await asyncio.gather(*(self._fill(fill) for fill in fills))
        return None if all(results) else RETRY_S

    def _fills(self) -> list[plan.Fill]:
        controller = self._controller
        return plan.fills(controller.state, controller.fleet, controller.policy, self._pending())

    async def _fill(self, fill: plan.Fill) -> bool:
        forwarded = await self._ask_forwarded(fill.vpn)
        creations = []
        for index in range(fill.count):
            place = self._take_place(fill.vpn)
            if place is None:
                break
            port = forwarded if index == 0 else None
            creations.append(self._create(place, fill.reason, lambda p=place, f=port: self._spec(p, forwarded=f)))
        return all(await asyncio.gather(*creations)) if creations else True

    async def provision_one(self, vpn: str | None, labels: Mapping[str, str]) -> Place:
        """Create the engine that somebody asked for.

        Raises:
            BadRequestError: there is no such VPN.
            RefusedError: it cannot be created now; says why and for how long.
        """
        controller = self._controller
        if vpn is not None and vpn not in controller.state.vpns:
            raise BadRequestError(f"there is no VPN '{vpn}'; there are {', '.join(controller.policy.vpns)}")
        self.require_acting()
        mono = controller.clock.mono()
        chosen = plan.choose_vpn(controller.state, controller.fleet, controller.policy, self._pending(), mono, vpn)
        place = self._take_place(chosen) if isinstance(chosen, str) else None
        if isinstance(chosen, plan.Refusal):
            controller.recorder.refused(chosen.code, chosen.message, vpn)
            raise RefusedError(chosen.message, code=chosen.code, retry_after_s=chosen.retry_after_s)
        if place is None:
            raise RefusedError(f"no free engine port left on '{chosen}'", code="no_free_port")
        done = await self._create(
            place, ProvisionReason.REQUESTED, lambda: self._spec(place, explicit=True, extra_labels=labels)
        )
        if not done:
            raise RefusedError(
                f"engine '{place.name}' could not be created on '{place.vpn}'; see /history",
                code="failed",
                retry_after_s=5,
            )
        return place

    async def remove_one(self, ref: str) -> Engine:
        """Remove the engine with this id, unambiguous id prefix, or name, because somebody asked.

        Raises:
            BadRequestError: no engine, or several, go by that.
            RefusedError: it cannot be removed now.
        """
        self.require_acting()
        engines = self._controller.fleet.engines
        found = [e for e in engines if ref in {e.id, e.name}] or [e for e in engines if e.id.startswith(ref)]
        if len(found) != 1:
            raise BadRequestError(f"{len(found) or 'no'} engine{'s' if len(found) > 1 else ''} go by '{ref[:80]}'")
        if not await self._remove(found[0], RemoveReason.REQUESTED, lambda: True):
            raise RefusedError(
                f"engine '{found[0].name}' could not be removed; see /history", code="failed", retry_after_s=5
            )
        return found[0]

    def require_acting(self) -> None:
        """Refuse what would touch containers while that is not allowed.

        Raises:
            RefusedError: says why.
        """
        controller = self._controller
        if controller.settings.control is not Control.ON:
            raise RefusedError(f"CONTROL is {controller.settings.control}: nothing is touched", code="control")
        if not controller.acting:
            raise RefusedError("Docker is unreachable, or Mayday is stopping", code="unavailable", retry_after_s=5)

    async def _create(self, place: Place, reason: ProvisionReason, spec: Callable[[], EngineSpec]) -> bool:
        """Create and start one engine at its place; undo it if the VPN's phase changed meanwhile."""
        controller = self._controller
        since = controller.state.vpns[place.vpn].since
        created: str | None = None
        namespace = namespace_of(controller.facts.vpn(place.vpn))

        def guard() -> None:
            vpn = controller.state.vpns[place.vpn]
            if not controller.acting or not plan.may_create_on(controller.state, place.vpn) or vpn.since != since:
                raise OvertakenError

        try:
            created, place = await self._create_free(guard, place, spec)
            await self._call(guard, lambda: self._runtime.start(created or ""))
            guard()
        except OvertakenError:
            result, note = "undone", "the VPN left phase healthy meanwhile"
        except RuntimeFailure as error:
            result, note = "error", str(error)
            if isinstance(error, UnreachableError) and created is None:
                self._unsure[place.name] = place.vpn
            self._after(error)
        else:
            result, note = "ok", ""
        finally:
            self._places = {taken for taken in self._places if taken.name != place.name}
        if created is not None:
            asked_at = controller.clock.mono()
            self._note_started(created, place.vpn, namespace)
            if result != "ok":
                await self._undo(created, place)
            else:
                await self._read_created(created, asked_at)
        if result != "undone" or created is not None:
            controller.recorder.provisioned(place.vpn, place.name, reason, result, note)
        controller.evaluate()
        return result != "error"

    async def _create_free(
        self, guard: Callable[[], None], place: Place, spec: Callable[[], EngineSpec]
    ) -> tuple[str, Place]:
        """Create under the place's name, or the next free one if somebody else took it meanwhile."""
        for _ in range(NAME_TRIES):
            current = place
            try:
                wanted = replace(spec(), name=current.name)
                return await self._call(guard, lambda: self._runtime.create(wanted)), current  # noqa: B023 - awaited here
            except ConflictError:
                facts = self._controller.facts
                facts.names |= {current.name}
                place = replace(current, name=self._free_name())
                self._places = (self._places - {current}) | {place}
        raise ConflictError(f"no free name for an engine after {NAME_TRIES} tries, the last was '{place.name}'")

    async def _read_created(self, container_id: str, asked_at: float) -> None:
        controller = self._controller
        try:
            container = await self._runtime.inspect(container_id)
        except RuntimeFailure as error:
            self._after(error)
            return
        if container is not None:
            controller.facts.take_one(container, asked_at, controller.clock.now())

    async def _undo(self, container_id: str, place: Place) -> None:
        """Remove what should not have been created; if that fails now, cleanup goes on trying."""
        controller = self._controller
        controller.overtaken[container_id] = place.vpn
        try:
            await self._call(lambda: None, lambda: self._runtime.remove(container_id))
        except MissingError:
            pass
        except RuntimeFailure as error:
            self._after(error)
            controller.request(Work.CLEANUP, place.vpn, RETRY_S)
            return
        controller.overtaken.pop(container_id, None)
        controller.facts.gone(container_id, controller.clock.mono())
        controller.recorder.removed(place.vpn, place.name, RemoveReason.OVERTAKEN, "ok")

    def _spec(
        self,
        place: Place,
        *,
        explicit: bool = False,
        forwarded: int | None = None,
        extra_labels: Mapping[str, str] | None = None,
    ) -> EngineSpec:
        controller = self._controller
        vpn = controller.facts.vpn(place.vpn)
        if vpn is None:
            raise OvertakenError
        return controller.settings.template.render(
            name=place.name,
            vpn=place.vpn,
            network=vpn.id,
            http_port=place.port,
            label=controller.settings.label,
            explicit=explicit,
            forwarded_port=forwarded,
            extra_labels=extra_labels,
        )

    def _take_place(self, vpn: str) -> Place | None:
        controller = self._controller
        taken = [place.port for place in self._places if place.vpn == vpn]
        ports = plan.free_ports(controller.fleet, controller.policy, vpn, taken)
        if not ports:
            return None
        place = Place(vpn, self._free_name(), ports[0])
        self._places.add(place)
        return place

    def _free_name(self) -> str:
        controller = self._controller
        taken = controller.facts.names | {e.name for e in controller.fleet.engines} | {p.name for p in self._places}
        return controller.settings.template.free_name(taken | self._unsure.keys())

    def _pending(self) -> Counter[str]:
        shown = {engine.name for engine in self._controller.fleet.engines}
        return Counter(place.vpn for place in self._places if place.name not in shown)

    async def _ask_forwarded(self, vpn: str) -> int | None:
        """The VPN's forwarded port, unless an engine has it already."""
        if self._forwarded_port is None or any(engine.forwarded for engine in self._controller.fleet.on(vpn)):
            return None
        return await self._forwarded_port(vpn)

    # --- repair and replacement --------------------------------------------------------------------------------------

    async def repair(self) -> float | None:
        """Give orphans their network back; seconds until to try again, None when none is left."""
        controller = self._controller
        making = {place.name for place in self._places}
        targets = [
            engine
            for engine in plan.orphans(controller.state, controller.fleet)
            if engine.name not in making and engine.id not in self._busy and engine.id not in controller.overtaken
        ]
        if not controller.acting:
            for engine in targets:
                self._tell_once("repair", engine.id, engine, ProvisionReason.REPAIR)
            return None
        results = await asyncio.gather(*(self._repair(engine) for engine in targets))
        if targets:
            await self._read_again()
        return None if all(results) else RETRY_S

    async def _repair(self, engine: Engine) -> bool:
        controller = self._controller
        if engine.orphan is Orphan.RECREATE:
            return await self._make_anew(engine)

        def guard() -> None:
            if not controller.acting or not plan.may_repair_on(controller.state, engine.vpn):
                raise OvertakenError

        self._busy.add(engine.id)
        grace_s = controller.settings.engine_stop_timeout_s
        namespace = namespace_of(controller.facts.vpn(engine.vpn))
        try:
            await self._call(guard, lambda: self._runtime.restart(engine.id, grace_s))
        except OvertakenError:
            return True
        except RuntimeFailure as error:
            controller.recorder.provisioned(engine.vpn, engine.name, ProvisionReason.REPAIR, "error", str(error))
            self._after(error)
            return False
        finally:
            self._busy.discard(engine.id)
        self._note_started(engine.id, engine.vpn, namespace)
        controller.recorder.provisioned(engine.vpn, engine.name, ProvisionReason.REPAIR, "ok")
        return True

    async def _make_anew(self, engine: Engine) -> bool:
        """Remove an orphan whose VPN has another id now, and create its twin from its own configuration."""
        controller = self._controller
        try:
            blueprint = await self._runtime.blueprint(engine.id)
        except MissingError:
            return True
        except RuntimeFailure as error:
            self._after(error)
            return False
        if not await self._remove(
            engine, RemoveReason.ORPHANED, lambda: plan.may_repair_on(controller.state, engine.vpn)
        ):
            return False
        return await self._create_twin(engine, blueprint)

    async def _create_twin(self, engine: Engine, blueprint: EngineSpec) -> bool:
        controller = self._controller
        if any(known.id == engine.id for known in controller.fleet.engines):
            return True
        place = Place(engine.vpn, engine.name, engine.port or 0)
        self._places.add(place)

        def spec() -> EngineSpec:
            vpn = controller.facts.vpn(engine.vpn)
            if vpn is None:
                raise OvertakenError
            return replace(blueprint, network=vpn.id)

        return await self._create(place, ProvisionReason.REPAIR, spec)

    async def replace_engine(self, engine: Engine) -> bool:
        """Remove an engine that fails its health check, and create another in its place; False: not done."""
        controller = self._controller

        def wanted() -> bool:
            healthy = plan.may_create_on(controller.state, engine.vpn)
            return healthy and plan.health_manager_runs(controller.state)

        if not controller.acting:
            self._tell_once("replace", engine.id, engine, ProvisionReason.REPLACE)
            return False
        if not wanted() or not await self._remove(engine, RemoveReason.UNHEALTHY, wanted):
            return False
        place = self._take_place(engine.vpn)
        if place is None or any(known.id == engine.id for known in controller.fleet.engines):
            return False
        spec = lambda: self._spec(place, explicit=engine.explicit)  # noqa: E731 - asked for at the moment of creation
        return await self._create(place, ProvisionReason.REPLACE, spec)

    def _note_started(self, container_id: str, vpn: str, before: Namespace | None) -> None:
        """An engine was started; it is in the VPN's namespace if that is the same after the call as before it."""
        controller = self._controller
        joined = before if before == namespace_of(controller.facts.vpn(vpn)) else None
        controller.facts.started(container_id, joined, controller.clock.mono())

    # --- calls -------------------------------------------------------------------------------------------------------

    async def _call(self, guard: Callable[[], None], call: Callable[[], Awaitable[R]]) -> R:
        guard()
        self.in_flight += 1
        try:
            return await call()
        finally:
            self.in_flight -= 1

    def _after(self, error: RuntimeFailure) -> None:
        """After a call that got no answer, everything is read anew before anything else is decided."""
        if isinstance(error, UnreachableError):
            self._controller.request(Work.RESYNC, None, 0)

    def _tell_dry(self, engines: Iterable[Engine], reason: RemoveReason) -> None:
        for engine in engines:
            self._tell_once("remove", engine.id, engine, reason)

    def _tell_once(self, action: str, key: str, engine: Engine, reason: RemoveReason | ProvisionReason) -> None:
        recorder = self._controller.recorder
        if self._controller.settings.control is Control.DRY_RUN and (action, key) not in self._told_dry:
            self._told_dry.add((action, key))
            tell = recorder.removed if action == "remove" else recorder.provisioned
            tell(engine.vpn, engine.name, reason, "dry_run")

    def _tell_dry_fills(self, fills: Iterable[plan.Fill]) -> None:
        controller = self._controller
        for fill in fills:
            key = ("fill", f"{fill.vpn} {fill.count} {controller.state.vpns[fill.vpn].since.mono}")
            if controller.settings.control is Control.DRY_RUN and key not in self._told_dry:
                self._told_dry.add(key)
                for index in range(fill.count):
                    controller.recorder.provisioned(fill.vpn, f"(new {index + 1})", fill.reason, "dry_run")
