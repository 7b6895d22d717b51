"""One Prometheus watches several Maydays: what one of them does says nothing about the others."""

from __future__ import annotations

import copy
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.rules.shipped import ALERT_FILES, RULES, promtool

if TYPE_CHECKING:
    from pathlib import Path

FIRST, SECOND = "mayday:8000", "second:8000"
BEGINS_BADLY = {
    "dry-run is left on",
    "Docker was not read since the start",
    "a new installation whose VPNs take two minutes to become healthy has lost nothing",
}
"""Tests whose first sample is already the fault, so that a series which stays as it begins is no calm neighbour."""


def second(value: Any) -> Any:
    """The same of the second Mayday."""
    if isinstance(value, str):
        return value.replace(FIRST, SECOND)
    if isinstance(value, list):
        return [second(item) for item in value]
    return {key: second(item) for key, item in value.items()} if isinstance(value, dict) else value


def calm(series: dict[str, Any]) -> dict[str, Any]:
    """The second Mayday's series, which stays as it begins; what grows, as a time does, goes on growing."""
    first = str(series["values"]).split()[0].split("x")[0]
    return {"series": second(series["series"]), "values": f"{first}x2100"}


def run(path: Path, tmp_path: Path, change: Any) -> None:
    """What promtool says on the tests of a file, each changed."""
    document = yaml.safe_load((RULES / "tests" / f"{path.stem}_test.yml").read_text())
    for test in document["tests"]:
        change(test)
    shutil.copytree(RULES, tmp_path / "rules")
    file = tmp_path / "rules/tests" / f"{path.stem}_test.yml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    result = promtool("test", "rules", file)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", ALERT_FILES, ids=lambda path: path.stem)
def test_two_maydays_with_the_same_fault_are_two_alerts(path: Path, tmp_path: Path) -> None:
    """Every test passes with all series and all expectations doubled, the second under another instance."""

    def double(test: dict[str, Any]) -> None:
        test["input_series"] += second(copy.deepcopy(test["input_series"]))
        for step in test["alert_rule_test"]:
            step["exp_alerts"] += [second(alert) for alert in step["exp_alerts"] if "instance" in alert["exp_labels"]]
        for step in test.get("promql_expr_test", ()):
            step["exp_samples"] += second(copy.deepcopy(step["exp_samples"]))

    run(path, tmp_path, double)


@pytest.mark.parametrize("path", ALERT_FILES, ids=lambda path: path.stem)
def test_a_calm_mayday_beside_one_in_trouble_is_left_out(path: Path, tmp_path: Path) -> None:
    """Every test passes with exactly the same alerts when a second Mayday, to which nothing happens, is watched too."""

    def accompany(test: dict[str, Any]) -> None:
        absent = any(step["alertname"] == "MaydayAbsent" for step in test["alert_rule_test"])
        if test["name"] not in BEGINS_BADLY and not absent:
            test["input_series"] += [calm(series) for series in test["input_series"] if FIRST in series["series"]]

    run(path, tmp_path, accompany)
