"""What Mayday exposes, and whether what a PromQL expression selects is among it."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from exporter.runtime.base import CallResult, Operation
from tests.support.settings import two_vpns
from tests.support.simulated import host_with, mayday_on

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET_LABELS = {"job": "mayday", "instance": "127.0.0.1:8000"}
"""What Prometheus adds to every series."""
METRIC = re.compile(r"(?<![\w:.$])((?:instance:)?(?:mayday|process|python)_[a-z0-9_:]+)\s*(\{[^}]*\})?")
MATCHER = re.compile(r"""(\w+)\s*(=~|!~|!=|=)\s*(["'])(.*?)\3""")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


@cache
def exposed() -> dict[str, list[dict[str, str]]]:
    """The labels of every series of a Mayday with all its features on, by the name of the series."""
    settings = two_vpns(ALERTMANAGER_URL="http://127.0.0.1:1")
    app = mayday_on(host_with(()), settings, serve=False)
    # A histogram with labels has no series before its first observation.
    app.metrics.docker_request(Operation.LIST, CallResult.OK, 0.1)
    app.metrics.job_seconds.labels("poll", "ok").observe(0.1)
    series: dict[str, list[dict[str, str]]] = {}
    for family in app.metrics.registry.collect():
        for sample in family.samples:
            series.setdefault(sample.name, []).append({**sample.labels, **TARGET_LABELS})
    return series


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Each series name of Mayday in an expression, with its label matchers (label, operator, value)."""
    for name, matchers in METRIC.findall(expression):
        yield name, [(label, operator, value) for label, operator, _, value in MATCHER.findall(matchers)]


def unknown(expression: str, recorded: dict[str, set[str]]) -> list[str]:
    """What the expression selects or groups by and nothing exposes; `recorded` has rules' names and their labels."""
    problems = []
    labels: set[str] = set()
    for name, matchers in selectors(expression):
        if name in recorded:
            series = [dict.fromkeys(recorded[name], "")]
            labels |= recorded[name]
        elif name in exposed():
            series = exposed()[name]
            labels |= {label for item in series for label in item}
            if not any(all(_matches(item, *matcher) for matcher in matchers) for item in series):
                problems.append(f"{name}{matchers}: no series matches")
        else:
            problems.append(f"{name}: no such metric")
            continue
        problems += [f"{name}: no label {label}" for label, *_ in matchers if not any(label in item for item in series)]
    for group in GROUPING.findall(expression):
        for label in filter(None, (part.strip() for part in group.split(","))):
            if labels and label not in labels:
                problems.append(f"grouping by {label}, which nothing here has")
    return problems


def _matches(labels: dict[str, str], label: str, operator: str, value: str) -> bool:
    have = labels.get(label, "")
    if value.startswith("$"):  # a dashboard's variable
        return label in labels
    found = re.fullmatch(value, have) is not None if "~" in operator else have == value
    return found is not operator.startswith("!")
