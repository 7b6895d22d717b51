"""Asks an engine's own HTTP API whether it works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import aiohttp

if TYPE_CHECKING:
    from exporter.core.model import Engine

BODY_LIMIT = 64 * 1024


class EngineProbe(Protocol):
    """Asks one engine whether it works."""

    async def __call__(self, engine: Engine, address: str, /) -> bool:
        """True if it does; never raises. `address` is where its VPN is reached."""


class HttpEngineProbe:
    """Asks over HTTP, as AceStream engines answer: `/webui/api/service?method=get_version` has a `result`."""

    def __init__(self, session: aiohttp.ClientSession, timeout_s: float) -> None:
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def __call__(self, engine: Engine, address: str) -> bool:
        """True when the engine answers 200 with a JSON object that has a result."""
        url = f"http://{address}:{engine.port}/webui/api/service?method=get_version"
        try:
            async with self._session.get(url, timeout=self._timeout, allow_redirects=False) as response:
                body = await response.content.read(BODY_LIMIT)
                return response.status == 200 and b'"result"' in body
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return False
