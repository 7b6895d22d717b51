"""What the forge reads: workflows, forms, hooks. It cannot run here: its form and its promises are checked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FORGE = ROOT / ".github"
HOOKS = ROOT / ".pre-commit-config.yaml"
WORKFLOWS = sorted((FORGE / "workflows").glob("*.yml"))
FORMS = sorted((FORGE / "ISSUE_TEMPLATE").glob("*.yml"))
EVERYTHING = [HOOKS, *sorted(path for path in FORGE.rglob("*") if path.is_file())]


def schema(path: Path) -> str:
    if path in WORKFLOWS:
        return "vendor.github-workflows"
    return "vendor.github-issue-config" if path.stem == "config" else "vendor.github-issue-forms"


def check(name: str, *paths: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", name, *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())["jobs"]
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(path).values() for step in job.get("steps", ())]


def step_with(path: Path, action: str) -> dict[str, Any]:
    (found,) = [step for step in steps(path) if step.get("uses", "").split("@")[0] == action]
    return found


CI = FORGE / "workflows/ci.yml"
RELEASE = FORGE / "workflows/release.yml"


@pytest.mark.parametrize("path", [*WORKFLOWS, *FORMS], ids=lambda path: path.name)
def test_it_keeps_to_the_schema(path: Path) -> None:
    """The forge's own schema finds no fault."""
    check(schema(path), path)


def test_no_job_can_hang() -> None:
    """Every job that runs steps has a time limit."""
    check("custom.github-workflows-require-timeout", *WORKFLOWS)


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: path.name)
def test_no_host_is_named(path: Path) -> None:
    """Where things are fetched from and pushed to is the forge's and its variables' business."""
    text = path.read_text()
    assert "://" not in text
    assert not re.search(r"\b[a-z0-9-]+\.(io|org|com|net|dev)\b", re.sub(r"org\.opencontainers[\w.]*", "", text))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_the_least_of_rights(path: Path) -> None:
    """It may only read, but for jobs that say what they write; no checkout leaves a token lying about."""
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        # What others may choose (a branch's name, a title) is no part of a command.
        assert "${{" not in step.get("run", "")


def test_all_tests_are_run_on_every_change() -> None:
    """`make test` on one Debian, and the unit tests on every Python that the package allows."""
    oldest = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert oldest
    matrix = jobs(CI)["unit"]["strategy"]["matrix"]["python"]
    assert matrix == [f"3.{minor}" for minor in range(int(oldest[1]), int(oldest[1]) + len(matrix))]
    assert len(matrix) == 4
    assert "make test" in [step.get("run") for step in jobs(CI)["everything"]["steps"]]
    assert {"pull_request", "push", "workflow_call"} <= yaml.safe_load(CI.read_text())[True].keys()


def test_a_release_is_built_from_a_tag_that_was_tested() -> None:
    """Nothing is handed out before all tests have passed, nor without a tag."""
    assert yaml.safe_load(RELEASE.read_text())[True] == {"push": {"tags": ["v*"]}}
    found = jobs(RELEASE)
    assert found["test"]["uses"] == f"./{CI.relative_to(ROOT)}"
    assert found["package"]["needs"] == "test"
    assert found["image"]["needs"] == "package"


def test_the_image_is_for_both_architectures_with_its_origin() -> None:
    """It carries a bill of materials and its provenance, and what it says of itself are arguments of the Dockerfile."""
    build = step_with(RELEASE, "docker/build-push-action")["with"]
    assert build["platforms"] == "linux/amd64,linux/arm64"
    assert build["push"] is True
    assert build["sbom"] is True
    assert build["provenance"] == "mode=max"
    given = set(re.findall(r"^(\w+)=", build["build-args"], re.MULTILINE))
    assert given == {"VERSION", "REVISION", "CREATED", "SOURCE"}
    assert given <= set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert step_with(RELEASE, "docker/login-action")["with"]["registry"] == "${{ vars.REGISTRY }}"


def release_step(name: str) -> str:
    (found,) = [step["run"] for step in steps(RELEASE) if step.get("name") == name]
    return str(found)


@pytest.mark.parametrize(
    ("tag", "changes", "fault"),
    [
        pytest.param("v1.2.3", "## [1.2.3] - 2026-01-31\n\n### Fixed\n\n- This.\n", "", id="all is well"),
        pytest.param("v1.2.4", "## [1.2.3] - 2026-01-31\n\n- This.\n", "version 1.2.3", id="another version"),
        pytest.param("v1.2.3", "## [Unreleased]\n\n- This.\n", "no section 1.2.3", id="no section"),
        pytest.param("v1.2.3", "## [1.2.3]\n\n## [1.2.2]\n\n- That.\n", "no section 1.2.3", id="an empty section"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused(tag: str, changes: str, fault: str, tmp_path: Path) -> None:
    """The tag is the version, and its changes, which become the release's notes, are written down."""
    (tmp_path / "exporter").mkdir()
    (tmp_path / "exporter/__init__.py").write_text('"""Doc."""\n\n__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text(f"# Changes\n\n{changes}\n## [1.2.1]\n\n- Older.\n")
    script = release_step("The tag is the version, and the changes of it are written down")
    command = ["bash", "-e", "-c", script]
    environment = {"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin", "RUNNER_TEMP": str(tmp_path)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode == 0) is (fault == "")
    assert fault in result.stdout
    if not fault:
        assert (tmp_path / "changes.md").read_text().split() == ["###", "Fixed", "-", "This."]


def test_a_bug_report_asks_for_what_explains_it_and_for_no_secret() -> None:
    """The history and the check of the settings are asked for, and nobody is led to paste a key."""
    form = yaml.safe_load((FORGE / "ISSUE_TEMPLATE/bug.yml").read_text())
    assert "No secret is ever needed" in form["body"][0]["attributes"]["value"]
    fields = {field["id"]: field for field in form["body"] if "id" in field}
    for name, command in {"history": "mayday history --json", "settings": "mayday --check-config"}.items():
        assert fields[name]["validations"]["required"] is True
        assert command in fields[name]["attributes"]["description"]


def test_hooks_run_what_is_installed() -> None:
    """Each hook is a tool of .venv and a stage of the tests' own; none is fetched."""
    (repository,) = yaml.safe_load(HOOKS.read_text())["repos"]
    assert repository["repo"] == "local"
    locked = (ROOT / "requirements-dev.lock").read_text()
    packages = {"lint-imports": "import-linter", "python": "pytest"}
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        program = hook["entry"].split()[0]
        name = Path(program).name
        assert program == f".venv/bin/{name}"
        assert re.search(rf"^{packages.get(name, name)}==", locked, re.MULTILINE), name
        for word in hook["entry"].split():
            assert not word.endswith(".py") or (ROOT / word).is_file(), word
