"""What a request carries, read within bounds: a body, a JSON object, whole numbers, times."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from exporter.core.texts import utc_time, whole_number
from exporter.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from multidict import MultiMapping

BODY_LIMIT = 4 * 1024 * 1024
"""Bytes of a request's body at most; an alert is about 1 KiB, so that is some thousand alerts in one message."""
BODY_TIMEOUT_S = 10.0
"""How long a client may take to send its body."""


async def read_body(request: web.Request) -> bytes:
    """The whole body; `BODY_LIMIT` is kept by the application.

    Raises:
        BadRequestError: it did not arrive whole, or cannot be decoded.
        web.HTTPRequestTimeout: it took too long.
        web.HTTPRequestEntityTooLarge: it is too long.
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise BadRequestError("the body does not fit its Content-Encoding or Transfer-Encoding header") from error
    except ConnectionError as error:  # the client is gone and will not read this
        raise BadRequestError("the connection was lost before the whole body arrived") from error
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text=f"the body took longer than {BODY_TIMEOUT_S:g} s to arrive\n") from error


async def read_json_object(request: web.Request, known: set[str]) -> dict[str, Any]:
    """The body as a JSON object with no other than the known fields; an empty body is an empty object.

    Raises:
        BadRequestError: it is none.
    """
    body = await read_body(request)
    try:
        value = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise BadRequestError("the body is not valid JSON") from error
    if not isinstance(value, dict):
        raise BadRequestError("the body must be a JSON object")
    if unknown := value.keys() - known:
        fields = ", ".join(sorted(known))
        raise BadRequestError(f"the body has unknown fields {sorted(unknown)!r:.200}; the known ones are {fields}")
    return value


def known_parameters(query: MultiMapping[str], known: Collection[str]) -> None:
    """Let a query pass that has no other than the known parameters, each once: a misspelt filter would filter nothing.

    Raises:
        BadRequestError: it has others, or one twice.
    """
    if unknown := sorted(set(query) - set(known)):
        told = f"the known ones are {', '.join(known)}" if known else "there are none here"
        raise BadRequestError(f"unknown query parameters {unknown!r:.200}; {told}")
    if twice := [name for name in known if len(query.getall(name, ())) > 1]:
        raise BadRequestError(f"{twice[0]} is given more than once")


def truth_parameter(text: str | None, name: str) -> bool | None:
    """A parameter as true or false; None when it is not given.

    Raises:
        BadRequestError: it is neither.
    """
    if text not in {None, "true", "false"}:
        raise BadRequestError(f"{name} must be true or false")
    return None if text is None else text == "true"


def whole_parameter(text: str, name: str, most: int) -> int:
    """A parameter as a whole number from 1 to `most`.

    Raises:
        BadRequestError: it is none.
    """
    number = whole_number(text, 1, most)
    if number is None:
        raise BadRequestError(f"{name} must be a whole number from 1 to {most}")
    return number


def time_parameter(text: str | None, name: str) -> datetime | None:
    """A parameter as a time in UTC; None when it is not given.

    Raises:
        BadRequestError: it is not an ISO 8601 time.
    """
    if text is None:
        return None
    try:
        return utc_time(text)
    except ValueError as error:
        raise BadRequestError(f"{name} must be a time such as 2025-11-07T22:03:33Z") from error
