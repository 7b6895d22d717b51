"""What the kernel says about a process: processor time, memory, threads, wake-ups."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """One reading. `wakeups` are the voluntary context switches of all threads that live."""

    cpu_s: float
    rss_mib: float
    threads: int
    wakeups: int


def usage(pid: int) -> Usage:
    """A process as it is now."""
    root = Path(f"/proc/{pid}")
    fields = (root / "stat").read_text().rpartition(")")[2].split()
    status = _status(root)
    wakeups = 0
    for thread in (root / "task").iterdir():
        wakeups += _status(thread).get("voluntary_ctxt_switches", 0)
    return Usage(
        cpu_s=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
        rss_mib=status["VmRSS"] / 1024,
        threads=status["Threads"],
        wakeups=wakeups,
    )


def precise_cpu_s(pid: int) -> float:
    """Processor time of all threads that live, seconds; exact to nanoseconds, where `stat` counts hundredths."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def _status(root: Path) -> dict[str, int]:
    found = {}
    for line in (root / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            found[name] = int(words[0])
    return found
