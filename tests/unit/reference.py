"""The contract once more, as simply as it can be written: plain words and numbers, and nothing of `exporter`.

What the core decides is compared with what this model says. It knows phases, modes, signals, doubt, shares, relief,
evacuation and whose an engine is, and keeps no history.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

RUNS = {"running", "restarting"}
"""States from which a container of others is parked: what its owner has paused stays paused."""
WRECKED = {"dead", "removing"}
"""States of an engine that can never run again."""
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
    failed_at: float = 0.0
    """When its present failure began."""
    container: str = "missing"
    """`missing`, another word of `DOWN`, or, when it runs, its health: none, starting, healthy, unhealthy."""
    start: int = 0
    """Number of its newest start."""
    healthy_start: int | None = None
    """Number of the start under which it was last seen healthy in this life of Mayday, None: it never was."""
    starting_since: float | None = None
    probe: float | None = None
    """Number of the newest health probe, None: nobody tells."""
    probe_wall: float = 0.0
    """When that was, on the wall clock."""
    probe_seen_at: float = 0.0
    probe_seen: float | None = None


@dataclass
class Engine:
    """One engine, as far as it counts."""

    vpn: str
    port: int
    state: str = "running"
    answers: bool = True
    orphan: str = ""
    """How it came to be without a network: restart, recreate, never_started, or empty."""
    explicit: bool = False
    own: bool = True
    label: str = ""
    """What its owner's label asks for when its VPN fails, empty: nothing."""
    owner_at_work: bool = False
    """Its owner made it during the failure, or took it back after it was parked."""

    @property
    def works(self) -> bool:
        """It runs, it has its network, and it was not seen failing."""
        return self.state == "running" and self.answers and self.orphan not in {"restart", "recreate"}

    @property
    def counts(self) -> bool:
        """Only own engines count towards a share, on top of which come those that were asked for; no wreck counts."""
        return self.own and not self.explicit and self.state not in WRECKED


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
    delay: float = 5.0
    others: str = "park"
    vpns: dict[str, Vpn] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)
    drills: dict[str, float] = field(default_factory=dict)
    suspicions: dict[str, float] = field(default_factory=dict)
    """Until when some source calls a VPN suspect."""
    doubtful: set[str] = field(default_factory=set)
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
        """Unhealthy if any source says so; else suspect if any does; else healthy if Docker says so; else unknown."""
        docker = self.docker(name, now)
        if docker == "unhealthy" or self.drills.get(name, 0) > now:
            return "unhealthy"
        if any(i.vpn == name and i.firing and i.expires > now for i in self.incidents.values()):
            return "unhealthy"
        return "suspect" if self.suspicions.get(name, 0) > now else docker

    def docker(self, name: str, now: float) -> str:
        """What Docker says of a VPN; unknown: nothing. State comes before health."""
        vpn = self.vpns[name]
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

    def needs_drilled(self, drilled: set[str], now: float) -> bool:
        """A drilled VPN is needed when none of those that are not drilled is known to be healthy."""
        return not any(self.verdict(name, now) == "healthy" for name in self.names if name not in drilled)

    def read(self, now: float, wall: float) -> None:
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
                first = vpn.probe_seen is None
                vpn.probe_seen, vpn.probe_seen_at = vpn.probe, now
                if first and wall - vpn.probe_wall > 3 * self.probe_period:
                    vpn.probe_seen_at = -math.inf  # it was frozen before anyone looked

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

    def look(self, now: float, wall: float) -> None:
        """One look at everything."""
        self.read(now, wall)
        self.incidents = {key: i for key, i in self.incidents.items() if i.expires > now}
        self.drills = {name: end for name, end in self.drills.items() if end > now}
        if self.drills and self.needs_drilled(set(self.drills), now):
            self.drills.clear()
        before = self.mode
        self.doubtful = {name for name in self.names if self.verdict(name, now) in {"suspect", "unknown"}}
        for name, vpn in self.vpns.items():
            verdict = self.verdict(name, now)
            if verdict == "unhealthy" and vpn.phase != "failed":
                vpn.phase, vpn.failed_at = "failed", now
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
        healthy = [name for name in self.having("healthy") if name not in self.doubtful] or self.having("healthy")
        works = any(e.vpn in healthy and e.works for e in self.engines.values())
        if self.relief is None and healthy and not works and self.minimum:
            self.relief = healthy[0]

    # --- safe removal ------------------------------------------------------------------------------------------------

    def carriers(self) -> list[str]:
        """VPNs in phase healthy, not in doubt, on which at least one engine works."""
        clear = [name for name in self.having("healthy") if name not in self.doubtful]
        return [name for name in clear if any(e.vpn == name and e.works for e in self.engines.values())]

    def to_remove(self, name: str) -> set[str]:
        """The own engines of a failed VPN, and what others want removed."""
        return {key for key, e in self.engines.items() if e.vpn == name and (e.own or e.label == "remove")}

    def to_stop(self, name: str) -> set[str]:
        """The others' engines of a failed VPN that are parked: as their label says, else as the setting does."""
        theirs = {key: e for key, e in self.engines.items() if e.vpn == name and not e.own and e.state in RUNS}
        return {key for key, e in theirs.items() if (e.label or self.others) == "park" and not e.owner_at_work}

    def evacuation(self, name: str, now: float) -> str | None:
        """Safe, or what it waits for: evidence, a carrier if an engine is wanted, the delay. None: nothing to do."""
        if self.mode != "emergency" or self.vpns[name].phase != "failed":
            return None
        if not self.to_remove(name) | self.to_stop(name):
            return None
        if self.minimum > 0 and not self.carriers():
            return "no_carrier"
        if name in self.doubtful:
            return "in_doubt"
        return "safe" if now - self.vpns[name].failed_at >= self.delay else "delay"

    def wrecks(self) -> set[str]:
        """Own engines that can never run again; in an outage nothing is removed."""
        if self.mode == "outage":
            return set()
        return {key for key, e in self.engines.items() if e.own and e.state in WRECKED}

    def to_repair(self) -> set[str]:
        """Orphans on VPNs in phase healthy that repair can help: of others' engines only those that run and need but a
        restart, since what others made is never removed."""
        found = set()
        for key, e in self.engines.items():
            if not e.orphan or self.vpns[e.vpn].phase != "healthy" or e.state == "removing":
                continue
            if e.orphan == "restart" and e.state == "dead":
                continue
            if e.own or (e.orphan == "restart" and e.state == "running"):
                found.add(key)
        return found

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
        wanted = {}
        if self.capacity == "share":
            wanted = self.shared(self.names)
        if self.capacity == "full":
            wanted = self.shared(self.having("healthy", "stabilizing"))
        if self.relief is not None:
            # A carrier has at least one engine.
            share = max(1, self.shared(self.names)[self.relief])
            wanted[self.relief] = max(share, wanted.get(self.relief, 0))
        return wanted

    def missing(self, pending: list[tuple[str, int, bool]]) -> dict[str, int]:
        """How many engines are to be created now, by VPN. `pending` are creations under way."""
        room = self.maximum - sum(e.own for e in self.engines.values()) - len(pending)
        result = {}
        for name, wanted in self.wanted().items():
            if self.vpns[name].phase != "healthy":
                continue
            counting = [
                e
                for e in self.engines.values()
                if e.vpn == name and e.counts and (name != self.relief or e.works or e.orphan)
            ]
            begun = [place for place in pending if place[0] == name]
            used = {e.port for e in self.engines.values() if e.vpn == name}
            free = self.ports[name] - len(used) - len(begun)
            count = min(wanted - len(counting) - len(begun), room, free)
            if count > 0:
                result[name] = count
                room -= count
        return result
