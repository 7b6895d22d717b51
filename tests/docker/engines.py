"""The versions of Docker Engine that the tests run on: the installed one, and those that scripts/engines.sh unpacks."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.lab import PrivateDockerd

UNPACKED = Path(__file__).parents[2] / ".engines"


@dataclass(frozen=True)
class Version:
    """One version of the engine."""

    suite: str
    """The Debian suite that it comes from; empty: the installed one."""

    def __str__(self) -> str:
        return self.suite or "installed"

    @property
    def programs(self) -> Path | None:
        """The folder of its programs."""
        return UNPACKED / self.suite / "bin" if self.suite else None


INSTALLED, TRIXIE, SID = Version(""), Version("trixie"), Version("sid")
VERSIONS = (INSTALLED, TRIXIE, *([SID] if os.environ.get("ENGINES") == "all" else []))
"""Debian 12 installs 20.10, trixie has 26.1; sid has the newest that Debian builds, and is tested on request."""
COMPOSE = UNPACKED / "trixie/bin/docker-compose"


class Daemons:
    """Daemons of several versions, started when first asked for, and kept."""

    def __init__(self, first_number: int) -> None:
        self._first_number = first_number
        self._running: dict[tuple[Version, bool], PrivateDockerd] = {}

    def get(self, version: Version, *, live_restore: bool = False) -> PrivateDockerd:
        """The daemon of that kind."""
        kind = (version, live_restore)
        if kind not in self._running:
            if version.programs is not None and not version.programs.is_dir():
                raise AssertionError(f"{version.programs} is not there; `scripts/engines.sh {version}` unpacks it")
            # A short path: the sockets in it have names of at most 107 characters.
            self._running[kind] = PrivateDockerd(
                Path(tempfile.mkdtemp(prefix="mayday-")),
                number=self._first_number + len(self._running),
                live_restore=live_restore,
                programs=version.programs,
            )
            self._running[kind].start()
        return self._running[kind]

    def destroy(self) -> None:
        """Stop them all."""
        for daemon in self._running.values():
            daemon.destroy()
