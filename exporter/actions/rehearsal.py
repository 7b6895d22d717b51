"""What CONTROL=dry-run tells: each thing that would be done, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.core.plan import Outcome
from exporter.settings.settings import Control

if TYPE_CHECKING:
    from exporter.controller import Controller
    from exporter.core.model import Engine
    from exporter.core.parking import ParkAction
    from exporter.core.plan import Fill, ProvisionReason, RemoveReason


class Rehearsal:
    """Tells the recorder instead of calling Docker."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._told: set[tuple[str, ...]] = set()

    def remove(self, engine: Engine, reason: RemoveReason) -> None:
        """An engine would be removed."""
        if self._new("remove", engine.id):
            self._controller.recorder.removed(engine.vpn, engine.name, reason, Outcome.DRY_RUN)

    def park(self, container_id: str, vpn: str, name: str, action: ParkAction) -> None:
        """A container of others would be stopped, or started again."""
        since = self._controller.state.vpns[vpn].since.mono
        if self._new(action, container_id, str(since)):
            self._controller.recorder.parked(vpn, name, action, Outcome.DRY_RUN)

    def provision(self, engine: Engine, reason: ProvisionReason) -> None:
        """An engine would be made to work again."""
        if self._new(reason, engine.id):
            self._controller.recorder.provisioned(engine.vpn, engine.name, reason, Outcome.DRY_RUN)

    def fill(self, fill: Fill) -> None:
        """Engines would be created."""
        since = self._controller.state.vpns[fill.vpn].since.mono
        if self._new("fill", fill.vpn, str(fill.count), str(since)):
            for index in range(fill.count):
                self._controller.recorder.provisioned(fill.vpn, f"(new {index + 1})", fill.reason, Outcome.DRY_RUN)

    def _new(self, *key: str) -> bool:
        if self._controller.settings.control is not Control.DRY_RUN or key in self._told:
            return False
        self._told.add(key)
        return True
