# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel ends entries by a clock that nobody sets; what is believed of them follows it."""

from __future__ import annotations

import time

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Origin

ATTACKER, HOST = "203.0.113.7", "198.51.100.1"

pytestmark = pytest.mark.feature("S7")


class Clock:
    """The system's, set by so many seconds."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.mark.parametrize("step", [-10 * 365 * 86400.0, -7200.0, 7200.0, 10 * 365 * 86400.0])
def test_what_is_in_force_stays_known_with_its_time_left(lab, block, step):
    clock = Clock()
    keeper = lab.firewall(origin=Origin.WATCHER, keep_mirror=True, clock=clock)
    keeper.block([block(ATTACKER, duration=3600)])
    clock.ahead = step

    (entry,) = keeper.entries()
    standing = keeper.look().standing(block(ATTACKER, duration=3600))

    assert 3500 < entry.expires_at - clock() <= 3600
    assert standing.expires_at == entry.expires_at
    assert standing.created_at <= clock()
    again = keeper.block([block(ATTACKER, duration=3600)])
    assert (len(again.already), again.changed) == (1, False)
    longer = keeper.block([block(ATTACKER, duration=7200)])
    assert len(longer.extended) == 1
    assert 7190 < keeper.entries()[0].expires_at - clock() <= 7200
    assert not lab.arrives(ATTACKER, HOST)
