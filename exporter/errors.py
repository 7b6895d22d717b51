"""Every error that Mayday raises on purpose.

MaydayError
├── ConfigError             the settings are unusable; lists every fault at once
├── BadRequestError         a request is malformed, or its body names what does not exist
│   └── NotFoundError       a request's path names what does not exist
├── RefusedError            a well-formed request cannot be carried out now (may say when)
└── RuntimeFailure          a call to the container runtime failed
    ├── UnreachableError    no answer: nothing is known about any container; try again later
    ├── MissingError        the container (or, with `image` True, the image) does not exist
    ├── ConflictError       the name is taken, or the same work is already in progress
    └── RejectedError       the runtime answered with another error; its words are in the message
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class MaydayError(Exception):
    """The base class of them all."""


class ConfigError(MaydayError):
    """One or more settings are unusable. `faults` names each variable and what is wrong with it."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(["configuration is not usable:", *(f"  - {fault}" for fault in faults)]))
        self.faults = tuple(faults)


class BadRequestError(MaydayError):
    """A request that is malformed or names what does not exist; nothing was changed. The text is safe to send back."""


class NotFoundError(BadRequestError):
    """A request whose path names an engine or a drill that does not exist; nothing was changed."""


class RefusedError(MaydayError):
    """A well-formed request that cannot be carried out now; nothing was changed.

    `retry_after_s` is the number of seconds after which it may succeed, None when that is not known.
    `code` is a short word for programs.
    """

    def __init__(self, message: str, *, code: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = retry_after_s


class RuntimeFailure(MaydayError):  # noqa: N818 - a family of errors, not one
    """A call to the container runtime failed."""


class UnreachableError(RuntimeFailure):
    """The runtime gave no answer (refused, timed out, cut off): whether the call took effect is unknown."""


class MissingError(RuntimeFailure):
    """The container does not exist, or, where `image` is True, its image does not."""

    def __init__(self, message: str, *, image: bool = False) -> None:
        super().__init__(message)
        self.image = image


class ConflictError(RuntimeFailure):
    """The name is in use, the work is already in progress, or the state forbids it (HTTP 409)."""


class RejectedError(RuntimeFailure):
    """The runtime answered with another error (400, 403, 5xx)."""
