"""Label matchers, as Prometheus and Alertmanager write them: `severity="critical",team=~"net|vpn"`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')


class Expression(Protocol):
    """A compiled regular expression."""

    def fullmatch(self, text: bytes) -> object | None:
        """The match of the whole text, None when it does not match."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label; a missing label has the value ""."""

    label: str
    operator: str
    """One of `=`, `!=`, `=~`, `!~`."""
    value: str
    expression: Expression | None = field(default=None, repr=False, compare=False)
    """The value, compiled, where the operator is `=~` or `!~`."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels fulfil it. Regular expressions are anchored at both ends."""
        found = labels.get(self.label, "")
        if self.expression is None:
            return (found == self.value) is (self.operator == "=")
        return (self.expression.fullmatch(_utf8(found)) is not None) is (self.operator == "=~")


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
        label, operator, value = match.groups()
        if "~" in operator:
            matchers.append(Matcher(label, operator, value, _compiled(value)))
        else:
            matchers.append(Matcher(label, operator, re.sub(r"\\(.)", r"\1", value)))
        position = match.end()
    return tuple(matchers)


def _compiled(expression: str) -> Expression:
    """The expression in RE2's syntax, which Prometheus and Alertmanager use.

    The senders of alerts choose the labels; RE2 takes time in proportion to a label's length, whatever the expression.
    """
    import re2  # noqa: PLC0415 - most settings have no regular expression

    options = re2.Options()
    options.log_errors = False  # the fault is in the exception; RE2 would write it to standard error as well
    options.never_capture = True
    try:
        compiled: Expression = re2.compile(_utf8(expression), options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace")
        raise ValueError(
            f"{expression!r} is not a regular expression in RE2's syntax, as Prometheus has it: {reason}"
        ) from error
    return compiled


def all_match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether the labels fulfil every matcher."""
    return all(matcher.matches(labels) for matcher in matchers)


def _utf8(text: str) -> bytes:
    """The text as RE2 reads it; half of a surrogate pair, which UTF-8 cannot hold, becomes a question mark."""
    return text.encode(errors="replace")
