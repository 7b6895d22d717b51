"""Label matchers, as Prometheus and Alertmanager write them: `severity="critical",team=~"net|vpn"`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from re import _parser  # type: ignore[attr-defined]  # the one that compiles; nothing else tells what is in an expression
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

REPEATS_LIMIT = 3
"""Repetitions without an end in one expression: the time may grow with that power of the text's length."""
FEW = 16
"""A repetition that may go on for longer counts as one without an end."""
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
            if _may_take_for_ever(value):
                raise ValueError(
                    f"{value!r} may take for ever: no repetition or choice within a repetition, no look-around, no "
                    f"back-reference, at most {REPEATS_LIMIT} of * and +"
                )
        matchers.append(Matcher(label, operator, value))
        position = match.end()
    return tuple(matchers)


def _may_take_for_ever(expression: str) -> bool:
    """Whether the time that it takes may grow beyond all bounds with the text, which others choose.

    Prometheus' own expressions cannot do that, and know neither look-around nor back-references.
    """
    repeats = 0

    def bad(part: Any, *, repeated: bool) -> bool:
        nonlocal repeats
        for kind, value in part:
            name = str(kind)
            if "ASSERT" in name or "GROUPREF" in name:
                return True
            if "REPEAT" in name:
                endless = value[1] > FEW
                repeats += endless
                if (endless and repeated) or bad(value[2], repeated=repeated or endless):
                    return True
            elif name == "BRANCH":
                if repeated or any(bad(branch, repeated=repeated) for branch in value[1]):
                    return True
            elif name in {"SUBPATTERN", "ATOMIC_GROUP"}:
                inner = value[-1] if name == "SUBPATTERN" else value
                if bad(inner, repeated=repeated):
                    return True
        return False

    return bad(_parser.parse(expression), repeated=False) or repeats > REPEATS_LIMIT


def all_match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether the labels fulfil every matcher."""
    return all(matcher.matches(labels) for matcher in matchers)
