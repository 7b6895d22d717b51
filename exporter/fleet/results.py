"""Results of readings and calls: what each changes in the facts and in the ledger.

Observer and actions make them; the controller applies them, and decides anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.core.dependents import Namespace
    from exporter.core.model import Container, Engine, Moment
    from exporter.fleet.facts import Facts
    from exporter.fleet.ledger import Entry, Ledger


class Result(Protocol):
    """Something that was read or done."""

    def apply(self, facts: Facts, ledger: Ledger, now: Moment) -> None:
        """Change facts and ledger accordingly."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """A container that is no VPN's was asked for at `asked_at` (monotonic seconds); None: it does not exist."""

    container_id: str
    container: Container | None
    asked_at: float

    def apply(self, facts: Facts, ledger: Ledger, now: Moment) -> None:
        """Take the container, or forget it."""
        if self.container is None:
            facts.gone(self.container_id, self.asked_at)
            ledger.gone(self.container_id)
        else:
            facts.take_one(self.container, self.asked_at, now)


@dataclass(frozen=True, slots=True)
class OwnNetworks:
    """The Docker networks that Mayday itself is on; None: it is no container here, or on none of its own."""

    networks: frozenset[str] | None

    def apply(self, facts: Facts, _ledger: Ledger, _now: Moment) -> None:
        """Take only such addresses of VPNs as can be reached from there."""
        facts.on_networks(self.networks)


@dataclass(frozen=True, slots=True)
class Answers:
    """Engines' own APIs said whether they work, by container id."""

    healthy: Mapping[str, bool]

    def apply(self, facts: Facts, _ledger: Ledger, _now: Moment) -> None:
        """Note it for each engine."""
        for container_id, healthy in self.healthy.items():
            facts.heard_from(container_id, healthy=healthy)


@dataclass(frozen=True, slots=True)
class Connected:
    """An engine that was taken for an orphan answered at its VPN's address."""

    container_id: str

    def apply(self, facts: Facts, _ledger: Ledger, _now: Moment) -> None:
        """Take it for connected from now on."""
        facts.proven_connected(self.container_id)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """So many containers cannot be inspected."""

    containers: int

    def apply(self, facts: Facts, _ledger: Ledger, _now: Moment) -> None:
        """Note how many."""
        facts.unreadable = self.containers


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A VPN said which port it forwards; 0: none."""

    vpn: str
    port: int

    def apply(self, facts: Facts, _ledger: Ledger, _now: Moment) -> None:
        """Note it for the VPN."""
        facts.forwarded.pop(self.vpn, None)
        if self.port:
            facts.forwarded[self.vpn] = self.port


@dataclass(frozen=True, slots=True)
class NameTaken:
    """A container that was not known of has this name."""

    name: str

    def apply(self, facts: Facts, _ledger: Ledger, _now: Moment) -> None:
        """Keep the name from being chosen."""
        facts.names |= {self.name}


@dataclass(frozen=True, slots=True)
class Begun:
    """A change of a container begins."""

    entry: Entry

    def apply(self, _facts: Facts, ledger: Ledger, _now: Moment) -> None:
        """Enter it into the ledger."""
        ledger.begin(self.entry)


@dataclass(frozen=True, slots=True)
class Dropped:
    """Nothing came of a change."""

    entry: Entry

    def apply(self, _facts: Facts, ledger: Ledger, _now: Moment) -> None:
        """Strike it out."""
        ledger.drop(self.entry)


@dataclass(frozen=True, slots=True)
class Ended:
    """The call of a change has ended; what came of it has to be read."""

    entry: Entry

    def apply(self, _facts: Facts, ledger: Ledger, now: Moment) -> None:
        """Wait for its echoes only."""
        ledger.end(self.entry, now.mono)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A creation got no answer; it counts for so many seconds as if the engine had been made."""

    entry: Entry
    counts_s: float

    def apply(self, _facts: Facts, ledger: Ledger, now: Moment) -> None:
        """Expect its container."""
        ledger.unsure(self.entry, now.mono, self.counts_s)


@dataclass(frozen=True, slots=True)
class Started:
    """A container was started by a call made at `began` (Unix seconds).

    `joined` is the namespace it joined; None: its VPN was started meanwhile, and which of the two it is cannot be told.
    `made` is the container, where it was created by the same change.
    """

    entry: Entry
    container_id: str
    joined: Namespace | None
    began: float
    made: Container | None = None
    asked_at: float = 0.0

    def apply(self, facts: Facts, ledger: Ledger, now: Moment) -> None:
        """Take it for running."""
        self.entry.container_id = self.container_id
        facts.started(self.container_id, self.joined, now, self.began)
        if self.made is not None:
            facts.take_one(self.made, self.asked_at, now)
        ledger.end(self.entry, now.mono)


@dataclass(frozen=True, slots=True)
class Overtaken:
    """A creation made a container that should not be there any more."""

    entry: Entry
    container_id: str

    def apply(self, _facts: Facts, ledger: Ledger, _now: Moment) -> None:
        """Have it undone."""
        self.entry.container_id = self.container_id
        ledger.undo(self.entry)


@dataclass(frozen=True, slots=True)
class Removed:
    """A container does not exist any more, after a change of ours."""

    entry: Entry
    container_id: str

    def apply(self, facts: Facts, ledger: Ledger, now: Moment) -> None:
        """Forget the container."""
        self.entry.container_id = self.container_id
        facts.gone(self.container_id, now.mono)
        ledger.gone(self.container_id)
        ledger.end(self.entry, now.mono)


@dataclass(frozen=True, slots=True)
class AskedToPark:
    """A container of others is about to be stopped."""

    engine: Engine

    def apply(self, _facts: Facts, ledger: Ledger, now: Moment) -> None:
        """Note it before that."""
        ledger.parked.ask(self.engine, now)


@dataclass(frozen=True, slots=True)
class Parked:
    """A container of others was stopped by us."""

    entry: Entry
    container_id: str

    def apply(self, facts: Facts, ledger: Ledger, now: Moment) -> None:
        """Take it for stopped."""
        facts.stopped(self.container_id, now)
        ledger.parked.stopped(self.container_id)
        ledger.end(self.entry, now.mono)


@dataclass(frozen=True, slots=True)
class Released:
    """A container of others is its owner's again."""

    container_id: str

    def apply(self, _facts: Facts, ledger: Ledger, _now: Moment) -> None:
        """Forget that it was, or was to be, parked."""
        ledger.parked.forget(self.container_id)


@dataclass(frozen=True, slots=True)
class StartedElsewhere:
    """A container was started by others."""

    container_id: str

    def apply(self, facts: Facts, ledger: Ledger, _now: Moment) -> None:
        """Its network has to be found out, and if it was parked, its owner has taken it back."""
        facts.started_elsewhere(self.container_id)
        ledger.parked.started_elsewhere(self.container_id)
