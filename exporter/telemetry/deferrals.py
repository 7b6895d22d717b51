"""Tells the log when the evacuation of a failed VPN waits, why, and when it begins.

The lines at the entry of an emergency say what is to be removed; when that waits, one more says so.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from exporter.core.evacuation import Evacuation
from exporter.core.model import Mode, Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.core.snapshot import Snapshot

log = logging.getLogger("mayday")


class Deferrals:
    """What was told in the present emergency; `acting` says whether containers may be touched at all."""

    def __init__(self, delay_s: float, acting: Callable[[], bool]) -> None:
        self._acting = acting
        self._why = {
            Evacuation.DELAY: f"until the failure has lasted {delay_s:g} s (EVACUATION_DELAY_S)",
            Evacuation.DOUBT: "until a source says again that the VPN is unhealthy",
            Evacuation.NO_CARRIER: "until another VPN that is healthy has an engine that works",
        }
        self._told: dict[str, set[Evacuation]] = {}
        """By VPN, the reasons that were told in this emergency."""
        self._waiting: set[str] = set()

    def watch(self, snapshot: Snapshot) -> None:
        """Tell what is new; a subscriber of the controller's."""
        if snapshot.state.mode is not Mode.EMERGENCY:
            self._told.clear()
            self._waiting.clear()
            return
        if not (snapshot.ready and self._acting()):
            return
        for vpn, why in snapshot.deferred.items():
            self._waiting.add(vpn)
            told = self._told.setdefault(vpn, set())
            if why not in told:
                told.add(why)
                log.warning("Evacuation of VPN '%s' waits %s; its engines are out of service", vpn, self._why[why])
        for vpn in sorted(self._waiting - snapshot.deferred.keys()):
            self._waiting.discard(vpn)
            left = len(snapshot.fleet.on(vpn))
            if left and snapshot.state.vpns[vpn].phase is Phase.FAILED:
                log.warning("Evacuation of VPN '%s' begins: it has %d engines", vpn, left)
