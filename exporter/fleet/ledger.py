"""The ledger of all that is in flight: which container a call of ours is changing, makes, or may yet bring about.

It answers who is changing a container, which names, ports and places are taken, whether an event is the echo of a call
of our own, and what is to be undone. Every entry has an end: that of its call, a time, or that of its container.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING

from exporter.fleet.parked import Parked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from exporter.core.model import Engine, Fleet
    from exporter.core.phases import FleetState
    from exporter.fleet.facts import Facts
    from exporter.runtime.base import ContainerEvent

ECHO_S = 5.0
"""How long after a call's result an event that it caused may come, seconds."""
UNSURE_S = 3600.0
"""How long a creation that got no answer may still come about, seconds: Docker carries out what it has accepted."""


class Change(StrEnum):
    """What a call does to a container."""

    CREATE = "create"
    RESTART = "restart"
    STOP = "stop"
    START = "start"
    REMOVE = "remove"


_CAUSES = {
    Change.CREATE: frozenset({"create", "start"}),
    Change.RESTART: frozenset({"kill", "die", "stop", "start", "restart"}),
    Change.STOP: frozenset({"kill", "die", "stop"}),
    Change.START: frozenset({"start"}),
    Change.REMOVE: frozenset({"kill", "die", "stop"}),
}
"""The events that a change causes. Not `destroy`: it is a fact by itself."""


class Stage(Enum):
    """How far an entry has come."""

    UNDER_WAY = 1
    """A call is being made, or about to be."""
    ENDED = 2
    """Its call has ended; echoes of it may still come."""
    UNSURE = 3
    """A creation got no answer: its container may yet appear."""
    UNDO = 4
    """Its container was made and should not have been: it is to be removed."""


@dataclass(slots=True, eq=False)
class Entry:
    """One change of one container."""

    change: Change
    vpn: str
    name: str
    port: int | None = None
    container_id: str | None = None
    made: str = ""
    """The mark of a creation, which its container carries and no other."""
    instead_of: Engine | None = None
    """The engine that goes for the one that is made."""
    forwarded: int | None = None
    """The forwarded port that the engine is made for."""
    stage: Stage = Stage.UNDER_WAY
    until: float = math.inf
    """When it is struck out, monotonic seconds."""
    counts_until: float = math.inf
    """Until when a creation that got no answer counts as if its engine had been made, monotonic seconds."""


class Ledger:
    """The entries. Owned by the controller."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self.parked = Parked()

    # --- writing -----------------------------------------------------------------------------------------------------

    def begin(self, entry: Entry) -> Entry:
        """A change begins."""
        self._entries.append(entry)
        return entry

    def end(self, entry: Entry, now: float) -> None:
        """Its call has ended, and its result is a fact now."""
        if entry.stage is Stage.UNDER_WAY:
            entry.stage, entry.until = Stage.ENDED, now + ECHO_S
        self._strike(now)

    def drop(self, entry: Entry) -> None:
        """Nothing came of it."""
        self._entries = [known for known in self._entries if known is not entry]

    def unsure(self, entry: Entry, now: float, counts_s: float) -> None:
        """A creation got no answer; for so many seconds it counts as if the engine had been made."""
        entry.stage, entry.until, entry.counts_until = Stage.UNSURE, now + UNSURE_S, now + counts_s

    def undo(self, entry: Entry) -> None:
        """What a creation made is to be removed."""
        entry.stage, entry.until = Stage.UNDO, math.inf

    def gone(self, container_id: str) -> None:
        """A container does not exist any more: nothing is left to be undone."""
        self._entries = [e for e in self._entries if e.stage is not Stage.UNDO or e.container_id != container_id]

    def look(self, state: FleetState, facts: Facts, now: float) -> set[str]:
        """Compare with facts that were read whole; the VPNs on which something parked is to be started now."""
        self._find(facts.fleet(), now)
        return self.parked.look(state, facts, now)

    def _find(self, fleet: Fleet, now: float) -> None:
        """Mark the engines that creations without an answer made; an entry whose time is over keeps nothing taken."""
        self._strike(now)
        if not any(entry.stage is Stage.UNSURE for entry in self._entries):
            return
        engines = {(engine.name, engine.made): engine for engine in fleet.engines if engine.own}
        for entry in self._entries:
            engine = engines.get((entry.name, entry.made)) if entry.stage is Stage.UNSURE else None
            if engine is not None:
                entry.container_id = engine.id
                self.undo(entry)

    def _strike(self, now: float) -> None:
        self._entries = [entry for entry in self._entries if entry.until > now]

    # --- asking ------------------------------------------------------------------------------------------------------

    def changing(self, container_id: str, name: str) -> bool:
        """Whether a call of ours is changing this container, or making one of this name."""
        return any(
            entry.stage is Stage.UNDER_WAY
            and (entry.container_id == container_id or (entry.change is Change.CREATE and entry.name == name))
            for entry in self._entries
        )

    def caused(self, event: ContainerEvent, now: float) -> bool:
        """Whether a call of ours caused this event."""
        return any(
            event.action in _CAUSES[entry.change]
            and (
                (entry.stage is Stage.UNDER_WAY and entry.name == event.name)
                or (entry.stage is Stage.ENDED and entry.container_id == event.id and now < entry.until)
            )
            for entry in self._entries
        )

    def names(self) -> frozenset[str]:
        """Names under which a creation is under way or may yet come about."""
        return frozenset(e.name for e in self._entries if e.stage in {Stage.UNDER_WAY, Stage.UNSURE})

    def ports(self, vpn: str) -> list[int]:
        """Ports that creations under way on a VPN have taken."""
        return [entry.port for entry in self._making() if entry.vpn == vpn and entry.port is not None]

    def forwarded(self, vpn: str, but: Entry) -> set[int]:
        """Forwarded ports for which other creations under way on a VPN are made."""
        return {e.forwarded for e in self._making() if e.vpn == vpn and e is not but and e.forwarded is not None}

    def pending(self, shown: Collection[str], now: float) -> Counter[str]:
        """Creations by VPN that the fleet, whose engines have the names `shown`, does not show."""
        counted = Counter(entry.vpn for entry in self._making() if entry.name not in shown)
        counted.update(e.vpn for e in self._entries if e.stage is Stage.UNSURE and e.counts_until > now)
        return counted

    def to_undo(self, engines: Iterable[Engine]) -> list[Engine]:
        """Those of these engines that are to be undone."""
        ids = {entry.container_id for entry in self._entries if entry.stage is Stage.UNDO}
        return [engine for engine in engines if engine.id in ids] if ids else []

    @property
    def vpns_to_undo_on(self) -> set[str]:
        """VPNs on which something is to be undone."""
        return {entry.vpn for entry in self._entries if entry.stage is Stage.UNDO}

    def _making(self) -> Iterator[Entry]:
        return (e for e in self._entries if e.change is Change.CREATE and e.stage is Stage.UNDER_WAY)

    def __len__(self) -> int:
        return len(self._entries)
