"""The words of Mayday as values: moments, phases, modes, signals, VPNs, engines, the fleet.

Everything here is frozen. Times called `mono` are seconds on a monotonic clock, for durations and deadlines;
times called `wall` are aware UTC datetimes, for what people read.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from exporter.core.policy import Response


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant, on both clocks: `mono` in monotonic seconds, `wall` as aware UTC."""

    mono: float
    wall: datetime


class Verdict(StrEnum):
    """What all signals about one VPN say together."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    """Something may be wrong: nothing new is given to its engines, nothing else changes."""
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class Phase(StrEnum):
    """Where a VPN stands; only `HEALTHY` may be given engines."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    FAILED = "failed"
    STABILIZING = "stabilizing"


class Mode(StrEnum):
    """Where the fleet stands: some VPNs failed is `EMERGENCY`, all of them is `OUTAGE`."""

    NORMAL = "normal"
    EMERGENCY = "emergency"
    OUTAGE = "outage"


class Source(StrEnum):
    """Who may say something about a VPN."""

    DOCKER = "docker"
    ALERTMANAGER = "alertmanager"
    OPERATOR = "operator"


class Reason(StrEnum):
    """Why a signal says what it says, and so why a phase changed. Closed: it becomes a metric label."""

    DOCKER_HEALTHY = "docker_healthy"
    DOCKER_UNHEALTHY = "docker_unhealthy"
    DOCKER_EXITED = "docker_exited"
    DOCKER_PAUSED = "docker_paused"
    DOCKER_RESTARTING = "docker_restarting"
    DOCKER_MISSING = "docker_missing"
    DOCKER_STARTING = "docker_starting"
    DOCKER_START_TIMEOUT = "docker_start_timeout"
    DOCKER_STOPPING = "docker_stopping"
    ALERT = "alert"
    DRILL = "drill"
    STABILIZED = "stabilized"


@dataclass(frozen=True, slots=True)
class Signal:
    """What one source says of one VPN, from `since` until `expires` (monotonic seconds; None: while it is repeated)."""

    vpn: str
    source: Source
    verdict: Verdict
    reason: Reason
    detail: str
    """For people: the alert's name, Docker's words. Never a secret."""
    since: Moment
    expires: float | None = None


class ContainerState(StrEnum):
    """Docker's `State.Status`."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


WRECKED = frozenset({ContainerState.DEAD, ContainerState.REMOVING})
"""States in which a container can never run again."""


class ContainerHealth(StrEnum):
    """Docker's `State.Health.Status`; `NONE` when the container has no health check."""

    NONE = "none"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Container:
    """A container as Docker shows it, from a list call or an inspection.

    `started_at`, `probed_at` and `probe_period_s` are known from an inspection only; a list leaves them None.
    """

    id: str
    name: str
    state: ContainerState
    health: ContainerHealth = ContainerHealth.NONE
    labels: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    """The X of `network_mode: container:X` (a full id, or a name that did not exist at creation), else None."""
    created_at: float = 0.0
    """Unix seconds by Docker's clock; whole seconds from a list call."""
    started_at: float | None = None
    """Unix seconds by Docker's clock of the last start."""
    probed_at: float | None = None
    """Unix seconds by Docker's clock at which the newest health probe ended."""
    probe_period_s: float | None = None
    """Health check interval plus timeout, seconds."""
    uptime_at_most_s: float | None = None
    """From a list call's status text ("Up 5 minutes"): the container has not run for longer than this, seconds."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """The container's own IP address on each Docker network that it is on, by the network's name."""
    watches: frozenset[str] = frozenset()
    """Where it is a Mayday that acts, from an inspection: names of the VPN containers in its settings."""

    @property
    def address(self) -> str | None:
        """Any of its addresses, None when it has none."""
        return next(iter(self.addresses.values()), None)


class EngineState(StrEnum):
    """The one state an engine is counted under."""

    WORKING = "working"
    UNHEALTHY = "unhealthy"
    ORPHANED = "orphaned"
    STOPPED = "stopped"


class Orphan(StrEnum):
    """How an engine came to be without a network, which decides the repair."""

    RESTART = "restart"
    """Its VPN container was started after it: a restart joins the new namespace."""
    RECREATE = "recreate"
    """Its VPN container was recreated under another id: only a new container can join."""
    NEVER_STARTED = "never_started"
    """It was created and its start never came: its maker was cut off in between."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A container with the managed label in the network namespace of a VPN."""

    id: str
    name: str
    vpn: str
    state: ContainerState
    port: int | None
    """HTTP port inside the namespace, published by the VPN; None when its label is missing or no number."""
    created_at: float = 0.0
    """Unix seconds by Docker's clock."""
    orphan: Orphan | None = None
    healthy: bool | None = None
    """What its HTTP API last said; None when it was not asked yet."""
    explicit: bool = False
    """It was asked for through the API: it comes on top of the share."""
    forwarded: bool = False
    forwarded_port: int | None = None
    """Whether it was made to listen on the port that the VPN provider forwards, and on which; None: others made it."""
    own: bool = False
    """Mayday made it; what others made is theirs."""
    docker_health: ContainerHealth = ContainerHealth.NONE
    """What Docker's health check of the container itself says."""
    made: str | None = None
    """The mark of the creation by which Mayday made it."""
    response: Response | None = None
    """What its owner's label asks for when its VPN fails; None: nothing."""
    managed: bool = True
    """It carries the managed label; else it is no engine, and only its `response` is of interest."""
    successor_of: str | None = None
    """Id of the container that it was made from, and which goes once this one runs."""

    @property
    def planned(self) -> bool:
        """Whether it counts towards the share of its VPN."""
        return self.own and not self.explicit and self.state not in WRECKED

    @property
    def counted_as(self) -> EngineState:
        """The one state it is counted under."""
        if self.orphan in {Orphan.RESTART, Orphan.RECREATE}:
            return EngineState.ORPHANED
        if self.state is not ContainerState.RUNNING:
            return EngineState.STOPPED
        unhealthy = self.healthy is False or self.docker_health is ContainerHealth.UNHEALTHY
        return EngineState.UNHEALTHY if unhealthy else EngineState.WORKING


