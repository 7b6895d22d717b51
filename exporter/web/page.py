"""The page for people."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from exporter import __version__
from exporter.config import Control
from exporter.core.model import EngineState, Mode, Phase

if TYPE_CHECKING:
    from exporter.config import Settings
    from exporter.core.snapshot import Snapshot

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #d0d7de}
.banner{padding:.8rem 1rem;border-radius:.4rem;font-weight:600}
.normal{background:#dafbe1}.emergency{background:#fff1c2}.outage,.unready{background:#ffd7d5}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}.banner{color:#1b1f24}a{color:#58a6ff}}
"""
LINKS = ("/metrics", "/vpn/status", "/engines", "/history", "/-/healthy", "/-/ready")


def page(snapshot: Snapshot, settings: Settings, mono: float) -> str:
    """The whole page as HTML; it reloads itself every five seconds."""
    rows = "".join(_row(snapshot, name, mono) for name in settings.policy.vpns)
    links = " · ".join(f'<a href="{link}">{link}</a>' for link in LINKS)
    notes = [*snapshot.problems]
    if settings.control is not Control.ON:
        notes.append(f"CONTROL is {settings.control}: containers are not touched.")
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    css, text = _banner(snapshot, mono)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Mayday: {escape(text)}</title>
<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="5"><style>{STYLE}</style></head>
<body><h1>Mayday</h1><p class="banner {css}" id="mode">{escape(text)}</p>{f"<ul>{items}</ul>" if items else ""}
<table><thead><tr><th>VPN</th><th>phase</th><th>why</th><th>stabilization left</th>
<th>engines working / desired</th></tr></thead>
<tbody>{rows}</tbody></table><p>{links}</p><p><small>version {escape(__version__)}</small></p></body></html>
"""


def _banner(snapshot: Snapshot, mono: float) -> tuple[str, str]:
    if not snapshot.ready:
        return "unready", "Not ready: Docker gives no answer, or was not read yet"
    if snapshot.state.mode is Mode.EMERGENCY:
        failed = ", ".join(snapshot.state.having(Phase.FAILED))
        return "emergency", f"Emergency for {snapshot.emergency_duration_s(mono):.0f} s: {failed} failed"
    if snapshot.state.mode is Mode.OUTAGE:
        return "outage", "Outage: all VPNs have failed"
    return "normal", "Normal"


def _row(snapshot: Snapshot, name: str, mono: float) -> str:
    vpn = snapshot.state.vpns[name]
    left = vpn.stabilization_remaining_s(mono)
    working = snapshot.counts.get((name, EngineState.WORKING), 0)
    cells = (
        name,
        vpn.phase,
        f"{vpn.reason or '–'}: {vpn.detail}" if vpn.detail else "–",
        f"{left:.0f} s" if left else "–",
        f"{working} / {snapshot.desired.get(name, 0)}",
    )
    return "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>"
