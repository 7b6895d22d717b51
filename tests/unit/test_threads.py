"""Blocking calls: a few at once, no thread kept, none that keeps the process alive."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from exporter.runtime.threads import DaemonThreads

PATIENCE_S = 30.0


def call_threads() -> int:
    return sum(thread.name == "docker-call" for thread in threading.enumerate())


async def no_thread_is_left() -> None:
    async with asyncio.timeout(PATIENCE_S):
        while call_threads():
            await asyncio.sleep(0.01)


async def test_as_many_at_once_as_allowed_and_no_thread_afterwards() -> None:
    """Every call is made, never more at once than allowed, and what no call needs holds no thread."""
    threads = DaemonThreads(3)
    together = threading.Barrier(3)
    under_way, most, lock = 0, 0, threading.Lock()

    def call() -> int:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        place = together.wait(PATIENCE_S)
        with lock:
            under_way -= 1
        return place

    assert sorted(await asyncio.gather(*(threads.run(call) for _ in range(12)))) == sorted([0, 1, 2] * 4)
    assert most <= 3
    await no_thread_is_left()


async def test_an_error_reaches_the_caller_and_frees_the_place() -> None:
    """What a call raises is raised where it was asked for, and the next one is made."""
    threads = DaemonThreads(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="invalid literal"):
            await threads.run(lambda: int("x"))
    assert await threads.run(lambda: 1) == 1


async def test_a_cancelled_caller_leaves_its_call_its_place() -> None:
    """A call under way goes on and keeps its place until it ends; one that waits is never made."""
    threads = DaemonThreads(1)
    release, made = threading.Event(), list[str]()

    def hang() -> None:
        made.append("first")
        release.wait(PATIENCE_S)

    first = asyncio.create_task(threads.run(hang))
    second = asyncio.create_task(threads.run(lambda: made.append("second")))
    third = asyncio.create_task(threads.run(lambda: made.append("third")))
    await asyncio.sleep(0.05)
    for task in (first, second):
        task.cancel()
    await asyncio.wait([first, second])
    await asyncio.sleep(0.05)
    assert not third.done()
    release.set()
    await asyncio.wait_for(third, PATIENCE_S)
    assert made == ["first", "third"]


async def test_after_closing_nothing_is_begun() -> None:
    """Calls that wait are refused at once, though all places are taken by calls that hang; so is every later one."""
    threads = DaemonThreads(1)
    release = threading.Event()
    hanging = asyncio.create_task(threads.run(lambda: release.wait(PATIENCE_S)))
    waiting = [asyncio.create_task(threads.run(lambda: pytest.fail("it was made"))) for _ in range(3)]
    await asyncio.sleep(0.05)
    threads.close()
    results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), PATIENCE_S)
    assert [str(result) for result in results] == ["the connection to Docker is closed"] * 3
    with pytest.raises(RuntimeError, match="closed"):
        await threads.run(lambda: None)
    assert not hanging.done()
    release.set()
    assert await hanging


def test_a_process_ends_although_a_call_hangs() -> None:
    """An orderly end does not wait for a call that would last for ten minutes."""
    program = """
import asyncio, time
from exporter.runtime.threads import DaemonThreads

async def main():
    threads = DaemonThreads(1)
    call = asyncio.create_task(threads.run(lambda: time.sleep(600)))
    await asyncio.sleep(0.1)
    threads.close()
    call.cancel()

asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
