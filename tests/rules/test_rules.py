"""The rules stand before Prometheus' own tools, speak only of what Mayday exposes, and each alert has its runbook."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exporter.sources.alertmanager_wire import OWN_PREFIX
from tests.rules.exposition import exposed, unknown
from tests.rules.shipped import ALERT_FILES, ALERTS, RECORDED, RULES, promtool, rules_in

if TYPE_CHECKING:
    from pathlib import Path

HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def test_prometheus_accepts_every_rule() -> None:
    """`promtool check rules` finds no fault and no lint in any file, the example included."""
    result = promtool("check", "rules", "--lint-fatal", *_rule_files())
    assert result.returncode == 0, result.stdout + result.stderr


def _rule_files() -> list[Path]:
    return [*ALERT_FILES, *sorted((RULES / "recording").glob("*.yml")), *sorted((RULES / "examples").glob("*.yml"))]


@pytest.mark.parametrize("path", ALERT_FILES, ids=lambda path: path.stem)
def test_the_rules_do_what_their_tests_say(path: Path) -> None:
    """`promtool test rules` passes: silent before, firing with these labels and annotations, resolved after."""
    result = promtool("test", "rules", RULES / "tests" / f"{path.stem}_test.yml")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_is_tested_before_during_and_after(name: str) -> None:
    """Some test expects the alert to be silent, then to fire with labels and annotations, then to be silent again."""
    path, _ = ALERTS[name]
    for test in yaml.safe_load((RULES / "tests" / f"{path.stem}_test.yml").read_text())["tests"]:
        steps = [bool(step["exp_alerts"]) for step in test["alert_rule_test"] if step["alertname"] == name]
        if steps and not steps[0] and any(steps) and not steps[-1]:
            return
    raise AssertionError(f"no test shows {name} silent, firing and silent again")


@pytest.mark.parametrize("name", ALERTS)
def test_the_tests_notice_a_changed_rule(name: str, tmp_path: Path) -> None:
    """Without the alert, without its `for`, and with gauges that do not survive a missed scrape, its tests fail."""
    path, rule = ALERTS[name]
    changes: list[dict[str, Any] | None] = [None]
    if "for" in rule:
        changes.append({key: value for key, value in rule.items() if key != "for"})
    if "last_over_time" in rule["expr"] and name not in {"MaydayAbsent", "MaydayRestarting"}:
        changes.append({**rule, "expr": re.sub(r"last_over_time\((.*?)\[3m\]\)", r"\1", rule["expr"])})
    shutil.copytree(RULES, tmp_path / "rules")
    file = tmp_path / "rules/tests" / f"{path.stem}_test.yml"
    tests = yaml.safe_load(file.read_text())
    tests["tests"] = [test for test in tests["tests"] if name in {t["alertname"] for t in test["alert_rule_test"]}]
    file.write_text(yaml.safe_dump(tests, sort_keys=False))
    for change in changes:
        document = yaml.safe_load(path.read_text())
        for group in document["groups"]:
            kept = [change if item["alert"] == name else item for item in group["rules"]]
            group["rules"] = [item for item in kept if item is not None]
        (tmp_path / "rules/alerts" / path.name).write_text(yaml.safe_dump(document))
        result = promtool("test", "rules", file)
        assert "FAILED" in result.stdout + result.stderr, f"nobody notices {change}"


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_is_complete(name: str) -> None:
    """Product's prefix, a severity, a fixed summary, a templated description, and the address of its runbook."""
    _, rule = ALERTS[name]
    assert re.fullmatch(f"{OWN_PREFIX}([A-Z][a-z]+)+", name)
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    annotations = rule["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert "{{" not in annotations["summary"]
    assert annotations["summary"][0].isupper()
    assert annotations["summary"].endswith(".")
    assert annotations["description"].endswith(".")
    assert "{{ $labels.instance }}" in annotations["description"] or name == "MaydayAbsent"
    assert annotations["runbook_url"] == f"{{{{ $externalURL }}}}/user/{name}.md"


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_runbook(name: str) -> None:
    """Four sections, each with something in it, and links that lead somewhere."""
    text = (RULES / "runbooks" / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    for section in re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]:
        assert len(section.split()) >= 5
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (RULES / "runbooks" / target).is_file(), target


def test_there_is_no_runbook_without_an_alert() -> None:
    """A runbook that no alert leads to is dead."""
    assert {path.stem for path in (RULES / "runbooks").iterdir()} == set(ALERTS)


@pytest.mark.parametrize("path", _rule_files(), ids=lambda path: path.name)
def test_rules_speak_only_of_what_is_exposed(path: Path) -> None:
    """Every metric, label and label value in an expression is one that the program exposes, or a rule records."""
    for rule in rules_in(path):
        assert unknown(rule["expr"], RECORDED) == [], rule.get("alert") or rule["record"]


@pytest.mark.parametrize("path", sorted((RULES / "runbooks").iterdir()), ids=lambda path: path.stem)
def test_runbooks_speak_only_of_what_is_exposed(path: Path) -> None:
    """The same for every query in a runbook."""
    for code in re.findall(r"`([^`]*mayday_[^`]*)`", path.read_text()):
        if f"{code}_bucket" not in exposed():  # a histogram, named as a whole
            assert unknown(code.replace('vpn="NAME"', 'vpn="gluetun"'), RECORDED) == [], code
