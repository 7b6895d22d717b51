"""From what the sources say to one verdict per VPN.

The rule that combines the sources is `combine`, and stands nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exporter.core.model import Container, ContainerHealth, ContainerState, Moment, Reason, Signal, Source, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

FROZEN_AFTER_PERIODS = 3
"""A health whose newest probe stayed the same for this many probe periods is frozen: Docker no longer probes."""

_STATE_REASONS = {ContainerState.PAUSED: Reason.DOCKER_PAUSED, ContainerState.RESTARTING: Reason.DOCKER_RESTARTING}


@dataclass(frozen=True, slots=True)
class Sighting:
    """What must be remembered of one VPN container between two readings to judge it."""

    healthy_run: tuple[str, float | None] | None = None
    """Container id and start (Unix seconds by Docker's clock, None: not read) of the run that was last seen healthy in
    this life of Mayday; None: none was."""
    starting_since: float | None = None
    """Monotonic seconds since which its health is `starting`."""
    probed_at: float | None = None
    probe_new_at: float = 0.0
    """Monotonic seconds at which `probed_at` was first seen."""
    frozen: bool = False


def observe(sighting: Sighting, container: Container | None, now: Moment) -> Sighting:
    """The sighting after one more reading."""
    if container is None or container.state is not ContainerState.RUNNING:
        return replace(sighting, starting_since=None, probed_at=None, frozen=False)
    starting_since = None
    if container.health is ContainerHealth.STARTING:
        starting_since = now.mono if sighting.starting_since is None else sighting.starting_since
    updated = replace(sighting, starting_since=starting_since)
    if container.health in {ContainerHealth.HEALTHY, ContainerHealth.NONE}:
        updated = replace(updated, healthy_run=_run(container, sighting.healthy_run))
    if container.probed_at is None or container.probe_period_s is None:
        return updated
    most_s = FROZEN_AFTER_PERIODS * container.probe_period_s
    if container.probed_at != sighting.probed_at:
        # At the first look only Docker's clock tells how old it is; where that is wrong, the next probe shows it.
        first = sighting.probed_at is None
        frozen = first and now.wall.timestamp() - container.probed_at > most_s
        return replace(updated, probed_at=container.probed_at, probe_new_at=now.mono, frozen=frozen)
    return replace(updated, frozen=sighting.frozen or now.mono - sighting.probe_new_at > most_s)


def _run(container: Container, known: tuple[str, float | None] | None) -> tuple[str, float | None]:
    """The run that a container shows; a start that was not read is taken from what is known of the same container."""
    if container.started_at is None and known is not None and known[0] == container.id:
        return known
    return container.id, container.started_at


def started_anew(sighting: Sighting, container: Container) -> bool:
    """Whether a container has been started since it was last seen healthy in this life of Mayday.

    A daemon of version 25 or later that comes back with live-restore sets running containers to `starting` without
    starting them (moby PR 47051): their start time is unchanged.
    """
    if sighting.healthy_run is None:
        return False
    known_id, known_start = sighting.healthy_run
    if container.id != known_id:
        return True
    return None not in {container.started_at, known_start} and container.started_at != known_start


def docker_signal(
    vpn: str, container: Container | None, sighting: Sighting, start_timeout_s: float, now: Moment
) -> Signal | None:
    """What Docker says of a VPN, None when it says nothing. State comes before health."""

    def says(verdict: Verdict, reason: Reason, detail: str) -> Signal:
        return Signal(vpn, Source.DOCKER, verdict, reason, detail, now)

    if container is None:
        return says(Verdict.UNHEALTHY, Reason.DOCKER_MISSING, "the container does not exist")
    if container.state is not ContainerState.RUNNING:
        reason = _STATE_REASONS.get(container.state, Reason.DOCKER_EXITED)
        return says(Verdict.UNHEALTHY, reason, f"the container is {container.state}")
    if container.health is ContainerHealth.NONE:
        return says(Verdict.HEALTHY, Reason.DOCKER_HEALTHY, "running, without a health check")
    if sighting.frozen:
        return None
    if container.health is ContainerHealth.HEALTHY:
        return says(Verdict.HEALTHY, Reason.DOCKER_HEALTHY, "running, its health check passes")
    if container.health is ContainerHealth.UNHEALTHY:
        return says(Verdict.UNHEALTHY, Reason.DOCKER_UNHEALTHY, "its health check fails")
    if started_anew(sighting, container):
        return says(Verdict.UNHEALTHY, Reason.DOCKER_STARTING, "it was healthy before and has been started anew")
    if sighting.starting_since is not None and now.mono - sighting.starting_since >= start_timeout_s:
        return says(
            Verdict.UNHEALTHY, Reason.DOCKER_START_TIMEOUT, f"not healthy {start_timeout_s:g} s after its start"
        )
    return None


_ORDER = {source: index for index, source in enumerate(Source)}


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one VPN, with the signals that are in force and the one that decided."""

    verdict: Verdict = Verdict.UNKNOWN
    deciding: Signal | None = None
    signals: tuple[Signal, ...] = ()


def combine(signals: Iterable[Signal], now: Moment) -> Judgement:
    """One verdict from all signals about one VPN.

    Unhealthy if any source says so; else suspect if any says so; else healthy if Docker says healthy; else unknown.
    Where several say the same, the first of `Source` is named as the reason, and of its signals the oldest.
    """
    live = tuple(
        sorted(
            (s for s in signals if s.expires is None or s.expires > now.mono),
            key=lambda s: (_ORDER[s.source], s.since.mono, s.detail),
        )
    )
    for wanted in (Verdict.UNHEALTHY, Verdict.SUSPECT):
        for signal in live:
            if signal.verdict is wanted:
                return Judgement(wanted, signal, live)
    for signal in live:
        if signal.source is Source.DOCKER and signal.verdict is Verdict.HEALTHY:
            return Judgement(Verdict.HEALTHY, signal, live)
    return Judgement(Verdict.UNKNOWN, None, live)
