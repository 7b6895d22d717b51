"""Numbers and times in texts from outside: settings, requests, labels, the journal."""

from __future__ import annotations

from datetime import UTC, datetime

DIGITS_LIMIT = 19
"""Digits of a number at most: `int` refuses thousands of them, and takes long for hundreds."""


def whole_number(text: str, low: int, high: int) -> int | None:
    """The number from `low` to `high` that the text writes in ASCII digits alone; None: it writes none."""
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_LIMIT):
        return None
    return number if low <= (number := int(text)) <= high else None


def utc_time(text: str) -> datetime:
    """The time that an ISO 8601 text names, in UTC, which is also assumed where it names no zone.

    Raises:
        ValueError: it names none that can be told in UTC.
    """
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is beyond what a date can be") from error
