"""The events that calls of our own cause: their results tell more than the events do, and come at about the same time.

Without this a failover would be read back from Docker several times a second, while Docker is busy with the failover.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.clock import Clock
    from exporter.runtime.base import ContainerEvent

CREATION = frozenset({"create", "start"})
REMOVAL = frozenset({"stop", "die"})
"""Not `destroy`: it is a fact by itself."""
LATE_S = 2.0
"""How long after a call's result an event that it caused may come, seconds."""


class Echoes:
    """What is under way, by name, and what has just ended, by id: only the container itself has late echoes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._under_way: dict[str, frozenset[str]] = {}
        self._ended: dict[str, tuple[frozenset[str], float]] = {}

    def expect(self, name: str, actions: frozenset[str]) -> None:
        """A call begins that will cause such events of the container by this name."""
        self._under_way[name] = actions

    def ended(self, name: str, container_id: str | None) -> None:
        """It has ended, and made or changed this container; None: none."""
        actions, now = self._under_way.pop(name, None), self._clock.mono()
        self._ended = {key: entry for key, entry in self._ended.items() if entry[1] > now}
        if actions is not None and container_id is not None:
            self._ended[container_id] = (actions, now + LATE_S)

    def caused(self, event: ContainerEvent) -> bool:
        """Whether it was a call of ours that caused this event."""
        if event.action in self._under_way.get(event.name, ()):
            return True
        actions, until = self._ended.get(event.id, (frozenset[str](), 0.0))
        return event.action in actions and self._clock.mono() < until
