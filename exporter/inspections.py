"""Inspections of single containers, each failure being that container's own.

A container whose inspection hangs or is answered with an error says nothing of Docker or of any other container. It is
asked again with growing pauses, and shown until it answers.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.clock import Clock
    from exporter.core.model import Container
    from exporter.runtime.base import Runtime

log = logging.getLogger("mayday")

PAUSE_FIRST_S = 30.0
PAUSE_MOST_S = 300.0


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an inspection showed, asked for at `asked_at` (monotonic seconds); None: there is no such container."""

    ref: str
    container: Container | None
    asked_at: float


@dataclass(frozen=True, slots=True)
class _Failing:
    error: str
    pause_s: float
    until: float


class Inspections:
    """Asks for inspections, and knows which containers fail to be inspected."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock
        self._failing: dict[str, _Failing] = {}

    def __len__(self) -> int:
        """How many containers cannot be inspected."""
        return len(self._failing)

    @property
    def problem(self) -> str | None:
        """Which containers cannot be inspected, for people; None: all can."""
        if not self._failing:
            return None
        named = "; ".join(f"'{ref[:64]}': {failing.error[:200]}" for ref, failing in sorted(self._failing.items())[:5])
        more = f", and {len(self._failing) - 5} more" if len(self._failing) > 5 else ""
        return f"Docker does not tell about {len(self._failing)} containers (docker inspect fails): {named}{more}"

    def failing(self, ref: str) -> bool:
        """Whether the newest inspection of a container failed."""
        return ref in self._failing

    def due(self, refs: Iterable[str]) -> list[str]:
        """Those that may be asked now: all but those that failed a short while ago."""
        now = self._clock.mono()
        return [ref for ref in refs if ref not in self._failing or self._failing[ref].until <= now]

    def keep(self, refs: Iterable[str]) -> None:
        """Forget failures of all other containers: they are gone."""
        wanted = set(refs)
        self._failing = {ref: failing for ref, failing in self._failing.items() if ref in wanted}

    async def ask(self, refs: Iterable[str]) -> list[Inspection]:
        """The inspections that were answered; of the others `failing` tells."""
        found = await asyncio.gather(*(self._ask(ref) for ref in refs))
        return [inspection for inspection in found if inspection is not None]

    async def _ask(self, ref: str) -> Inspection | None:
        asked_at = self._clock.mono()
        try:
            container = await self._runtime.inspect(ref)
        except RuntimeFailure as error:
            known = self._failing.get(ref)
            if known is None:
                log.warning("container '%s' cannot be inspected, nothing is concluded about it: %s", ref[:64], error)
            pause_s = PAUSE_FIRST_S if known is None else min(2 * known.pause_s, PAUSE_MOST_S)
            self._failing[ref] = _Failing(str(error), pause_s, self._clock.mono() + pause_s)
            return None
        if self._failing.pop(ref, None) is not None:
            log.info("container '%s' can be inspected again", ref[:64])
        return Inspection(ref, container, asked_at)
