"""What a runbook tells somebody to type at night works: each command is run against a real Mayday and its journal."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from exporter.settings.settings import from_environment
from tests.rules.shipped import ROOT, RULES
from tests.support.settings import vpn_variables
from tests.support.simulated import host_with, mayday_on
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from exporter.app import App


KEY = "a-key-of-the-tests"


def typed(program: str) -> list[str]:
    """Every command in the runbooks that begins with these words, on one line."""
    found = set()
    for path in sorted((RULES / "runbooks").iterdir()):
        for code in re.findall(r"`([^`]+)`", path.read_text()):
            command = " ".join(code.split())
            if command.startswith(program):
                found.add(command)
    return sorted(found)


@pytest.fixture
async def mayday(tmp_path: Path) -> AsyncIterator[App]:
    """A Mayday with an engine called ID, a drill on NAME, and a journal."""
    environment = {
        **vpn_variables("gluetun", "NAME"),
        "MIN_REPLICAS": "2",
        "APP_HOST": "127.0.0.1",
        "APP_PORT": "0",
        "API_KEY": KEY,
        "STATE_DIR": str(tmp_path),
    }
    app = mayday_on(host_with(("gluetun", "NAME")), from_environment(environment))
    async with app:
        await until(lambda: len(app.controller.fleet.engines) >= 2)
        app.controller.start_drill("NAME", 60, "a test")
        await app.journal.query()
        yield app


async def outcome(*command: str, **environment: str) -> tuple[int | None, str]:
    """Exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


@pytest.mark.parametrize("command", typed("curl "))
async def test_mayday_answers_what_a_runbook_asks(command: str, mayday: App) -> None:
    """The call exists, and with the key it is let through."""
    assert mayday.web is not None
    assert mayday.web.address is not None
    words = shlex.split(command.replace("$API_KEY", KEY))
    assert any(word.startswith("http://MAYDAY:8000/") for word in words), command
    engine = next(engine.id for engine in mayday.controller.fleet.on("gluetun"))
    here = f"http://127.0.0.1:{mayday.web.address[1]}/"
    words = [word.replace("http://MAYDAY:8000/", here).replace("engines/ID", f"engines/{engine}") for word in words]
    code, output = await outcome(*words, "--silent", "--show-error", "--fail-with-body", "--noproxy", "*")
    assert code == 0, f"{command}: {output}"


@pytest.mark.parametrize("command", typed("docker exec mayday mayday "))
async def test_the_command_line_knows_what_a_runbook_types(command: str, mayday: App, tmp_path: Path) -> None:
    """The command ends well, and prints something of the journal of a Mayday that runs."""
    words = shlex.split(command.removeprefix("docker exec mayday mayday "))
    code, output = await outcome(sys.executable, "-m", "exporter", *words, STATE_DIR=str(tmp_path))
    assert code == 0, f"{command}: {output}"
    assert output


def test_no_command_of_mayday_is_told_otherwise() -> None:
    """`mayday` is typed inside its container, for it is nowhere else."""
    assert typed("docker exec mayday mayday ")
    assert typed("mayday ") == []
