"""The client library's counters and histograms, with their samples kept from one scrape to the next.

Nearly all series stand still between two scrapes, and making their samples anew is a third of a scrape's time. Here
that is done only for an instrument that has counted something since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric


class _Kept:
    """The families of one instrument."""

    def __init__(self, instrument: Counter | Histogram, registry: CollectorRegistry) -> None:
        self._instrument = instrument
        self._families: Sequence[Metric] = ()
        self._families_of: object = None
        self._newest: object = object()
        """Another object after each step. A thread may step while samples are made: then this is no longer the object
        that they were made for, and the next scrape makes them again."""
        registry.register(self)

    def stepped(self) -> None:
        """Something was counted, just now."""
        self._newest = object()

    def collect(self) -> Iterable[Metric]:
        """The family with all samples."""
        newest = self._newest
        if newest is not self._families_of:
            self._families = list(self._instrument.collect())
            self._families_of = newest
        return self._families

    def describe(self) -> Iterable[Metric]:
        """The family without samples."""
        return self._instrument.describe()


class KeptCounter:
    """A counter, or one series of it. Series that are asked for begin at 0."""

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), *, registry: CollectorRegistry) -> None:
        self._counter = Counter(name, text, labels, registry=None)
        self._kept = _Kept(self._counter, registry)

    def labels(self, *values: str) -> KeptCounter:
        """The series with these values."""
        series = object.__new__(KeptCounter)
        series._counter, series._kept = self._counter.labels(*values), self._kept
        self._kept.stepped()
        return series

    def inc(self, amount: float = 1.0) -> None:
        """Count."""
        self._counter.inc(amount)
        self._kept.stepped()


class KeptHistogram:
    """A histogram, or one series of it."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._histogram = Histogram(name, text, labels, buckets=buckets, registry=None)
        self._kept = _Kept(self._histogram, registry)

    def labels(self, *values: str) -> KeptHistogram:
        """The series with these values."""
        series = object.__new__(KeptHistogram)
        series._histogram, series._kept = self._histogram.labels(*values), self._kept
        self._kept.stepped()
        return series

    def observe(self, value: float) -> None:
        """Put one value into its bucket."""
        self._histogram.observe(value)
        self._kept.stepped()
