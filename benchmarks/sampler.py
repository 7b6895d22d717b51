"""Asks an HTTP server at a fixed rate and writes down how long each answer took, from when it was due.

`python -m benchmarks.sampler URL RATE` runs until its standard input is closed, then prints the seconds as JSON. A
process of its own, so that nothing else in the one that measures holds it up; an answer that is late delays no count,
because the next request is due at its time whether or not it can be sent.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 60_000
"""Requests at most, whatever happens."""


def main() -> None:
    url, rate = urlsplit(sys.argv[1]), float(sys.argv[2])
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    connection = http.client.HTTPConnection(str(url.netloc), timeout=30)
    due = time.perf_counter()
    taken: list[float] = []
    while not over.is_set() and len(taken) < LIMIT:
        connection.request("GET", url.path)
        connection.getresponse().read()
        taken.append(time.perf_counter() - due)
        due += 1 / rate
        time.sleep(max(0.0, due - time.perf_counter()))
    json.dump(taken, sys.stdout)


@contextmanager
def sampling(url: str, rate: float) -> Iterator[list[float]]:
    """Sample during the block; afterwards the list holds the seconds of every answer."""
    command = [sys.executable, "-m", "benchmarks.sampler", url, str(rate)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    time.sleep(0.3)  # Python is up
    taken: list[float] = []
    try:
        yield taken
    finally:
        output, _ = process.communicate(timeout=60)
        taken.extend(json.loads(output))


if __name__ == "__main__":
    main()
