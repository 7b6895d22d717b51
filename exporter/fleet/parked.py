"""What was parked: containers owned by others that Mayday stopped, to be started again when their VPN is healthy.

A container is noted before it is stopped, so that one that was stopped is never forgotten, whatever happens to Mayday
between the two. What its owner does to it meanwhile ends Mayday's part in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from exporter.core.model import WRECKED, ContainerState
from exporter.core.parking import may_bring_back

if TYPE_CHECKING:
    from exporter.core.model import Container, Engine, Moment
    from exporter.core.phases import FleetState
    from exporter.fleet.facts import Facts
    from exporter.journal.memory import Reading, Writing

LATE_S = 300.0
"""How long a stop that got no answer may still come about, seconds: Docker carries out what it has accepted."""
STOPPED = frozenset({ContainerState.CREATED, ContainerState.EXITED})


class Stage(StrEnum):
    """How far a container's parking has come."""

    ASKED = "asked"
    """It is being stopped, or was when Mayday was cut off."""
    PARKED = "parked"
    TAKEN_BACK = "taken_back"
    """Its owner has started it: it is not stopped again for this failure."""


@dataclass(slots=True)
class Stopped:
    """One container, and the VPN for whose failure it was stopped."""

    id: str
    name: str
    vpn: str
    at: Moment
    stage: Stage = Stage.ASKED
    stuck: bool = False
    """Its VPN was recreated: it cannot be started, only made anew, which is its owner's to do."""


class Parked:
    """By container id. Owned by the ledger, so changed by the controller alone."""

    key = "parked"

    def __init__(self) -> None:
        self._stopped: dict[str, Stopped] = {}

    # --- writing -----------------------------------------------------------------------------------------------------

    def ask(self, engine: Engine, now: Moment) -> None:
        """A container is about to be stopped."""
        self._stopped[engine.id] = Stopped(engine.id, engine.name, engine.vpn, now)

    def stopped(self, container_id: str) -> None:
        """It was stopped."""
        if container_id in self._stopped:
            self._stopped[container_id].stage = Stage.PARKED

    def forget(self, container_id: str) -> None:
        """Nothing is left to be done for it."""
        self._stopped.pop(container_id, None)

    def started_elsewhere(self, container_id: str) -> None:
        """An event tells that others have started it."""
        one = self._stopped.get(container_id)
        if one is not None and one.stage is Stage.PARKED:
            one.stage = Stage.TAKEN_BACK

    def look(self, state: FleetState, facts: Facts, mono: float) -> set[str]:
        """Compare with facts that were read whole; the VPNs on which something is to be started now."""
        for one in list(self._stopped.values()):
            found = facts.container(one.id)
            if one.vpn not in state.vpns:
                continue
            if found is None or found.state in WRECKED or self._over(one, found, state, mono):
                del self._stopped[one.id]
                continue
            home = facts.vpn(one.vpn)
            one.stuck = home is not None and found.network not in {home.id, home.name}
            if found.state in STOPPED:
                one.stage = Stage.PARKED if one.stage is Stage.ASKED else one.stage
            elif one.stage is Stage.PARKED:
                one.stage = Stage.TAKEN_BACK
        return {one.vpn for one in self._stopped.values() if self._due(one, state)}

    @staticmethod
    def _over(one: Stopped, found: Container, state: FleetState, mono: float) -> bool:
        """Whether the failure is over and the container its owner's again."""
        if not may_bring_back(state, one.vpn):
            return False
        if one.stage is Stage.ASKED:
            return found.state not in STOPPED and mono - one.at.mono > LATE_S
        return one.stage is Stage.TAKEN_BACK or found.state not in STOPPED

    @staticmethod
    def _due(one: Stopped, state: FleetState) -> bool:
        return one.stage is Stage.PARKED and not one.stuck and may_bring_back(state, one.vpn)

    # --- asking ------------------------------------------------------------------------------------------------------

    def due(self, vpn: str, state: FleetState) -> list[Stopped]:
        """What is to be started on a VPN now."""
        return [one for one in self._stopped.values() if one.vpn == vpn and self._due(one, state)]

    def waits(self, container_id: str) -> bool:
        """Whether a container is stopped by Mayday and not yet started again."""
        one = self._stopped.get(container_id)
        return one is not None and one.stage is Stage.PARKED

    def asked(self, container_id: str) -> bool:
        """Whether a call to stop a container was made, or was to be, whose result is not known."""
        one = self._stopped.get(container_id)
        return one is not None and one.stage is Stage.ASKED

    @property
    def taken_back(self) -> frozenset[str]:
        """Ids of those that are not stopped again for the present failure of their VPN."""
        return frozenset(one.id for one in self._stopped.values() if one.stage is Stage.TAKEN_BACK)

    @property
    def problems(self) -> tuple[str, ...]:
        """What their owners have to do, one sentence each."""
        return tuple(
            f"recreate container '{one.name}': it was stopped when VPN '{one.vpn}' failed, and cannot be started in the"
            " network of the VPN's new container"
            for one in self._stopped.values()
            if one.stuck and one.stage is Stage.PARKED
        )

    # --- memory ------------------------------------------------------------------------------------------------------

    def remember(self, times: Writing) -> Any:
        """All of them."""
        return [
            {"id": one.id, "name": one.name, "vpn": one.vpn, "at": times.moment(one.at), "stage": one.stage}
            for one in self._stopped.values()
        ]

    def restore(self, saved: Any, times: Reading) -> None:
        """Take over those of an earlier run."""
        self._stopped = {
            item["id"]: Stopped(
                item["id"], str(item["name"]), str(item["vpn"]), times.moment(item["at"]), Stage(item["stage"])
            )
            for item in saved
        }

    def __len__(self) -> int:
        return len(self._stopped)
