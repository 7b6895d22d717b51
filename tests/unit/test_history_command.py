"""`mayday history`: the same filters as `GET /history`, on the file of a Mayday that may be running."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from exporter.cli import main
from exporter.clock import SystemClock
from exporter.journal.history import Kind, Record
from exporter.journal.journal import Journal

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2025, 11, 7, 22, 0, tzinfo=UTC)


@pytest.fixture
async def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six entries, one a minute, of two VPNs and two kinds in turn."""
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    journal = Journal(tmp_path / "mayday.db", clock=SystemClock(), retention_days=100_000, threaded=False)
    await journal.open()
    for number in range(6):
        kind = Kind.PHASE if number % 3 == 0 else Kind.ACTION
        at = START + timedelta(minutes=number)
        journal.append(Record(at, kind, "fill", f"entry {number}", f"vpn{number % 2}", {"n": number}))
    await journal.close()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param([], [0, 1, 2, 3, 4, 5], id="everything, oldest first"),
        pytest.param(["--vpn", "vpn1"], [1, 3, 5], id="one VPN"),
        pytest.param(["--kind", "phase"], [0, 3], id="one kind"),
        pytest.param(
            ["--since", "2025-11-07T22:02:00Z", "--until", "2025-11-07T23:04:00+01:00"], [2, 3, 4], id="times"
        ),
        pytest.param(["--since", "2025-11-07T22:04"], [4, 5], id="a time without a zone is UTC"),
        pytest.param(["--limit", "2"], [4, 5], id="the newest two"),
        pytest.param(["--limit", "2", "--before", "5"], [2, 3], id="the page before"),
        pytest.param(["--vpn", "vpn0", "--kind", "action", "--until", "2025-11-07T22:03:00Z"], [2], id="all together"),
    ],
)
def test_filters(state: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: list[int]) -> None:
    """Every filter, alone and with others, in both forms of output."""
    assert main(["history", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit(" ", 1)[1] for line in lines] == [str(number) for number in expected]
    assert main(["history", "--json", *arguments]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["details"]["n"] for record in records] == expected


def test_a_json_line_is_what_the_web_page_answers(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All fields, with the time as ISO 8601."""
    main(["history", "--json", "--limit", "1"])
    assert json.loads(capsys.readouterr().out) == {
        "id": 6,
        "at": "2025-11-07T22:05:00+00:00",
        "kind": "action",
        "vpn": "vpn1",
        "reason": "fill",
        "message": "entry 5",
        "details": {"n": 5},
    }


@pytest.mark.parametrize(
    "arguments",
    [["--kind", "nothing"], ["--since", "yesterday"], ["--until", "9999-99-99"], ["--limit", "0"], ["--before", "-1"]],
)
def test_what_makes_no_sense_is_refused(state: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """The exit code of a usage error, and the argument by its name."""
    with pytest.raises(SystemExit) as error:
        main(["history", *arguments])
    assert error.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_no_journal_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a file, or with one that is none, the command says so and ends with 1, and makes nothing."""
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    assert main(["history"]) == 1
    assert "there is no journal" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    (tmp_path / "mayday.db").write_text("no database")
    assert main(["history"]) == 1
    assert "cannot be read" in capsys.readouterr().err
