"""The contract once more, as simply as it can be written: plain words and numbers, and nothing of `exporter`.

What the core decides is compared with what this model says. It knows phases, modes, signals, shares and relief, and
keeps no history.
"""

from __future__ import annotations

from dataclasses import dataclass, field

DOWN = {"missing", "exited", "paused", "restarting", "created", "removing", "dead"}
"""What a container may be besides running."""
LATE = 120.0
"""For so long after an end copies of its beginning are late ones, seconds."""
MISSING = 180.0
"""For so long an alert is missing from the list before it is over, seconds."""


@dataclass
class Incident:
    """The newest incident of one alert."""

    vpn: str
    starts: list[float]
    """Of every copy, as the sender's clock says."""
    last: float
    """Its latest start or, once it is over, its end if that is later: what starts after it is another incident."""
    firing: bool
    expires: float
    over_at: float = -1e9
    missing_since: float | None = None


@dataclass
class Vpn:
    """One VPN, as its container is and as it is judged."""

    phase: str = "unknown"
    deadline: float = 0.0
    container: str = "missing"
    """`missing`, another word of `DOWN`, or, when it runs, its health: none, starting, healthy, unhealthy."""
    start: int = 0
    """Number of its newest start."""
    healthy_start: int | None = None
    """Number of the start under which it was last seen healthy in this life of Mayday, None: it never was."""
    starting_since: float | None = None
    probe: float | None = None
    """Number of the newest health probe, None: nobody tells."""
    probe_seen_at: float = 0.0
    probe_seen: float | None = None


@dataclass
class Engine:
    """One engine, as far as it counts."""

    vpn: str
    port: int
    working: bool = True
    orphan: bool = False
    explicit: bool = False


