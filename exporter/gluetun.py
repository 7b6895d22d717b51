"""Gluetun's control server: which port does the provider forward?"""

from __future__ import annotations

import json
import logging
from typing import Any

import aiohttp

log = logging.getLogger("mayday")

ROUTES = ("/v1/portforward", "/v1/openvpn/portforwarded")
"""From v3.41 on, and before it; an unknown route answers 401 or 404 (source of qdm12/gluetun, v3.39.1 to v3.41.1)."""
BODY_LIMIT = 4096


class GluetunApi:
    """Asks one question; no answer is an answer."""

    def __init__(self, session: aiohttp.ClientSession, port: int, api_key: str | None, timeout_s: float = 2.0) -> None:
        self._session = session
        self._port = port
        self._headers = {"X-API-Key": api_key} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._failing: set[str] = set()

    async def forwarded_port(self, address: str) -> int | None:
        """The port that the VPN at this address forwards; None: none, or nobody says."""
        for route in ROUTES:
            try:
                status, body = await self._get(f"http://{address}:{self._port}{route}")
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                self._note(address, f"{type(error).__name__}")
                return None
            if status == 200:
                self._failing.discard(address)
                return first_port(body)
            if status not in {401, 404}:
                self._note(address, f"HTTP {status}")
                return None
        self._note(address, "HTTP 401 or 404 on every known route; is GLUETUN_API_KEY right?")
        return None

    async def _get(self, url: str) -> tuple[int, bytes]:
        async with self._session.get(
            url, headers=self._headers, timeout=self._timeout, allow_redirects=False
        ) as answer:
            return answer.status, await answer.content.read(BODY_LIMIT)

    def _note(self, address: str, problem: str) -> None:
        if address not in self._failing:
            self._failing.add(address)
            log.info("the control server of the VPN at %s does not tell its forwarded port: %s", address, problem)


def first_port(body: bytes) -> int | None:
    """The first forwarded port in an answer: `ports` if it is a list with something in it, else `port` above 0."""
    try:
        value: Any = json.loads(body)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    ports = value.get("ports")
    port = ports[0] if isinstance(ports, list) and ports else value.get("port")
    return port if isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536 else None