@dataclass(frozen=True, slots=True)
class Group:
    """The engines of one VPN, and what is counted of them: with every change the counts go on from the last ones."""

    engines: tuple[Engine, ...] = ()
    guests: tuple[Engine, ...] = ()
    """Dependents that are no engines, but say by a label what is to happen to them when their VPN fails."""
    states: Mapping[EngineState, int] = field(default_factory=dict)
    """How many are in each state."""
    own: int = 0
    """How many Mayday made."""
    planned: int = 0
    """How many count towards the share: own engines that were not asked for."""
    orphans: int = 0
    successors: int = 0

    def changed(self, members: tuple[Engine, ...], gone: Sequence[Engine], come: Sequence[Engine]) -> Group:
        """The group of these members, which differs from this one by those that are gone and those that have come."""
        engines, guests = members, self.guests
        if guests or not all(engine.managed for engine in come):
            guests = tuple(member for member in members if not member.managed)
            engines = tuple(member for member in members if member.managed)
            gone, come = [e for e in gone if e.managed], [e for e in come if e.managed]
        states = Counter(self.states)
        states.update(engine.counted_as for engine in come)
        states.subtract(engine.counted_as for engine in gone)
        own = self.own + sum(e.own for e in come) - sum(e.own for e in gone)
        planned = self.planned + sum(e.planned for e in come) - sum(e.planned for e in gone)
        orphans = self.orphans + sum(e.orphan is not None for e in come) - sum(e.orphan is not None for e in gone)
        successors = sum(e.successor_of is not None for e in come) - sum(e.successor_of is not None for e in gone)
        return Group(engines, guests, +states, own, planned, orphans, self.successors + successors)


@dataclass(frozen=True)
class Fleet:
    """Every configured VPN with its container (None: missing) and its engines, as last read from Docker."""

    vpns: Mapping[str, Container | None]
    groups: Mapping[str, Group]
    """The engines by VPN, so that a change of one engine costs no more in a large fleet than in a small one."""
    networks: frozenset[str] | None = None
    """Names of the Docker networks that Mayday is on; None: it is no container here, or on none of its own."""

    @classmethod
    def of(cls, vpns: Mapping[str, Container | None], engines: Iterable[Engine] = ()) -> Fleet:
        """The fleet of these VPNs and engines."""
        by_vpn: dict[str, list[Engine]] = {vpn: [] for vpn in vpns}
        for engine in engines:
            by_vpn[engine.vpn].append(engine)
        return cls(vpns, {vpn: Group().changed(tuple(members), (), members) for vpn, members in by_vpn.items()})

    @cached_property
    def engines(self) -> tuple[Engine, ...]:
        """All of them, VPN by VPN."""
        return tuple(engine for group in self.groups.values() for engine in group.engines)

    @cached_property
    def own(self) -> int:
        """How many own engines there are; an orphan that is being made anew and its successor are one."""
        made_anew = [e for e in self.engines if e.orphan and e.id in self.successors] if self.successors else ()
        return sum(group.own for group in self.groups.values()) - len(made_anew)

    @cached_property
    def successors(self) -> Mapping[str, Engine]:
        """By the id of an engine that is being made anew, its successor."""
        groups = [group for group in self.groups.values() if group.successors]
        made = {e.successor_of: e for group in groups for e in group.engines if e.state not in WRECKED}
        return {engine.id: made[engine.id] for group in groups for engine in group.engines if engine.id in made}

    @cached_property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """How many there are, by VPN and `EngineState`."""
        return {(vpn, str(state)): n for vpn, group in self.groups.items() for state, n in group.states.items()}

    def address(self, vpn: str) -> str | None:
        """Where Mayday reaches the ports of a VPN; None: they share no network.

        It is the VPN's address on a network that both are on. Where Mayday is on no network any address will do, and
        the name where there is none.
        """
        container = self.vpns.get(vpn)
        addresses = container.addresses if container else {}
        if self.networks is None or not addresses:
            return next(iter(addresses.values()), vpn)
        return next((address for network, address in addresses.items() if network in self.networks), None)

    def on(self, vpn: str) -> tuple[Engine, ...]:
        """The engines of one VPN."""
        return self.groups[vpn].engines if vpn in self.groups else ()

    def dependents(self, vpn: str) -> tuple[Engine, ...]:
        """The engines of one VPN, and what else says by a label what is to happen to it when that VPN fails."""
        return self.on(vpn) + self.groups[vpn].guests
