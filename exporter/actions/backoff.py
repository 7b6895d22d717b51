"""Pauses between tries of what fails: they double from a second to minutes, for each thing on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from exporter.clock import Clock

FIRST_S = 1.0
MOST_S = 300.0
REMEMBERED = 10_000
"""Things that are remembered at most; beyond it those that failed first are forgotten."""


def pause_s(failures: int) -> float:
    """The pause after so many failures in a row: 1 s, 2 s, 4 s, up to five minutes."""
    return min(MOST_S, FIRST_S * 2.0 ** min(failures - 1, 20))


class BackOff:
    """How often each thing has failed in a row, and when it may be tried again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[Hashable, tuple[int, float]] = {}

    def failures(self, key: Hashable) -> int:
        """How often it has failed since it last succeeded."""
        return self._failures.get(key, (0, 0.0))[0]

    def is_due(self, key: Hashable) -> bool:
        """Whether it may be tried now."""
        return self._clock.mono() >= self._failures.get(key, (0, 0.0))[1]

    def failed(self, key: Hashable) -> None:
        """It has failed once more."""
        failures = self.failures(key) + 1
        self._failures.pop(key, None)
        self._failures[key] = failures, self._clock.mono() + pause_s(failures)
        if len(self._failures) > REMEMBERED:
            del self._failures[next(iter(self._failures))]

    def succeeded(self, key: Hashable) -> None:
        """It has succeeded: a later failure is a first one."""
        self._failures.pop(key, None)

    def wait_s(self, keys: Iterable[Hashable]) -> float | None:
        """Seconds until the first of these is due; None: there are none."""
        now = self._clock.mono()
        return min((max(0.0, self._failures.get(key, (0, now))[1] - now) for key in keys), default=None)