@dataclass
class Reference:
    """The whole fleet."""

    names: list[str]
    minimum: int
    maximum: int
    capacity: str
    ports: dict[str, int]
    stabilization: float
    start_timeout: float
    expiry: float
    probe_period: float
    vpns: dict[str, Vpn] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)
    drills: dict[str, float] = field(default_factory=dict)
    engines: dict[str, Engine] = field(default_factory=dict)
    entered: float | None = None
    entries: int = 0
    relief: str | None = None

    def __post_init__(self) -> None:
        self.vpns = {name: Vpn() for name in self.names}

    # --- signals -----------------------------------------------------------------------------------------------------

    def alert(
        self,
        fingerprint: str,
        vpn: str,
        start: float,
        *,
        firing: bool,
        now: float,
        wall: float,
        end: float | None = None,
    ) -> None:
        """An alert is heard: what it says counts, but for a late copy, and for the late end of an older incident."""
        known = self.incidents.get(fingerprint)
        over = start if end is None else max(start, end)
        begins = min(start, wall)
        if firing:
            if known is not None and known.firing:
                known.starts.append(start)
                known.last = max(known.last, begins)
                known.expires, known.missing_since = now + self.expiry, None
            elif known is None or now - known.over_at >= LATE or start > known.last:
                self.incidents[fingerprint] = Incident(vpn, [start], begins, True, now + self.expiry)
            return
        if known is None:
            counts, last = True, over
        elif not known.firing:
            counts, last = start > known.last, max(known.last, over)
        else:
            counts, last = over >= known.last if end is not None else start >= min(known.starts), max(known.last, over)
        if counts:
            starts = [start] if known is None else [*known.starts, start]
            self.incidents[fingerprint] = Incident(vpn, starts, last, False, now + self.expiry, now)

    def listed(
        self, firing: dict[str, tuple[str, float]], silent: set[str], *, whole: bool, now: float, wall: float
    ) -> None:
        """Alertmanager lists all alerts: VPN and start of those that fire, and those that say nothing."""
        for fingerprint, (vpn, start) in firing.items():
            known = self.incidents.get(fingerprint)
            if known is not None and known.over_at >= now and start <= known.last:
                continue  # asked before it was over
            self.alert(fingerprint, vpn, start, firing=True, now=now, wall=wall)
        for fingerprint, known in self.incidents.items():
            if not known.firing or fingerprint in firing:
                continue
            if fingerprint in silent:
                known.expires, known.missing_since = now + self.expiry, None
            elif not whole:
                known.missing_since = None
            elif known.missing_since is None:
                known.missing_since = now
            elif now - known.missing_since >= MISSING:
                known.firing, known.over_at, known.expires = False, now, now + self.expiry

    def unanswered(self) -> None:
        """Alertmanager gives no answer."""
        for known in self.incidents.values():
            known.missing_since = None

    def verdict(self, name: str, now: float) -> str:
        """Unhealthy if any source says so; healthy if Docker says so and none objects; else unknown."""
        vpn = self.vpns[name]
        if self.drills.get(name, 0) > now:
            return "unhealthy"
        if any(i.vpn == name and i.firing and i.expires > now for i in self.incidents.values()):
            return "unhealthy"
        if vpn.container in DOWN:
            return "unhealthy"
        if vpn.container == "none":
            return "healthy"
        if vpn.probe is not None and now - vpn.probe_seen_at > 3 * self.probe_period:
            return "unknown"
        if vpn.container != "starting":
            return vpn.container
        if vpn.healthy_start not in {None, vpn.start}:
            return "unhealthy"
        waited = now - (now if vpn.starting_since is None else vpn.starting_since)
        return "unhealthy" if waited >= self.start_timeout else "unknown"

    def read(self, now: float) -> None:
        """Docker was read."""
        for vpn in self.vpns.values():
            if vpn.container in DOWN:
                vpn.starting_since = vpn.probe_seen = None
                continue
            if vpn.container in {"none", "healthy"}:
                vpn.healthy_start = vpn.start
            if vpn.container != "starting":
                vpn.starting_since = None
            elif vpn.starting_since is None:
                vpn.starting_since = now
            if vpn.probe is not None and vpn.probe != vpn.probe_seen:
                vpn.probe_seen, vpn.probe_seen_at = vpn.probe, now

    # --- phases and the mode -----------------------------------------------------------------------------------------

    def having(self, *phases: str) -> list[str]:
        """The VPNs in any of these phases."""
        return [name for name, vpn in self.vpns.items() if vpn.phase in phases]

    @property
    def mode(self) -> str:
        """The mode that these phases make."""
        failed = len(self.having("failed"))
        if failed == len(self.names):
            return "outage"
        return "emergency" if failed and self.having("healthy", "stabilizing") else "normal"

    def look(self, now: float) -> None:
        """One look at everything."""
        self.read(now)
        self.incidents = {key: i for key, i in self.incidents.items() if i.expires > now}
        self.drills = {name: end for name, end in self.drills.items() if end > now}
        before = self.mode
        for name, vpn in self.vpns.items():
            verdict = self.verdict(name, now)
            if verdict == "unhealthy":
                vpn.phase = "failed"
            elif verdict == "healthy" and vpn.phase == "failed":
                vpn.phase, vpn.deadline = "stabilizing", now + self.stabilization
            elif verdict == "healthy" and (
                vpn.phase == "unknown" or (vpn.phase == "stabilizing" and now >= vpn.deadline)
            ):
                vpn.phase = "healthy"
        if self.mode != before:
            self.entered = now if self.mode == "emergency" else None
            self.entries += self.mode == "emergency"
            self.relief = None
        self._choose_relief()

    def _choose_relief(self) -> None:
        """Reduced never means none: one healthy VPN is filled when no healthy one has a working engine left."""
        if self.mode != "emergency":
            return
        if self.relief is not None and self.vpns[self.relief].phase not in {"healthy", "stabilizing"}:
            self.relief = None
        healthy = self.having("healthy")
        works = any(e.vpn in healthy and e.working and not e.orphan for e in self.engines.values())
        if self.relief is None and healthy and not works:
            self.relief = healthy[0]

    # --- how many ----------------------------------------------------------------------------------------------------

    def shared(self, names: list[str]) -> dict[str, int]:
        """MIN_REPLICAS over these VPNs, the remainder to the first, as far as their ports go."""
        each, rest = divmod(self.minimum, len(names))
        return {name: min(each + (place < rest), self.ports[name]) for place, name in enumerate(names)}

    def wanted(self) -> dict[str, int]:
        """How many engines automatic provisioning keeps on each VPN."""
        if self.mode == "outage":
            return {}
        if self.mode == "normal":
            return self.shared(self.names)
        if self.capacity == "reduced":
            return {} if self.relief is None else {self.relief: self.shared(self.names)[self.relief]}
        if self.capacity == "share":
            return self.shared(self.names)
        return self.shared(self.having("healthy", "stabilizing"))

    def missing(self, pending: list[tuple[str, int, bool]]) -> dict[str, int]:
        """How many engines are to be created now, by VPN. `pending` are creations under way."""
        room = self.maximum - len(self.engines) - len(pending)
        result = {}
        for name, wanted in self.wanted().items():
            if self.vpns[name].phase != "healthy":
                continue
            counting = [
                e
                for e in self.engines.values()
                if e.vpn == name and not e.explicit and (name != self.relief or e.working or e.orphan)
            ]
            begun = [place for place in pending if place[0] == name]
            used = {e.port for e in self.engines.values() if e.vpn == name}
            free = self.ports[name] - len(used) - len(begun)
            count = min(wanted - len(counting) - len(begun), room, free)
            if count > 0:
                result[name] = count
                room -= count
        return result
