"""The source of time. Everything that needs the time is given a `Clock`."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from exporter.core.model import Moment


class Clock(Protocol):
    """The two clocks of a host."""

    def mono(self) -> float:
        """Monotonic seconds, for durations and deadlines."""

    def wall(self) -> datetime:
        """Aware UTC time, for what people read."""

    def now(self) -> Moment:
        """Both at one instant."""

    @property
    def boot(self) -> str:
        """The name of the monotonic clock's run: readings with the same name are comparable, across processes too."""


class SystemClock:
    """The clocks of this machine."""

    def __init__(self) -> None:
        try:
            self.boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            self.boot = f"process {os.getpid()} {time.time_ns()}"

    def mono(self) -> float:
        """Monotonic seconds; the same clock that an asyncio event loop runs on."""
        return time.monotonic()

    def wall(self) -> datetime:
        """The wall clock."""
        return datetime.now(UTC)

    def now(self) -> Moment:
        """Both at one instant."""
        return Moment(self.mono(), self.wall())
