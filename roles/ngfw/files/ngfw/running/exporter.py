# SPDX-License-Identifier: GPL-3.0-or-later
"""The counters for Prometheus, over HTTP, by its own client library and in a thread of its own.

The library takes longer to load than the watcher takes to start, so the thread loads it, when the watcher is up.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from threading import Thread
from typing import Any

from ..metrics import Metrics
from ..settings.config import Listen
from .loop import Loop

_LABELS = {"ngfw_events_total": "type", "ngfw_rule_hits_total": "rule", "ngfw_skips_total": "reason"}
_MISSING = (
    "metrics cannot be offered, for the Python library prometheus_client is not installed; install the package "
    "python3-prometheus-client, or set metrics: {listen: null}"
)


class Exporter:
    """Answers on one address until the process ends. What cannot be done is reported, and stops nothing else."""

    def __init__(self, loop: Loop, metrics: Metrics, *, failed: Callable[[str], None]) -> None:
        self._loop, self._metrics, self._failed = loop, metrics, failed
        self._answer = -1

    def start(self, listen: Listen) -> None:
        """Begin to listen, in a moment."""
        self._answer, writer = os.pipe2(os.O_CLOEXEC)
        self._loop.watch(self._answer, self._hear)
        Thread(target=self._serve, args=(listen, writer), daemon=True, name="metrics").start()

    def _serve(self, listen: Listen, writer: int) -> None:
        with os.fdopen(writer, "wb") as answer:
            try:
                library = importlib.import_module("prometheus_client")
                registry = library.CollectorRegistry()
                registry.register(_Collector(importlib.import_module("prometheus_client.core"), self._metrics))
                endpoint = importlib.import_module(".endpoint", __package__)
                server = endpoint.Endpoint(
                    endpoint.listen(listen.host, listen.port),
                    partial(library.generate_latest, registry),
                    library.CONTENT_TYPE_LATEST,
                )
            except ImportError:
                answer.write(_MISSING.encode())
                return
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                text = f"metrics cannot be offered on {listen.host}, port {listen.port} ({reason}); set metrics.listen"
                answer.write(text.encode())
                return
        server.serve()

    def _hear(self) -> None:
        self._loop.unwatch(self._answer)
        with os.fdopen(self._answer, "rb") as stream:
            problem = stream.read().decode()
        if problem:
            self._failed(problem)


class _Collector:
    """Translates the counters, whatever there are, at each question."""

    def __init__(self, core: Any, metrics: Metrics) -> None:
        self._core, self._metrics = core, metrics

    def collect(self) -> Iterator[Any]:
        for name, value in _snapshot(self._metrics).items():
            if isinstance(value, dict) and "buckets" in value:
                yield self._core.HistogramMetricFamily(
                    name, _help(name), buckets=list(value["buckets"].items()), sum_value=value["sum"]
                )
            elif name.endswith("_total"):
                yield self._counter(name, value)
            else:
                yield self._core.GaugeMetricFamily(name, _help(name), value=value)

    def _counter(self, name: str, value: Any) -> Any:
        if isinstance(value, int):
            return self._core.CounterMetricFamily(name, _help(name), value=value)
        if isinstance(value, Mapping):
            label = _LABELS[name]
            value = [{label: key, "count": count} for key, count in value.items()]
        labels = [key for key in value[0] if key != "count"] if value else []
        family = self._core.CounterMetricFamily(name, _help(name), labels=labels)
        for item in value:
            family.add_metric([str(item[label]) for label in labels], item["count"])
        return family


def _snapshot(metrics: Metrics) -> dict[str, Any]:
    while True:
        try:
            return metrics.to_dict()
        except RuntimeError:  # a name came while its table was copied
            continue


def _help(name: str) -> str:
    return name.removeprefix("ngfw_").removesuffix("_total").replace("_", " ")
