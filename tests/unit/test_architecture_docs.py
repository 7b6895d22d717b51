"""CONTRIBUTING.md and docs/architecture.md speak of what there is: every path, room and target they name exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
ARCHITECTURE = ROOT / "docs/architecture.md"
SUFFIXES = "py md yml yaml toml lock sh json js css"


def is_path(word: str) -> bool:
    """Whether a word means a file or folder of this checkout: it has a slash inside, or the suffix of a file."""
    if not re.fullmatch(r"\.?[\w-][\w./-]*", word) or word.startswith(".venv/"):
        return False
    return "/" in word or word.rpartition(".")[2] in SUFFIXES.split()


def words(text: str) -> set[str]:
    """Words in backticks and in blocks of commands, without what selects a test in a file."""
    inline = re.findall(r"`([^`\n]+)`", text)
    blocks = re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE)
    return {word.split("::")[0] for part in (*inline, *blocks) for word in part.split("#")[0].split()}


def paths(document: Path) -> set[str]:
    return {word for word in words(document.read_text()) if is_path(word)}


def named() -> list[tuple[str, str]]:
    return [(doc.name, path) for doc in (CONTRIBUTING, ARCHITECTURE) for path in sorted(paths(doc))]


@pytest.mark.parametrize(("document", "path"), named(), ids=str)
def test_every_path_exists(document: str, path: str) -> None:
    """What a guide sends its reader to is there."""
    assert (ROOT / path).exists(), f"{document} names {path}"


@pytest.mark.parametrize("document", [CONTRIBUTING, ARCHITECTURE], ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    """Links to other files of the project are no dead ends."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    assert targets
    for target in targets:
        assert (document.parent / target).is_file(), target


def test_what_counts_as_a_path() -> None:
    """Files and folders do, with or without a folder; routes, metrics, variables and modules do not."""
    assert words("`a/b.py::test` and\n    make `x` c/d.md # e/f.md\n") >= {"a/b.py", "c/d.md"}
    assert all(map(is_path, ("exporter/core/", "Makefile.md", "pyproject.toml", ".github/workflows/ci.yml")))
    assert not any(map(is_path, ("/metrics", "mayday_mode", "aiohttp.web", ".venv/bin/python", "MAX_REPLICAS", "…")))


def test_every_room_has_a_row() -> None:
    """Each folder of the program is in the table of rooms, and the file to begin with is in it."""
    rooms = dict(
        re.findall(r"^\| `(exporter/[\w/]*)` \|[^|]+\| `([\w/.]+)` \|$", ARCHITECTURE.read_text(), re.MULTILINE)
    )
    there = {f"exporter/{path.parent.name}/" for path in (ROOT / "exporter").glob("*/__init__.py")}
    assert rooms.keys() - {"exporter/"} == there
    assert all(first.startswith(room) for room, first in rooms.items())


def test_imports_point_down_the_table_of_rooms() -> None:
    """The rooms stand in the order of the layers that are checked."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    depth = {room: number for number, layer in enumerate(layers) for room in re.findall(r"exporter\.(\w+)", layer)}
    rooms = re.findall(r"^\| `exporter/(\w+)/` ", ARCHITECTURE.read_text(), re.MULTILINE)
    assert [depth[room] for room in rooms] == sorted(depth[room] for room in rooms)


def test_twenty_rules_can_be_found() -> None:
    """Each question in the last table is answered by one file of the program."""
    rows = re.findall(r"^\| … .*\? \| (.*) \|$", ARCHITECTURE.read_text(), re.MULTILINE)
    assert len(rows) >= 20
    assert all(re.fullmatch(r"`exporter/[\w/]+\.py`", row) for row in rows)


def test_every_target_and_stage_exists() -> None:
    """`make …` and `scripts/test.sh …` in the guide are what the Makefile and the script know."""
    text = CONTRIBUTING.read_text()
    targets = set(re.findall(r"(?:^ {4}|`)make ([a-z-]+)", text, re.MULTILINE))
    assert targets
    assert targets <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    stages = {stage for part in re.findall(r"scripts/test\.sh ([a-z ]+)", text) for stage in part.split()}
    assert stages
    assert stages <= set(re.findall(r"^ {8}([a-z]+)\)", (ROOT / "scripts/test.sh").read_text(), re.MULTILINE))
