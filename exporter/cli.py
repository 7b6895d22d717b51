"""The command `mayday`: arguments in, exit code out."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from exporter import __version__
from exporter.core.texts import utc_time, whole_number
from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from exporter.settings.settings import Settings

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 on success, 1 on failure, 2 for wrong arguments."""
    options = _parser().parse_args(arguments)
    if options.check_config:
        return _check_config()
    if options.command == "demo":
        from exporter.demo import demo  # noqa: PLC0415 - the sidecar never needs it

        return demo(options)
    if options.command == "history":
        return _history(options)
    if options.command == "health":
        return _health()
    if options.command == "serve":
        return _serve()
    _parser().print_help()
    return USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mayday",
        description="Keeps engines behind redundant VPN containers available when a VPN fails. "
        "Settings come from the environment; README.md lists them.",
    )
    parser.add_argument("--version", action="version", version=f"mayday {__version__}")
    parser.add_argument("--check-config", action="store_true", help="check the settings, print every fault, and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="run the sidecar against Docker")
    commands.add_parser("health", help="check that the Mayday on this machine answers; for a container's health check")
    demo = commands.add_parser(
        "demo", help="run Mayday on a simulated fleet that fails and recovers; touches no container"
    )
    demo.add_argument(
        "--port", type=int, default=8000, help="port of the web server on 127.0.0.1; 0: any free port (8000)"
    )
    demo.add_argument("--vpns", type=int, default=2, choices=range(2, 6), help="how many VPNs (2)")
    demo.add_argument("--engines", type=int, default=10, help="MIN_REPLICAS (10)")
    demo.add_argument("--stabilization", type=float, default=10.0, help="VPN_STABILIZATION_PERIOD_S, seconds (10)")
    demo.add_argument("--once", action="store_true", help="play one failure and one recovery, then exit")
    demo.add_argument(
        "--manual", action="store_true", help="play nothing; declare drills (POST /control/drill) yourself"
    )
    history = commands.add_parser("history", help="print what Mayday did and why, from the journal in STATE_DIR")
    history.add_argument("--vpn", help="only entries about this VPN")
    kinds = ("mode", "phase", "action", "refusal", "signal", "life")
    history.add_argument("--kind", choices=kinds, help="only entries of this kind")
    history.add_argument(
        "--since", type=_time, metavar="TIME", help="only entries from this time on, such as 2025-11-07T22:03:33Z"
    )
    history.add_argument("--until", type=_time, metavar="TIME", help="only entries up to this time")
    history.add_argument("--limit", type=_count, default=50, help="how many entries at most, the newest ones (50)")
    history.add_argument(
        "--before", type=_count, metavar="ID", help="only entries older than the one with this id, to page back"
    )
    history.add_argument(
        "--json", action="store_true", help="print one JSON object a line, with the fields of GET /history"
    )
    return parser


def _time(text: str) -> datetime:
    try:
        return utc_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} must be a time such as 2025-11-07T22:03:33Z") from error


def _count(text: str) -> int:
    number = whole_number(text, 1, sys.maxsize)
    if number is None:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number above 0")
    return number


def _settings() -> Settings | None:
    from exporter.settings.settings import from_environment  # noqa: PLC0415 - `--help` needs none of it

    try:
        return from_environment(os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - logging is not set up yet
        return None


def _check_config() -> int:
    settings = _settings()
    if settings is None:
        return 1
    vpns = ", ".join(settings.policy.vpns)
    print(f"configuration is usable: VPNs {vpns}; CONTROL is {settings.control}")  # noqa: T201 - its output
    return 0


def _health() -> int:
    """Ask the web server on this machine. Any answer counts, a refusal too: it shows that the server is alive."""
    import http.client  # noqa: PLC0415
    import ssl  # noqa: PLC0415

    address = "127.0.0.1", int(os.environ.get("APP_PORT", "").strip() or "8000")
    connection = http.client.HTTPConnection(*address, timeout=4)
    if os.environ.get("WEB_CONFIG_FILE", "").strip():
        # The certificate is not verified: only an answer matters, and the connection never leaves the machine.
        context = ssl._create_unverified_context()  # noqa: S323, SLF001
        connection = http.client.HTTPSConnection(*address, timeout=4, context=context)
    try:
        connection.request("GET", "/-/healthy")
        status = connection.getresponse().status
    except (ssl.SSLError, http.client.RemoteDisconnected, ConnectionResetError):
        return 0  # it speaks plain HTTP, asks for a certificate, or is at its limit of connections: it is alive
    except (OSError, http.client.HTTPException) as error:
        print(f"Mayday does not answer on port {address[1]}: {error}", file=sys.stderr)  # noqa: T201 - its output
        return 1
    return 0 if status < http.client.INTERNAL_SERVER_ERROR else 1


def _history(options: argparse.Namespace) -> int:
    import json  # noqa: PLC0415
    import sqlite3  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    from exporter.journal.history import as_json  # noqa: PLC0415
    from exporter.journal.journal import read_history  # noqa: PLC0415

    directory = os.environ.get("STATE_DIR", "")
    path = Path(directory) / "mayday.db"
    if not directory or not path.is_file():
        print(  # noqa: T201 - its output
            f"STATE_DIR: there is no journal at {str(path)!r}; set STATE_DIR to the directory that Mayday uses",
            file=sys.stderr,
        )
        return 1
    try:
        records = read_history(
            path,
            vpn=options.vpn,
            kind=options.kind,
            since=options.since,
            until=options.until,
            limit=options.limit,
            before=options.before,
        )
    except (sqlite3.Error, ValueError) as error:
        print(f"STATE_DIR: the journal {str(path)!r} cannot be read: {error}", file=sys.stderr)  # noqa: T201 - its output
        return 1
    for record in reversed(records):
        if options.json:
            print(json.dumps(as_json(record)))  # noqa: T201 - its output
            continue
        print(f"{record.at:%Y-%m-%d %H:%M:%S} {record.kind:<8} {record.message}")  # noqa: T201 - its output
    return 0


def _serve() -> int:
    settings = _settings()
    if settings is None:
        return 1
    import asyncio  # noqa: PLC0415 - as all of these

    from exporter.app import App  # noqa: PLC0415
    from exporter.runtime.docker import DockerRuntime  # noqa: PLC0415
    from exporter.telemetry import logs  # noqa: PLC0415 - heavy parts are imported once the settings are known to be good

    logs.set_up(settings.log_level, settings.log_format)

    async def run() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        app = App(settings, DockerRuntime.from_settings)

        def stopping() -> None:
            app.controller.close()
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping)
        async with app:
            waits = [loop.create_task(event.wait()) for event in (stop, app.failed)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            return 1 if app.failed.is_set() else 0

    try:
        code = asyncio.run(run())
    except (OSError, ConfigError) as error:
        print(f"mayday cannot start: {error}", file=sys.stderr)  # noqa: T201 - the last word
        code = 1
    # A normal exit would wait for threads in calls that Docker does not answer. Everything is closed and written.
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)
