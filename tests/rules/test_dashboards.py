"""The committed dashboards are what the code builds, keep Grafana's rules, and ask only for what is exposed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.build import FOLDER, built
from grafana.parts import GREEN, RED, YELLOW
from tests.rules.exposition import unknown
from tests.rules.shipped import RECORDED
from tests.support.dashboards import Query, panels, queries

ROOT = Path(__file__).parents[2]
FILES = sorted(FOLDER.glob("*.json"))
DRAWN = [
    pytest.param(panel, id=f"{path.stem}: {panel['title']}")
    for path in FILES
    for panel in panels(json.loads(path.read_text()))
    if panel["type"] != "row"
]


def test_the_committed_dashboards_are_what_the_code_builds() -> None:
    """Building them anew changes nothing, and there is no other file."""
    assert {path: path.read_text() for path in FILES} == built()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dashboard_can_be_provisioned(path: Path) -> None:
    """A fixed identity, no number of some database, no input that only an import by hand would fill."""
    document = json.loads(path.read_text())
    assert document["uid"] == path.stem
    assert document["id"] is None
    assert "__inputs" not in document
    assert "${DS_" not in path.read_text()
    assert document["schemaVersion"] <= 41
    names = [item["name"] for item in document["templating"]["list"]]
    assert names[:3] == ["datasource", "job", "instance"]
    for item in document["templating"]["list"][1:]:
        assert item["multi"]
        assert item["includeAll"]
        assert item["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_panels_lie_on_the_grid_and_not_on_each_other(path: Path) -> None:
    """Identities are unique, everything lies within 24 columns, and no two panels overlap."""
    taken: dict[tuple[int, int], str] = {}
    identities = set()
    for panel in panels(json.loads(path.read_text())):
        assert panel["id"] not in identities
        identities.add(panel["id"])
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]


@pytest.mark.parametrize("panel", DRAWN)
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    """A description, a unit, and the data source of the dashboard's variable, for itself and for each query."""
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references) > 0
    assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


@pytest.mark.parametrize("query", [query for path in FILES for query in queries(path)], ids=str)
def test_a_query_asks_for_what_is_exposed(query: Query) -> None:
    """Every metric and label is one that the program exposes or a rule records, of the chosen Maydays alone."""
    assert unknown(query.expression, RECORDED) == []
    for selector in re.findall(r"mayday_[\w:]+(\{[^}]*\})?", query.expression):
        assert 'instance=~"$instance"' in selector, query.expression
    if "mayday" not in query.expression:
        assert re.search(r"\b(up|ALERTS)\{", query.expression), query.expression


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_grafanas_own_model_reads_a_dashboard_without_loss(path: Path) -> None:
    """The SDK that is generated from Grafana's schema decodes the file and encodes it to the same, panel by panel."""
    document = json.loads(path.read_text())
    again = json.loads(json.dumps(Dashboard.from_json(document), cls=JSONEncoder))
    for panel, copy in zip(document.pop("panels"), again.pop("panels"), strict=True):
        assert panel == copy, panel["title"]
    # Of annotations the schema names only some fields; what Prometheus' have besides is the data source's own.
    ours, theirs = document.pop("annotations")["list"], again.pop("annotations")["list"]
    assert [item.items() >= copy.items() for item, copy in zip(ours, theirs, strict=True)] == [True] * len(ours)
    again.setdefault("id", None)
    assert document == again


@pytest.mark.parametrize("query", [query for path in FILES for query in queries(path)], ids=str)
def test_a_query_fits_every_time_range_and_every_mayday(query: Query) -> None:
    """Ranges follow what is shown and how often is scraped; no target is named; a selection of several is a match."""
    for interval in re.findall(r"\[([^\]]+)\]", query.expression):
        assert interval in {"$__rate_interval", "$__range"}, query.expression
    assert not re.search(r'(job|instance|vpn)(=|!=)"', query.expression)
    assert not re.search(r"mayday:8000|localhost|127\.0\.0\.1", query.expression)
    for counter in re.findall(r"(\w+)\((?:mayday|process|python)_\w+_(?:total|bucket|sum|count)\b", query.expression):
        assert counter in {"rate", "increase"}, query.expression


@pytest.mark.parametrize("panel", DRAWN)
def test_a_panel_can_be_read(panel: dict[str, Any]) -> None:
    """Units that Grafana knows, a legend for each line, and words for every state in colours that mean one thing."""
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] in {"short", "none", "s", "percentunit", "bytes", "ops", "reqps", "x"}
    assert panel["title"][0].isupper() or panel["title"].startswith("Mayday")
    if panel["type"] in {"timeseries", "state-timeline", "stat", "heatmap"}:
        assert all(target["legendFormat"] for target in panel["targets"])
    if panel["type"] == "state-timeline":
        assert defaults["mappings"]
        assert defaults["noValue"]
    if panel["type"] == "stat":
        assert defaults["mappings"] if "mappings" in defaults else defaults["thresholds"]["steps"]
    meaning = {"failed": RED, "outage": RED, "stabilizing": YELLOW, "emergency": YELLOW, "healthy": GREEN}
    for mapping in defaults.get("mappings", ()):
        for option in mapping["options"].values():
            assert option["color"] == meaning.get(option["text"], option["color"])


def test_grafana_finds_what_is_provisioned() -> None:
    """The provider's folder is where compose mounts the dashboards; the data source has a fixed identity."""
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    provider = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/mayday.yml").read_text())["providers"][0]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in service["volumes"]
    assert "./grafana/provisioning:/etc/grafana/provisioning:ro" in service["volumes"]
    source = yaml.safe_load((ROOT / "grafana/provisioning/datasources/mayday.yml").read_text())["datasources"][0]
    assert source["uid"]
    home = service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (FOLDER / Path(home).name).is_file()
