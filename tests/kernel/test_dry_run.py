# SPDX-License-Identifier: GPL-3.0-or-later
"""A dry run changes nothing and tells exactly what the real run then does; a second run changes nothing."""

from __future__ import annotations

import dataclasses
import time

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Action, Block, Direction
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.guards import WhitelistItem


def blocks(*addresses, **options):
    return [Block(parse_network(address), **{"duration": 0, **options}) for address in addresses]


def items(*addresses, comment=""):
    return [WhitelistItem(parse_network(address), comment) for address in addresses]


def nothing(_lab, _firewall):
    """A host as it comes."""


def busy(_lab, firewall):
    firewall.block(blocks("203.0.113.1", "203.0.113.2", "2001:db8:a::/64", duration=600, rule_name="busy"))
    firewall.block(blocks("203.0.113.0/28", action=Action.REJECT, direction=Direction.DESTINATION))
    firewall.block(blocks("203.0.113.1", action=Action.LOG, log_prefix="x "))
    firewall.block(blocks("203.0.113.1", action=Action.RATE_LIMIT, rate="60/minute", burst=5))
    firewall.whitelist(items("203.0.113.99", "2001:db8:a:1::/64", comment="friend"))


def damaged(lab, firewall):
    busy(lab, firewall)
    lab.run("iptables -F")
    lab.run("ip6tables -I INPUT 1 -j NGFW")
    lab.run("ipset add NGFW-drop-src4 203.0.113.3")


REQUESTS = {
    "ensure": lambda f, **o: f.ensure(**o),
    "block": lambda f, **o: f.block(blocks("203.0.113.1", "203.0.113.4", "203.0.113.99", "198.51.100.1"), **o),
    "block, longer": lambda f, **o: f.block(blocks("203.0.113.1", "2001:db8:a::/64", duration=3600), **o),
    "reject both": lambda f, **o: f.block(
        [b for d in Direction for b in blocks("203.0.113.1", action=Action.REJECT, direction=d)], **o
    ),
    "log": lambda f, **o: f.block(blocks("203.0.113.1", action=Action.LOG, log_prefix="other "), **o),
    "rate": lambda f, **o: f.block(blocks("203.0.113.1", action=Action.RATE_LIMIT, rate="5/second", burst=9), **o),
    "purge": lambda f, **o: f.block(blocks("203.0.113.2", rule_name="busy"), purge="busy", **o),
    "unblock": lambda f, **o: f.unblock([parse_network("203.0.113.1"), parse_network("203.0.113.7")], **o),
    "whitelist": lambda f, **o: f.whitelist(items("203.0.113.0/28", comment="new"), **o),
    "whitelist exact": lambda f, **o: f.whitelist(items("203.0.113.98", "203.0.113.99"), state="exact", **o),
    "whitelist absent": lambda f, **o: f.whitelist(items("203.0.113.99", "203.0.113.5"), state="absent", **o),
    "flush": lambda f, **o: f.flush(**o),
    "flush all": lambda f, **o: f.flush(scope=("blocks", "whitelist"), **o),
    "flush rule": lambda f, **o: f.flush(rule_name="busy", **o),
    "remove": lambda f, **o: f.remove(**o),
}


def timeless(result):
    """A result without the ends of old entries: the kernel tells them in seconds that remain, and those run on."""
    return dataclasses.replace(
        result,
        **{
            kind: [entry._replace(expires_at=None) for entry in getattr(result, kind)]
            for kind in ("replaced", "unblocked")
        },
    )


@pytest.mark.feature("C12")
@pytest.mark.parametrize("before", [nothing, busy, damaged])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_dry_run_touches_nothing_and_predicts_the_run_that_the_second_one_finds_done(lab, before, name):
    moment = float(int(time.time()))
    firewall = lab.firewall(clock=lambda: moment)
    before(lab, firewall)
    request = REQUESTS[name]
    kernel = lab.kernel()

    predicted = request(firewall, dry_run=True)
    assert lab.kernel() == kernel

    done = request(firewall)
    assert timeless(done) == timeless(predicted)
    assert done.changed == (lab.kernel() != kernel)

    kernel = lab.kernel()
    assert not request(firewall).changed
    assert lab.kernel() == kernel
    assert not request(firewall, dry_run=True).changed


@pytest.mark.feature("C12")
def test_a_dry_run_needs_no_lock_and_makes_no_file(lab, firewall):
    firewall.block(blocks("203.0.113.1"), dry_run=True)
    assert not lab.run_directory.exists()

    firewall.ensure()
    generation = [path.read_bytes() for path in lab.run_directory.iterdir()]
    firewall.flush(dry_run=True)
    assert [path.read_bytes() for path in lab.run_directory.iterdir()] == generation
