"""What is told again and again: counted each time, told the first time and then each time its number has doubled."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable
    from datetime import datetime

    from exporter.core.model import Moment

QUIET_S = 3600.0
"""What has not happened for so long is told as new, seconds. Longer than the longest pause between two tries."""
REMEMBERED = 1000
"""Things that are counted at most; beyond it the one that is longest ago is forgotten."""
_NUMBERS = re.compile(r"[0-9a-f]{12,}|\d+")


def alike(text: str) -> str:
    """The text without ids and numbers, which differ from one time to the next."""
    return _NUMBERS.sub("#", text)


@dataclass(frozen=True, slots=True)
class Repeat:
    """The n-th time that something happened."""

    count: int
    since: datetime
    """When it happened first."""
    last: float
    """When it happened last, monotonic seconds."""

    @property
    def told(self) -> bool:
        """Whether it is to be told: the 1st, 2nd, 4th, 8th … time."""
        return self.count & (self.count - 1) == 0

    @property
    def suffix(self) -> str:
        """What a message says of it."""
        return f" ({self.count} times since {self.since:%Y-%m-%d %H:%M:%S})" if self.count > 1 else ""

    @property
    def details(self) -> dict[str, object]:
        """What a record says of it."""
        return {"count": self.count, "since": self.since.isoformat()} if self.count > 1 else {}


class Repeats:
    """Counts what is alike."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Repeat] = {}

    def note(self, key: Hashable, now: Moment) -> Repeat:
        """It has happened once more."""
        known = self._known.pop(key, None)
        if known is None or now.mono - known.last > QUIET_S:
            known = Repeat(0, now.wall, now.mono)
        repeat = self._known[key] = Repeat(known.count + 1, known.since, now.mono)
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return repeat
