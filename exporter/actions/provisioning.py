"""Creates engines: what automatic provisioning asks for, and what an operator asks for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from exporter.actions.calls import RETRY_S, OvertakenError
from exporter.core import balance, forwarding, plan
from exporter.core.dependents import MADE_LABEL
from exporter.core.model import Container, ContainerState
from exporter.core.plan import Outcome, ProvisionReason
from exporter.core.spec import EngineSpec
from exporter.errors import BadRequestError, ConflictError, RefusedError, RuntimeFailure, UnreachableError
from exporter.fleet.ledger import Change, Entry
from exporter.fleet.results import Begun, Dropped, Forwarded, NameTaken, Overtaken, Unanswered
from exporter.work import Work

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Iterable, Iterator, Mapping

    from exporter.actions.calls import Calls
    from exporter.actions.cleanup import Cleanup
    from exporter.actions.rehearsal import Rehearsal
    from exporter.core.model import Engine
    from exporter.core.phases import FleetState

log = logging.getLogger("mayday")

NAME_TRIES = 5
UNSURE_TIMEOUTS = 3
"""For so many of Docker's time-outs a creation that got no answer counts as if it had been made."""

OVERTAKEN = "meanwhile the VPN left phase healthy, or has enough engines"

SpecOf = Callable[[Entry], EngineSpec]


class ForwardedPort(Protocol):
    """Asks a VPN for the port that its provider forwards."""

    async def __call__(self, vpn: str) -> int | None:
        """The port, 0 when there is none; None when the VPN does not tell."""


