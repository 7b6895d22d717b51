"""From one life of Mayday to the next: takes over what an earlier one remembered, and holds while that one lives."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.controller import Controller
    from exporter.core.snapshot import Snapshot
    from exporter.journal.journal import Journal

LOOK_S = 10.0
"""How often the journal is looked at, seconds."""


class Lives:
    """Follows the journal: whether it is ours alone, what it remembers, what is wrong with it."""

    def __init__(self, controller: Controller, journal: Journal) -> None:
        self._controller = controller
        self._journal = journal
        self._problem: str | None = None
        self._counted = False

    async def begin(self) -> None:
        """Open the journal and take over what it remembers; whatever is wrong with it keeps nothing from beginning."""
        await self._journal.open()
        self._look()
        await self._take_over()
        self._controller.subscribe(self._first_reading)

    async def follow(self) -> None:
        """Follow the journal for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            held = not self._journal.exclusive
            if held or not self._journal.up:
                await self._journal.look()
            if held and self._journal.exclusive:
                await self._take_over()
            self._look()

    def _look(self) -> None:
        problem, controller = self._journal.problem, self._controller
        if problem == self._problem:
            return
        self._problem = problem
        if not self._journal.exclusive:
            controller.trouble("state_dir", None)
            controller.hold("journal", problem or "another Mayday uses STATE_DIR")
            return
        controller.trouble("state_dir", problem and f"The journal is kept in memory only: {problem}")
        controller.hold("journal", None)
        controller.evaluate()

    async def _take_over(self) -> None:
        """Go on from what was remembered last. What Docker shows is read after it, or was already, and wins."""
        document = await self._journal.load()
        if document is None:
            return
        recorder = self._controller.recorder
        try:
            self._controller.restore(document)
        except ValueError as error:
            recorder.lived("memory_unusable", f"{error}; going on from what Docker shows", logging.WARNING)
            return
        changes = "; ".join(self._controller.earlier.changes())
        if changes:
            recorder.lived("settings_changed", f"Settings have changed since the last run: {changes}", logging.WARNING)

    def _first_reading(self, snapshot: Snapshot) -> None:
        """Tell once of engines whose VPN is no longer configured."""
        if self._counted or not snapshot.ready:
            return
        self._counted = True
        for vpn, count in sorted(self._controller.facts.of_other_vpns().items()):
            message = f"{count} engines of VPN '{vpn}', which is not configured, were found; they are not managed"
            self._controller.recorder.lived("unmanaged_engines", message, logging.WARNING)
