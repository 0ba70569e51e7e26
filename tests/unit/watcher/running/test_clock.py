# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import signal
import time

import pytest
from ngfw.running.clock import ClockWatch
from ngfw.running.loop import Loop


@pytest.mark.feature("S7")
def test_each_step_is_told_once_and_time_that_passes_is_none() -> None:
    told: list[float] = []
    ahead = 0.0
    with Loop((signal.SIGUSR1,)) as loop:
        watch = ClockWatch(loop, told.append, clock=lambda: time.time() + ahead)
        watch.start()
        for step in (0.0, 3600.0, -86400.0, 0.0):
            ahead += step
            for _look in range(3):
                loop.after("wake", 0.01, lambda: None)
                loop.wait()
    assert [round(each) for each in told] == [3600, -86400]
