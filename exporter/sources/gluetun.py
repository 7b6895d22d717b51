"""Gluetun's control server: which port does the provider forward?"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import aiohttp

from exporter.sources.http_errors import describe

log = logging.getLogger("mayday")

ROUTES = ("/v1/portforward", "/v1/openvpn/portforwarded")
"""From v3.41 on, and before it; an unknown route answers 401, from v3.41.2 on 404 or 405 (Gluetun's source)."""
BODY_LIMIT = 4096
REMEMBERED = 64
"""Addresses whose failure was told, at most: a VPN gets a new one whenever it is made anew."""


class GluetunApi:
    """Asks one question; no answer is an answer."""

    def __init__(self, session: aiohttp.ClientSession, port: int, api_key: str | None, timeout_s: float = 2.0) -> None:
        self._session = session
        self._port = port
        self._headers = {"X-API-Key": api_key} if api_key else {}
        self._timeout_s = timeout_s
        self._told: dict[str, None] = {}

    async def forwarded_port(self, address: str) -> int | None:
        """The port that the VPN at this address forwards, 0: none; None: it does not say. Takes `timeout_s` at most."""
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._ask(address)
            port = first_port(body)
        except _NoAnswerError as error:
            self._note(address, str(error))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._note(address, describe(error))
        else:
            self._told.pop(address, None)
            return port
        return None

    async def _ask(self, address: str) -> bytes:
        host = f"[{address}]" if ":" in address else address
        refused = []
        for route in ROUTES:
            status, body = await self._get(f"http://{host}:{self._port}{route}")
            if status == 200:
                return body
            refused.append(status)
            if status not in {401, 404, 405}:
                break
        if refused[0] == 401 and refused[-1] in {301, 308, 401}:
            # Up to v3.41.1 an unknown route answers 401 too, but there is no version in which both are unknown.
            raise _NoAnswerError("HTTP 401; GLUETUN_API_KEY must be the key of a role that has this route")
        raise _NoAnswerError("HTTP " + ", then ".join(map(str, refused)))

    async def _get(self, url: str) -> tuple[int, bytes]:
        async with self._session.get(
            url,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            allow_redirects=False,
            auto_decompress=False,  # a small body may unpack to a huge one; Gluetun sends none packed
        ) as answer:
            if answer.status != 200:
                return answer.status, b""
            body = b""
            while chunk := await answer.content.read(BODY_LIMIT + 1 - len(body)):
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise _NoAnswerError(f"the answer is longer than {BODY_LIMIT} bytes")
            return answer.status, body

    def _note(self, address: str, problem: str) -> None:
        if address in self._told:
            return
        if len(self._told) >= REMEMBERED:
            del self._told[next(iter(self._told))]
        self._told[address] = None
        log.info("the control server of the VPN at %s does not tell its forwarded port: %s", address, problem)


class _NoAnswerError(Exception):
    """There was an answer, but none to the question. The text is for the log."""


def first_port(body: bytes) -> int:
    """The first forwarded port in an answer, 0: none; `ports` if it is a list with something in it, else `port`.

    Raises:
        ValueError: the body is none of Gluetun's answers.
    """
    try:
        value: Any = json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict) or not ("port" in value or "ports" in value):
        raise ValueError("no answer about ports")
    ports = value.get("ports")
    port = ports[0] if isinstance(ports, list) and ports else value.get("port", 0)
    if type(port) is not int or not 0 <= port < 65536:
        raise ValueError("no port number")
    return port
