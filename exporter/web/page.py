"""The status page: the state, which VPNs, what Mayday does about it, for how long, and what happened last."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from exporter import __version__
from exporter.core.model import EngineState, Phase, Verdict
from exporter.core.service import NotUsable, out_of_service
from exporter.journal.history import Kind
from exporter.web.words import doing, drills, duration, headline, told

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from exporter.controller import Controller
    from exporter.core.model import Moment
    from exporter.core.snapshot import Snapshot
    from exporter.journal.history import Record
    from exporter.journal.journal import Journal
    from exporter.settings.settings import Settings

STYLE = Path(__file__).with_name("page.css").read_text()
SCRIPT = Path(__file__).with_name("page.js").read_text()
LINKS = {
    "/metrics": "Metrics",
    "/vpn/status": "Status as JSON",
    "/engines": "Engines",
    "/history": "History",
    "/-/healthy": "Health",
    "/-/ready": "Readiness",
}
SIGNS = {"normal": "✓", "recovering": "↻", "emergency": "⚠", "outage": "✕", "unready": "?"}
COLOURS = {
    "normal": "#2da44e",
    "recovering": "#0969da",
    "emergency": "#e69f00",
    "outage": "#cf222e",
    "unready": "#6e7781",
}
"""Colours of the icon in the browser's tab."""
RECORDS = 100
TOLD = 10
"""Records of the history that are read, and the lines that are made of them."""
HISTORY_PATIENCE_S = 1.0


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Nothing is loaded from another site, and no script runs but the page's own."""


async def answer(controller: Controller, settings: Settings, journal: Journal) -> web.Response:
    """The page as it is now; without its history when the journal does not answer in time."""
    try:
        async with asyncio.timeout(HISTORY_PATIENCE_S):
            newest, modes = await journal.query(limit=RECORDS), await journal.query(kind=Kind.MODE, limit=1)
            records = [*newest, *(record for record in modes if not newest or record.id < newest[-1].id)]
    except TimeoutError:
        records = []
    text = page(controller.snapshot, settings, controller.clock.now(), records)
    return web.Response(text=text, content_type="text/html", headers=HEADERS)


def page(snapshot: Snapshot, settings: Settings, now: Moment, records: Sequence[Record] = ()) -> str:
    """The whole page as HTML."""
    kind, word, sentence = headline(snapshot, now.mono)
    steps = "".join(f"<li>{escape(step)}</li>" for step in doing(snapshot, settings, now.mono))
    notes = "".join(f"<li>{escape(note)}</li>" for note in snapshot.problems)
    banner = "".join(f'<p class="drill" role="note">{escape(drill)}</p>' for drill in drills(snapshot, now.mono))
    rows = "".join(_row(snapshot, name, now.mono) for name in settings.policy.vpns)
    lines = "".join(_told(at, message) for at, message in told(records, TOLD))
    links = "".join(f'<li><a href="{link}">{text}</a></li>' for link, text in LINKS.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{SIGNS[kind]} {escape(word)} – Mayday</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark">
<link rel="icon" id="icon" href="{_icon(kind)}">
<style>{STYLE}</style><noscript><meta http-equiv="refresh" content="5"></noscript></head>
<body><p class="lost" id="lost" role="alert" hidden></p>
<header><h1>Mayday</h1></header>
<main>
<div class="state {kind}" id="mode" role="status" data-live><strong>{SIGNS[kind]} {escape(word)}</strong>
<p>{escape(sentence)}</p></div>
<div id="doing" data-live>{banner}{f'<ul class="notes" aria-label="Problems">{notes}</ul>' if notes else ""}
{f'<ul class="doing" aria-label="What is done">{steps}</ul>' if steps else ""}</div>
<table class="cards" role="table"><caption>VPNs</caption>
<thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col">VPN</th>
<th role="columnheader" scope="col">Phase</th><th role="columnheader" scope="col">Why</th>
<th role="columnheader" scope="col">Stabilization left</th>
<th role="columnheader" scope="col">Engines working</th></tr></thead>
<tbody id="vpns" role="rowgroup" data-live>{rows}</tbody></table>
<table class="told"><caption>What happened last (UTC)</caption>
<thead class="unseen"><tr><th scope="col">When</th><th scope="col">What</th></tr></thead>
<tbody id="told" data-live>{lines or _NOTHING}</tbody></table>
</main>
<footer><h2 id="more">More</h2><nav aria-labelledby="more"><ul>{links}</ul></nav>
<p><small id="at" data-live>As of {now.wall:%Y-%m-%d %H:%M:%S} UTC · version {escape(__version__)} · \
CONTROL={settings.control}</small></p></footer>
<script>{SCRIPT}</script></body></html>
"""


_NOTHING = '<tr><td colspan="2">The history is empty, or cannot be read.</td></tr>'


def _icon(kind: str) -> str:
    """A disc in the state's colour as a data URL, for the browser's tab."""
    disc = f"<circle cx='8' cy='8' r='7' fill='%23{COLOURS[kind][1:]}'/>"
    return f"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>{disc}</svg>"


def _row(snapshot: Snapshot, name: str, mono: float) -> str:
    vpn = snapshot.state.vpns[name]
    left = vpn.stabilization_remaining_s(mono)
    period = max(left, (vpn.deadline or 0) - vpn.since.mono)
    bar = f'<progress aria-hidden="true" max="{period:.0f}" value="{period - left:.0f}"></progress>' if left else ""
    phase = f'<span class="word {vpn.phase}">{vpn.phase}</span>'
    if vpn.phase is not Phase.UNKNOWN:
        phase += f' <span class="faint">for {duration(mono - vpn.since.mono)}</span>'
    if out_of_service(snapshot.state, name) is NotUsable.VPN_IN_DOUBT:
        suspect = snapshot.judgements[name].verdict is Verdict.SUSPECT
        phase += f' <span class="word unknown">{"suspect" if suspect else "in doubt"}</span>'
    cells = {
        "Phase": phase,
        "Why": _why(snapshot, name),
        "Stabilization left": f"{duration(left)}{bar}" if left else "–",
        "Engines working": _engines(snapshot, name),
    }
    text = "".join(f'<td role="cell" data-name="{label}"><div>{cell}</div></td>' for label, cell in cells.items())
    port = snapshot.forwarded.get(name)
    forwards = f' <small class="faint">forwards port {port}</small>' if port else ""
    return f'<tr role="row"><th role="rowheader" scope="row" data-name="VPN">{escape(name)}{forwards}</th>{text}</tr>'


def _why(snapshot: Snapshot, name: str) -> str:
    """What each source that says unhealthy or suspect reports; where none does, what brought the VPN into its phase."""
    objections = [s for s in snapshot.judgements[name].signals if s.verdict in {Verdict.UNHEALTHY, Verdict.SUSPECT}]
    if objections:
        return "<br>".join(f"{escape(signal.source)}: {escape(signal.detail)}" for signal in objections)
    return escape(snapshot.state.vpns[name].detail) or "–"


def _engines(snapshot: Snapshot, name: str) -> str:
    counts = {state: snapshot.counts.get((name, state), 0) for state in EngineState}
    working = counts.pop(EngineState.WORKING)
    if out_of_service(snapshot.state, name) is not None:
        return f"none; {working} out of service" if working else "none"
    text = f"{working} of {snapshot.desired.get(name, 0)}"
    others = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    return f'{text} <span class="faint">({others})</span>' if others else text


def _told(at: datetime, message: str) -> str:
    return f'<tr><td><time datetime="{at.isoformat()}">{at:%m-%d %H:%M:%S}</time></td><td>{escape(message)}</td></tr>'
