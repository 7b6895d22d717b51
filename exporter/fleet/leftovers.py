"""What creations left behind that should not have come about, and has to be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.core.model import Fleet


class Leftovers:
    """Containers to be undone, and names under which one may yet appear."""

    def __init__(self) -> None:
        self.containers: dict[str, str] = {}
        """Ids of containers whose creation failed half-way or was overtaken by a phase change, with their VPN."""
        self._unsure: dict[str, tuple[str, float]] = {}

    @property
    def names(self) -> frozenset[str]:
        """Names under which a container may yet appear."""
        return frozenset(self._unsure)

    @property
    def vpns(self) -> frozenset[str]:
        """VPNs on which something is to be undone."""
        return frozenset(self.containers.values())

    def expect(self, name: str, vpn: str, until: float) -> None:
        """A creation got no answer: until then (monotonic seconds) it counts as if the engine had been made."""
        self._unsure[name] = vpn, until

    def counted(self, now: float) -> Iterator[str]:
        """The VPNs of creations that got no answer and still count, once for each."""
        return (vpn for vpn, until in self._unsure.values() if until > now)

    def find(self, fleet: Fleet) -> None:
        """Mark containers that appeared under a name whose creation got no answer."""
        for engine in fleet.engines if self._unsure else ():
            if self._unsure.get(engine.name, ("",))[0] == engine.vpn:
                self.containers[engine.id] = engine.vpn
                del self._unsure[engine.name]
