"""The demo with a real Prometheus and a real Alertmanager around it, to be looked at: `make stack`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.stack.programs import ROOT, Alertmanager, Prometheus
from tests.stack.stack import Neighbours, Told


class Loud(list[Told]):
    """Prints what the operator is told."""

    def append(self, told: Told) -> None:
        print(f"OPERATOR: {told.status} {told.labels['alertname']}: {told.annotations.get('description', '')}")
        super().append(told)


async def run(port: int, seconds: float | None) -> int:
    """Run until interrupted, or for so many seconds; the demo's exit code."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    neighbours = Neighbours(told=Loud())
    runner = await neighbours.listen()
    mayday = f"127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="mayday-stack-") as folder:
        directory = Path(folder)
        alertmanager = Alertmanager(directory, mayday=mayday, operator=f"http://127.0.0.1:{neighbours.port}/operator")
        addresses = {"mayday:8000": mayday, "alertmanager:9093": f"127.0.0.1:{alertmanager.port}"}
        prometheus = Prometheus(directory, addresses)
        environment = {**os.environ, "ALERTMANAGER_URL": alertmanager.url}
        command = [sys.executable, "-m", "exporter", "demo", "--port", str(port)]
        try:
            async with alertmanager, prometheus:
                print(
                    f"Mayday http://{mayday}/   Prometheus {prometheus.url}/alerts   Alertmanager {alertmanager.url}/"
                )
                print("Scraped every second; every alert's `for` is 2 s here. Ctrl-C ends it.", flush=True)
                demo = await asyncio.create_subprocess_exec(*command, env=environment, cwd=ROOT)
                waits = [loop.create_task(demo.wait()), loop.create_task(ended.wait())]
                await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if demo.returncode is None:
                    demo.terminate()
                    await demo.wait()
                waits[1].cancel()
                return demo.returncode or 0
        finally:
            await runner.cleanup()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="Mayday's port on 127.0.0.1 (8000)")
    parser.add_argument("--seconds", type=float, help="end after so many seconds")
    options = parser.parse_args()
    return asyncio.run(run(options.port, options.seconds))


if __name__ == "__main__":
    sys.exit(main())
