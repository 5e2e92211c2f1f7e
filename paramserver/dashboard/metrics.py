"""Readings as Prometheus reads them: a registry for each cluster, filled when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from paramserver.drawing.panel import Reading

PREFIX: Final = "paramserver_"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Readings(Collector):
    """Collects readings for one registry.

    Parameters
    ----------
    ask : callable
        Returns the readings as they are now.
    """

    def __init__(self, ask: Callable[[], Iterable[Reading]]) -> None:
        self._ask = ask

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: what there is to read is known when it is read."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield a family for all readings of one name."""
        families: dict[str, Metric] = {}
        for reading in self._ask():
            names = [name for name, _ in reading.labels]
            kind = CounterMetricFamily if reading.name.endswith("_total") else GaugeMetricFamily
            name = PREFIX + reading.name
            family = families.get(name)
            if family is None:
                family = families[name] = kind(name, reading.about, labels=names)
            family.add_metric([value for _, value in reading.labels], reading.value)  # type: ignore[attr-defined]
        yield from families.values()


def exposition(ask: Callable[[], Iterable[Reading]]) -> Callable[[], bytes]:
    """Return what answers a scrape of ``/metrics``.

    Parameters
    ----------
    ask : callable
        Returns the readings as they are now.
    """
    registry = CollectorRegistry()
    registry.register(Readings(ask))
    return lambda: generate_latest(registry)