class Provisioning:
    """Creates engines at free names and ports."""

    def __init__(
        self, calls: Calls, cleanup: Cleanup, rehearsal: Rehearsal, forwarded_port: ForwardedPort | None = None
    ) -> None:
        self._calls = calls
        self._controller = calls.controller
        self._cleanup = cleanup
        self._rehearsal = rehearsal
        self._forwarded_port = forwarded_port
        self._creations = 0

    # --- what is asked for -------------------------------------------------------------------------------------------

    async def provision_one(self, vpn: str | None, labels: Mapping[str, str]) -> Entry:
        """Create the engine that an operator asked for; its name, VPN and port.

        Raises:
            BadRequestError: there is no such VPN.
            RefusedError: it cannot be created now; says why and for how long.
        """
        controller = self._controller
        if vpn is not None and vpn not in controller.state.vpns:
            raise BadRequestError(f"there is no VPN '{vpn}'; there are {', '.join(controller.policy.vpns)}")
        self._calls.require_acting()
        mono = controller.clock.mono()
        chosen = plan.choose_vpn(controller.state, controller.fleet, controller.policy, self.pending(), mono, vpn)
        entry = self.take_place(chosen) if isinstance(chosen, str) else None
        if isinstance(chosen, plan.Refusal):
            controller.recorder.refused(chosen.code, chosen.message, vpn)
            raise RefusedError(chosen.message, code=chosen.code, retry_after_s=chosen.retry_after_s)
        if entry is None:
            raise RefusedError(f"no free engine port left on '{chosen}'", code="no_free_port")
        spec = partial(self.spec, explicit=True, extra_labels=labels)
        if await self.create(entry, ProvisionReason.REQUESTED, spec) is not Outcome.OK:
            raise RefusedError(
                f"engine '{entry.name}' could not be created on '{entry.vpn}'; see /history",
                code="failed",
                retry_after_s=5,
            )
        return entry

    # --- places ------------------------------------------------------------------------------------------------------

    def take_place(self, vpn: str, instead_of: Engine | None = None) -> Entry | None:
        """A name and a port for a new engine; where all ports are taken, that of the engine which is to go for it."""
        controller = self._controller
        taken = controller.ledger.ports(vpn)
        port = plan.choose_port(controller.fleet, controller.policy, vpn, taken, instead_of)
        return (
            None
            if port is None
            else self.begin(Entry(Change.CREATE, vpn, self.free_name(), port, instead_of=instead_of))
        )

    def begin(self, entry: Entry) -> Entry:
        """Enter a creation into the ledger: its name and port are taken from now on, and it has a mark of its own."""
        self._creations += 1
        entry.made = f"{self._controller.clock.wall().timestamp() * 1000:.0f}-{self._creations}"
        self._controller.note(Begun(entry))
        return entry

    def free_name(self) -> str:
        """The first name that no container has or is to have."""
        return next(self.free_names())

    def free_names(self) -> Iterator[str]:
        controller = self._controller
        taken = controller.facts.names | {engine.name for engine in controller.fleet.engines}
        return controller.settings.template.free_names(taken | controller.ledger.names())

    def pending(self, but: Entry | None = None) -> Counter[str]:
        """Creations that the fleet does not show, by VPN, not counting one of them."""
        controller = self._controller
        shown = {engine.name for engine in controller.fleet.engines}
        pending = controller.ledger.pending(shown, controller.clock.mono())
        if but is not None and but.name not in shown:
            pending[but.vpn] -= 1
        return pending

    # --- one creation ------------------------------------------------------------------------------------------------

    async def create(
        self,
        entry: Entry,
        reason: ProvisionReason,
        spec: SpecOf,
        before_start: Callable[[], Awaitable[None]] | None = None,
        decided: FleetState | None = None,
    ) -> Outcome:
        """Create and start one engine at its place; undo it if the VPN's phase changed meanwhile.

        `before_start` is done between the two; when it fails, the creation has failed. `decided` is the state in which
        the engine was found to be needed; None: the present one. In another state that is asked again.
        """
        decided = decided or self._controller.state
        async with self._calls.queue:
            outcome, note = await self._make(entry, reason, spec, before_start, decided)
        made = entry.container_id
        if outcome is not Outcome.OK and made is not None:
            await self._undo(entry, made)
        if outcome is not Outcome.UNDONE or made is not None:
            self._controller.recorder.provisioned(entry.vpn, entry.name, reason, outcome, note)
        self._controller.evaluate()
        return outcome

    async def _make(
        self,
        entry: Entry,
        reason: ProvisionReason,
        spec: SpecOf,
        before_start: Callable[[], Awaitable[None]] | None,
        decided: FleetState,
    ) -> tuple[Outcome, str]:
        """Create and start; the place is taken until the fleet shows the engine, or that there is none."""
        controller = self._controller
        since = controller.state.vpns[entry.vpn].since
        before = self._calls.before_start(entry.vpn)
        made: EngineSpec | None = None

        def wanted() -> bool:
            state = controller.state
            return plan.may_create_on(state, entry.vpn) and state.vpns[entry.vpn].since == since

        def needed() -> bool:
            return wanted() and (controller.state is decided or self._still_needed(entry, reason))

        try:
            entry.container_id, made = await self._create(entry, reason, spec, needed)
            if before_start is not None:
                await before_start()
            await self._calls.start(entry.container_id, needed)
            overtaken = not wanted()
        except OvertakenError:
            outcome, note = Outcome.UNDONE, OVERTAKEN
        except RuntimeFailure as error:
            outcome, note = Outcome.ERROR, str(error)
            self._calls.failed(error)
            if isinstance(error, UnreachableError) and entry.container_id is None:
                controller.note(Unanswered(entry, UNSURE_TIMEOUTS * controller.settings.docker_timeout_s))
                return outcome, note
        else:
            if not overtaken:
                running = Container(
                    entry.container_id, entry.name, ContainerState.RUNNING, labels=made.labels, network=made.network
                )
                controller.note(self._calls.started(entry, entry.container_id, before, running))
                return Outcome.OK, ""
            outcome, note = Outcome.UNDONE, OVERTAKEN
        if entry.container_id is None:
            controller.note(Dropped(entry))
        else:
            controller.note(
                self._calls.started(entry, entry.container_id, before), Overtaken(entry, entry.container_id)
            )
        return outcome, note

    async def _create(
        self, entry: Entry, reason: ProvisionReason, spec: SpecOf, wanted: Callable[[], bool]
    ) -> tuple[str, EngineSpec]:
        """Create under the entry's name, or the next free one if others took it meanwhile: id and specification."""
        for _ in range(NAME_TRIES):
            made = _marked(replace(spec(entry), name=entry.name), entry.made)
            try:
                return await self._calls.create(made, wanted), made
            except ConflictError as error:
                if (container_id := await self._read_who_took(entry, error)) is not None:
                    return container_id, made
                entry.name = self.free_name()
                if not self._still_needed(entry, reason):
                    raise OvertakenError from error
        raise ConflictError(f"no free name for an engine after {NAME_TRIES} tries, the last was '{entry.name}'")

    async def _read_who_took(self, entry: Entry, conflict: ConflictError) -> str | None:
        """Others made a container that is not known of; its id if this very creation made it, by a call sent twice."""
        try:
            await self._calls.read_again()
        except RuntimeFailure as error:
            raise conflict from error
        controller = self._controller
        for engine in controller.fleet.on(entry.vpn):
            if (engine.name, engine.made) == (entry.name, entry.made):
                return engine.id
        if entry.name not in controller.facts.names:
            # It is only about to be made. Should it turn out to be this creation's, it is found by its mark and undone.
            controller.note(Unanswered(replace(entry), 0))
        controller.note(NameTaken(entry.name))
        return None

    def _still_needed(self, entry: Entry, reason: ProvisionReason) -> bool:
        """Whether there is room, and need, for the engine of a place that is taken already."""
        controller = self._controller
        return balance.still_needed(
            controller.state, controller.fleet, controller.policy, self.pending(entry), entry.vpn, entry.name, reason
        )

    async def _undo(self, entry: Entry, container_id: str) -> None:
        """Remove what should not have been created; if that fails now, cleanup goes on trying."""
        if await self._cleanup.undo(container_id, entry.name, entry.vpn) is Outcome.ERROR:
            self._controller.request(Work.CLEANUP, entry.vpn, RETRY_S)

    # --- specification -----------------------------------------------------------------------------------------------

    def spec(
        self,
        entry: Entry,
        *,
        explicit: bool = False,
        extra_labels: Mapping[str, str] | None = None,
    ) -> EngineSpec:
        """The specification of an engine from the template, at its place."""
        controller = self._controller
        vpn = controller.facts.vpn(entry.vpn)
        if vpn is None or entry.port is None:
            raise OvertakenError
        known, promised = controller.facts.forwarded.get(entry.vpn), controller.ledger.forwarded(entry.vpn, entry)
        entry.forwarded = forwarding.to_give(controller.fleet, entry.vpn, known, promised, entry.instead_of)
        return controller.settings.template.render(
            name=entry.name,
            vpn=entry.vpn,
            network=vpn.id,
            http_port=entry.port,
            label=controller.settings.label,
            explicit=explicit,
            forwarded_port=entry.forwarded,
            extra_labels=extra_labels,
        )

    # --- the forwarded port ------------------------------------------------------------------------------------------

    async def ask_forwarded(self, vpns: Iterable[str]) -> None:
        """Ask VPNs in phase healthy which port they forward, and keep what they say; no answer changes nothing."""
        controller = self._controller
        if self._forwarded_port is None:
            return
        asked = {vpn: controller.state.vpns[vpn].since for vpn in vpns if plan.may_create_on(controller.state, vpn)}
        ports = await asyncio.gather(*(self._forwarded_port(vpn) for vpn in asked))
        for (vpn, since), port in zip(asked.items(), ports, strict=True):
            known = controller.facts.forwarded.get(vpn, 0)
            if port in {None, known} or controller.state.vpns[vpn].since != since:
                continue
            log.info("VPN '%s' forwards %s", vpn, f"port {port}" if port else f"port {known} no longer, and no other")
            controller.take(Forwarded(vpn, port or 0))


def _marked(spec: EngineSpec, mark: str) -> EngineSpec:
    """The specification of an own engine with the mark of its creation."""
    return replace(spec, labels={**spec.labels, MADE_LABEL: mark}) if MADE_LABEL in spec.labels else spec
