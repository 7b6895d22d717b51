"""Who may change something: whoever knows the secret, or, where no secret is set, whoever is on this machine."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from exporter.environment import Secret
    from exporter.metrics import Metrics

log = logging.getLogger("mayday")


def presented_secret(request: web.Request) -> str | None:
    """The bearer token, the password of basic authentication, or the X-API-Key header."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            _, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return None
        return password if colon else None
    return request.headers.get("X-API-Key")


def require(request: web.Request, secret: Secret | None, endpoint: str, metrics: Metrics) -> None:
    """Let the request pass, or refuse it.

    Raises:
        web.HTTPUnauthorized: no secret, or a wrong one, was presented.
        web.HTTPForbidden: no secret is configured, and the peer is not on this machine.
    """
    if secret is None:
        if _is_local(request.remote):
            return
        refusal: web.HTTPException = web.HTTPForbidden(text="no secret is configured: only this machine may do that\n")
    else:
        presented = presented_secret(request) or ""
        if hmac.compare_digest(presented.encode("utf-8", "surrogateescape"), secret.reveal().encode()):
            return
        refusal = web.HTTPUnauthorized(
            text="a secret is needed\n", headers={"WWW-Authenticate": 'Bearer realm="mayday"'}
        )
    metrics.unauthorized.labels(endpoint).inc()
    log.warning("refused %s %s from %s: %s", request.method, request.path, request.remote, refusal.reason)
    raise refusal


def _is_local(remote: str | None) -> bool:
    try:
        return ipaddress.ip_address(remote or "").is_loopback
    except ValueError:
        return False
