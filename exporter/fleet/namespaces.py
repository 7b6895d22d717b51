"""Which network namespace each engine joined: it decides whether an engine lost its network when its VPN started again.

Docker does not say it. What is known comes from starts of our own and from start times; a restart of an engine, told or
not, makes it unknown again. Before an engine is called an orphan it is looked at, once its VPN's new start is known: it
may have been restarted too, by a daemon that came back, and to restart it once more would cut it off for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.core.dependents import Namespace, namespace_of
from exporter.core.model import ContainerState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.core.model import Container, Moment

CLOCK_SLACK_S = 5.0
"""How far Docker's clock and ours may differ, seconds."""

FIRST_START_S = 10.0
"""How long after its creation an engine is started, at most, as a rule, seconds."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The namespace that an engine joined, and the start by which it did."""

    namespace: Namespace
    started_at: float | None = None
    """Docker's time of that start, Unix seconds; None: not read yet."""
    between: tuple[float, float] | None = None
    """Where its time is not read yet: from when to when our own call of it lasted, or the first moments of its life."""

    guess: bool = False
    """Whether it is taken from the time of the creation, which a second start soon after it looks like."""

    def began_with(self, started_at: float) -> bool:
        """Whether a start that Docker shows is that start; where nothing tells, it is taken for another."""
        if self.started_at is not None:
            return self.started_at == started_at
        if self.between is None:
            return False
        return self.between[0] - CLOCK_SLACK_S <= started_at <= self.between[1] + CLOCK_SLACK_S


class Namespaces:
    """What is known of every engine's namespace, by container id."""

    def __init__(self) -> None:
        self._joined: dict[str, Joined] = {}
        self._looked: dict[str, Namespace] = {}
        """The namespace that an engine's VPN was known to have when the engine was last inspected."""
        self._present: dict[str, tuple[Namespace, float]] = {}
        """By the names and ids of VPN containers: their namespace, and since when it is known, monotonic seconds."""

    # --- what was read -----------------------------------------------------------------------------------------------

    def vpns_read(self, vpns: Iterable[Container | None], mono: float) -> None:
        """The VPN containers, as they are known now."""
        before, self._present = self._present, {}
        for vpn in vpns:
            namespace = namespace_of(vpn)
            if vpn is None or namespace is None:
                continue
            known = before.get(vpn.id)
            entry = known if known is not None and known[0] == namespace else (namespace, mono)
            self._present[vpn.id] = self._present[vpn.name] = entry

    def inspected(self, engine: Container, asked_at: float) -> None:
        """An inspection of an engine, asked for at that monotonic time."""
        present = self._present.get(engine.network or "")
        if present is None or asked_at < present[1]:
            return
        self._looked[engine.id] = present[0]
        joined = self._joined.get(engine.id)
        if joined is None or engine.started_at is None:
            return
        if joined.namespace == present[0]:
            # It may have been started since, but into the same namespace; and now its time is known.
            self._joined[engine.id] = Joined(present[0], engine.started_at)
        elif not joined.began_with(engine.started_at):
            del self._joined[engine.id]

    def note(self, engine: Container, vpn: Container | None) -> None:
        """A running engine that is no orphan: if its times say so, it is in the namespace that its VPN has now."""
        namespace = namespace_of(vpn)
        if namespace is None or engine.id in self._joined or engine.state is not ContainerState.RUNNING:
            return
        started = engine.started_at
        if engine.created_at > namespace[1] or (started is not None and started >= namespace[1]):
            first = (engine.created_at, engine.created_at + FIRST_START_S) if started is None else None
            self._joined[engine.id] = Joined(namespace, started, first, guess=started is None)

    def restarted(self, container_id: str) -> None:
        """A reading shows another start than the one that was known."""
        self._joined.pop(container_id, None)

    # --- starts ------------------------------------------------------------------------------------------------------

    def started(self, container_id: str, joined: Namespace | None, now: Moment, began: float) -> None:
        """We started an engine, with a call made at `began` (Unix seconds); `joined` is the namespace it joined.

        None: its VPN was started meanwhile, and which of the two it is cannot be told.
        """
        self._joined.pop(container_id, None)
        if joined is not None:
            self._joined[container_id] = Joined(joined, between=(began, now.wall.timestamp()))

    def guessed(self, container_id: str) -> bool:
        """Whether only times on Docker's clock tell the engine's namespace.

        A clock that was set back puts them out of order, and a start whose own time was never read may be another one,
        made a moment later by a daemon that came back.
        """
        joined = self._joined.get(container_id)
        return joined is None or joined.guess or joined.started_at is None

    def answered(self, engine: Container) -> None:
        """An engine answered at its VPN's address: it is in the present namespace, whatever the times say."""
        present = self._present.get(engine.network or "")
        if present is not None:
            self._joined[engine.id] = Joined(present[0], engine.started_at)

    def forget(self, container_id: str) -> None:
        """The container is gone, or was started by others: what was known of its namespace holds no more."""
        self._joined.pop(container_id, None)
        self._looked.pop(container_id, None)

    # --- what follows ------------------------------------------------------------------------------------------------

    def of(self, engine: Container) -> Namespace | None:
        """The namespace that an engine joined, None where its times have to tell; the present one while in doubt."""
        present = self._present.get(engine.network or "")
        joined = self._joined.get(engine.id)
        if present is not None and self._suspect(engine, joined, present[0]):
            return present[0]
        return None if joined is None else joined.namespace

    def to_inspect(self, engine: Container, vpn: Container | None) -> bool:
        """Whether only an inspection can tell if the engine is an orphan."""
        if vpn is None or vpn.state is not ContainerState.RUNNING or engine.network not in {vpn.id, vpn.name}:
            return False
        if engine.state in {ContainerState.CREATED, ContainerState.REMOVING}:
            return False
        joined = self._joined.get(engine.id)
        if vpn.started_at is None:
            return joined is None and engine.started_at is None
        return self._suspect(engine, joined, (vpn.id, vpn.started_at))

    def _suspect(self, engine: Container, joined: Joined | None, present: Namespace) -> bool:
        if joined is not None and joined.namespace == present:
            return False
        if joined is None and engine.created_at > present[1]:
            return False
        if self._looked.get(engine.id) != present:
            return joined is not None or engine.started_at is None or engine.started_at < present[1]
        return joined is None and engine.started_at is None
