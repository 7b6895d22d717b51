"""The rules that are shipped, and Prometheus' own tool to look at them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "rules"
ALERT_FILES = sorted((RULES / "alerts").glob("*.yml"))


def rules_in(path: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load(path.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: (path, rule) for path in ALERT_FILES for rule in rules_in(path)}
"""File and rule, by the alert's name."""
RECORDED = {rule["record"]: {"job", "instance"} for rule in rules_in(RULES / "recording/mayday.yml")}
"""Labels of the recorded series, by name."""


def promtool(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
