"""Reading the environment: each getter checks one variable and notes what is wrong with it."""

from __future__ import annotations

import math
import re
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from exporter.core.texts import whole_number
from exporter.settings.files import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T", bound=StrEnum)

PROBLEM_LIMIT = 600
"""Characters of a fault's text, at most: it may quote a value of any length."""
SECRET_LIMIT = 64 * 1024
"""Bytes of a file that holds a secret, at most."""
_NUMBER = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]*)?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})?")


class Secret:
    """A text that no representation shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('…')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    __hash__ = None  # type: ignore[assignment]


class Environment:
    """An environment, and the faults found in it so far. An empty value counts as unset: compose files leave such."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.faults: list[str] = []

    def fault(self, name: str, problem: str) -> None:
        """Note what is wrong with a variable."""
        if len(problem) > PROBLEM_LIMIT:
            problem = problem[: PROBLEM_LIMIT - 1] + "…"
        if (fault := f"{name}: {problem}") not in self.faults:
            self.faults.append(fault)

    def text(self, name: str, default: str = "") -> str:
        """The value, stripped."""
        value = self._values.get(name, "").strip()
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            self.fault(name, "is not UTF-8; encode it as UTF-8")
            return default
        return value or default

    def required(self, name: str, what: str) -> str:
        """The value of a variable that must be set; `what` says what it is."""
        value = self.text(name)
        if not value:
            self.fault(name, f"is not set; set it to {what}")
        return value

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        """A number within bounds, both inclusive."""
        value = self.text(name)
        if not value:
            return default
        number = float(value) if _NUMBER.fullmatch(value) else math.nan
        if not low <= number <= high:
            self.fault(name, f"{_shown(value)} is not a number from {low:g} to {high:g}")
            return default
        return number

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        """A whole number within bounds, both inclusive."""
        value = self.text(name)
        if not value:
            return default
        number = whole_number(value, low, high)
        if number is None:
            self.fault(name, f"{_shown(value)} is not a whole number from {low} to {high}")
            return default
        return number

    def choice(self, name: str, kind: type[T], default: T, but: T | None = None) -> T:
        """One of the words of an enumeration, `but` one of them."""
        value = self.text(name)
        if not value:
            return default
        try:
            chosen: T | None = kind(value.lower())
        except ValueError:
            chosen = None
        if chosen is None or chosen == but:
            self.fault(name, f"{_shown(value)} is none of {', '.join(word for word in kind if word is not but)}")
            return default
        return chosen

    def secret(self, name: str) -> Secret | None:
        """A secret, from the variable or from the file that NAME_FILE names; None when neither is set."""
        value, path = self.text(name), self.text(f"{name}_FILE")
        if value and path:
            self.fault(name, f"is set together with {name}_FILE; set one of them")
            return None
        if path:
            try:
                value = read_text(Path(path), SECRET_LIMIT).strip()
            except ValueError as error:
                self.fault(f"{name}_FILE", f"{_shown(path)} {error}")
                return None
            if not value:
                self.fault(f"{name}_FILE", f"{_shown(path)} is empty")
        return Secret(value) if value else None

    def words(self, name: str, default: str = "") -> tuple[str, ...]:
        """A list of words, separated by white space, quoted as in a shell."""
        try:
            return tuple(shlex.split(self.text(name, default)))
        except ValueError as error:
            self.fault(name, f"cannot be split into words ({error}); quote it as in a shell")
            return ()

    def pairs(self, name: str, default: str = "") -> dict[str, str]:
        """KEY=VALUE words."""
        result = {}
        for position, word in enumerate(self.words(name, default), start=1):
            key, equals, value = word.partition("=")
            if not equals or not key:
                # Not shown: an engine's environment may hold a secret.
                self.fault(name, f"word {position} is not KEY=VALUE")
                continue
            result[key] = value
        return result

    def ports(self, name: str, default: range) -> range:
        """A range of ports as FIRST-LAST, both inclusive."""
        value = self.text(name)
        if not value:
            return default
        first, last = (whole_number(part.strip(), 1, 65535) for part in value.partition("-")[::2])
        if first is not None and last is not None and first <= last:
            return range(first, last + 1)
        self.fault(name, f"{_shown(value)} is not FIRST-LAST with ports from 1 to 65535")
        return default


def _shown(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "…")
