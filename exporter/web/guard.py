"""The outer guard: what the web configuration file asks of every request, and the file's changes."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from aiohttp import web

from exporter.settings.web_config import RateLimit, WebConfig, WebConfigError, load
from exporter.web.access import presents
from exporter.web.users import Users

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from exporter.settings.environment import Secret

log = logging.getLogger("mayday")

LOOK_S = 2.0
"""How often the files are looked at for a change, seconds."""


class Bucket:
    """A token bucket."""

    def __init__(self, limit: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._tokens = float(limit.burst)
        self._filled_at = clock()

    def wait_s(self) -> float:
        """Take a token; 0, or, when there is none, how long it takes until there is one again."""
        now = self._clock()
        self._tokens = min(self._limit.burst, self._tokens + (now - self._filled_at) / self._limit.interval_s)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) * self._limit.interval_s
        self._tokens -= 1
        return 0.0


class Guard:
    """Lets requests pass or refuses them, as the newest usable web configuration says."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[object, ...] = ()
        self.config = WebConfig()
        self._users: Users | None = None
        self._bucket: Bucket | None = None

    async def open(self) -> None:
        """Read the file, where one is set.

        Raises:
            WebConfigError: it cannot be used.
        """
        if self._path is not None:
            self._use(await asyncio.to_thread(load, self._path))
            self._seen = await asyncio.to_thread(_state, self.config.files)

    def _use(self, config: WebConfig) -> None:
        self.config = config
        self._users = Users(config.users) if config.users else None
        self._bucket = Bucket(config.rate_limit) if config.rate_limit else None

    async def check(self, request: web.Request, own_secret: Secret | None) -> None:
        """Let a request pass; `own_secret` is that of the endpoint, and opens this door as well.

        Raises:
            web.HTTPTooManyRequests: the rate limit is used up.
            web.HTTPForbidden: the client's certificate has none of the allowed names.
            web.HTTPUnauthorized: it comes from none of the users.
        """
        if self._bucket is not None and (wait := self._bucket.wait_s()):
            raise web.HTTPTooManyRequests(text="too many requests\n", headers={"Retry-After": str(max(1, round(wait)))})
        if self.config.allowed_sans and not self.config.allowed_sans & _names(request):
            log.warning("refused %s: its certificate has none of the names in client_allowed_sans", request.remote)
            raise web.HTTPForbidden(text="this certificate may not come in\n", headers={"Connection": "close"})
        if self._users is None or (own_secret is not None and presents(request, own_secret)):
            return
        if not await self._users.admit(request):
            log.warning(
                "refused %s %s from %s: no user of basic_auth_users", request.method, request.path, request.remote
            )
            raise web.HTTPUnauthorized(
                text="a user's name and password are needed\n",
                headers={"WWW-Authenticate": 'Basic realm="mayday", charset="UTF-8"'},
            )

    async def follow(self, changed: Callable[[str | None], Awaitable[None]]) -> None:
        """Look at the files for ever; after each change use them, and tell: None, or why they cannot be used.

        What cannot be used changes nothing: the last usable configuration stays.
        """
        while self._path is not None:
            await asyncio.sleep(LOOK_S)
            state = await asyncio.to_thread(_state, self.config.files)
            if state == self._seen:
                continue
            self._seen = state
            try:
                self._use(await asyncio.to_thread(load, self._path))
            except WebConfigError as error:
                problem = f"WEB_CONFIG_FILE: {error}; the last usable configuration stays"
                log.error("%s", problem)  # noqa: TRY400 - the operator's fault, and no traceback helps
                await changed(problem)
                continue
            self._seen = await asyncio.to_thread(_state, self.config.files)
            log.info("the web configuration has changed, and is in use")
            await changed(None)


def _state(files: tuple[Path, ...]) -> tuple[object, ...]:
    """Something that changes when one of the files does."""
    found: list[object] = []
    for path in files:
        try:
            stat = path.stat()
        except OSError as error:
            found.append((path, type(error).__name__))
        else:
            found.append((path, stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)


def _names(request: web.Request) -> set[str]:
    certificate = request.get_extra_info("peercert") or {}
    return {str(name) for _kind, name in certificate.get("subjectAltName", ())}
