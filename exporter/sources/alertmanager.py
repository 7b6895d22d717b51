"""Asks Alertmanager's API which alerts there are, to correct what its webhooks missed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import aiohttp

from exporter.errors import BadRequestError
from exporter.sources.alertmanager_wire import parse_listing
from exporter.sources.http_errors import describe

if TYPE_CHECKING:
    from exporter.core.alerts import Listing
    from exporter.sources.alertmanager_wire import Selection

log = logging.getLogger("mayday")

API_BODY_LIMIT = 16 * 1024 * 1024
API_TIMEOUT_S = 10.0
EVERYTHING = {"active": "true", "silenced": "true", "inhibited": "true", "unprocessed": "true"}
"""Suppressed alerts as well: one that is silenced has not ended, and must not look as if it had."""


class AlertmanagerApi:
    """Reads all alerts from Alertmanager's API, version 2."""

    def __init__(self, session: aiohttp.ClientSession, url: str, selection: Selection) -> None:
        self._session = session
        self._url = f"{url}/api/v2/alerts"
        self._selection = selection
        self._answering: bool | None = None

    async def listing(self) -> Listing | None:
        """What it lists of our VPNs; None when there is no usable answer."""
        try:
            listing = await self._ask()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, BadRequestError) as error:
            if self._answering is not False:
                log.warning(
                    "Alertmanager at ALERTMANAGER_URL gives no usable answer; its alerts stay as they are: %s",
                    describe(error),
                )
            self._answering = False
            return None
        if self._answering is False:
            log.info("Alertmanager answers again")
        self._answering = True
        return listing

    async def _ask(self) -> Listing:
        timeout = aiohttp.ClientTimeout(total=API_TIMEOUT_S)
        async with self._session.get(self._url, params=EVERYTHING, timeout=timeout) as response:
            response.raise_for_status()
            body = await response.content.read(API_BODY_LIMIT)
            while not response.content.at_eof() and len(body) < API_BODY_LIMIT:
                body += await response.content.read(API_BODY_LIMIT - len(body))
        return parse_listing(body, self._selection)
