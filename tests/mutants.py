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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[1]
SEEDS = 60
PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")
CHECKS: dict[str, tuple[str, ...]] = {
    "unit tests and scenarios": (
        *PYTEST,
        "tests/unit/test_core.py",
        "tests/unit/test_safe_removal.py",
        "tests/unit/test_facts_and_wire.py",
        "tests/simulation/test_emergency_mode.py",
        "tests/simulation/test_interleavings.py",
    ),
    "webhook tests": (*PYTEST, "tests/unit/test_web.py", "-k", "signals"),
    "simulation": ("-m", "tests.simulation.run", "--seeds", str(SEEDS)),
}
"""In this order, the cheap ones first: a mutant is dead as soon as one of them fails."""


@dataclass(frozen=True)
class Mutant:
    """One rule, broken."""

    rule: str
    old: str
    """Stands in one place of the program, wherever that is."""
    new: str

    def place(self, sources: Iterable[Path]) -> Path:
        """The file whose code is to be broken."""
        found = [path for path in sources for _ in range(path.read_text().count(self.old))]
        if len(found) != 1:
            places = ", ".join(str(path) for path in found) or "nowhere"
            raise LookupError(f"'{self.rule}': the code to break has to stand in one place, and stands in: {places}")
        return found[0]


MUTANTS = (
    # The invariants.
    Mutant(
        "1: creation only in phase healthy",
        "return vpn in state.vpns and state.vpns[vpn].phase is Phase.HEALTHY",
        "return vpn in state.vpns and state.vpns[vpn].phase in CARRYING",
    ),
    Mutant(
        "1: an overtaken creation is undone",
        "            overtaken = not wanted()",
        "            overtaken = False",
    ),
    Mutant(
        "1: a creation that comes about late is undone",
        "        self._find(facts.fleet(), now)\n",
        "",
    ),
    Mutant(
        "1: the guard is asked again before each call",
        "if not self.controller.acting or not guard():",
        "if not self.controller.acting:",
    ),
    Mutant(
        "2: cleanup that fails backs off",
        "return self._clock.mono() >= self._failures.get(key, (0, 0.0))[1]",
        "return True",
    ),
    Mutant(
        "2: engines that come back are swept",
        "sorted({*to_undo, *decision.cleanup}))",
        "sorted({*to_undo, *(decision.cleanup if decision.changes else ())}))",
    ),
    Mutant(
        "3: only a failed VPN is evacuated",
        "return state.mode is Mode.EMERGENCY and state.vpns[vpn].phase is Phase.FAILED",
        "return state.mode is Mode.EMERGENCY and state.vpns[vpn].phase is not Phase.HEALTHY",
    ),
    Mutant(
        "3: a removal asks again whether it is wanted",
        "RemoveReason.VPN_FAILED, lambda: self._may_evacuate(vpn))",
        "RemoveReason.VPN_FAILED, lambda: True)",
    ),
    Mutant(
        "4: an outage removes nothing",
        "return state.mode is Mode.EMERGENCY and state.vpns[vpn].phase is Phase.FAILED",
        "return state.vpns[vpn].phase is Phase.FAILED",
    ),
    Mutant(
        "5: an unreachable Docker decides nothing",
        "return self.docker_up and not self.closing",
        "return not self.closing",
    ),
    Mutant(
        "5: what was asked before the loss does not count",
        "back = not self.docker_up and asked_at >= self._docker_lost_at",
        "back = not self.docker_up",
    ),
    Mutant(
        "5: an inspection that fails is one container's trouble",
        "self._clock.mono() + pause_s)\n            return None\n",
        "self._clock.mono() + pause_s)\n            raise\n",
    ),
    Mutant(
        "5: nobody is replaced on old facts",
        "            await self._read_again()\n",
        "            pass\n",
    ),
    Mutant(
        "6: MAX_REPLICAS",
        "count = min(wanted - carried(state, fleet, vpn) - pending.get(vpn, 0), room, free)",
        "count = min(wanted - carried(state, fleet, vpn) - pending.get(vpn, 0), free)",
    ),
    Mutant(
        "6: MAX_REPLICAS holds for requests",
        "if fleet.own + sum(pending.values()) >= policy.max_replicas:",
        "if fleet.own >= policy.max_replicas:",
    ),
    Mutant(
        "6: what is under way counts",
        "count = min(wanted - carried(state, fleet, vpn) - pending.get(vpn, 0), room, free)",
        "count = min(wanted - carried(state, fleet, vpn), room, free)",
    ),
    Mutant(
        "6: a creation without an answer counts",
        "counted.update(e.vpn for e in self._entries if e.stage is Stage.UNSURE and e.counts_until > now)",
        "counted.update(())",
    ),
    Mutant(
        "6: a taken name is read before another is tried",
        "                if not self._still_needed(entry, reason):\n",
        "                if False:\n",
    ),
    Mutant(
        "6: orphans are repaired",
        "        if engine.orphan is not None\n",
        "        if engine.orphan is None and False\n",
    ),
    Mutant(
        "6: an engine that works is no orphan",
        "        if await self._works(engine):\n",
        "        if False:\n",
    ),
    Mutant(
        "6: an orphan is looked at first",
        "        if self._looked.get(engine.id) != present:\n",
        "        if False:\n",
    ),
    Mutant(
        "6: an engine is replaced at the last port",
        "return instead_of.port if instead_of is not None",
        "return instead_of.port if False and instead_of is not None",
    ),
    Mutant(
        "7: nothing begins after SIGTERM",
        "return self.docker_up and not self.closing",
        "return self.docker_up",
    ),
    Mutant(
        "7: the time of entry survives",
        'return Emergency(times.moment(saved["entered"]), vpn',
        "return Emergency(times.now, vpn",
    ),
    Mutant(
        "7: the stabilization left survives",
        'deadline = min(times.mono(item["deadline"]), now.mono + policy.stabilization_s)',
        "deadline = now.mono + policy.stabilization_s",
    ),
    Mutant(
        "7: over a reboot the wall clock tells",
        'if written["boot"] == boot:',
        "if True:",
    ),
    Mutant(
        "7: within a boot the wall clock does not",
        'if written["boot"] == boot:',
        "if False:",
    ),
    Mutant(
        "7: every change is saved",
        "            if self.state is not before:\n                self._save()\n",
        "",
    ),
    Mutant(
        "8: one counter step for each transition",
        "self.metrics.transitions.labels(change.vpn, change.after, change.reason).inc()",
        "self.metrics.transitions.labels(change.vpn, change.after, change.reason).inc(2)",
    ),
    Mutant(
        "8: one counter step for each entry",
        "            self.metrics.entries.labels(change.vpn, change.reason).inc()\n",
        "",
    ),
    Mutant(
        "8: one history record for each phase",
        "        self._append(Kind.PHASE, change.reason, message, change.vpn, details)\n",
        "",
    ),
    Mutant(
        "8: one log line for each action",
        '            log.log(level, "%s", message)\n            self._append(Kind.ACTION',
        "            self._append(Kind.ACTION",
    ),
    Mutant(
        "9: an alert with an odd status is none",
        'raise _UnreadableError("its status is neither firing nor resolved")',
        'status = "firing"',
    ),
    # Safe removal: two steps.
    Mutant(
        "safe: a removal needs a carrier",
        "if policy.min_replicas and not carriers(state, fleet):",
        "if False:",
    ),
    Mutant(
        "safe: without MIN_REPLICAS it needs none",
        "if policy.min_replicas and not carriers(state, fleet):",
        "if not carriers(state, fleet):",
    ),
    Mutant(
        "safe: a VPN in doubt is no carrier",
        "if vpn not in state.doubtful and fleet.groups[vpn].states.get(EngineState.WORKING)",
        "if fleet.groups[vpn].states.get(EngineState.WORKING)",
    ),
    Mutant(
        "safe: a VPN without an engine that works is no carrier",
        "if vpn not in state.doubtful and fleet.groups[vpn].states.get(EngineState.WORKING)",
        "if vpn not in state.doubtful",
    ),
    Mutant(
        "safe: a stabilizing VPN is no carrier",
        "        for vpn in state.having(Phase.HEALTHY)\n        if vpn not in state.doubtful",
        "        for vpn in state.carrying\n        if vpn not in state.doubtful",
    ),
    Mutant(
        "safe: the failure has to last EVACUATION_DELAY_S",
        "return Evacuation.SAFE if mono >= due_at(state, policy, vpn) else Evacuation.DELAY",
        "return Evacuation.SAFE",
    ),
    Mutant(
        "safe: the end of the delay is not slept through",
        "for vpn, e in evacuations.items() if e in evacuation.TIMED]",
        "for vpn, e in evacuations.items() if False]",
    ),
    Mutant(
        "own: engines of others are no ghosts",
        "if one.own or one.response is Response.REMOVE)",
        "if True)",
    ),
    Mutant(
        "own: engines of others count towards no share",
        "return self.own and not self.explicit and self.state not in WRECKED",
        "return not self.explicit and self.state not in WRECKED",
    ),
    Mutant(
        "own: what Docker gives up holds no place",
        "return self.own and not self.explicit and self.state not in WRECKED",
        "return self.own and not self.explicit",
    ),
    Mutant(
        "own: engines of others are left where it is wanted",
        "        and (one.response or policy.others) is Response.PARK\n",
        "",
    ),
    Mutant(
        "own: a label of its owner outweighs the setting",
        "        and (one.response or policy.others) is Response.PARK\n",
        "        and policy.others is Response.PARK\n",
    ),
    Mutant(
        "own: what its owner made during the failure is not parked",
        "        and one.created_at < failed_at\n",
        "",
    ),
    Mutant(
        "own: what its owner took back is not parked again",
        "        and one.id not in taken_back\n",
        "",
    ),
    Mutant(
        "own: what is to be parked is noted before it is stopped",
        "        controller.note(*(AskedToPark(engine) for engine in engines))\n        await controller.remember()\n",
        "        controller.note(*(AskedToPark(engine) for engine in engines))\n",
    ),
    Mutant(
        "own: what was started again is forgotten for good",
        "        await controller.remember()\n        # Docker has the last word on what runs.\n",
        "        # Docker has the last word on what runs.\n",
    ),
    Mutant(
        "own: a creation is known by its mark",
        "engine = engines.get((entry.name, entry.made)) if",
        "engine = {engine.name: engine for engine in fleet.engines}.get(entry.name) if",
    ),
    Mutant(
        "own: an engine is Mayday's by its label alone",
        "own=managed and MADE_LABEL in labels,",
        "own=managed,",
    ),
    Mutant(
        "drill: it ends when its VPN is needed",
        "            signals = self._declarations.end_needed(self.signals(now), now)\n",
        "            signals = self.signals(now)\n",
    ),
    Mutant(
        "drill: it is refused where its VPN is needed",
        "        if drills_to_end(controller.policy.vpns, [*controller.signals(now), drill], now):\n",
        "        if False:\n",
    ),
    Mutant(
        "10: own alerts are no signals",
        "and (name.startswith(OWN_PREFIX) or name in TEST_ALERTS)",
        "and name in TEST_ALERTS",
    ),
    Mutant("10: alerts about missing data are no signals", "and name in NO_DATA_ALERTS", "and False"),
    # What is done: the table of section 4.
    Mutant(
        "emergency: the health manager is paused",
        "return state.mode is Mode.NORMAL",
        "return state.mode is not Mode.OUTAGE",
    ),
    Mutant(
        "emergency: reduced adds nothing",
        "    if state.mode is Mode.EMERGENCY and policy.capacity is Capacity.REDUCED:\n",
        "    if False:\n",
    ),
    Mutant(
        "emergency: full divides all over those left",
        "    if policy.capacity is Capacity.FULL:\n",
        "    if False:\n",
    ),
    Mutant("emergency: reduced never means none", "if not working.intersection(healthy):", "if False:"),
    Mutant(
        "emergency: relief is one engine at least",
        "return max(shares(policy)[vpn], number, 1) if vpn == state.relief else number",
        "return max(shares(policy)[vpn], number) if vpn == state.relief else number",
    ),
    Mutant(
        "emergency: relief counts what is repaired anyway",
        "e.planned and (e.orphan is not None or e.counted_as is EngineState.WORKING)",
        "e.planned and e.counted_as is EngineState.WORKING",
    ),
    Mutant(
        "outage: a request is refused, and told why",
        '    if state.mode is Mode.OUTAGE:\n        return Refusal("outage"',
        '    if False:\n        return Refusal("outage"',
    ),
    Mutant(
        "repair: only on VPNs in phase healthy",
        "return state.mode is not Mode.OUTAGE and may_create_on(state, vpn)",
        "return state.mode is not Mode.OUTAGE",
    ),
    Mutant(
        "explicit: not on a VPN in doubt",
        "if may_create_on(state, vpn) and vpn not in state.doubtful\n    ]",
        "if may_create_on(state, vpn)\n    ]",
    ),
    Mutant(
        "explicit: the least loaded VPN",
        "return min(with_port, key=lambda vpn: carried[vpn])",
        "return max(with_port, key=lambda vpn: carried[vpn])",
    ),
    Mutant(
        "explicit: on top of the share",
        "return self.own and not self.explicit and self.state not in WRECKED",
        "return self.own and self.state not in WRECKED",
    ),
    Mutant(
        "share: the remainder to the first",
        "each + (1 if index < rest else 0)",
        "each",
    ),
    Mutant(
        "health manager: a paused engine does not work",
        "ContainerState.DEAD, ContainerState.PAUSED})",
        "ContainerState.DEAD})",
    ),
    # Signals, phases, facts.
    Mutant(
        "stabilization: it comes before healthy",
        "    if vpn.phase is Phase.FAILED:\n        deadline",
        "    if False:\n        deadline",
    ),
    Mutant(
        "stabilization: its time has to pass",
        "if vpn.phase is Phase.STABILIZING and vpn.stabilization_remaining_s(now.mono) <= 0:",
        "if vpn.phase is Phase.STABILIZING:",
    ),
    Mutant(
        "verdict: a source that objects outweighs Docker",
        "            if signal.verdict is wanted:\n",
        "            if signal.verdict is wanted and signal.source is Source.DOCKER:\n",
    ),
    Mutant(
        "verdict: state comes before health",
        "    if container.state is not ContainerState.RUNNING:\n        reason",
        "    if False:\n        reason",
    ),
    Mutant(
        "verdict: a frozen health says nothing",
        "    if sighting.frozen:\n",
        "    if False:\n",
    ),
    Mutant(
        "verdict: suspect outweighs healthy",
        "for wanted in (Verdict.UNHEALTHY, Verdict.SUSPECT):",
        "for wanted in (Verdict.UNHEALTHY,):",
    ),
    Mutant(
        "verdict: starting with an unchanged start is no failure",
        "return None not in {container.started_at, known_start} and container.started_at != known_start",
        "return True",
    ),
    Mutant(
        "verdict: starting anew is a failure",
        "    if started_anew(sighting, container):\n",
        "    if False:\n",
    ),
    Mutant(
        "doubt: unknown is in doubt as suspect is",
        "DOUBTS = frozenset({Verdict.UNKNOWN, Verdict.SUSPECT})",
        "DOUBTS = frozenset({Verdict.SUSPECT})",
    ),
    Mutant(
        "alerts: a late copy is known for one",
        "if now.mono - known.heard < LATE_COPY_S and alert.starts_at <= known.reach:",
        "if False:",
    ),
    Mutant(
        "alerts: one start may fire twice",
        "if now.mono - known.heard < LATE_COPY_S and alert.starts_at <= known.reach:",
        "if alert.starts_at <= known.reach:",
    ),
    Mutant(
        "alerts: the end of an older incident ends no newer one",
        "        if last < threshold:\n",
        "        if False:\n",
    ),
    Mutant("alerts: a silenced one has not ended", "        if key in listing.silent:\n", "        if False:\n"),
    Mutant(
        "alerts: an empty list right after a restart ends nothing",
        "elif asked_at - incident.absent_since >= ABSENT_S:",
        "elif True:",
    ),
    Mutant(
        "alerts: they expire unheard",
        "    if all(incident.expires > now.mono for incident in book.values()):\n        return book\n",
        "    if book is not None:\n        return book\n",
    ),
    Mutant("facts: what is gone stays gone", "if container.id in self._gone or asked_at", "if asked_at"),
    Mutant(
        "facts: an old answer replaces no newer one",
        "if container.id in self._gone or asked_at < self._newest(container.id, container):",
        "if container.id in self._gone:",
    ),
    Mutant(
        "clock: an orphan shows whatever the clock says",
        "return None if joined is None else joined.namespace",
        "return None",
    ),
)


