"""Moments to reckon with where no clock runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from exporter.core.model import Moment

START = datetime(2025, 11, 7, 22, 3, 33, tzinfo=UTC)


def moment(seconds: float) -> Moment:
    """So many seconds after a start, on both clocks."""
    return Moment(1000.0 + seconds, START + timedelta(seconds=seconds))
