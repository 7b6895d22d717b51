"""The web configuration file in use: read at start, and again whenever it or one of its certificates changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exporter.settings.web_config import WebConfig, WebConfigError, load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LOOK_S = 2.0
"""How often the files are checked for a change, seconds."""


class ConfigFile:
    """Reads WEB_CONFIG_FILE, and notices its changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: tuple[Path, ...] = (path,)
        self._seen: tuple[object, ...] = ()

    async def read(self) -> WebConfig:
        """Read the file and the certificates that it names.

        Raises:
            WebConfigError: it cannot be used.
        """
        config = await asyncio.to_thread(load, self._path)
        self._files = config.files
        self._seen = await asyncio.to_thread(_fingerprint, self._files)
        return config

    async def changes(self) -> AsyncIterator[WebConfig | WebConfigError]:
        """Watch the files for ever; for each change yield the new configuration, or why it cannot be used."""
        while True:
            await asyncio.sleep(LOOK_S)
            state = await asyncio.to_thread(_fingerprint, self._files)
            if state == self._seen:
                continue
            self._seen = state
            try:
                config = await self.read()
            except WebConfigError as error:
                yield error
            else:
                yield config


def _fingerprint(files: tuple[Path, ...]) -> tuple[object, ...]:
    """A value that changes when one of the files does."""
    found: list[object] = []
    for path in files:
        try:
            stat = path.stat()
        except OSError as error:
            found.append((path, type(error).__name__))
        else:
            found.append((path, stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)
