"""An event loop whose time stands still while anything can be done, and jumps to the next timer when nothing can."""

from __future__ import annotations

import asyncio
import selectors
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from exporter.core.model import Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

START = datetime(2025, 11, 7, 22, 0, 0, tzinfo=UTC)


class StuckError(Exception):
    """Nothing is ready and nothing is due: the program would wait for ever."""


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise StuckError
            self.now += max(0.0, timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time. Threads have no virtual time, so there are none here."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual.now

    def run_in_executor(self, *_args: Any) -> Any:  # type: ignore[override]  # it takes anything, and refuses it
        """Refused."""
        raise AssertionError("a thread was asked for in virtual time")


class VirtualClock:
    """The clocks of a virtual host; the wall clock can be set, and a reboot begins the monotonic one anew."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.offset = timedelta(0)
        self._boots = 1
        self._booted_at = 0.0

    @property
    def boot(self) -> str:
        """Another word after each reboot."""
        return f"virtual {self._boots}"

    def age(self) -> float:
        """True seconds since the beginning, whatever happened to both clocks."""
        return self._loop.time()

    def mono(self) -> float:
        """The loop's time since the last boot."""
        return self._loop.time() - self._booted_at

    def wall(self) -> datetime:
        """The wall clock, as far as it was jumped."""
        return START + timedelta(seconds=self._loop.time()) + self.offset

    def now(self) -> Moment:
        """Both."""
        return Moment(self.mono(), self.wall())

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self.offset += timedelta(seconds=seconds)

    def reboot(self) -> None:
        """Begin the monotonic clock anew, as a reboot of the host does."""
        self._boots += 1
        self._booted_at = self._loop.time()


def run_virtual(main: Callable[[VirtualClock], Coroutine[Any, Any, T]]) -> T:
    """Run something in virtual time."""
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(main(VirtualClock(loop)))
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()
