"""The dashboard of Mayday itself: whether it sees, whether it runs, what it costs."""

from __future__ import annotations

from grafana.parts import BLUE, GREEN, GREY, RED, TARGET, YELLOW, YES_NO, Page, counted, lines, number, query, rows

CONTROLS = {0: ("on", GREEN), 1: ("dry-run", YELLOW), 2: ("off", RED)}
ALERTMANAGER = {-1: ("not configured", GREY), **YES_NO}


def internals() -> Page:
    """The page."""
    page = Page(
        "Mayday / Internals",
        "mayday-internals",
        "Mayday's own health: its view of Docker, its jobs, its doors, its process.",
        vpns=False,
    )
    _health(page)
    _jobs(page)
    _docker(page)
    _doors(page)
    _process(page)
    return page


def _health(page: Page) -> None:
    page.row("Health")
    alertmanager = (
        f"max by (instance) (mayday_alertmanager_up{{{TARGET}}})"
        f" or on (instance) max by (instance) (mayday_build_info{{{TARGET}}} * 0 - 1)"
    )
    page.add(
        number("Scraped", "Whether Prometheus reaches Mayday.", f"up{{{TARGET}}}", states=YES_NO).span(4),
        number(
            "Control",
            "Only with `on` are containers touched.",
            f'sum by (instance) (mayday_control{{{TARGET},control="on"}} * 0'
            f' or mayday_control{{{TARGET},control="dry-run"}} * 1 or mayday_control{{{TARGET},control="off"}} * 2)',
            states=CONTROLS,
        ).span(4),
        number(
            "Docker answers", "While it does not, nothing is decided.", f"mayday_docker_up{{{TARGET}}}", states=YES_NO
        ).span(4),
        number(
            "Event stream",
            "While it is down, failures are found by polling.",
            f"mayday_docker_events_connected{{{TARGET}}}",
            states=YES_NO,
        ).span(4),
        number("Journal", "Whether it is kept on disk.", f"mayday_journal_up{{{TARGET}}}", states=YES_NO).span(4),
        number("Alertmanager", "Whether its API answers.", alertmanager, states=ALERTMANAGER).span(4),
        number(
            "Age of the facts",
            "Time since Docker was last read whole.",
            f"time() - mayday_snapshot_timestamp_seconds{{{TARGET}}}",
            unit="s",
            levels=((None, GREEN), (90, YELLOW), (180, RED)),
            decimals=0,
        ).span(6),
        number(
            "Running for",
            "Time since the process was started.",
            f"time() - process_start_time_seconds{{{TARGET}}} and on (job, instance) mayday_build_info{{{TARGET}}}",
            unit="s",
            levels=((None, BLUE),),
            decimals=0,
        ).span(6),
        rows("Versions", "What runs.", [query(f"mayday_build_info{{{TARGET}}}", instant=True)]).height(4),
    )


def _jobs(page: Page) -> None:
    page.row("Jobs")
    page.add(
        lines(
            "Runs",
            "Runs of each job per second, by result. missed: it could not begin when it was due.",
            [
                query(
                    f"sum by (instance, job_name, result) (rate(mayday_jobs_total{{{TARGET}}}[$__rate_interval])) > 0",
                    "{{instance}} {{job_name}} {{result}}",
                )
            ],
            unit="ops",
        ),
        lines(
            "Duration",
            "Mean duration of the runs of each job.",
            [
                query(
                    "sum by (instance, job_name) "
                    f"(rate(mayday_job_duration_seconds_sum{{{TARGET}}}[$__rate_interval])) / "
                    "sum by (instance, job_name) "
                    f"(rate(mayday_job_duration_seconds_count{{{TARGET}}}[$__rate_interval]))",
                    "{{instance}} {{job_name}}",
                )
            ],
            unit="s",
        ),
    )


def _docker(page: Page) -> None:
    page.row("Docker")
    page.add(
        lines(
            "Calls",
            "Calls to Docker per second, by operation and result.",
            [
                query(
                    "sum by (instance, operation, result) "
                    f"(rate(mayday_docker_requests_total{{{TARGET}}}[$__rate_interval])) > 0",
                    "{{instance}} {{operation}} {{result}}",
                )
            ],
            unit="reqps",
        ),
        lines(
            "Duration of calls",
            "99th percentile by operation.",
            [
                query(
                    "histogram_quantile(0.99, sum by (instance, operation, le) "
                    f"(rate(mayday_docker_request_duration_seconds_bucket{{{TARGET}}}[$__rate_interval])))",
                    "{{instance}} {{operation}}",
                )
            ],
            unit="s",
        ),
    )


def _doors(page: Page) -> None:
    page.row("Doors")
    page.add(
        lines(
            "Alerts received",
            "By what became of them. no_vpn: it names no configured VPN; own: Mayday's own, ignored.",
            [
                counted("mayday_webhook_alerts_total", "instance, result", TARGET, "{{instance}} {{result}}"),
            ],
            bars=True,
            nothing="No alert was received within the time shown",
        ),
        lines(
            "Refused for a missing or wrong secret",
            "By door.",
            [
                counted(
                    "mayday_unauthorized_requests_total", "instance, endpoint", TARGET, "{{instance}} {{endpoint}}"
                ),
            ],
            bars=True,
            nothing="Nobody was refused within the time shown",
        ),
    )


def _process(page: Page) -> None:
    page.row("Process")
    only = f" and on (job, instance) mayday_build_info{{{TARGET}}}"
    page.add(
        lines(
            "CPU",
            "Share of one core.",
            [query(f"rate(process_cpu_seconds_total{{{TARGET}}}[$__rate_interval]){only}")],
            unit="percentunit",
        ).span(8),
        lines(
            "Memory",
            "Resident memory.",
            [query(f"process_resident_memory_bytes{{{TARGET}}}{only}")],
            unit="bytes",
        ).span(8),
        lines(
            "File descriptors",
            "Open files and sockets.",
            [query(f"process_open_fds{{{TARGET}}}{only}")],
        ).span(8),
        lines(
            "Garbage collections",
            "Collections per second by generation.",
            [
                query(
                    "sum by (instance, generation) "
                    f"(rate(python_gc_collections_total{{{TARGET}}}[$__rate_interval]){only})",
                    "{{instance}} {{generation}}",
                )
            ],
            unit="ops",
        ).span(24),
    )
