"""The house keeps its own rules: purity, doors, sizes, and docs that tell what there is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from exporter.telemetry.metrics import Metrics
from exporter.work import Work
from tests.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "exporter").rglob("*.py"))
CORE_MAY_IMPORT = {
    "__future__",
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "typing",
    "math",
    "exporter",
}
SIZE_LIMIT = 350


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parent.name == "core"], ids=lambda p: p.name)
def test_the_core_is_pure(path: Path) -> None:
    """The core imports nothing that does I/O, tells the time, or runs tasks, and nothing of ours but itself."""
    for name in imports(path):
        assert name.split(".")[0] in CORE_MAY_IMPORT
        assert not name.startswith("exporter") or name == "exporter" or name.startswith("exporter.core")
    assert not re.search(r"\.now\(|\btime\.\w+\(|\bopen\(", path.read_text())


def test_only_the_web_package_serves_http() -> None:
    """aiohttp.web has one door."""
    users = {path for path in SOURCES if "aiohttp.web" in imports(path)}
    assert users
    assert {path.parent.name for path in users} == {"web"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_fits_in_a_readers_head(path: Path) -> None:
    """No file has grown beyond one noun."""
    assert len(path.read_text().splitlines()) <= SIZE_LIMIT


def borrowed(path: Path) -> set[tuple[str, ...]]:
    """What a file imports from tests and benchmarks, each as its parts."""
    return {tuple(name.split(".")) for name in imports(path) if re.match(r"(tests|benchmarks)\b", name)}


def test_what_tests_share_is_in_support() -> None:
    """A folder of tests imports from itself and from support alone, and nothing imports what pytest collects."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        folder = path.relative_to(ROOT / "tests").parts[0]
        for where in borrowed(path):
            assert where[0] == "tests", f"{path}: tests know nothing of benchmarks"
            assert set(where[1:2]) <= {folder, "support", "mutants"}, f"{path} imports {'.'.join(where)}"
            assert not any(part.startswith(("test_", "conftest")) for part in where), f"{path} imports a test"


def test_benchmarks_take_from_the_tests_only_what_is_shared() -> None:
    """Of the tests they import support alone."""
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        for where in borrowed(path):
            assert where[0] == "benchmarks" or set(where[1:2]) <= {"support"}, f"{path} imports {'.'.join(where)}"


def test_every_mutant_has_its_place() -> None:
    """`make mutants` breaks code that is there: each rule's code stands in one place of the program."""
    for mutant in MUTANTS:
        assert mutant.place(SOURCES)
        assert mutant.old != mutant.new


def test_no_path_of_this_machine() -> None:
    """The project means the same wherever it is checked out."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    own = f"{ROOT}/"
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and own.count("/") > 2:
            assert own not in path.read_text(errors="replace"), name


def test_every_variable_is_documented() -> None:
    """docs/configuration.md names every variable that the program reads, and no other."""
    source = (ROOT / "exporter/settings/settings.py").read_text()
    read = set(re.findall(r'env\.\w+\(\s*"([A-Z][A-Z0-9_]+)"', source)) | {"ENGINE_MEMORY"}
    documented = set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+|CONTROL)`", (ROOT / "docs/configuration.md").read_text()))
    by_pattern = {
        "GLUETUN_CONTAINER_NAME_2",
        "GLUETUN_PORT_RANGE_1",
        "DOCKER_HOST",
        "DOCKER_TLS_VERIFY",
        "DOCKER_CERT_PATH",
    }
    assert read - documented == set()
    assert documented - read - by_pattern - {"NAME_FILE"} == set()


def test_every_metric_is_documented() -> None:
    """docs/metrics.md names every counter and histogram, and every gauge of the snapshot."""
    text = (ROOT / "docs/metrics.md").read_text()
    metrics = Metrics(["a"], Work)
    names = {family.name for family in metrics.registry.collect()}
    names |= set(re.findall(r'"(mayday_[a-z_]+)"', (ROOT / "exporter/telemetry/metrics.py").read_text()))
    assert len(names) > 20
    for name in names:
        assert f"`{name}`" in text or f"`{name}_total`" in text, name


def test_every_route_is_documented() -> None:
    """docs/api.md names every route."""
    text = (ROOT / "docs/api.md").read_text()
    for method, route in re.findall(r'add_(get|post|delete)\("([^"]+)"', (ROOT / "exporter/web/server.py").read_text()):
        assert f"`{method.upper()} {route}`" in text, route


def test_the_compose_file_gives_mayday_only_known_settings() -> None:
    """Every variable in docker-compose.yml and .env.example is documented, and Mayday has no privilege."""
    documented = (ROOT / "docs/configuration.md").read_text() + (ROOT / "docs/monitoring.md").read_text()
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["mayday"]
    examples = re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    for name in [*service["environment"], *examples]:
        assert f"`{name.removesuffix('_FILE')}`" in documented or name == "GLUETUN_PORT_RANGE_2", name
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not service["user"].startswith("0")
    assert "/var/run/docker.sock" not in str(service)


def test_the_command_says_what_is_wrong_with_all_settings_at_once() -> None:
    """`--check-config` ends with 1 and names every variable; with good settings it ends with 0."""
    command = [sys.executable, "-m", "exporter", "--check-config"]
    bad = {"GLUETUN_CONTAINER_NAME": "a b", "MIN_REPLICAS": "many", "CONTROL": "maybe", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=bad, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    for name in ("GLUETUN_CONTAINER_NAME:", "GLUETUN_CONTAINER_NAME_2:", "MIN_REPLICAS:", "CONTROL:"):
        assert name in result.stderr
    good = {"GLUETUN_CONTAINER_NAME": "a", "GLUETUN_CONTAINER_NAME_2": "b", "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, env=good, capture_output=True, check=False).returncode == 0
