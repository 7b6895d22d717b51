"""The dashboard of the fleet: what the VPNs and engines do, and what Mayday did about it."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from grafana.parts import (
    BLUE,
    GREEN,
    GREY,
    MODE,
    MODES,
    PHASE,
    PHASES,
    RED,
    SIGNALS,
    TARGET,
    VPN,
    YELLOW,
    Page,
    counted,
    distribution,
    lines,
    number,
    quantiles,
    query,
    rows,
    steps,
    timeline,
)

STATES = {"working": GREEN, "unhealthy": YELLOW, "orphaned": RED, "stopped": GREY}
OWN = 'alertname=~"Mayday.*",instance=~"$instance|"'
"""Alerts about the chosen Maydays, and those that name no instance."""


def overview() -> Page:
    """The page."""
    page = Page(
        "Mayday / Overview",
        "mayday-overview",
        "Redundant VPNs, their engines, and the emergencies that Mayday handled.",
        vpns=True,
    )
    # Grafana marks the times at which the value is above 0, and draws neighbouring ones as one. Counters miss no
    # emergency, however short.
    page.annotate(
        "Emergency entered",
        "sum by (instance, vpn, reason) "
        f"(increase(mayday_emergency_mode_entries_total{{{TARGET}}}[$__rate_interval])) > 0",
        YELLOW,
        "{{instance}} entered emergency mode: {{vpn}} failed ({{reason}})",
    )
    page.annotate(
        "Emergency left",
        f"increase(mayday_emergency_mode_seconds_total{{{TARGET}}}[$__rate_interval]) > 0"
        f" and on (job, instance) mayday_emergency_mode_active{{{TARGET}}} == 0",
        GREEN,
        "{{instance}} left emergency mode",
    )
    _now(page)
    _phases(page)
    _engines(page)
    _emergencies(page)
    _speed(page)
    _objective(page)
    return page


def _now(page: Page) -> None:
    page.row("Now")
    page.add(
        number("Mode", "Normal, emergency (some VPN has failed) or outage (all have).", MODE, states=MODES).span(4),
        number(
            "In emergency for",
            "How long the present emergency has lasted; 0 when there is none.",
            f"(time() - mayday_emergency_mode_entered_timestamp_seconds{{{TARGET}}})"
            f" * mayday_emergency_mode_active{{{TARGET}}}",
            unit="s",
            levels=((None, GREEN), (1, YELLOW), (1800, RED)),
            decimals=0,
        ).span(4),
        number(
            "Engines working",
            "Engines that run, have their VPN's network, and do not fail their health check.",
            f'sum by (instance) (mayday_engines{{{TARGET},state="working"}})',
        ).span(4),
        number(
            "Emergencies",
            "Times that emergency mode was entered within the time shown.",
            f"sum by (instance) (round(increase(mayday_emergency_mode_entries_total{{{TARGET}}}[$__range])))",
            levels=((None, GREEN), (1, YELLOW)),
            decimals=0,
        ).span(4),
        number(
            "Time in emergency",
            "Time spent in emergency mode within the time shown.",
            f"increase(mayday_emergency_mode_seconds_total{{{TARGET}}}[$__range])",
            unit="s",
            levels=((None, GREEN), (1, YELLOW)),
            decimals=0,
        ).span(4),
        number(
            "All VPNs healthy, 30 days",
            "Share of the last 30 days, as far as recorded, in which every VPN was healthy. The objective is 99 %.",
            f"instance:mayday_redundant:avg30d{{{TARGET}}}",
            unit="percentunit",
            levels=((None, RED), (0.99, GREEN)),
            decimals=2,
        ).span(4),
    )


def _phases(page: Page) -> None:
    page.row("VPNs")
    page.add(
        timeline("Mode over time", "The fleet's mode.", MODE, "{{instance}}", MODES).height(4),
        timeline(
            "Phase of each VPN",
            "Failed VPNs carry no engines. A VPN that has recovered stabilizes before it is filled again.",
            PHASE,
            "{{instance}} {{vpn}}",
            PHASES,
        ).height(6),
        timeline(
            "Who objected to a VPN",
            "Sources that objected at some time: docker, the container and its health check; alertmanager, an alert "
            "that names the VPN; operator, a drill.",
            f"max by (instance, vpn, source) (mayday_vpn_signal{{{VPN}}})"
            " and on (instance, vpn, source)"
            f" max by (instance, vpn, source) (max_over_time(mayday_vpn_signal{{{VPN}}}[$__range] @ end())) == 1",
            "{{instance}} {{vpn}} {{source}}",
            SIGNALS,
            nothing="No source objected to a VPN within the time shown",
        ).height(6),
        timeline(
            "VPN in doubt",
            "Suspect: something may be wrong. The VPN's engines are out of service, and nothing is removed.",
            f"max by (instance, vpn) (mayday_vpn_suspect{{{VPN}}})",
            "{{instance}} {{vpn}}",
            {0: ("no doubt", GREEN), 1: ("suspect", YELLOW)},
        ).height(5),
        timeline(
            "Evacuation waits",
            "Engines of a failed VPN are kept: the failure has not lasted long enough, or no other VPN carries.",
            f"max by (instance, vpn) (mayday_evacuation_deferred{{{VPN}}})",
            "{{instance}} {{vpn}}",
            {0: ("nothing waits", GREEN), 1: ("waits", YELLOW)},
        ).height(5),
        timeline(
            "Drills",
            "A drill, and nothing else, has the VPN declared failed.",
            f"max by (instance, vpn) (mayday_drill{{{VPN}}})",
            "{{instance}} {{vpn}}",
            {0: ("no drill", GREY), 1: ("drill", BLUE)},
        ).height(5),
        lines(
            "Stabilization left",
            "How long a recovered VPN still waits before it is filled.",
            [query(f"mayday_vpn_stabilization_remaining_seconds{{{VPN}}}", "{{instance}} {{vpn}}")],
            unit="s",
        ),
        rows(
            "Forwarded ports",
            "The port that each VPN forwards now; one engine of Mayday's own listens on it.",
            [query(f"max by (instance, vpn) (mayday_vpn_forwarded_port{{{VPN}}}) > 0", instant=True)],
            value="Port",
            unit="none",
            nothing="No VPN is known to forward a port",
        ),
    )


def _engines(page: Page) -> None:
    page.row("Engines")
    desired = query(f"sum(mayday_engines_desired{{{VPN}}})", "desired", ref="B")
    panel = lines(
        "Engines on $vpn",
        "Engines by state, stacked, and (the line) how many there should be in the present mode. Of several Maydays, "
        "the sum.",
        [query(f"sum by (state) (mayday_engines{{{VPN}}})", "{{state}}"), desired],
        stacked=True,
    )
    for state, color in STATES.items():
        panel.override_by_name(state, [_color(color)])
    page.add(
        panel.override_by_name("desired", _line()).repeat("vpn").repeat_direction("h").max_per_row(3).span(24),
        lines(
            "Engines by owner",
            "Those that Mayday made, and those of others, by state. Of several Maydays, the sum.",
            [query(f"sum by (owner, state) (mayday_dependents{{{VPN}}}) > 0", "{{owner}} {{state}}")],
            stacked=True,
        ).span(24),
        lines(
            "Engines removed",
            "By reason and result. vpn_failed: evacuated; overtaken: created while its VPN failed, and undone; "
            "forwarded_port: made way for one on the port.",
            [counted("mayday_engines_removed_total", "reason, result", VPN, "{{reason}} {{result}}")],
            bars=True,
            nothing="None was removed within the time shown",
        ),
        lines(
            "Engines provisioned",
            "By reason and result. fill: up to the share; relief: in an emergency; replace and repair: one for one.",
            [counted("mayday_engines_provisioned_total", "reason, result", VPN, "{{reason}} {{result}}")],
            bars=True,
            nothing="None was provisioned within the time shown",
        ),
    )


def _line() -> list[DynamicConfigValue]:
    """A dashed line over the stack."""
    return [
        DynamicConfigValue(id_val="custom.stacking", value={"mode": "none", "group": "A"}),
        DynamicConfigValue(id_val="custom.fillOpacity", value=0),
        DynamicConfigValue(id_val="custom.lineWidth", value=2),
        DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]}),
        _color(BLUE),
    ]


def _color(color: str) -> DynamicConfigValue:
    return DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": color})


def _emergencies(page: Page) -> None:
    page.row("Emergencies")
    entries = (
        f"sum by (instance, vpn, reason) (round(increase(mayday_emergency_mode_entries_total{{{VPN}}}[$__range])))"
    )
    failures = (
        "sum by (instance, vpn, reason) (round(increase(mayday_vpn_transitions_total"
        f'{{{VPN},phase="failed"}}[$__range])))'
    )
    page.add(
        rows(
            "Entries by VPN and reason",
            "Which VPN's failure began an emergency, and what showed it, within the time shown.",
            [query(f"{entries} > 0", instant=True)],
            value="Times",
            nothing="No emergency within the time shown",
        ),
        rows(
            "Failures by VPN and reason",
            "Every failure of a VPN within the time shown, also those during another emergency.",
            [query(f"{failures} > 0", instant=True)],
            value="Times",
            nothing="No failure within the time shown",
        ),
        timeline(
            "Mayday's alerts",
            "Alerts of rules/alerts that are pending or firing. Each has a runbook.",
            f'max by (alertname, instance) (ALERTS{{{OWN},alertstate="firing"}} * 1)'
            f' or max by (alertname, instance) (ALERTS{{{OWN},alertstate="pending"}} * 0)',
            "{{alertname}} {{instance}}",
            {0: ("pending", YELLOW), 1: ("firing", RED)},
            nothing="No alert within the time shown",
        ).height(8),
    )


def _speed(page: Page) -> None:
    page.row("How fast")
    parts = (
        ("Detection", "from Docker's event to the VPN's phase being failed", "mayday_failover_detection_seconds"),
        ("Cleanup", "from the failure to the last ghost engine being gone", "mayday_failover_cleanup_seconds"),
        ("Restore", "from the end of the stabilization to the full share", "mayday_capacity_restore_seconds"),
    )
    page.add(*(quantiles(name, f"Time {what}, within the time shown.", metric) for name, what, metric in parts))
    page.add(*(distribution(f"{name} over time", f"Time {what}.", metric) for name, what, metric in parts))


def _objective(page: Page) -> None:
    page.row("Objective: all VPNs healthy for 99 % of 30 days")
    windows = ("1h", "6h", "1d", "3d")
    page.add(
        lines(
            "Burn rate",
            "How many times faster than allowed redundancy is being lost, over several windows. Above 1 for long, the "
            "objective is missed.",
            [
                query(
                    f"instance:mayday_redundancy_lost:ratio{window}{{{TARGET}}} / 0.01",
                    f"{{{{instance}}}} {window}",
                    ref=ref,
                )
                for window, ref in zip(windows, "ABCD", strict=True)
            ],
            unit="x",
        )
        .thresholds(steps((None, GREEN), (1, YELLOW), (14.4, RED)))
        .thresholds_style(common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED))
        .span(24)
    )
