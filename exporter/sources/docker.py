"""What Docker shows of the VPN containers, as signals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from exporter.core.model import ContainerState, Reason, Signal, Source, Verdict
from exporter.core.verdict import Sighting, docker_signal, observe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.core.model import Container, Moment
    from exporter.journal.memory import Reading, Writing
STOPPING_S = 15.0
"""How long a VPN that was told to stop and still runs is suspect, seconds: Docker's default grace of 10, and some."""


class DockerSource:
    """One sighting of each VPN container, renewed by every reading."""

    key = "docker"

    def __init__(self, vpns: Iterable[str], start_timeout_s: float) -> None:
        self._start_timeout_s = start_timeout_s
        self._containers: dict[str, Container | None] = {}
        self._sightings = dict.fromkeys(vpns, Sighting())
        self._said: dict[str, Signal] = {}
        self._stopping: dict[str, Signal] = {}
        self._stopping_run: dict[str, float | None] = {}
        """By VPN, the start (Unix seconds by Docker's clock, None: not read) of the run that was told to stop."""
        self._unreadable: set[str] = set()
        """VPNs whose inspection failed: of them only that they do not run is known, from a list."""

    def read(
        self, vpns: Mapping[str, Container | None], now: Moment, readable: Iterable[str], unreadable: Iterable[str] = ()
    ) -> None:
        """Take these VPN containers as they were read just now; None: there is no such container.

        `readable` were inspected, the inspection of `unreadable` failed; of others that is as it was.
        """
        self._unreadable = (self._unreadable - set(readable)) | set(unreadable)
        for name, container in vpns.items():
            self._containers[name] = container
            if name in self._stopping and self._has_stopped(name, container):
                del self._stopping[name]
            self._sightings[name] = observe(self._sightings[name], container, now)

    def told_to_stop(self, vpn: str, now: Moment) -> None:
        """An event tells that a VPN was sent a signal that ends it: before it dies nothing else must count on it."""
        detail = "the container was told to stop"
        container = self._containers.get(vpn)
        self._stopping_run[vpn] = None if container is None else container.started_at
        self._stopping[vpn] = Signal(
            vpn, Source.DOCKER, Verdict.SUSPECT, Reason.DOCKER_STOPPING, detail, now, now.mono + STOPPING_S
        )

    def _has_stopped(self, vpn: str, container: Container | None) -> bool:
        """Whether a VPN that was told to stop has done so, and been started anew meanwhile or not."""
        if container is None or container.state is not ContainerState.RUNNING:
            return True
        return None not in {container.started_at, self._stopping_run[vpn]} and (
            container.started_at != self._stopping_run[vpn]
        )

    def signals(self, now: Moment) -> list[Signal]:
        """What the newest reading says of each VPN, and which are about to stop."""
        said = {}
        for name, container in self._containers.items():
            running = container is not None and container.state is ContainerState.RUNNING
            if running and name in self._unreadable:
                continue
            signal = docker_signal(name, container, self._sightings[name], self._start_timeout_s, now)
            if signal is None:
                continue
            known = self._said.get(name)
            if known is not None and (known.verdict, known.reason) == (signal.verdict, signal.reason):
                signal = replace(signal, since=known.since)
            said[name] = signal
        self._said = said
        self._stopping = {vpn: s for vpn, s in self._stopping.items() if (s.expires or 0.0) > now.mono}
        return [*said.values(), *self._stopping.values()]

    def next_change(self, now: Moment) -> float | None:
        """When a VPN that is starting has had its time."""
        ends = [
            sighting.starting_since + self._start_timeout_s
            for sighting in self._sightings.values()
            if sighting.starting_since is not None
        ]
        ends += [signal.expires for signal in self._stopping.values() if signal.expires is not None]
        return min((end for end in ends if end > now.mono), default=None)

    def remember(self, _times: Writing) -> Any:
        """Nothing: what Docker shows is read anew."""
        return None

    def restore(self, saved: Any, times: Reading) -> None:
        """Nothing was remembered."""
