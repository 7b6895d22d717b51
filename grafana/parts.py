"""What the dashboards are made of: panels, queries and variables in Mayday's style."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboard_builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.dashboard import DataSourceRef, ValueMap, ValueMappingResult
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    Panel = stat.Panel | statetimeline.Panel | timeseries.Panel | heatmap.Panel | table.Panel
    P = TypeVar("P", stat.Panel, statetimeline.Panel, timeseries.Panel, heatmap.Panel, table.Panel)

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
TARGET = 'job=~"$job",instance=~"$instance"'
"""The label matchers of every query: which Maydays."""
VPN = f'{TARGET},vpn=~"$vpn"'

# Okabe and Ito's palette, whose colours stay apart for people who see colours differently; every state has a word too.
GREEN, YELLOW, RED, BLUE, GREY = "#009E73", "#E69F00", "#D55E00", "#0072B2", "#999999"

MODES = {0: ("normal", GREEN), 1: ("emergency", YELLOW), 2: ("outage", RED)}
PHASES = {0: ("unknown", GREY), 1: ("healthy", GREEN), 2: ("stabilizing", YELLOW), 3: ("failed", RED)}
YES_NO = {0: ("no", RED), 1: ("yes", GREEN)}
SIGNALS = {0: ("no objection", GREEN), 1: ("unhealthy", RED)}
MODE = (
    "sum by (instance) ("
    f'mayday_mode{{{TARGET},mode="normal"}} * 0 or mayday_mode{{{TARGET},mode="emergency"}} * 1'
    f' or mayday_mode{{{TARGET},mode="outage"}} * 2)'
)
PHASE = (
    "sum by (instance, vpn) ("
    f'mayday_vpn_phase{{{VPN},phase="unknown"}} * 0 or mayday_vpn_phase{{{VPN},phase="healthy"}} * 1'
    f' or mayday_vpn_phase{{{VPN},phase="stabilizing"}} * 2 or mayday_vpn_phase{{{VPN},phase="failed"}} * 3)'
)


def query(
    expression: str, legend: str = "{{instance}}", *, ref: str = "A", instant: bool = False
) -> prometheus.Dataquery:
    """One PromQL query."""
    built = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(ref).datasource(SOURCE)
    return built.instant() if instant else built.range()


def counted(counter: str, labels: str, matchers: str, legend: str) -> prometheus.Dataquery:
    """What a counter counted within each bar, where it counted anything.

    Bars do not overlap, so that together they make the sum.
    """
    expression = f"sum by ({labels}) (rate({counter}{{{matchers}}}[$__rate_interval])) * $__interval_ms / 1000 > 0"
    return query(expression, legend).interval("30s")


def _common(panel: P, title: str, description: str, queries: Sequence[prometheus.Dataquery], unit: str) -> P:
    panel.title(title).description(description).datasource(SOURCE).unit(unit)
    for item in queries:
        panel.with_target(item)
    return panel


def _legend() -> common_builders.VizLegendOptions:
    return (
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
    )


def words(states: dict[int, tuple[str, str]]) -> list[Any]:
    """Numbers shown as words, in colours."""
    results = {
        str(number): ValueMappingResult(text=word, color=color, index=position)
        for position, (number, (word, color)) in enumerate(states.items())
    }
    return [ValueMap(options=results)]


def steps(*levels: tuple[float | None, str]) -> dashboard_builders.ThresholdsConfig:
    """Colours from a value on; the first has no value."""
    return (
        dashboard_builders.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=value, color=color) for value, color in levels])
    )


def number(
    title: str,
    description: str,
    expression: str,
    *,
    unit: str = "short",
    states: dict[int, tuple[str, str]] | None = None,
    levels: Sequence[tuple[float | None, str]] = ((None, BLUE),),
    decimals: int | None = None,
    legend: str = "{{instance}}",
) -> stat.Panel:
    """One value as it is now."""
    panel = _common(stat.Panel(), title, description, [query(expression, legend, instant=True)], unit)
    panel.color_mode(common.BigValueColorMode.BACKGROUND_SOLID if states else common.BigValueColorMode.VALUE)
    panel.graph_mode(common.BigValueGraphMode.NONE).thresholds(steps(*levels))
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    if states:
        panel.mappings(words(states))
    if decimals is not None:
        panel.decimals(decimals)
    return panel.height(4)


def timeline(
    title: str,
    description: str,
    expression: str,
    legend: str,
    states: dict[int, tuple[str, str]],
    *,
    nothing: str = "No data",
) -> statetimeline.Panel:
    """States over time, a line for each series."""
    panel = _common(statetimeline.Panel(), title, description, [query(expression, legend)], "short").no_value(nothing)
    panel.mappings(words(states)).merge_values(True).show_value(common.VisibilityMode.AUTO)
    return panel.row_height(0.8).fill_opacity(80).legend(_legend()).span(24)


def lines(
    title: str,
    description: str,
    queries: Sequence[prometheus.Dataquery],
    *,
    unit: str = "short",
    bars: bool = False,
    stacked: bool = False,
    nothing: str = "No data",
) -> timeseries.Panel:
    """Values over time."""
    panel = _common(timeseries.Panel(), title, description, queries, unit).no_value(nothing)
    if bars:
        panel.decimals(0)
    panel.min(0).legend(_legend()).line_width(1).fill_opacity(60 if stacked or bars else 10)
    panel.draw_style(common.GraphDrawStyle.BARS if bars else common.GraphDrawStyle.LINE)
    panel.tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    if stacked or bars:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    return panel.span(12).height(8)


def distribution(title: str, description: str, metric: str) -> heatmap.Panel:
    """A histogram over time."""
    expression = f"sum by (le) (increase({metric}_bucket{{{TARGET}}}[$__rate_interval]))"
    buckets = query(expression, "{{le}}").format(PromQueryFormat.HEATMAP)
    panel = _common(heatmap.Panel(), title, description, [buckets], "short")
    panel.calculate(False).y_axis(heatmap.YAxisConfig().unit("s"))
    return panel.span(8).height(8)


def quantiles(title: str, description: str, metric: str) -> stat.Panel:
    """Median and 99th percentile over the time shown."""

    def of(share: float) -> str:
        buckets = f"sum by (instance, le) (increase({metric}_bucket{{{TARGET}}}[$__range]))"
        return f"histogram_quantile({share}, {buckets})"

    targets = [
        query(of(0.5), "{{instance}} median", ref="A", instant=True),
        query(of(0.99), "{{instance}} p99", ref="B", instant=True),
    ]
    panel = _common(stat.Panel(), title, description, targets, "s")
    panel.graph_mode(common.BigValueGraphMode.NONE).no_value("none yet").thresholds(steps((None, BLUE)))
    return panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"])).span(8).height(4)


def rows(
    title: str,
    description: str,
    queries: Sequence[prometheus.Dataquery],
    *,
    unit: str = "short",
    value: str | None = None,
    nothing: str = "No data",
) -> table.Panel:
    """A table of what there is now, a line for each series; `value` is the heading of the number, if it is shown."""
    for item in queries:
        item.format(PromQueryFormat.TABLE)
    panel = _common(table.Panel(), title, description, queries, unit).no_value(nothing)
    hidden = ["Time", "__name__", "job", *([] if value else ["Value"])]
    panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(hidden, True),
                "indexByName": {name: place for place, name in enumerate(("instance", "vpn", "reason", "Value"))},
                "renameByName": {"instance": "Mayday", "vpn": "VPN", "reason": "Reason", "Value": value or "Value"},
            },
        )
    )
    return panel.span(12).height(8)


class Page:
    """A dashboard with Mayday's variables, filled panel by panel."""

    def __init__(self, title: str, uid: str, description: str, *, vpns: bool) -> None:
        self._next_id = 1
        self._annotations: list[dict[str, object]] = []
        self.builder = (
            dashboard_builders.Dashboard(title)
            .uid(uid)
            .description(description)
            .tags(["mayday"])
            .timezone("browser")
            .time("now-6h", "now")
            .refresh("10s")
            .editable()
            .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
            .with_variable(dashboard_builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
            .link(
                dashboard_builders.DashboardLink("Mayday")
                .type(dashboard.DashboardLinkType.DASHBOARDS)
                .tags(["mayday"])
                .include_vars(True)
                .keep_time(True)
            )
        )
        self._variable("job", "Job", "label_values(mayday_build_info, job)")
        self._variable("instance", "Mayday", 'label_values(mayday_build_info{job=~"$job"}, instance)')
        if vpns:
            self._variable("vpn", "VPN", f"label_values(mayday_vpn_healthy{{{TARGET}}}, vpn)")

    def _variable(self, name: str, label: str, values: str) -> None:
        self.builder.with_variable(
            dashboard_builders.QueryVariable(name)
            .label(label)
            .query({"query": values, "refId": name})
            .datasource(SOURCE)
            .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
        )

    def _identity(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def row(self, title: str) -> None:
        """Begin a row."""
        self.builder.with_row(dashboard_builders.Row(title).id(self._identity()))

    def add(self, *panels: Panel) -> None:
        """Add panels, from left to right, and down where the width is used up."""
        for panel in panels:
            self.builder.with_panel(panel.id(self._identity()))

    def annotate(self, name: str, expression: str, color: str, text: str) -> None:
        """Mark the times at which an expression has a value."""
        query = dashboard_builders.AnnotationQuery().name(name).datasource(SOURCE).icon_color(color).expr(expression)
        built = query.enable(True).build()
        # The SDK has no names for what Prometheus' annotations have besides.
        self._annotations.append({**built.to_json(), "titleFormat": name, "textFormat": text, "step": "5s"})

    def document(self) -> Any:
        """The dashboard, to be encoded by the SDK."""
        document = self.builder.build().to_json()
        document["id"] = None
        document["annotations"] = {"list": self._annotations}
        return document
