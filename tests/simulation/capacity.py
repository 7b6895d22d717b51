"""Working engine-seconds that Mayday cost, beyond what the faults did: for every engine that it took away, its ghost.

A ghost would work whenever the VPN whose namespace it was in has that namespace still, and a good tunnel. While it
would, and nothing that is stated in the contract (the stabilization, an accepted emergency, a Docker that does not
answer) explains why nobody works in its place, capacity is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.core.model import ContainerState
from tests.simulation.engines import Engines, own

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.runtime.simulated_host import Box

MOST_LOST_S = 120.0
"""How long one engine may be missing unexplained, seconds: rounds of the autoscaler, and back-offs."""


@dataclass
class Ghost:
    """An engine that served until Mayday took it away."""

    name: str
    vpn: str
    vpn_id: str
    namespace: int
    lost_s: float = 0.0


@dataclass
class Capacity:
    """What was taken, and what it cost."""

    engines: Engines
    ghosts: list[Ghost] = field(default_factory=list)
    stated_s: float = 0.0
    """Engine-seconds lost to delays that are stated."""
    lost_s: float = 0.0
    _looked_at: float = 0.0

    def taken(self, box: Box) -> None:
        """Mayday removes or stops an engine at this moment."""
        vpn = self.engines.home(box)
        if vpn is not None and self.engines.serves(box):
            self.ghosts.append(Ghost(box.name, vpn.name, vpn.id, box.namespace))

    def started(self, box: Box) -> None:
        """An engine was started: it stands for one that was taken from the same network."""
        match = next((ghost for ghost in self.ghosts if ghost.vpn_id == box.network), None)
        if match is not None:
            self.ghosts.remove(match)

    def look(self, now: float, stated: Callable[[str], bool], enough: Callable[[str], bool]) -> str | None:
        """Count until now; the claim that is false, if capacity was lost unexplained for too long."""
        passed_s, self._looked_at = now - self._looked_at, now
        boxes = self.engines.host.boxes
        self.ghosts = [
            ghost
            for ghost in self.ghosts
            if ghost.vpn_id in boxes and boxes[ghost.vpn_id].namespace == ghost.namespace and not enough(ghost.vpn)
        ]
        for ghost in self.ghosts:
            vpn = boxes[ghost.vpn_id]
            if not vpn.truth or vpn.state is not ContainerState.RUNNING:
                continue
            if stated(ghost.vpn):
                self.stated_s += passed_s
                continue
            self.lost_s += passed_s
            ghost.lost_s += passed_s
            if ghost.lost_s > MOST_LOST_S:
                return f"{ghost.name} would work on {ghost.vpn}, and for {ghost.lost_s:.0f} s nobody does in its place"
        return None

    def own_on(self, vpn: str) -> int:
        """How many engines of Mayday's own serve on a VPN."""
        engines = self.engines
        homes = {box.id for box in engines.host.boxes.values() if box.name == vpn}
        return sum(own(b) and b.network in homes and engines.serves(b) for b in engines.host.boxes.values())
