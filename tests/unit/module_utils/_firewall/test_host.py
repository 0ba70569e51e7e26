# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs no namespace of its own; own addresses and gateways are in tests/kernel."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall import host
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import parse_network

RESOLV_CONF = """\
# made by a network manager
search example.org
nameserver 192.0.2.53
nameserver 2001:db8::53
nameserver fe80::53%eth0
nameserver ::ffff:192.0.2.54
nameserver
nameserver not-an-address
options edns0
"""


def test_resolvers_are_protected(tmp_path, monkeypatch):
    file = tmp_path / "resolv.conf"
    file.write_text(RESOLV_CONF, encoding="utf-8")
    monkeypatch.setattr(host, "RESOLVER_FILES", (str(file), str(tmp_path / "missing")))

    found = host.protected()

    for address in ("192.0.2.53", "2001:db8::53", "192.0.2.54", "fe80::53"):
        assert found[parse_network(address)] == "resolver"


ASK = "from ngfw.firewall.host import ssh_peer; print(ssh_peer())"


def ask(variable, *, hidden_by=0):
    """What a process tells whose ancestor, so many generations up, was given this SSH_CONNECTION."""
    argv = [sys.executable, "-c", ASK]
    for _generation in range(hidden_by):
        argv = ["env", "-u", "SSH_CONNECTION", sys.executable, "-c", f"import subprocess; subprocess.run({argv!r})"]
    if hidden_by:
        argv = [sys.executable, "-c", f"import subprocess; subprocess.run({argv!r})"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    if variable is not None:
        environment["SSH_CONNECTION"] = variable
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("variable", "peer"),
    [
        ("203.0.113.7 50022 198.51.100.1 22", "203.0.113.7"),
        ("2001:db8::7 50022 2001:db8::1 22", "2001:db8::7"),
        ("fe80::7%eth0 50022 fe80::1%eth0 22", "fe80::7"),
        ("::ffff:203.0.113.7 50022 ::ffff:198.51.100.1 22", "203.0.113.7"),
    ],
)
def test_the_ssh_peer_is_found(variable, peer):
    assert ask(variable) == peer


def test_the_ssh_peer_is_found_where_sudo_took_the_variable_away():
    assert ask("203.0.113.7 50022 198.51.100.1 22", hidden_by=2) == "203.0.113.7"


@pytest.mark.parametrize("variable", ["", "nonsense", "UNKNOWN 65535 UNKNOWN 65535"])
def test_a_variable_that_names_no_address_protects_nobody(variable):
    assert ask(variable) == "None"
