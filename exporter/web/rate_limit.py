"""The rate limit of the web configuration file: a token bucket."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.settings.web_config import RateLimit


class TokenBucket:
    """Tokens for requests: a burst at once, then one for each interval."""

    def __init__(self, limit: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._tokens = float(limit.burst)
        self._filled_at = clock()

    def wait_s(self) -> float:
        """Take a token; returns 0, or, when there is none, the seconds until there is one again."""
        now = self._clock()
        self._tokens = min(self._limit.burst, self._tokens + (now - self._filled_at) / self._limit.interval_s)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) * self._limit.interval_s
        self._tokens -= 1
        return 0.0
