"""Numbers and times in texts from outside, and files that settings name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from exporter.core.texts import utc_time, whole_number
from exporter.settings.files import read_text

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("007", 7), ("65535", 65535)]
    + [
        (text, None)
        for text in ("", "0", "65536", "-1", "+1", " 1", "1 ", "1.0", "1_0", "٣", "²", "9" * 20, "9" * 5000)
    ],
)
def test_a_whole_number_is_digits_within_bounds(text: str, expected: int | None) -> None:
    """ASCII digits and nothing else: no sign, no space, no underscore, no digit of another script."""
    assert whole_number(text, 1, 65535) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-11-07T22:03:33Z", datetime(2025, 11, 7, 22, 3, 33, tzinfo=UTC)),
        ("2025-11-07T23:03:33+01:00", datetime(2025, 11, 7, 22, 3, 33, tzinfo=UTC)),
        ("2025-11-07T22:03:33.123456789Z", datetime(2025, 11, 7, 22, 3, 33, 123456, tzinfo=UTC)),
        ("2025-11-07", datetime(2025, 11, 7, tzinfo=UTC)),
    ],
)
def test_times_are_told_in_utc(text: str, expected: datetime) -> None:
    """Of any zone, with up to Docker's nine digits of a second; without a zone it is UTC already."""
    found = utc_time(text)
    assert (found, found.tzinfo) == (expected, UTC)


@pytest.mark.parametrize("text", ["", "now", "2025-13-07", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_what_is_no_time_is_a_value_error(text: str) -> None:
    """Also what would be before the first year or after the last one in UTC."""
    with pytest.raises(ValueError, match=r"."):
        utc_time(text)


def test_a_file_is_read_within_its_bound(tmp_path: Path) -> None:
    """As many bytes as allowed are read whole; one more, and anything but a regular file of UTF-8, is refused."""
    path = tmp_path / "file"
    path.write_text("äb")
    assert read_text(path, 3) == "äb"
    with pytest.raises(ValueError, match="larger than 2 bytes"):
        read_text(path, 2)
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_text(path, 3)
    with pytest.raises(ValueError, match="no regular file"):
        read_text(tmp_path, 3)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_text(tmp_path / "none", 3)
