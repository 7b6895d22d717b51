"""Authentication: which clients are answered at all, and which requests may change something."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import logging
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.settings.environment import Secret
    from exporter.settings.web_config import WebConfig
    from exporter.telemetry.metrics import Metrics

log = logging.getLogger("mayday")

KNOWN_LIMIT = 100
"""Successful logins remembered: a scraper sends the same password every time."""
CHECKS_AT_ONCE = 2
CHECKS_WAITING = 20
"""Password checks under way at most; further ones fail, so that a flood of passwords cannot use up the host."""
VARIABLES = {"webhook": "WEBHOOK_TOKEN", "api": "API_KEY"}
"""The setting that holds an endpoint's secret, by the endpoint's name in the metrics."""


# --- what a request presents -----------------------------------------------------------------------------------------


def basic_credentials(request: web.Request) -> tuple[str, bytes] | None:
    """Name and password of basic authentication, None when the request has none that can be read."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(value, validate=True).partition(b":")
        return name.decode(), password
    except ValueError:  # of base64 or of UTF-8
        return None


def presents(request: web.Request, secret: Secret) -> bool:
    """Whether the request carries this secret: as bearer token, as basic password, or as `X-API-Key`.

    A wrong secret takes as long to compare as the right one.
    """
    presented = []
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        presented.append(_bytes(token.strip()))
    if credentials := basic_credentials(request):
        presented.append(credentials[1])
    if key := request.headers.get("X-API-Key"):
        presented.append(_bytes(key))
    right = _bytes(secret.reveal())
    matches = [hmac.compare_digest(candidate, right) for candidate in presented]
    return any(matches)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


# --- who may change something ----------------------------------------------------------------------------------------


def require(request: web.Request, secret: Secret | None, endpoint: str, metrics: Metrics) -> None:
    """Let a request that changes something pass, or refuse it.

    Raises:
        web.HTTPUnauthorized: no secret, or a wrong one, was presented.
        web.HTTPForbidden: no secret is configured, and the client is not on this machine; or a browser sends the
            request on behalf of another site.
    """
    variable = VARIABLES[endpoint]
    refusal: web.HTTPException
    if _is_from_another_site(request):
        refusal = web.HTTPForbidden(text="a browser sent this for a page of another site, which Mayday never accepts\n")
    elif secret is None:
        if _is_loopback(request.remote) and _names_this_machine(request):
            return
        refusal = web.HTTPForbidden(
            text=f"{variable} is not set, so only clients on Mayday's own machine may do this; set it, and send it\n"
        )
    else:
        if presents(request, secret):
            return
        refusal = web.HTTPUnauthorized(
            text=f"{variable} is missing or wrong: send it as bearer token, as basic password, or as X-API-Key\n",
            headers={"WWW-Authenticate": 'Bearer realm="mayday"'},
        )
    metrics.unauthorized.labels(endpoint).inc()
    raise _logged(request, refusal)


def _logged(request: web.Request, refusal: web.HTTPException) -> web.HTTPException:
    reason = (refusal.text or refusal.reason).strip()
    log.warning("refused %s %s from %s: %s", request.method, request.path, request.remote, reason)
    return refusal


def _is_from_another_site(request: web.Request) -> bool:
    """Whether a browser sends the request for a page of another site.

    Browsers on this machine, or with a remembered password, would pass every other check.
    """
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin")
    return site not in {"none", "same-origin"} or (origin is not None and origin.partition("://")[2] != request.host)


def _names_this_machine(request: web.Request) -> bool:
    """Whether the request's Host header is a loopback name.

    Against DNS rebinding: an attacker's host name can be made to resolve to 127.0.0.1, and then a browser takes the
    requests of the attacker's page for requests to its own site.
    """
    with suppress(ValueError):
        name = urlsplit(f"//{request.host}").hostname or ""
        return name == "localhost" or _is_loopback(name)
    return False


def _is_loopback(address: str | None) -> bool:
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    # A socket that listens on :: shows an IPv4 client as ::ffff:127.0.0.1.
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


# --- who is answered at all ------------------------------------------------------------------------------------------


class Authenticator:
    """Checks what the web configuration file asks of every client: a certificate's name, and a user with a password."""

    def __init__(self, config: WebConfig) -> None:
        self._allowed_sans = config.allowed_sans
        self._users = Users(config.users) if config.users else None

    async def check(self, request: web.Request, own_secret: Secret | None) -> None:
        """Let a request pass, or refuse it. `own_secret` is the endpoint's own; it is accepted in place of a user.

        Raises:
            web.HTTPForbidden: the client's certificate has none of the allowed names.
            web.HTTPUnauthorized: the request has no user's name and password.
        """
        if self._allowed_sans and not self._allowed_sans & _certificate_names(request):
            text = "the client's certificate has none of the names in client_allowed_sans\n"
            raise _logged(request, web.HTTPForbidden(text=text, headers={"Connection": "close"}))
        if self._users is None or (own_secret is not None and presents(request, own_secret)):
            return
        if not await self._users.admit(request):
            text = "the name and password of a user in basic_auth_users are missing or wrong\n"
            challenge = {"WWW-Authenticate": 'Basic realm="mayday", charset="UTF-8"'}
            raise _logged(request, web.HTTPUnauthorized(text=text, headers=challenge))


def _certificate_names(request: web.Request) -> set[str]:
    certificate = request.get_extra_info("peercert") or {}
    return {str(name) for _kind, name in certificate.get("subjectAltName", ())}


class Users:
    """The users of the web configuration file: basic authentication with bcrypt, which is slow on purpose."""

    def __init__(self, hashes: Mapping[str, bytes]) -> None:
        self._hashes = hashes
        # Checked for unknown names, so that the time of a refusal does not tell which names exist.
        self._slowest = max(hashes.values(), key=lambda hashed: hashed[4:6], default=b"")
        self._pepper = secrets.token_bytes(32)
        self._known: dict[bytes, None] = {}
        self._slots = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._waiting = 0

    async def admit(self, request: web.Request) -> bool:
        """Whether name and password of the request's basic authentication are those of a user."""
        credentials = basic_credentials(request)
        if credentials is None:
            return False
        name, password = credentials
        hashed = self._hashes.get(name)
        token = hmac.new(self._pepper, b"\0".join((name.encode(), hashed or b"", password)), hashlib.sha256).digest()
        if token in self._known:
            return True
        if self._waiting >= CHECKS_WAITING:
            return False
        self._waiting += 1
        try:
            async with self._slots:
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
    except ValueError:  # longer than the 72 bytes that bcrypt reads, or with a zero byte
        return False
