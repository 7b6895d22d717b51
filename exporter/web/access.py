"""Who may change something: whoever knows the secret, or, where no secret is set, whoever is on this machine."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

if TYPE_CHECKING:
    from exporter.settings.environment import Secret
    from exporter.telemetry.metrics import Metrics

log = logging.getLogger("mayday")


def presented_secrets(request: web.Request) -> list[str]:
    """The bearer token or the password of basic authentication, and the X-API-Key header."""
    found = []
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        found.append(value.strip())
    elif scheme.lower() == "basic":
        with suppress(binascii.Error, UnicodeDecodeError, ValueError):
            _, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
            if colon:
                found.append(password)
    if key := request.headers.get("X-API-Key"):
        found.append(key)
    return found


def presents(request: web.Request, secret: Secret) -> bool:
    """Whether the request carries this secret; takes as long for a wrong one as for the right one."""
    right = secret.reveal().encode("utf-8", "surrogateescape")
    matches = [
        hmac.compare_digest(presented.encode("utf-8", "surrogateescape"), right)
        for presented in presented_secrets(request)
    ]
    return any(matches)


def require(request: web.Request, secret: Secret | None, endpoint: str, metrics: Metrics) -> None:
    """Let the request pass, or refuse it.

    Raises:
        web.HTTPUnauthorized: no secret, or a wrong one, was presented.
        web.HTTPForbidden: no secret is configured, and the peer is not on this machine; or a browser sends it on behalf
            of another site.
    """
    refusal: web.HTTPException
    if _is_from_another_site(request):
        refusal = web.HTTPForbidden(text="a page of another site may not do that\n")
    elif secret is None:
        if _is_local(request.remote) and _names_this_machine(request):
            return
        refusal = web.HTTPForbidden(text="no secret is configured: only this machine may do that\n")
    else:
        if presents(request, secret):
            return
        refusal = web.HTTPUnauthorized(
            text="a secret is needed\n", headers={"WWW-Authenticate": 'Bearer realm="mayday"'}
        )
    metrics.unauthorized.labels(endpoint).inc()
    log.warning("refused %s %s from %s: %s", request.method, request.path, request.remote, refusal.reason)
    raise refusal


def _is_from_another_site(request: web.Request) -> bool:
    """Whether a browser says so: it would carry out anybody's page's orders from this machine, password included."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin")
    return site not in {"none", "same-origin"} or (origin is not None and origin.partition("://")[2] != request.host)


def _names_this_machine(request: web.Request) -> bool:
    """Whether the address that was asked for is this machine's own.

    A page's own name can be made to point to 127.0.0.1, and then its orders come from the same site.
    """
    with suppress(ValueError):
        name = urlsplit(f"//{request.host}").hostname or ""
        return name == "localhost" or _is_local(name)
    return False


def _is_local(remote: str | None) -> bool:
    try:
        return ipaddress.ip_address(remote or "").is_loopback
    except ValueError:
        return False
