"""Notices what may let succeed what has failed: a VPN's phase or the mode changed, or Docker is back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.core.snapshot import Snapshot


class News:
    """Looks at every snapshot."""

    def __init__(self, hurry: Callable[[], None]) -> None:
        """`hurry` has what failed tried again at once."""
        self._hurry = hurry
        self._seen: object = None

    def look(self, snapshot: Snapshot) -> None:
        """Hurry if it is news."""
        seen = (snapshot.docker_up, snapshot.state.mode, [vpn.since for vpn in snapshot.state.vpns.values()])
        if seen != self._seen:
            self._seen = seen
            self._hurry()
