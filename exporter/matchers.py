"""Label matchers, as Prometheus and Alertmanager write them: `severity="critical",team=~"net|vpn"`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label; a missing label has the value ""."""

    label: str
    operator: str
    """One of `=`, `!=`, `=~`, `!~`."""
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels fulfil it. Regular expressions are anchored at both ends."""
        found = labels.get(self.label, "")
        if self.operator in {"=", "!="}:
            return (found == self.value) is (self.operator == "=")
        return (re.fullmatch(self.value, found) is not None) is (self.operator == "=~")


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """Matchers separated by commas, in braces or not.

    Raises:
        ValueError: the text is not a list of matchers, or one of its regular expressions is none.
    """
    text = text.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    matchers = []
    position = 0
    while position < len(text.rstrip()):
        match = _MATCHER.match(text, position)
        if match is None:
            raise ValueError(f'expected LABEL="VALUE" (or !=, =~, !~) at {text[position : position + 30]!r}')
        label, operator, value = (
            match[1],
            match[2],
            re.sub(r"\\(.)", r"\1", match[3]) if match[2] in {"=", "!="} else match[3],
        )
        if "~" in operator:
            try:
                re.compile(value)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"{value!r} is not a regular expression: {error}") from error
        matchers.append(Matcher(label, operator, value))
        position = match.end()
    return tuple(matchers)


def all_match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether the labels fulfil every matcher."""
    return all(matcher.matches(labels) for matcher in matchers)
