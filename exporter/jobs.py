"""When things run: the one place that knows APScheduler.

Intervals and dates are kept by APScheduler; what to do is decided by the callee, at that moment, from fresh facts. A
job that fails is counted, logged and, like one that left something undone, tried again with a back-off.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from exporter.telemetry.metrics import JobResult
from exporter.work import Work

if TYPE_CHECKING:
    from exporter.clock import Clock
    from exporter.telemetry.metrics import Metrics

log = logging.getLogger("mayday")

JobFunction = Callable[[str | None], Awaitable[float | None]]
"""Does one piece of work (on one VPN, or None); returns in how many seconds it wants to run again, None: when due."""

RETRY_MOST_S = 300.0
EPOCH = datetime(2200, 1, 1, tzinfo=UTC)
"""The date that stands for monotonic time 0: later than any wall clock shows, so that the two are told apart, and early
enough that the seconds since 1970, a float in APScheduler, are exact to a microsecond."""


class MonotonicZone(tzinfo):
    """A time zone whose 'now' is the monotonic clock.

    APScheduler asks `datetime.now(zone)` for the time, and `datetime.now` asks the zone's `fromutc`. Answering from
    the monotonic clock keeps the jobs running when the wall clock jumps, and lets them run in virtual time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def fromutc(self, moment: datetime) -> datetime:
        """A date that stands for monotonic time as it is; any other is the wall clock's now, and becomes ours."""
        moment = moment.replace(tzinfo=UTC)
        return moment if moment >= EPOCH else EPOCH + timedelta(milliseconds=math.floor(self._clock.mono() * 1000))

    def utcoffset(self, _now: datetime | None) -> timedelta:
        """Zero."""
        return timedelta(0)

    def dst(self, _now: datetime | None) -> timedelta:
        """Zero."""
        return timedelta(0)

    def tzname(self, _now: datetime | None) -> str:
        """A name for logs."""
        return "monotonic"


class Jobs:
    """The scheduler, and a count and a time for every run."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._functions: dict[Work, JobFunction] = {}
        self._running: set[str] = set()
        self._again: set[str] = set()
        self._tries: dict[str, int] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._closing = False
        self._scheduler = AsyncIOScheduler(
            timezone=MonotonicZone(clock),
            executors={"default": AsyncIOExecutor()},
            # Late is better than never for every job here, and many late runs are as good as one. Of two instances the
            # second does not work: it leaves a note that the first is wanted again, and ends (see _run).
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 2},
        )
        self._scheduler.add_listener(self._missed, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)

    def every(self, work: Work, seconds: float, function: JobFunction) -> None:
        """Run something at an interval, and when it is requested."""
        self._functions[work] = function
        trigger = IntervalTrigger(seconds=seconds, timezone=UTC, start_date=self._at(seconds))
        self._scheduler.add_job(self._run, trigger, args=(work, None), id=f"{work}@interval", name=work)

    def on_request(self, work: Work, function: JobFunction) -> None:
        """Run something when it is requested."""
        self._functions[work] = function

    def request(self, work: Work, vpn: str | None, in_s: float) -> None:
        """Have it run in so many seconds, or as soon as the present run of the same has ended."""
        if self._closing or work not in self._functions:
            return
        key = _key(work, vpn)
        if key in self._running and in_s <= 0:
            self._again.add(key)
            return
        due = self._at(in_s)
        known = self._scheduler.get_job(key)
        if known is not None and (key in self._tries or known.next_run_time <= due):
            # It is due earlier already, or backs off after a failure: asking again does not hurry a retry.
            return
        self._schedule(work, vpn, key, due)

    def _schedule(self, work: Work, vpn: str | None, key: str, due: datetime) -> None:
        if not self._closing:
            self._scheduler.add_job(
                self._run, DateTrigger(due, timezone=UTC), args=(work, vpn), id=key, name=work, replace_existing=True
            )

    def hurry(self) -> None:
        """Something has changed that may let succeed what failed: try it again at once, and begin with short pauses."""
        waiting, self._tries = list(self._tries), {}
        for key in waiting:
            work, _, vpn = key.partition(":")
            self.request(Work(work), vpn or None, 0)

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self._scheduler.start()

    async def close(self, timeout_s: float) -> None:
        """Begin nothing new; give what runs so many seconds to end, then cancel it."""
        self._closing = True
        if self._scheduler.running:
            self._scheduler.pause()
        if self._tasks:
            _, pending = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def _at(self, in_s: float) -> datetime:
        """That moment, in whole milliseconds: never early, and far from where a float of such a date is exact."""
        now = self._clock.mono() * 1000
        return EPOCH + timedelta(milliseconds=math.ceil(now + in_s * 1000) if in_s > 0 else math.floor(now))

    async def _run(self, work: Work, vpn: str | None) -> None:
        key = _key(work, vpn)
        if key in self._running or self._closing:
            self._again.add(key)
            return
        self._running.add(key)
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        began = self._clock.mono()
        result, again_s = JobResult.OK, None
        try:
            again_s = await self._functions[work](vpn)
        except asyncio.CancelledError:
            result = JobResult.ERROR
            raise
        except Exception as error:
            result, again_s = JobResult.ERROR, 1.0
            log.error("job %s failed and is tried again: %s: %s", key, type(error).__name__, error)  # noqa: TRY400
            log.debug("job %s", key, exc_info=error)
        finally:
            self._running.discard(key)
            self._metrics.jobs.labels(work, result).inc()
            self._metrics.job_seconds.labels(work, result).observe(self._clock.mono() - began)
        self._run_again(work, vpn, key, again_s)

    def _run_again(self, work: Work, vpn: str | None, key: str, again_s: float | None) -> None:
        """Schedule the next try: at once if it was asked for meanwhile, with a back-off if this one did not finish."""
        asked = key in self._again
        self._again.discard(key)
        if again_s is None:
            self._tries.pop(key, None)
            if asked:
                self.request(work, vpn, 0)
            return
        tries = self._tries.get(key, 0)
        self._tries[key] = tries + 1
        backed_off = again_s if work is Work.POLL else min(RETRY_MOST_S, again_s * 2 ** min(tries, 10))
        self._schedule(work, vpn, key, self._at(backed_off))

    def _missed(self, event: JobEvent) -> None:
        work = str(event.job_id).split("@", maxsplit=1)[0].split(":", maxsplit=1)[0]
        self._metrics.jobs.labels(work, JobResult.MISSED).inc()
        log.error("job %s was not run at its time", event.job_id)


def _key(work: Work, vpn: str | None) -> str:
    return work if vpn is None else f"{work}:{vpn}"
