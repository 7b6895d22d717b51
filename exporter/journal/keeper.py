"""Keeps the memory: the state and what each source remembers, saved and taken over as one document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from exporter.journal.memory import from_document, to_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.clock import Clock
    from exporter.core.phases import FleetState
    from exporter.core.policy import Policy
    from exporter.journal.memory import Memories, Reading, Writing


class Remembers(Protocol):
    """A part that has something to remember."""

    key: str

    def remember(self, times: Writing) -> Any:
        """Plain JSON values; None: nothing."""

    def restore(self, saved: Any, times: Reading) -> None:
        """Take over what was remembered; an empty tuple: nothing was."""


class Keeper:
    """Saves to and restores from where memories are kept."""

    def __init__(self, memories: Memories, parts: Sequence[Remembers], policy: Policy, clock: Clock) -> None:
        self._memories = memories
        self._parts = parts
        self._policy = policy
        self._clock = clock
        self.same_boot = False
        """Whether what was taken over is of the present boot of the host."""

    @property
    def up(self) -> bool:
        """Whether the memory is kept as it should be."""
        return self._memories.up

    def save(self, state: FleetState, emergency_s: float) -> None:
        """Save everything as it is now; never blocks."""
        parts = {part.key: part.remember for part in self._parts}
        self._memories.save(to_document(state, emergency_s, parts, self._clock.now(), self._clock.boot))

    async def settle(self) -> None:
        """Wait until what was saved is written."""
        await self._memories.settle()

    def restore(self, document: Mapping[str, Any]) -> tuple[FleetState, float]:
        """State and seconds of emergencies of an earlier run; the parts have taken over theirs.

        Raises:
            ValueError: the document is unusable; nothing was taken over.
        """
        state, emergency_s, times = from_document(document, self._policy, self._clock.now(), self._clock.boot)
        self.same_boot = document["written"]["boot"] == self._clock.boot
        try:
            for part in self._parts:
                part.restore(document.get(part.key, ()), times)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            for part in self._parts:
                part.restore((), times)
            raise ValueError(f"the remembered state cannot be read: {error!r}") from error
        return state, emergency_s
