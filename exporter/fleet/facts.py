"""The containers as last read from Docker, kept in order although answers overtake each other.

Every reading carries the monotonic time at which it was asked for; an answer never replaces one that was asked for
later. Docker never gives an id twice, so an id that is known to be gone stays gone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from exporter.core.dependents import RESPONSE_LABEL, VPN_LABEL, ManagedLabel, Namespace, concerns, read_engine, vpn_of
from exporter.core.model import Container, ContainerState, Engine, Fleet
from exporter.core.policy import Response
from exporter.fleet.namespaces import CLOCK_SLACK_S, Namespaces

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.core.model import Moment


LIST_LATE_S = 5.0
"""How long Docker's list may still show a container as running after a stop of it was answered, seconds: the list is
kept apart, and written after the answer. Half a second was seen on a busy machine; taken for a start by the owner, it
would leave a parked container stopped for ever."""


class Facts:
    """What was read, by container id. Changed by readings and by the results of our own calls, by nothing else."""

    key = "vpn_ids"

    def __init__(self, vpns: Iterable[str], label: ManagedLabel) -> None:
        self.vpns = tuple(vpns)
        self.label = label
        self.names: frozenset[str] = frozenset()
        """Names of all containers on the host, at the last full reading."""
        self.ids: frozenset[str] = frozenset()
        """Ids of all containers on the host, at the last full reading."""
        self.engine_health: dict[str, bool] = {}
        """What engines' own APIs last said, by container id."""
        self.unreadable = 0
        """How many containers Docker does not tell about."""
        self.forwarded: dict[str, int] = {}
        """The ports that VPNs last said they forward, by VPN."""
        self._networks: frozenset[str] | None = None
        self._containers: dict[str, Container] = {}
        self._as_of: dict[str, float] = {}
        self._vpn_as_of: dict[str, float] = dict.fromkeys(self.vpns, -1.0)
        self._gone: dict[str, float] = {}
        self._known_ids: dict[str, str] = {}
        self._namespaces = Namespaces()
        self._fleet: Fleet | None = None
        """As it was when it was last asked for; None: to be built anew."""
        self._members: dict[str, dict[str, Engine]] = {}
        """By VPN and container id, the engines of that fleet."""
        self._homes: dict[str, str] = {}
        """The VPN of each of these engines, by container id."""
        self._misread: dict[str, str] = {}
        """By container id, what is wrong with its labels."""
        self._touched: dict[str, None] = {}
        """Ids of the containers that have changed since, in order."""

    def fleet(self) -> Fleet:
        """The fleet in these containers. Only what has changed since it was last asked for is read anew."""
        if self._fleet is None:
            self._touched = dict.fromkeys(self._containers)
            self._members, self._homes = {vpn: {} for vpn in self.vpns}, {}
            self._fleet = replace(Fleet.of(dict.fromkeys(self.vpns)), networks=self._networks)
        if self._touched:
            self._fleet = self._renewed(self._fleet)
        return self._fleet

    def _renewed(self, fleet: Fleet) -> Fleet:
        """The fleet with the touched containers as they are now."""
        touched = {key: self._containers.get(key) for key in self._touched}
        self._touched = {}
        now = {container.name: container for container in touched.values() if container is not None}
        vpns = {name: now.get(name, known) for name, known in fleet.vpns.items()}
        gone: defaultdict[str, list[Engine]] = defaultdict(list)
        come: defaultdict[str, list[Engine]] = defaultdict(list)
        for key, container in touched.items():
            engine = None if container is None else self._engine(container, vpns)
            home = self._homes.pop(key, None)
            if home is not None:
                gone[home].append(self._members[home][key])
                if engine is None or engine.vpn != home:
                    del self._members[home][key]
            if engine is not None:
                come[engine.vpn].append(engine)
                self._members[engine.vpn][key] = engine
                self._homes[key] = engine.vpn
        groups = {
            vpn: fleet.groups[vpn].changed(tuple(self._members[vpn].values()), gone[vpn], come[vpn])
            for vpn in gone.keys() | come.keys()
        }
        return Fleet(vpns, {**fleet.groups, **groups}, fleet.networks)

    def _engine(self, container: Container, vpns: dict[str, Container | None]) -> Engine | None:
        namespace = self._namespaces.of(container)
        joined = {} if namespace is None else {container.id: namespace}
        engine = read_engine(container, vpns, self.label, self._known_ids, self.engine_health, joined)
        self._misread.pop(container.id, None)
        if engine is not None and container.labels.get(RESPONSE_LABEL, Response.LEAVE) not in set(Response):
            self._misread[container.id] = (
                f"container '{container.name}' has an unknown value of the label {RESPONSE_LABEL} and is left alone;"
                f" known are {', '.join(Response)}"
            )
        if engine is not None and engine.orphan is None:
            self._namespaces.note(container, vpns[engine.vpn])
        return engine

    def _touch(self, container_id: str) -> None:
        """A container has changed; a change of a VPN's concerns its engines too."""
        self._touched[container_id] = None
        name = self._known_ids.get(container_id)
        if name is None or self._fleet is None:
            return
        if [container.id for container in self._named(name)] == [container_id]:
            self._touched |= dict.fromkeys(self._members[name])
        else:  # it is gone, or one replaces the other: which engines are whose has to be looked at anew
            self._fleet = None

    def _named(self, name: str) -> list[Container]:
        """The containers that a VPN's name is known to belong to, as a rule one."""
        known = [self._containers.get(key) for key, of in self._known_ids.items() if of == name]
        return [container for container in known if container is not None]

    def _note_vpns(self, now: Moment) -> None:
        """VPN containers were read: their engines may be in other namespaces than they have."""
        vpns = [container for name in self.vpns for container in self._named(name)]
        self._namespaces.vpns_read(vpns, now.mono)

    @property
    def strays(self) -> list[Container]:
        """Containers with the managed label whose network namespace is gone, and of no VPN that is known."""
        vpns = self.fleet().vpns
        return [
            container
            for container in self._containers.values()
            if container.network is not None
            and container.network not in self.ids | self.names
            and self.label.marks(container)
            and vpn_of(container, vpns, self._known_ids) is None
        ]

    def of_other_vpns(self) -> Counter[str]:
        """How many engines there are of VPNs that are not configured, by the name of the VPN on their label."""
        others = (c.labels.get(VPN_LABEL) for key, c in self._containers.items() if key not in self._homes)
        return Counter(name for name in others if name is not None and name not in self._vpn_as_of)

    def remember(self, _times: object) -> dict[str, str]:
        """The ids of VPN containers, past ones included: engines may still be attached to them after a restart."""
        return dict(self._known_ids)

    def restore(self, saved: Any, _times: object) -> None:
        """Know the VPN containers of an earlier run."""
        self._known_ids = {str(key): name for key, name in dict(saved).items() if name in self._vpn_as_of}
        self._fleet = None

    def may_concern(self, labels: Mapping[str, str]) -> bool:
        """Whether a container with these labels may be a dependent that is of interest."""
        return self.label.key in labels or concerns(labels)

    @property
    def problems(self) -> tuple[str, ...]:
        """Labels that cannot be read, one sentence each."""
        return tuple(self._misread.values())

    def container(self, container_id: str) -> Container | None:
        """One container as last read."""
        return self._containers.get(container_id)

    def is_gone(self, container_id: str) -> bool:
        """Whether a container is known to exist no more."""
        return container_id in self._gone

    def vpn(self, name: str) -> Container | None:
        """A VPN's container as last read."""
        return self.fleet().vpns.get(name)

    def vpn_shapes(self) -> dict[str, tuple[str, str, str] | None]:
        """Container id, state and health of each VPN, to see whether a reading changed them."""
        fleet = self.fleet()
        return {name: (c.id, c.state, c.health) if c else None for name, c in fleet.vpns.items()}

    def take_all(self, listing: Iterable[Container], asked_at: float, now: Moment) -> None:
        """Take a full listing."""
        listing = list(listing)
        self.names = frozenset(container.name for container in listing)
        self.ids = frozenset(container.id for container in listing)
        relevant = [c for c in listing if c.name in self._vpn_as_of or self.label.marks(c) or concerns(c.labels)]
        seen = {container.id for container in relevant}
        for container in relevant:
            self._take(container, asked_at, now)
        for container_id, container in list(self._containers.items()):
            if container_id not in seen and self._newest(container_id, container) < asked_at:
                self._drop(container_id)
        self._gone = {key: at for key, at in self._gone.items() if key in seen or at >= asked_at}
        for name in self.vpns:
            self._vpn_as_of[name] = max(self._vpn_as_of[name], asked_at)
        self._note_vpns(now)
        self._prune_known_ids()

    def take_vpn(self, name: str, container: Container | None, asked_at: float, now: Moment) -> None:
        """Take an inspection of a VPN by name; None: there is none."""
        if asked_at < self._vpn_as_of[name]:
            return
        for known in self._named(name):
            if container is None or known.id != container.id:
                self._drop(known.id)
        if container is not None:
            self._take(container, asked_at, now)
        self._vpn_as_of[name] = asked_at
        self._note_vpns(now)

    def take_one(self, container: Container, asked_at: float, now: Moment) -> None:
        """Take an inspection of an engine."""
        if self._take(container, asked_at, now):
            self._namespaces.inspected(self._containers[container.id], asked_at)
            self._touch(container.id)

    def gone(self, container_id: str, at: float) -> None:
        """Docker said, by an answer or an event, that this container does not exist any more."""
        self._gone[container_id] = at
        self._drop(container_id)

    def started_elsewhere(self, container_id: str) -> None:
        """An event tells that a container was started by others: its start and namespace are not known any more."""
        self._namespaces.forget(container_id)
        known = self._containers.get(container_id)
        if known is not None:
            self._containers[container_id] = replace(known, started_at=None)
        self._as_of.pop(container_id, None)  # what a listing shows of it counts again at once, whoever stopped it
        self._touch(container_id)

    def stopped(self, container_id: str, now: Moment) -> None:
        """We stopped a container."""
        known = self._containers.get(container_id)
        if known is not None:
            self._containers[container_id] = replace(known, state=ContainerState.EXITED)
            self._as_of[container_id] = now.mono + LIST_LATE_S
        self._touch(container_id)

    def started(self, container_id: str, joined: Namespace | None, now: Moment, began: float) -> None:
        """We started a container, by a call made at `began` (Unix seconds); `joined` is the namespace it joined.

        None: the VPN was started meanwhile.
        """
        self._namespaces.started(container_id, joined, now, began)
        known = self._containers.get(container_id)
        if known is not None:
            self._containers[container_id] = replace(known, state=ContainerState.RUNNING, started_at=None)
            self._as_of[container_id] = now.mono  # what was asked while it was being started may not show it yet
        self._touch(container_id)

    def on_networks(self, networks: frozenset[str] | None) -> None:
        """Mayday itself is on these Docker networks; None: it is no container here, or on none of its own."""
        if networks != self._networks:
            self._networks, self._fleet = networks, None

    def heard_from(self, container_id: str, *, healthy: bool) -> None:
        """An engine's own API said something."""
        if container_id in self._containers and self.engine_health.get(container_id) is not healthy:
            self.engine_health[container_id] = healthy
            self._touch(container_id)

    def surely_orphaned(self, container_id: str) -> bool:
        """Whether an orphan is known to have joined another namespace, rather than taken for one by start times."""
        return not self._namespaces.guessed(container_id)

    def proven_connected(self, container_id: str) -> None:
        """An engine that was taken for an orphan answered at its VPN's address."""
        known = self._containers.get(container_id)
        if known is not None:
            self._namespaces.answered(known)
            self._touch(container_id)

    def to_inspect(self) -> list[str]:
        """Ids of the engines of which only an inspection can tell whether they are orphans."""
        vpns = self.fleet().vpns
        return [
            key
            for key, container in self._containers.items()
            if (name := vpn_of(container, vpns, self._known_ids)) is not None
            and self._namespaces.to_inspect(container, vpns[name])
        ]

    def _take(self, container: Container, asked_at: float, now: Moment) -> bool:
        """Take one container as it was shown; False: something newer is known."""
        if container.id in self._gone or asked_at < self._newest(container.id, container):
            return False
        known = self._containers.get(container.id)
        if known is not None:
            container = _with_known(container, known, now)
            if known.started_at is not None and container.started_at != known.started_at:
                self._namespaces.restarted(container.id)
        self._as_of[container.id] = asked_at
        if container != known:
            self._containers[container.id] = container
            self._touch(container.id)
        if container.name in self._vpn_as_of and self._known_ids.get(container.id) != container.name:
            # Any engine may turn out to be in the network of a container that is now known to be a VPN's.
            self._known_ids[container.id] = container.name
            self._fleet = None
        return True

    def _newest(self, container_id: str, container: Container) -> float:
        return max(self._as_of.get(container_id, -1.0), self._vpn_as_of.get(container.name, -1.0))

    def _drop(self, container_id: str) -> None:
        self._containers.pop(container_id, None)
        self._as_of.pop(container_id, None)
        self.engine_health.pop(container_id, None)
        self._misread.pop(container_id, None)
        self._namespaces.forget(container_id)
        self._touch(container_id)

    def _prune_known_ids(self) -> None:
        """Forget ids of past VPN containers that no engine is attached to, so that the map cannot grow for ever."""
        if len(self._known_ids) > 10 * len(self.vpns):
            used = {container.network for container in self._containers.values()} | self._containers.keys()
            self._known_ids = {key: name for key, name in self._known_ids.items() if key in used}
            self._fleet = None


def _with_known(container: Container, known: Container, now: Moment) -> Container:
    """The container, with what only an inspection tells taken from what is known, as far as that still holds."""
    if container.started_at is not None:
        return container
    unbroken = known.state is ContainerState.RUNNING and container.state is ContainerState.RUNNING
    started_at = known.started_at if unbroken or container.state is known.state else None
    if started_at is not None and container.uptime_at_most_s is not None:
        up_s = now.wall.timestamp() - started_at
        if up_s > container.uptime_at_most_s + CLOCK_SLACK_S:
            started_at = None
    return replace(
        container,
        uptime_at_most_s=None,  # has done its work, and would make every listing look like news
        started_at=started_at,
        probe_period_s=known.probe_period_s,
        addresses=container.addresses or known.addresses,
    )
