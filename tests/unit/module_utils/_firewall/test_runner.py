# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall import runner
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import KernelError, MissingTool
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.runner import Output, SystemRunner


def test_arguments_reach_the_program_as_they_are():
    words = ["a b", "$(id)", "`id`", ";", "*", "ü", ""]

    assert SystemRunner().run(["printf", "%s|", *words]).stdout == "".join(word + "|" for word in words)


def test_input_status_and_both_outputs_come_through():
    output = SystemRunner().run(["sh", "-c", "cat; echo oops >&2; exit 3"], "in\udcffput")

    assert output == Output(3, "in\udcffput", "oops\n")


def test_the_environment_is_ours(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")

    lines = SystemRunner().run(["env"]).stdout.splitlines()

    assert sorted(line.partition("=")[0] for line in lines) == ["LC_ALL", "PATH"]


def test_inheritable_descriptors_are_inherited_and_others_are_not():
    ours, theirs = os.pipe()
    os.set_inheritable(ours, True)
    try:
        listed = SystemRunner().run(["ls", "/proc/self/fd"]).stdout.split()
        assert str(ours) in listed
        assert str(theirs) not in listed
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_program_that_is_not_there():
    with pytest.raises(MissingTool, match="'no-such-program' is not installed; install"):
        SystemRunner().run(["no-such-program"])


def test_a_program_that_does_not_end(monkeypatch):
    monkeypatch.setattr(runner, "_TIMEOUT_SECONDS", 0.05)

    with pytest.raises(KernelError, match="'sleep' did not end within"):
        SystemRunner().run(["sleep", "5"])
