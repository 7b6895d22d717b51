"""The queries of a dashboard file, as Grafana would send them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INTERVALS = {"$__rate_interval": "15s", "$__interval_ms": "5000", "$__interval": "5s", "$__range": "10m"}
"""What a time range of some minutes and scrapes every second or two come to; the longer names first."""


@dataclass(frozen=True)
class Query:
    """One query, and where it stands."""

    where: str
    expression: str
    instant: bool

    def __str__(self) -> str:
        return self.where

    @property
    def interpolated(self) -> str:
        """With every variable at "All"."""
        text = self.expression
        for name, value in INTERVALS.items():
            text = text.replace(name, value)
        return re.sub(r"\$(job|instance|vpn)\b", ".+", text)


def panels(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel, those in collapsed rows too."""
    for panel in document["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries(path: Path) -> list[Query]:
    """Those of panels and annotations."""
    document = json.loads(path.read_text())
    found = [
        Query(f"{path.stem}: {panel['title']} {target['refId']}", target["expr"], bool(target.get("instant")))
        for panel in panels(document)
        for target in panel.get("targets", ())
    ]
    return found + [
        Query(f"{path.stem}: annotation {item['name']}", item["expr"], False)
        for item in document["annotations"]["list"]
    ]
