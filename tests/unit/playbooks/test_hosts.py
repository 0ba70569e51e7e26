# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts a playbook touches: all of the inventory or those that were named; uninstall the latter only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# Nobody is there: what gets as far as a connection says so.
INVENTORY = """
[web]
one ansible_host=127.0.0.1 ansible_port=9
[db]
two ansible_host=127.0.0.1 ansible_port=9
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "collections/ansible_collections/reflex").mkdir(parents=True)
    (tmp_path / "collections/ansible_collections/reflex/ngfw").symlink_to(ROOT)
    (tmp_path / "hosts.ini").write_text(INVENTORY)
    return tmp_path


def ran(checkout: Path, *words: str) -> tuple[int, str]:
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(checkout / "collections"),
        "ANSIBLE_HOME": str(checkout / "home"),
        "ANSIBLE_NOCOLOR": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    argv = ["ansible-playbook", "-i", "hosts.ini", *words]
    done = subprocess.run(argv, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.feature("U8")
def test_uninstall_does_not_guess_which_hosts_are_meant(checkout: Path) -> None:
    code, output = ran(checkout, "reflex.ngfw.uninstall")
    assert code != 0
    assert "uninstall would remove reflex.ngfw from all 2 hosts of the inventory" in output
    assert "-e ngfw_hosts=GROUP, or --limit GROUP" in output
    assert "Reach the host" not in output


@pytest.mark.feature("U8")
@pytest.mark.parametrize("words", [("-e", "ngfw_hosts=web"), ("-e", '{"ngfw_hosts": ["web"]}'), ("--limit", "web")])
def test_uninstall_of_hosts_that_were_named(checkout: Path, words: tuple[str, ...]) -> None:
    code, output = ran(checkout, "reflex.ngfw.uninstall", *words)
    assert code != 0
    assert "Reach the host" in output
    assert "one: NOT REACHED" in output
    assert "two: NOT REACHED" not in output
    assert "-e ngfw_remove_logs=true removes ours" in output


@pytest.mark.feature("U8")
@pytest.mark.parametrize("playbook", ["uninstall", "flush"])
def test_hosts_that_only_the_inventory_names_are_not_taken_for_chosen(checkout: Path, playbook: str) -> None:
    """A play's hosts are chosen before an inventory's variables are read: it would have touched all of them."""
    (checkout / "hosts.ini").write_text(INVENTORY + "[all:vars]\nngfw_hosts=web\n")
    code, output = ran(checkout, f"reflex.ngfw.{playbook}")
    assert code != 0
    assert "ngfw_hosts is web in the inventory, where no play can see it" in output
    assert "Reach the host" not in output


@pytest.mark.feature("U4")
def test_status_tells_a_host_whose_variables_are_refused_from_one_that_is_not_reached(checkout: Path) -> None:
    (checkout / "hosts.ini").write_text(INVENTORY.rstrip("\n") + " ngfw_whitelst=192.0.2.1\n")
    code, output = ran(checkout, "reflex.ngfw.status")
    assert code != 0
    assert "one NOT REACHED" in output
    assert "two FAILED - - - - - - failed before it could be asked" in output


@pytest.mark.feature("U8")
def test_every_playbook_says_at_its_top_which_hosts_it_touches() -> None:
    for path in (ROOT / "playbooks").glob("*.yml"):
        head = path.read_text(encoding="utf-8").partition("- name:")[0]
        assert "ngfw_hosts=GROUP" in head, path.name
        assert "--limit GROUP" in head, path.name
