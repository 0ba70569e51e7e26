# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: the `feature` marker, and a record of results for `make features` and for the count."""

from __future__ import annotations

import json
import os
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says nothing about the code on a machine that others use as well.
hypothesis.settings.register_profile(
    "busy machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy machine")

_FEATURE = "feature"


class Recorder:
    """Writes {name, outcome, features} of every test to one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[str, dict[str, object]] = {}

    def _add(self, report: pytest.TestReport | pytest.CollectReport, features: list[str]) -> None:
        # setup, call and teardown report one after the other: the first that did not pass is the outcome.
        known = self.outcomes.get(report.nodeid)
        if known is None or known["outcome"] == "passed":
            self.outcomes[report.nodeid] = {"name": report.nodeid, "outcome": report.outcome, "features": features}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._add(report, [str(value) for name, value in report.user_properties if name == _FEATURE])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self._add(report, [])

    def pytest_sessionfinish(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(list(self.outcomes.values()), indent=1) + "\n", encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{_FEATURE}(*ids): the rows of tests/features.md that this test proves")
    target = os.environ.get("NGFW_RESULTS")  # the Makefile names one file for each stage
    if target and not hasattr(config, "workerinput"):  # a worker of pytest-xdist tells its results to the main process
        config.pluginmanager.register(Recorder(Path(target)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers(_FEATURE):
            item.user_properties.extend((_FEATURE, row) for row in marker.args)
