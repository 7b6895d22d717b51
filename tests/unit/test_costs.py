"""What things cost, in calls, operations and bytes, never in seconds: no later change can spend more unseen."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from exporter.instruments import KeptCounter, KeptHistogram
from exporter.runtime.daemon_pool import DaemonPool

ROOT = Path(__file__).parents[2]


# --- scrapes ----------------------------------------------------------------------------------------------------------


def test_samples_are_made_anew_only_after_a_step() -> None:
    """A scrape after a step shows it, a scrape after none takes what the last one made."""
    registry = CollectorRegistry()
    counter = KeptCounter("steps_total", "Steps.", ("by",), registry=registry)
    histogram = KeptHistogram("taken_seconds", "Taken.", buckets=(1.0,), registry=registry)
    assert registry.get_sample_value("steps_total", {"by": "me"}) is None
    series = counter.labels("me")
    assert registry.get_sample_value("steps_total", {"by": "me"}) == 0
    for expected in (1, 2, 3):
        series.inc()
        histogram.observe(0.5)
        assert registry.get_sample_value("steps_total", {"by": "me"}) == expected
        assert registry.get_sample_value("taken_seconds_count") == expected
    before, after = list(registry.collect()), list(registry.collect())
    assert all(one is other for one, other in zip(before, after, strict=True))


# --- imports ----------------------------------------------------------------------------------------------------------

HEAVY = {"aiohttp", "apscheduler", "docker", "requests", "prometheus_client", "rich", "sqlite3", "asyncio"}


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ("from exporter.cli import main; main(['--help'])", set[str]()),
        ("from exporter.cli import main; main(['--check-config'])", set[str]()),
        ("import exporter.app, exporter.runtime.docker", HEAVY - {"rich"}),
    ],
    ids=["help", "check-config", "serve"],
)
def test_only_what_is_needed_is_imported(command: str, allowed: set[str]) -> None:
    """Help, a look at the settings, and the sidecar itself load no library that they do not use."""
    script = f"import sys\ntry:\n    {command}\nexcept SystemExit: pass\nprint(*sys.modules, sep='\\n')"
    environment = {"PYTHONPATH": str(ROOT), "GLUETUN_CONTAINER_NAME": "a", "GLUETUN_CONTAINER_NAME_2": "b"}
    output = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in output.stdout.splitlines()}
    assert loaded & HEAVY <= allowed


# --- threads ----------------------------------------------------------------------------------------------------------


def test_threads_that_waited_end_when_nothing_comes() -> None:
    """A pool that lingers is as wide as it must be, does all work, and holds no thread afterwards."""
    pool = DaemonPool(5, linger_s=0.02)
    together = threading.Barrier(5)
    for _ in range(3):
        for done in [pool.submit(together.wait) for _ in range(5)]:
            done.result(timeout=20)
        deadline = time.monotonic() + 20
        while pool._threads and time.monotonic() < deadline:
            time.sleep(0.01)
        assert pool._threads == 0
    pool.shutdown()
