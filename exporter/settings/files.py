"""Reading a file that a setting names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def read_text(path: Path, limit: int) -> str:
    """The text of a regular file of at most `limit` bytes. Blocks.

    Raises:
        ValueError: it cannot be read; the message follows the file's name.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("is no regular file")  # reading a device or a pipe may never end
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise ValueError(f"is larger than {limit} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8") from error