def main() -> int:
    wanted = sys.argv[1:]
    chosen = [mutant for mutant in MUTANTS if not wanted or any(word in mutant.rule for word in wanted)]
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mayday-mutants-") as directory:
        copy = Path(directory)
        for name in ("exporter", "tests", "docs"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        print("| rule that was broken | noticed by | seconds |\n|---|---|---|", flush=True)
        for mutant in chosen:
            began = time.monotonic()
            killer = killed_by(copy, mutant)
            print(f"| {mutant.rule} | {killer or '**nothing**'} | {time.monotonic() - began:.0f} |", flush=True)
            if killer is None:
                survivors.append(mutant.rule)
    print(f"\n{len(chosen) - len(survivors)} of {len(chosen)} rules are proven")
    return 1 if survivors else 0


def killed_by(copy: Path, mutant: Mutant) -> str | None:
    """Which tests notice the mutant; None: none does."""
    path = mutant.place((copy / "exporter").rglob("*.py"))
    text = path.read_text()
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        for name, arguments in CHECKS.items():
            command = [sys.executable, *arguments]
            result = subprocess.run(command, cwd=copy, capture_output=True, check=False, timeout=900)
            if result.returncode != 0:
                return name
    finally:
        path.write_text(text)
    return None


if __name__ == "__main__":
    sys.exit(main())
