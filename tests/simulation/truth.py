"""What is so on the simulated host and what Mayday was told, whatever Mayday makes of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.core.model import ContainerHealth, ContainerState
from tests.simulation.engines import MADE, MANAGED, NEVER, Engines, own

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.runtime.base import ContainerEvent
    from exporter.runtime.simulated_host import Box, SimulatedHost
    from tests.support.virtual_time import VirtualClock

__all__ = ["BY_HAND", "MADE", "MANAGED", "NEVER", "REQUESTED", "VPN", "Told", "Truth"]

VPN = "acestream.vpn_container"
REQUESTED = "mayday.requested"
BY_HAND = "hand"
"""Names of engines that somebody else made begin with it."""
START_TIMEOUT_S = 120.0
NOTICED_S = 150.0
"""How long an engine may fail to answer before that is surely noticed, seconds: three rounds and their time-outs."""
SLACK_S = 5.0
"""How late the end of a drill may be seen, seconds."""


@dataclass
class Told:
    """The newest that was delivered about one alert."""

    vpn: str
    starts_at: str
    firing: bool
    at: float
    life: int
    expired: bool = False
    """It was noticed that nothing was heard of it for too long."""


@dataclass
class Truth:
    """Watches one host. All times are true seconds since the beginning."""

    host: SimulatedHost
    clock: VirtualClock
    vpns: tuple[str, ...]
    says: dict[str, str] = field(default_factory=dict)
    """What Docker shows of each VPN: good, bad, or unclear."""
    since: dict[str, float] = field(default_factory=dict)
    bad_at: dict[str, float] = field(default_factory=lambda: defaultdict(lambda: NEVER))
    """When a VPN was last shown as something that may be read as unhealthy."""
    good_at: dict[str, float] = field(default_factory=lambda: defaultdict(lambda: NEVER))
    """When Docker last showed a VPN as good."""
    ids: dict[str, str] = field(default_factory=dict)
    """Ids of VPN containers, past ones too."""
    started: dict[str, float] = field(default_factory=lambda: defaultdict(lambda: NEVER))
    appeared: dict[str, float] = field(default_factory=dict)
    silent_at: dict[str, float] = field(default_factory=lambda: defaultdict(lambda: NEVER))
    """When an engine last did not answer Mayday, for whatever reason."""
    life_began: float = NEVER
    """When the present life of Mayday began."""
    starting_since: dict[str, float] = field(default_factory=dict)
    """Since when a VPN container is shown as starting, by its id."""
    told: dict[str, Told] = field(default_factory=dict)
    fired: dict[str, float] = field(default_factory=lambda: defaultdict(lambda: NEVER))
    """When an alert about a VPN was last delivered as firing, whatever its start."""
    drills: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Until when a drill lasts, and the life that was told of it."""
    set_back_at: float = NEVER
    rebooted_at: float = NEVER

    def __post_init__(self) -> None:
        self.engines_are = Engines(self.host)

    def begin(self) -> None:
        """Look from now on."""
        self.host.listeners.append(self._event)
        self.look()

    def _event(self, event: ContainerEvent) -> None:
        if event.action == "start":
            self.started[event.id] = self.clock.age()
        self.look()

    def look(self) -> None:
        """Note what Docker would show now."""
        now = self.clock.age()
        by_name = {box.name: box for box in self.host.boxes.values()}
        for name in self.vpns:
            box = by_name.get(name)
            if box is not None:
                self.ids[box.id] = name
            says = _says(box)
            if says != self.says.get(name):
                self.says[name], self.since[name] = says, now
            if says == "bad" or (box is not None and says == "unclear" and self._unclear_is_bad(box, now)):
                self.bad_at[name] = now
            if says == "good":
                self.good_at[name] = now
        for key in self.host.boxes:
            self.appeared.setdefault(key, now)
        self.engines_are.look(now)

    def _unclear_is_bad(self, box: Box, now: float) -> bool:
        """Whether a health that is no longer probed, or that has just begun, may be read as unhealthy.

        `starting` is bad for a container that was started anew in this life, and for one that starts for too long; not
        for one that Docker only looks at anew.
        """
        if box.health is not ContainerHealth.STARTING:
            self.starting_since.pop(box.id, None)
            return box.health is ContainerHealth.UNHEALTHY
        since = self.starting_since.setdefault(box.id, now)
        return self.started[box.id] > self.life_began or now - since >= START_TIMEOUT_S - SLACK_S

    def vpn_of(self, box: Box) -> str | None:
        """The VPN whose network an engine joined; the label tells where nobody knows the network."""
        if MANAGED not in box.labels or box.network is None or box.name in self.vpns:
            return None
        found = self.ids.get(box.network)
        label = box.labels.get(VPN)
        return found or (label if label in self.vpns else None)

    def engines(self, vpn: str | None = None) -> list[Box]:
        """The engines on the host."""
        found = ((box, self.vpn_of(box)) for box in self.host.boxes.values())
        return [box for box, on in found if on is not None and vpn in {None, on}]

    def own_engines(self, vpn: str | None = None) -> list[Box]:
        """Those of them that Mayday made."""
        return [box for box in self.engines(vpn) if own(box)]

    def named(self, vpn: str) -> Box | None:
        """The container of a VPN."""
        return next((box for box in self.host.boxes.values() if box.name == vpn), None)

    def traceable(self, box: Box) -> bool:
        """Whether a Mayday that has just started can tell whose engine it is."""
        return box.labels.get(VPN) in self.vpns or box.network in self.host.boxes

    def known(self, boxes: Iterable[Box], own: set[str], slack_s: float) -> list[Box]:
        """Those that this Mayday made itself, or that are there for so long that it must know them."""
        now = self.clock.age()
        boxes = [box for box in boxes if self.traceable(box)]
        return [b for b in boxes if b.name in own or now - self.appeared.get(b.id, now) > slack_s]

    def steady(self, vpn: str, says: str, seconds: float) -> bool:
        """Whether Docker has shown the same of a VPN for so long."""
        return self.says[vpn] == says and self.clock.age() - self.since[vpn] > seconds

    def accused(self, vpn: str, grace_s: float, expiry_s: float) -> bool:
        """Whether anything speaks against a VPN now, or did so short a time ago that nobody can know better."""
        return self.clock.age() - self.bad_at[vpn] <= grace_s or self.may_object(vpn, expiry_s)

    def carriers(self, failed: str, grace_s: float, *, strict: bool = False) -> list[str]:
        """The VPNs beside one that Docker shows as good and on which an engine serves.

        With `grace_s`, those that did so short a time ago; engines that merely do not answer are noticed by rounds of
        questions. `strict`: those that nobody can doubt.
        """
        now, found = self.clock.age(), []
        for vpn in self.vpns:
            box = self.named(vpn)
            # That a health is frozen shows in inspections alone, which take turns.
            turns_s = 30.0 * len(self.vpns) + 100.0 if box is not None and box.frozen is not None else 0.0
            good = self.says[vpn] == "good" or (not strict and now - self.good_at[vpn] <= max(grace_s, turns_s))
            engines = [] if vpn == failed or not good else self.engines(vpn)
            if strict:
                serving = [b for b in engines if self.engines_are.works(b) and now - self.silent_at[b.id] > NOTICED_S]
            else:
                serving = [b for b in engines if self._may_serve(b, now, grace_s)]
            if serving:
                found.append(vpn)
        return found

    def _may_serve(self, box: Box, now: float, grace_s: float) -> bool:
        """Whether nobody can know that an engine does not serve: one that does not answer has to be asked first."""
        vpn = self.engines_are.home(box)
        begun = max(self.appeared.get(box.id, now), self.started[box.id], self.life_began)
        unasked = box.broken and now - max(begun, self.engines_are.served_at[box.id]) <= NOTICED_S
        runs = vpn is not None and box.state is ContainerState.RUNNING is vpn.state
        return self.engines_are.served_lately(box, now, grace_s) or (runs and (unasked or self.looks_connected(box)))

    def looks_connected(self, box: Box) -> bool:
        """Whether Docker's own times say that an engine has its network, and are wrong.

        It was created after its VPN's last start, by a clock that was set back between the two.
        """
        vpn = self.engines_are.home(box)
        return (
            vpn is not None
            and vpn.started_at is not None
            and box.created_at > vpn.started_at
            and box.namespace != vpn.namespace
            and self.set_back_at > NEVER
        )

    def orphaned(self, box: Box) -> bool:
        """Whether an engine is attached to a container that is not its VPN's any more."""
        return box.network not in self.host.boxes

    # --- alerts and drills -------------------------------------------------------------------------------------------

    def hear(self, key: str, vpn: str, starts_at: str, *, firing: bool, life: int) -> None:
        """An alert was delivered, and accepted."""
        if firing:
            self.fired[vpn] = self.clock.age()
        known = self.told.get(key)
        if known is not None and (starts_at < known.starts_at or (starts_at == known.starts_at and not known.firing)):
            return
        self.told[key] = Told(vpn, starts_at, firing, self.clock.age(), life)

    def listed(self, active: Iterable[tuple[str, str, str]], asked_at: float, life: int) -> None:
        """Alertmanager's API told all alerts that are active: key, VPN, start."""
        listing = {key: (vpn, start) for key, vpn, start in active}
        for key, (vpn, start) in listing.items():
            self.hear(key, vpn, start, firing=True, life=life)
        for key, told in self.told.items():
            if told.firing and key not in listing and told.at <= asked_at:
                self.told[key] = Told(told.vpn, told.starts_at, firing=False, at=self.clock.age(), life=life)

    def expire(self, expiry_s: float) -> int:
        """How many firing alerts have expired unheard since this was last asked."""
        ended = [t for t in self.told.values() if t.firing and not t.expired and self.clock.age() - t.at > expiry_s]
        for told in ended:
            told.expired = True
        return len(ended)

    def may_object(self, vpn: str, expiry_s: float) -> bool:
        """Whether an alert or a drill may still speak against a VPN, for all that anybody can know."""
        return self.alert_said(vpn, expiry_s) or self.drill_said(vpn)

    def needed(self, vpn: str) -> None:
        """Nobody else carries: a drill on this VPN ends by itself, and need not speak against it any more."""
        if vpn in self.drills:
            self.drills[vpn] = self.drills[vpn][0], 0

    def drill_said(self, vpn: str) -> bool:
        """Whether a drill can be under way for Mayday."""
        return self._within(self.drills.get(vpn, (NEVER, 0))[0], SLACK_S)

    def _within(self, at: float, seconds: float) -> bool:
        """Whether that can be so short a time ago for Mayday: over a reboot the wall clock tells, right or wrong."""
        return at > NEVER and (self.clock.age() - at <= seconds or at < self.rebooted_at)

    def alert_said(self, vpn: str, expiry_s: float) -> bool:
        """Whether an alert about a VPN can be firing for Mayday."""
        return self._within(self.fired[vpn], expiry_s)

    def must_object(self, vpn: str, life: int, expiry_s: float) -> str | None:
        """The alert or drill that this life was told of and that must hold a VPN failed now, if there is one."""
        now = self.clock.age()
        for key, told in self.told.items():
            if told.vpn == vpn and told.firing and told.life == life and now - told.at < expiry_s:
                return f"alert {key}"
        until, of = self.drills.get(vpn, (NEVER, 0))
        return "a drill" if of == life and now < until else None


def _says(box: Box | None) -> str:
    if box is None or box.state is not ContainerState.RUNNING:
        return "bad"
    if box.frozen is not None:
        return "unclear"
    if box.health is ContainerHealth.UNHEALTHY:
        return "bad"
    return "unclear" if box.health is ContainerHealth.STARTING else "good"
