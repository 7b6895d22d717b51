"""Creates engines: what automatic provisioning asks for, and what somebody asks for."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from exporter.actions.executor import RETRY_S, OvertakenError
from exporter.controller import Work
from exporter.core import plan
from exporter.core.dependents import namespace_of
from exporter.core.model import Container, ContainerState, Mode
from exporter.core.plan import ProvisionReason, RemoveReason
from exporter.errors import BadRequestError, ConflictError, MissingError, RefusedError, RuntimeFailure, UnreachableError
from exporter.fleet.echoes import CREATION
from exporter.settings.settings import Control

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from exporter.actions.executor import Executor
    from exporter.core.model import Engine
    from exporter.core.spec import EngineSpec

NAME_TRIES = 5
UNSURE_TIMEOUTS = 3
"""For so many of Docker's time-outs a creation that got no answer counts as if it had been made."""


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


class Provisioner:
    """Creates engines at free places."""

    def __init__(self, executor: Executor, forwarded_port: ForwardedPort | None = None) -> None:
        self._executor = executor
        self._controller = executor.controller
        self._runtime = executor.runtime
        self._forwarded_port = forwarded_port
        self.places: set[Place] = set()
        """Taken by creations under way."""
        self._told_dry: set[str] = set()

    async def provision(self) -> float | None:
        """Create what automatic provisioning asks for; seconds until to try again, None when nothing is left to do."""
        controller = self._controller
        if not self._fills():
            if controller.deciding and controller.state.mode is not Mode.NORMAL:
                controller.recorder.paused("Autoscaler", controller.state)
            return None
        await self._executor.read_again()
        fills = self._fills()
        if not controller.acting:
            self._tell_dry_fills(fills)
            return None
        # Places are taken in the same step as the decision: nobody can decide on the same room meanwhile.
        names = self._free_names()
        taken = [(fill, self._take_places(fill, names)) for fill in fills]
        results = await asyncio.gather(*(self._fill(fill, places) for fill, places in taken))
        if taken:
            # Docker has the last word on what there is now.
            await self._executor.read_again()
        return None if all(results) else RETRY_S

    def _fills(self) -> list[plan.Fill]:
        controller = self._controller
        return plan.fills(controller.state, controller.fleet, controller.policy, self._pending())

    def _take_places(self, fill: plan.Fill, names: Iterator[str]) -> list[Place]:
        """Places for a whole fill at once: what is taken is looked through once, not once for each engine."""
        controller = self._controller
        taken = [place.port for place in self.places if place.vpn == fill.vpn]
        ports = plan.free_ports(controller.fleet, controller.policy, fill.vpn, taken)
        places = [Place(fill.vpn, next(names), port) for port in ports[: fill.count]]
        self.places.update(places)
        return places

    async def _fill(self, fill: plan.Fill, places: Iterable[Place]) -> bool:
        forwarded = await self._ask_forwarded(fill.vpn)
        creations = []
        for place in places:
            creations.append(self.create(place, fill.reason, partial(self.spec, forwarded=forwarded)))
            forwarded = None
        return all(result != "error" for result, _ in await asyncio.gather(*creations))

    async def provision_one(self, vpn: str | None, labels: Mapping[str, str]) -> Place:
        """Create the engine that somebody asked for.

        Raises:
            BadRequestError: there is no such VPN.
            RefusedError: it cannot be created now; says why and for how long.
        """
        controller = self._controller
        if vpn is not None and vpn not in controller.state.vpns:
            raise BadRequestError(f"there is no VPN '{vpn}'; there are {', '.join(controller.policy.vpns)}")
        self._executor.require_acting()
        mono = controller.clock.mono()
        chosen = plan.choose_vpn(controller.state, controller.fleet, controller.policy, self._pending(), mono, vpn)
        place = self.take_place(chosen) if isinstance(chosen, str) else None
        if isinstance(chosen, plan.Refusal):
            controller.recorder.refused(chosen.code, chosen.message, vpn)
            raise RefusedError(chosen.message, code=chosen.code, retry_after_s=chosen.retry_after_s)
        if place is None:
            raise RefusedError(f"no free engine port left on '{chosen}'", code="no_free_port")
        result, place = await self.create(
            place, ProvisionReason.REQUESTED, partial(self.spec, explicit=True, extra_labels=labels)
        )
        if result != "ok":
            raise RefusedError(
                f"engine '{place.name}' could not be created on '{place.vpn}'; see /history",
                code="failed",
                retry_after_s=5,
            )
        return place

    async def create(
        self, place: Place, reason: ProvisionReason, spec: Callable[[Place], EngineSpec]
    ) -> tuple[str, Place]:
        """Create and start one engine at its place; undo it if the VPN's phase changed meanwhile.

        Returns "ok", "undone" or "error", and the place it was given in the end.
        """
        async with self._executor.gate:
            self._controller.echoes.expect(place.name, CREATION)
            try:
                return await self._create(place, reason, spec)
            finally:
                self._controller.echoes.ended(place.name, None)

    async def _create(
        self, place: Place, reason: ProvisionReason, spec: Callable[[Place], EngineSpec]
    ) -> tuple[str, Place]:
        controller = self._controller
        since = controller.state.vpns[place.vpn].since
        created: str | None = None
        namespace, began = namespace_of(controller.facts.vpn(place.vpn)), controller.clock.wall().timestamp()

        def not_overtaken() -> None:
            if not plan.may_create_on(controller.state, place.vpn) or controller.state.vpns[place.vpn].since != since:
                raise OvertakenError

        def guard() -> None:
            not_overtaken()
            if not controller.acting:
                raise OvertakenError

        try:
            created, place, made = await self._create_free(guard, place, reason, spec)
            await self._executor.call(guard, lambda: self._runtime.start(created or ""))
            not_overtaken()
        except OvertakenError:
            result, note = "undone", "the VPN left phase healthy meanwhile, or somebody else made it"
        except RuntimeFailure as error:
            result, note = "error", str(error)
            if isinstance(error, UnreachableError) and created is None:
                until = controller.clock.mono() + UNSURE_TIMEOUTS * controller.settings.docker_timeout_s
                controller.leftovers.expect(place.name, place.vpn, until)
            self._executor.after(error)
        else:
            result, note = "ok", ""
        controller.echoes.ended(place.name, created)
        if created is not None:
            asked_at = controller.clock.mono()
            self._executor.note_started(created, place.vpn, namespace, began)
            if result != "ok":
                await self._undo(created, place)
            else:
                # What was created and started is known without asking; the next listing tells the rest.
                running = Container(
                    created, place.name, ContainerState.RUNNING, labels=made.labels, network=made.network
                )
                controller.facts.take_one(running, asked_at, controller.clock.now())
        # The place is taken until the fleet shows the engine as it is now, or shows that there is none.
        self.places = {taken for taken in self.places if taken.name != place.name}
        if result != "undone" or created is not None:
            controller.recorder.provisioned(place.vpn, place.name, reason, result, note)
        controller.evaluate()
        return result, place

    async def _create_free(
        self, guard: Callable[[], None], place: Place, reason: ProvisionReason, spec: Callable[[Place], EngineSpec]
    ) -> tuple[str, Place, EngineSpec]:
        """Create under the place's name, or the next free one if somebody else took it meanwhile."""
        for _ in range(NAME_TRIES):
            current = place
            try:
                wanted = replace(spec(current), name=current.name)
                made = await self._executor.call(guard, partial(self._runtime.create, wanted))
            except ConflictError as error:
                await self._read_who_took(current.name, error)
                place = replace(current, name=self._free_name())
                self.places = (self.places - {current}) | {place}
                if not self._still_wanted(place, reason):
                    raise OvertakenError from error
            else:
                return made, current, wanted
        raise ConflictError(f"no free name for an engine after {NAME_TRIES} tries, the last was '{place.name}'")

    async def _read_who_took(self, name: str, conflict: ConflictError) -> None:
        """Somebody made a container that we did not know of: it may be the very engine that we were to make."""
        try:
            await self._executor.read_again()
        except RuntimeFailure as error:
            raise conflict from error
        self._controller.facts.names |= {name}

    def _still_wanted(self, place: Place, reason: ProvisionReason) -> bool:
        """Whether there is room, and need, for the engine of a place that is taken already."""
        controller = self._controller
        pending = self._pending()
        pending[place.vpn] -= 1
        if reason in {ProvisionReason.FILL, ProvisionReason.RELIEF}:
            fills = plan.fills(controller.state, controller.fleet, controller.policy, pending)
            return any(fill.vpn == place.vpn for fill in fills)
        room = controller.fleet.size + sum(pending.values()) < controller.policy.max_replicas
        return room or reason is not ProvisionReason.REQUESTED

    async def _undo(self, container_id: str, place: Place) -> None:
        """Remove what should not have been created; if that fails now, cleanup goes on trying."""
        controller = self._controller
        controller.leftovers.containers[container_id] = place.vpn

        def guard() -> None:
            if not controller.acting:
                raise OvertakenError

        try:
            await self._executor.call(guard, lambda: self._runtime.remove(container_id))
        except MissingError:
            pass
        except OvertakenError:
            return
        except RuntimeFailure as error:
            self._executor.after(error)
            controller.request(Work.CLEANUP, place.vpn, RETRY_S)
            return
        controller.leftovers.containers.pop(container_id, None)
        controller.facts.gone(container_id, controller.clock.mono())
        controller.recorder.removed(place.vpn, place.name, RemoveReason.OVERTAKEN, "ok")

    def spec(
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

    def take_place(self, vpn: str, instead_of: Engine | None = None) -> Place | None:
        """A name and a port for a new engine; where all ports are taken, that of the engine which is to go for it."""
        controller = self._controller
        taken = [place.port for place in self.places if place.vpn == vpn]
        ports = plan.free_ports(controller.fleet, controller.policy, vpn, taken)
        if not ports and instead_of is not None and instead_of.port is not None and instead_of.port not in taken:
            ports = [instead_of.port]
        if not ports:
            return None
        place = Place(vpn, self._free_name(), ports[0])
        self.places.add(place)
        return place

    def _free_name(self) -> str:
        return next(self._free_names())

    def _free_names(self) -> Iterator[str]:
        controller = self._controller
        taken = controller.facts.names | {e.name for e in controller.fleet.engines} | {p.name for p in self.places}
        return controller.settings.template.free_names(taken | controller.leftovers.names)

    def _pending(self) -> Counter[str]:
        shown = {engine.name for engine in self._controller.fleet.engines}
        now = self._controller.clock.mono()
        counted = Counter(place.vpn for place in self.places if place.name not in shown)
        counted.update(self._controller.leftovers.counted(now))
        return counted

    async def _ask_forwarded(self, vpn: str) -> int | None:
        """The VPN's forwarded port, unless an engine has it already."""
        if self._forwarded_port is None or any(engine.forwarded for engine in self._controller.fleet.on(vpn)):
            return None
        return await self._forwarded_port(vpn)

    def _tell_dry_fills(self, fills: Iterable[plan.Fill]) -> None:
        controller = self._controller
        for fill in fills:
            key = f"{fill.vpn} {fill.count} {controller.state.vpns[fill.vpn].since.mono}"
            if controller.settings.control is Control.DRY_RUN and key not in self._told_dry:
                self._told_dry.add(key)
                for index in range(fill.count):
                    controller.recorder.provisioned(fill.vpn, f"(new {index + 1})", fill.reason, "dry_run")
