"""Parks what others own: stops it when its VPN has failed, and starts it again when that VPN is healthy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exporter.actions.calls import RETRY_S, OvertakenError
from exporter.core import evacuation
from exporter.core.parking import ParkAction, may_bring_back, to_park
from exporter.core.plan import Outcome
from exporter.errors import MissingError, RuntimeFailure
from exporter.fleet.ledger import Change, Entry
from exporter.fleet.results import AskedToPark, Begun, Dropped, Ended, Parked, Released

if TYPE_CHECKING:
    from exporter.actions.calls import Calls
    from exporter.actions.rehearsal import Rehearsal
    from exporter.core.model import Engine
    from exporter.fleet.parked import Stopped


class Parking:
    """Stops containers with their own grace, and brings them back as they were."""

    def __init__(self, calls: Calls, rehearsal: Rehearsal) -> None:
        self._calls = calls
        self._controller = calls.controller
        self._rehearsal = rehearsal

    async def park(self, vpn: str) -> float | None:
        """Stop what has to be stopped on a VPN, or start it again; seconds until to try again, or None."""
        controller = self._controller
        engines = self._to_park(vpn)
        stopped = controller.ledger.parked.due(vpn, controller.state) if controller.deciding else []
        if not engines and not stopped:
            return None
        if not controller.acting:
            for engine in engines:
                self._rehearsal.park(engine.id, vpn, engine.name, ParkAction.PARK)
            for one in stopped:
                self._rehearsal.park(one.id, vpn, one.name, ParkAction.UNPARK)
            return None
        new = [engine for engine in engines if not controller.ledger.parked.asked(engine.id)]
        controller.note(*(AskedToPark(engine) for engine in engines))
        await controller.remember()
        results = await asyncio.gather(
            *(self._stop(engine, new=engine in new) for engine in engines), *(self._start(one) for one in stopped)
        )
        await controller.remember()
        # Docker has the last word on what runs.
        await self._calls.read_again()
        return RETRY_S if Outcome.ERROR in results else None

    def _to_park(self, vpn: str) -> tuple[Engine, ...]:
        controller = self._controller
        state, fleet, policy = controller.state, controller.fleet, controller.policy
        taken_back = controller.ledger.parked.taken_back
        if (
            not controller.deciding
            or evacuation.assess(state, fleet, policy, controller.clock.mono(), vpn, taken_back)
            is not evacuation.Evacuation.SAFE
        ):
            return ()
        return to_park(state, fleet, policy, vpn, taken_back)

    async def _stop(self, engine: Engine, *, new: bool) -> Outcome:
        """Stop one container; it is noted already. `new`: no earlier call may have stopped it."""
        controller = self._controller
        if controller.ledger.changing(engine.id, engine.name):
            return Outcome.ERROR
        entry = Entry(Change.STOP, engine.vpn, engine.name, container_id=engine.id)
        controller.note(Begun(entry))
        try:
            await self._calls.stop(engine.id, None, lambda: engine.id in {one.id for one in self._to_park(engine.vpn)})
        except OvertakenError:
            controller.note(Dropped(entry), *([Released(engine.id)] if new else []))
            return Outcome.UNDONE
        except MissingError:
            controller.note(Ended(entry), Released(engine.id))
            return Outcome.OK
        except RuntimeFailure as error:
            controller.note(Ended(entry))
            controller.recorder.parked(engine.vpn, engine.name, ParkAction.PARK, Outcome.ERROR, str(error))
            self._calls.failed(error)
            return Outcome.ERROR
        controller.note(Parked(entry, engine.id))
        controller.recorder.parked(engine.vpn, engine.name, ParkAction.PARK, Outcome.OK)
        return Outcome.OK

    async def _start(self, one: Stopped) -> Outcome:
        """Start one container that was parked."""
        controller = self._controller
        if controller.ledger.changing(one.id, one.name):
            return Outcome.ERROR
        entry = Entry(Change.START, one.vpn, one.name, container_id=one.id)
        controller.note(Begun(entry))
        before = self._calls.before_start(one.vpn)

        def wanted() -> bool:
            return controller.ledger.parked.waits(one.id) and may_bring_back(controller.state, one.vpn)

        try:
            async with self._calls.queue:
                await self._calls.start(one.id, wanted)
        except OvertakenError:
            controller.note(Dropped(entry))
            return Outcome.UNDONE
        except RuntimeFailure as error:
            controller.note(Ended(entry))
            controller.recorder.parked(one.vpn, one.name, ParkAction.UNPARK, Outcome.ERROR, str(error))
            self._calls.failed(error)
            return Outcome.ERROR
        controller.note(self._calls.started(entry, one.id, before), Released(one.id))
        controller.recorder.parked(one.vpn, one.name, ParkAction.UNPARK, Outcome.OK)
        return Outcome.OK
