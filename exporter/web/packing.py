"""Whether an answer may be packed."""

from __future__ import annotations

from contextlib import suppress

from aiohttp.web import ContentCoding

PACKED = (ContentCoding.gzip, ContentCoding.deflate)
"""What is offered, the better known first."""


def coding(accept_encoding: str) -> ContentCoding | None:
    """The coding that the sender of an Accept-Encoding header takes; None: none of those offered.

    aiohttp itself only looks whether the name occurs, and takes a refusal (`gzip;q=0`: RFC 9110, 12.5.3) for consent.
    """
    accepted = {}
    for part in accept_encoding.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            with suppress(ValueError):
                weight = float(parameter.removeprefix("q=")) if parameter.startswith("q=") else weight
        accepted[name] = weight > 0
    return next((offered for offered in PACKED if accepted.get(offered.value)), None)
