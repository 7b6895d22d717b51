"""What is so of the engines on the simulated host: whose they are, which of them serve, and when each last did.

An engine works if its process runs, in the present namespace of its VPN, whose tunnel is good. Nothing of the program
is asked.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.core.model import ContainerState

if TYPE_CHECKING:
    from exporter.runtime.simulated_host import Box, SimulatedHost

MANAGED = "orchestrator.managed"
MADE = "mayday.made"
ON_FAILURE = "mayday.on-failure"
NEVER = -1e9


def own(box: Box) -> bool:
    """Whether Mayday made it."""
    return MADE in box.labels


@dataclass
class Engines:
    """Watches all engines. Times are true seconds since the beginning."""

    host: SimulatedHost
    served_at: dict[str, float] = field(default_factory=lambda: defaultdict(lambda: NEVER))
    """When one last served for all that it takes but its VPN's tunnel."""
    idle_at: dict[str, float] = field(default_factory=lambda: defaultdict(lambda: NEVER))
    """When one last did not."""

    def look(self, now: float) -> None:
        """Note who serves now."""
        for key, box in self.host.boxes.items():
            if MANAGED in box.labels:
                (self.served_at if self.serves(box) else self.idle_at)[key] = now

    def home(self, box: Box) -> Box | None:
        """The container whose network it shares, if that is there."""
        return self.host.boxes.get(box.network or "")

    def serves(self, box: Box) -> bool:
        """Whether it would serve if its VPN's tunnel is good: its process runs well, in a network that is there."""
        vpn = self.home(box)
        if vpn is None or box.broken or box.crashes or not box.truth:
            return False
        running = box.state is ContainerState.RUNNING is vpn.state
        return running and vpn.namespace == box.namespace

    def works(self, box: Box) -> bool:
        """Whether it works."""
        vpn = self.home(box)
        return vpn is not None and vpn.truth and self.serves(box)

    def served_lately(self, box: Box, now: float, grace_s: float) -> bool:
        """Whether it serves, or did so short a time ago that nobody can know better."""
        return self.serves(box) or now - self.served_at[box.id] <= grace_s

    def hopeless(self, box: Box) -> bool:
        """Whether Docker cannot get rid of it, or tells nothing of it."""
        return bool(box.troubles) or box.state in {ContainerState.REMOVING, ContainerState.DEAD}
