"""Bounded waits: a test that waits for ever tells nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


async def until(condition: Callable[[], object], within_s: float = 30.0, every_s: float = 0.01) -> None:
    """Wait until something is so, and fail when it is not so in time (the loop's time)."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(every_s)
