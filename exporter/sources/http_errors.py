"""What to say of an HTTP request that failed.

The library's own words are not for a log: the repr of its error for an unwanted answer shows the request's headers,
`Authorization` among them (aio-libs/aiohttp, issue 8402), and those of several others show the address, where a
password may be written, or what the other side sent.
"""

from __future__ import annotations

import os
from http import HTTPStatus

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from exporter.errors import MaydayError


def describe(error: BaseException) -> str:
    """One short sentence for people, with nothing in it that was sent or received but a status."""
    if isinstance(error, MaydayError):
        return str(error)  # our own words, which quote nothing
    if isinstance(error, aiohttp.TooManyRedirects):
        return "redirected too often"
    if isinstance(error, aiohttp.RedirectClientError):
        return "redirected to an address that cannot be used"
    if isinstance(error, aiohttp.InvalidURL):
        return "the address cannot be used"
    if isinstance(error, aiohttp.ClientResponseError):
        # What cannot be read as HTTP comes as a status, too, which the other side never sent.
        unreadable = isinstance(error.__cause__, HttpProcessingError)
        return "the answer is not HTTP as it should be" if unreadable else _status(error.status)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host's name has no address"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return f"no TLS connection: {type(error).__name__}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return f"no connection: {os.strerror(error.errno)}"
    return type(error).__name__


def _status(status: int) -> str:
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"
