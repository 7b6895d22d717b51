"""Figures: medians, spread and ratios of repeated measurements, and Markdown tables of them."""

from __future__ import annotations

import math
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BEGAN = time.monotonic()


def say(text: str) -> None:
    """Tell what is being done, beside the tables: on standard error, with the minutes and seconds since the start."""
    minutes, seconds = divmod(int(time.monotonic() - BEGAN), 60)
    print(f"[{minutes:02d}:{seconds:02d}] {text}", file=sys.stderr, flush=True)


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of the values (0 to 1) does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float], unit: str = "s") -> str:
    """Median, and in brackets the least and the most, of durations in seconds; shown as `s`, `ms` or `µs`."""
    factor, digits = {"s": (1.0, 2), "ms": (1e3, 1), "µs": (1e6, 0)}[unit]
    shown = [f"{value * factor:.{digits}f}" for value in (statistics.median(values), min(values), max(values))]
    return f"{shown[0]} {unit} ({shown[1]}–{shown[2]})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The ratio of the medians."""
    return f"{statistics.median(ours) / statistics.median(theirs):.2f}"


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> None:
    """Print a Markdown table under a heading."""
    print(f"\n### {title}\n")
    if note:
        print(f"{note}\n")
    print(f"| {' | '.join(header)} |")
    print(f"|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    sys.stdout.flush()


def machine() -> str:
    """What it was measured on."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return (
        f"{os.cpu_count()} cores ({model}), Linux {platform.release()}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} at the start"
    )
