"""The coverage-guided fuzzer on every parser, for a fixed number of inputs: none crashes, none hangs."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.seeds import SEEDS, dictionary

ROOT = Path(__file__).parents[2]
RUNS = int(os.environ.get("FUZZ_RUNS", "20000"))
"""Inputs for each harness."""
HANGS_S = 20
"""An input that takes longer is taken for one that hangs, seconds; the slowest ones take milliseconds."""


@pytest.fixture(autouse=True)
def atheris() -> None:
    """Where the fuzzer does not ship, say so; where everything is checked, that is a failure."""
    if importlib.util.find_spec("atheris") is None:
        message = "atheris is not installed: it ships for Linux on x86_64 only; coverage-guided fuzzing is left out"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)


def fuzz(harness: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz.guided", harness, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("harness", sorted(SEEDS))
def test_a_parser_withstands_whatever_reaches_new_code(harness: str, tmp_path: Path) -> None:
    """From good inputs on, each changed such that it reaches lines that none before it reached."""
    corpus, words = tmp_path / "corpus", tmp_path / "words"
    corpus.mkdir()
    words.write_text(dictionary())
    for number, seed in enumerate(SEEDS[harness]):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = [f"-runs={RUNS}", f"-timeout={HANGS_S}", "-max_len=4096", "-seed=1", "-rss_limit_mb=2048"]
    artifacts = tmp_path / "found-"
    result = fuzz(harness, *limits, f"-artifact_prefix={artifacts}", f"-dict={words}", str(corpus))
    if result.returncode:
        found = sorted(tmp_path.glob("found-*"))
        inputs = "\n".join(
            f"{path.read_bytes()!r}\nreplay: python -m tests.fuzz.guided {harness} {path}" for path in found
        )
        pytest.fail(
            f"{harness} broke; the input:\n{inputs}\n{result.stdout[-3000:]}\n{result.stderr[-6000:]}", pytrace=False
        )
    covered = re.findall(r"cov: (\d+) ft: (\d+)", result.stderr)
    assert covered, result.stderr[-2000:]
    first, last = covered[0], covered[-1]
    print(f"{harness}: {RUNS} inputs, edges {first[0]} -> {last[0]}, features {first[1]} -> {last[1]}")
    assert int(last[1]) > int(first[1]), "the fuzzer has found no new way through the code: it is not guided"


def test_a_crash_is_seen_and_can_be_replayed(tmp_path: Path) -> None:
    """An input that breaks a harness ends with an error and a trace that names it, not in silence."""
    broken = tmp_path / "input"
    broken.write_bytes(b"x")
    code = (
        "import tests.fuzz.guided as g\n"
        "g.HARNESSES['gluetun'] = lambda data: 1 // (data != b'x')\n"
        f"g.main(['gluetun', {str(broken)!r}])"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "ZeroDivisionError" in result.stdout + result.stderr
