"""The users of the web configuration file: basic authentication with bcrypt, which is slow on purpose."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

KNOWN_LIMIT = 100
"""Successes remembered; a user's scraper comes with the same password every time."""
CHECKS_AT_ONCE = 2
CHECKS_WAITING = 20
"""More than so many checks under way are refused: whoever floods the door with passwords must not use up the host."""


class Users:
    """Whether a request comes from one of the users."""

    def __init__(self, hashes: Mapping[str, bytes]) -> None:
        self._hashes = hashes
        # Checked for names that nobody has, so that the time of a refusal does not tell which names exist.
        self._slowest = max(hashes.values(), key=lambda hashed: hashed[4:6], default=b"")
        self._pepper = secrets.token_bytes(32)
        self._known: dict[bytes, None] = {}
        self._gate = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._waiting = 0

    async def admit(self, request: web.Request) -> bool:
        """Whether name and password of the request's basic authentication are those of a user."""
        name, password = credentials(request)
        hashed = self._hashes.get(name)
        token = hmac.new(self._pepper, b"\0".join((name.encode(), hashed or b"", password)), hashlib.sha256).digest()
        if token in self._known:
            return True
        if self._waiting >= CHECKS_WAITING:
            return False
        self._waiting += 1
        try:
            async with self._gate:
                right = await asyncio.to_thread(_matches, password, hashed or self._slowest)
        finally:
            self._waiting -= 1
        if not right or hashed is None:
            return False
        while len(self._known) >= KNOWN_LIMIT:
            del self._known[next(iter(self._known))]
        self._known[token] = None
        return True


def _matches(password: bytes, hashed: bytes) -> bool:
    import bcrypt  # noqa: PLC0415 - only with a web configuration file that has users

    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:  # longer than the 72 bytes that bcrypt looks at, or with a zero byte
        return False


def credentials(request: web.Request) -> tuple[str, bytes]:
    """Name and password of basic authentication; empty when there are none."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", b""
    try:
        name, _, password = base64.b64decode(value, validate=True).partition(b":")
        return name.decode(), password
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return "", b""
