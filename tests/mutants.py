"""Breaks each rule in turn and shows that some test fails: `python -m tests.mutants`.

Works on a copy of the checkout. A mutant that no test notices is a rule that no test proves.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAST = (
    "tests/unit/test_core.py",
    "tests/unit/test_explored.py",
    "tests/unit/test_facts_and_wire.py",
    "tests/test_emergency_mode.py",
)
SEEDS = 40


@dataclass(frozen=True)
class Mutant:
    """One rule, broken."""

    rule: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "1: creation only in phase healthy",
        "core/plan.py",
        "return vpn in state.vpns and state.vpns[vpn].phase is Phase.HEALTHY",
        "return vpn in state.vpns and state.vpns[vpn].phase in CARRYING",
    ),
    Mutant(
        "1: an overtaken creation is undone",
        "provisioner.py",
        "            not_overtaken()\n        except",
        "        except",
    ),
    Mutant("2: cleanup is tried again", "executor.py", "return None if all(results) else RETRY_S", "return None"),
    Mutant(
        "2: engines that come back are swept",
        "controller.py",
        "        for vpn in sorted(ghosts | set(self.overtaken.values())):",
        "        for vpn in sorted(ghosts if any(isinstance(c, ModeChange) for c in changes) else ()):",
    ),
    Mutant(
        "3: only a failed VPN is evacuated",
        "core/plan.py",
        "return state.mode is Mode.EMERGENCY and state.vpns[vpn].phase is Phase.FAILED",
        "return state.mode is Mode.EMERGENCY and state.vpns[vpn].phase is not Phase.HEALTHY",
    ),
    Mutant(
        "4: an outage removes nothing",
        "core/plan.py",
        "return state.mode is Mode.EMERGENCY and state.vpns[vpn].phase is Phase.FAILED",
        "return state.vpns[vpn].phase is Phase.FAILED",
    ),
    Mutant(
        "5: an unreachable Docker decides nothing",
        "controller.py",
        "return self._docker_up and not self._closing",
        "return not self._closing",
    ),
    Mutant(
        "6: MAX_REPLICAS",
        "core/plan.py",
        "count = min(target - carried[vpn] - pending.get(vpn, 0), room, free)",
        "count = min(target - carried[vpn] - pending.get(vpn, 0), free)",
    ),
    Mutant(
        "6: what is under way counts",
        "core/plan.py",
        "count = min(target - carried[vpn] - pending.get(vpn, 0), room, free)",
        "count = min(target - carried[vpn], room, free)",
    ),
    Mutant(
        "6: a creation without an answer counts",
        "provisioner.py",
        "counted.update(vpn for vpn, until in self._executor.unsure.values() if until > now)",
        "counted.update(())",
    ),
    Mutant(
        "6: orphans are repaired",
        "core/plan.py",
        "        if engine.orphan is not None\n",
        "        if engine.orphan is None and False\n",
    ),
    Mutant(
        "7: nothing begins after SIGTERM",
        "controller.py",
        "return self._docker_up and not self._closing",
        "return self._docker_up",
    ),
    Mutant(
        "7: the time of entry survives",
        "core/memory.py",
        'emergency = Emergency(moment(saved["entered"]), vpn',
        "emergency = Emergency(now, vpn",
    ),
    Mutant(
        "7: the stabilization left survives",
        "core/memory.py",
        'deadline = min(mono(item["deadline"]), now.mono + policy.stabilization_s)',
        "deadline = now.mono + policy.stabilization_s",
    ),
    Mutant(
        "8: one counter step for each transition",
        "recorder.py",
        "self.metrics.transitions.labels(change.vpn, change.after, change.reason).inc()",
        "self.metrics.transitions.labels(change.vpn, change.after, change.reason).inc(2)",
    ),
    Mutant("10: own alerts are no signals", "alertmanager.py", "if name.startswith(OWN_PREFIX) or", "if"),
    Mutant(
        "stabilization: its time has to pass",
        "core/state.py",
        "if vpn.phase is Phase.STABILIZING and vpn.stabilization_remaining_s(now.mono) <= 0:",
        "if vpn.phase is Phase.STABILIZING:",
    ),
    Mutant(
        "verdict: a source that objects outweighs Docker",
        "core/signals.py",
        "        if signal.verdict is Verdict.UNHEALTHY:\n",
        "        if signal.verdict is Verdict.UNHEALTHY and signal.source is Source.DOCKER:\n",
    ),
    Mutant(
        "verdict: state comes before health",
        "core/signals.py",
        "    if container.state is not ContainerState.RUNNING:\n        reason",
        "    if False:\n        reason",
    ),
    Mutant("relief: reduced never means none", "core/plan.py", "if not working.intersection(healthy):", "if False:"),
    Mutant("facts: what is gone stays gone", "facts.py", "if container.id in self._gone or asked_at", "if asked_at"),
    Mutant(
        "facts: an old answer replaces no newer one",
        "facts.py",
        "if container.id in self._gone or asked_at < self._newest(container.id, container):",
        "if container.id in self._gone:",
    ),
    Mutant(
        "clock: an orphan shows whatever the clock says",
        "core/fleet.py",
        "    if joined is not None:\n",
        "    if False:\n",
    ),
)


def main() -> int:
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mayday-mutants-") as directory:
        copy = Path(directory)
        for name in ("exporter", "tests", "docs"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        for mutant in MUTANTS:
            began = time.monotonic()
            killer = killed_by(copy, mutant)
            print(f"{mutant.rule:<52} {killer or 'SURVIVED':<40} {time.monotonic() - began:5.1f} s", flush=True)
            if killer is None:
                survivors.append(mutant.rule)
    print(f"{len(MUTANTS) - len(survivors)} of {len(MUTANTS)} rules are proven")
    return 1 if survivors else 0


def killed_by(copy: Path, mutant: Mutant) -> str | None:
    """Which tests notice the mutant; None: none does."""
    path = copy / "exporter" / mutant.file
    text = path.read_text()
    if mutant.old not in text:
        raise SystemExit(f"'{mutant.rule}': the code to break is not in {mutant.file} any more")
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        checks = {
            "unit and scenario tests": ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *FAST],
            "webhook tests": [
                "-m",
                "pytest",
                "-q",
                "-x",
                "-p",
                "no:cacheprovider",
                "tests/unit/test_web.py",
                "-k",
                "signals",
            ],
            "simulation": ["-m", "tests.simulation.run", "--seeds", str(SEEDS), "--hours", "1"],
        }
        for name, arguments in checks.items():
            result = subprocess.run(
                [sys.executable, *arguments], cwd=copy, capture_output=True, check=False, timeout=600
            )
            if result.returncode != 0:
                return name
    finally:
        path.write_text(text)
    return None


if __name__ == "__main__":
    sys.exit(main())
