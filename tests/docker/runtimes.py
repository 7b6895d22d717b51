"""How the tests of the Docker runtime wait."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.runtime.base import ContainerEvent, EventStream

GENEROUS_S = 30.0
NOBODY = "0" * 64


async def first(stream: EventStream, wanted: Callable[[ContainerEvent], bool]) -> ContainerEvent:
    async def look() -> ContainerEvent:
        async for event in stream:
            if wanted(event):
                return event
        raise AssertionError("the stream ended")

    return await asyncio.wait_for(look(), GENEROUS_S)


async def drained(stream: EventStream) -> list[ContainerEvent]:
    """Everything up to the end of the stream."""
    return [event async for event in stream]


async def eventually(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    deadline = time.monotonic() + 2 * GENEROUS_S
    while time.monotonic() < deadline:
        value = await condition()
        if value:
            return value
        await asyncio.sleep(0.1)
    raise AssertionError(f"not in time: {what}")
