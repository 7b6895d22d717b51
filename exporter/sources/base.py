"""What a source of signals is. Adding one touches its own file, the list in `controller`, and the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.core.model import Moment, Signal
    from exporter.journal.memory import Reading, Writing


class SignalSource(Protocol):
    """Says what it knows of each VPN, and until when that holds.

    Owned by the controller: it is changed and asked in the event loop only, and never waits.
    """

    key: str
    """The name of its part of the memory."""

    def signals(self, now: Moment) -> Iterable[Signal]:
        """All signals in force, of all VPNs; what has expired is forgotten."""

    def next_change(self, now: Moment) -> float | None:
        """When what it says next changes by time alone, monotonic seconds; None: it does not."""

    def remember(self, times: Writing) -> Any:
        """What must outlive a restart, as plain JSON values; None: nothing."""

    def restore(self, saved: Any, times: Reading) -> None:
        """Take over what an earlier run remembered.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it cannot be read.
        """
