# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from ngfw import VERSION, cli, commands
from ngfw.cli import main, parser
from ngfw.display.tables import blocks_table, table, whitelist_table
from ngfw.effects.state import State
from ngfw.firewall.errors import KernelError, MissingTool, NotPermitted

RULES = """\
rules:
  - name: High
    type: alert
    expression: alert.severity == 1
    severity: high
    actions: [{type: iptables_block}]
"""
ALERT = {
    "timestamp": "2025-09-02T11:24:45.000000+0000",
    "event_type": "alert",
    "src_ip": "203.0.113.7",
    "dest_ip": "192.0.2.1",
    "proto": "TCP",
    "app_proto": "http",
    "alert": {"gid": 1, "signature_id": 7, "signature": "x", "category": "", "severity": 1},
    "flow": {"pkts_toserver": 4, "pkts_toclient": 3},
}


class Here:
    """A configuration of its own in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "ngfw.yml"
        self.rules = directory / "rules.d" / "test.yml"
        self.rules.parent.mkdir()
        self.rules.write_text(RULES)
        self.log = directory / "eve.json"
        self.log.write_text(json.dumps(ALERT) + "\n")
        self.write(rules_directory=str(self.rules.parent))

    def write(self, **settings: Any) -> None:
        settings = {"state_directory": str(self.directory / "state"), **settings}
        settings.setdefault("sources", [{"path": str(self.log)}])
        settings.setdefault("rules_directory", str(self.rules.parent))
        self.config.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))

    def run(self, *argv: str) -> int:
        return main([*argv, "--config", str(self.config)])


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"ngfw {VERSION}\n"
    assert main(["version", "--config", "/etc/ngfw/ngfw.yml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": VERSION}


@pytest.mark.parametrize(
    "argv", [[], ["nonsense"], ["block"], ["whitelist"], ["replay"], ["block", "--action", "x", "y"]]
)
def test_bad_usage_is_exit_code_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage: ngfw" in capsys.readouterr().err


@pytest.mark.parametrize("place", range(3))
def test_the_configuration_may_be_named_anywhere(here: Here, place: int, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["whitelist", "add", "203.0.113.7"]
    here.write(chain="none of ours")
    assert main([*argv[:place], "--config", str(here.config), *argv[place:]]) == 2
    assert f"{here.config}:" in capsys.readouterr().err


def test_check_is_content(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.directory.rglob("*"))
    assert here.run("check") == 0
    assert "1 enabled rules" in capsys.readouterr().out
    assert sorted(here.directory.rglob("*")) == before


@pytest.mark.feature("F1")
def test_check_names_every_problem_with_its_line(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    here.rules.write_text(RULES.replace("severity: high", "severity: hihg").replace("alert.severity", "alert.severty"))
    here.write(chian="X", on_stop="never")
    assert here.run("check") == 2
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{here.config}:2: ") and "did you mean 'chain'" in line for line in lines)
    assert any(line.startswith(f"{here.config}:3: ") for line in lines)
    # Where the rules are is only known once the configuration is right.
    here.write()
    assert here.run("check") == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit(":", 2)[0] for line in lines] != []
    assert any(line.startswith(f"{here.rules}:4: ") for line in lines)
    assert any(line.startswith(f"{here.rules}:5: ") for line in lines)


@pytest.mark.feature("S10")
def test_check_warns_of_what_is_valid_and_hardly_meant(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    here.write(sources=[{"path": f"{here.log}x"}, {"path": str(here.log), "format": "fast"}])
    assert here.run("check") == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"warning: source {here.log}x: does not exist")
    assert second.startswith(f"warning: source {here.log}: holds lines of EVE, not of fast.log; write 'format: eve'")
    assert "are valid" in last
    assert here.run("check", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["valid"], len(found["warnings"])) == (True, 2)


@pytest.mark.feature("U6")
def test_check_says_which_rules_are_overridden_and_replay_uses_them(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    here.write(rule_overrides={"High": {"threshold": 2, "enabled": True}})
    assert here.run("check") == 0
    assert capsys.readouterr().out.splitlines()[0] == "High: threshold 1 -> 2"
    assert here.run("check", "--json") == 0
    assert json.loads(capsys.readouterr().out)["overridden"] == {"High": ["threshold 1 -> 2"]}
    for rules in ([], ["--rules", str(here.rules)]):
        assert here.run("replay", "--json", *rules, str(here.log)) == 0
        assert capsys.readouterr().out == ""
    here.write(rule_overrides={"Low": {"threshold": 2}})
    assert here.run("check") == 2
    assert capsys.readouterr().out.startswith(f"{here.config}:2: 'rule_overrides' names no rule, 'Low'; there is High")
    assert here.run("replay", "--json", "--rules", str(here.rules), str(here.log)) == 0
    assert '"action":"block"' in capsys.readouterr().out


def test_a_missing_configuration_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--config", str(tmp_path / "none.yml")]) == 2
    assert "none.yml" in capsys.readouterr().err


def test_replay(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    assert here.run("replay", str(here.log)) == 0
    out = capsys.readouterr().out
    assert "would block 203.0.113.7 for 30m [RULE High]" in out
    assert "1 events" in out
    assert here.run("replay", "--json", str(here.log)) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["ip"] == "203.0.113.7"


def test_replay_of_a_missing_file(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    assert here.run("replay", str(here.directory / "none.json")) == 1
    assert capsys.readouterr().err == f"ngfw: {here.directory}/none.json: No such file or directory\n"


def test_replay_with_rules_of_its_own(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    other = here.directory / "other.yml"
    other.write_text(RULES.replace("High", "Other"))
    assert here.run("replay", "--rules", str(other), "--json", str(here.log)) == 0
    assert json.loads(capsys.readouterr().out)["rule"] == "Other"
    other.write_text(RULES.replace("alert.severity", "nonsense"))
    assert here.run("replay", "--rules", str(other), str(here.log)) == 2
    assert capsys.readouterr().err.startswith(f"{other}:4: ")


def test_replay_without_a_configuration_takes_the_shipped_rules(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "DEFAULT_CONFIG", str(here.directory / "none.yml"))
    assert main(["replay", "--json", str(here.log)]) == 0
    assert json.loads(capsys.readouterr().out)["action"] == "block"
    monkeypatch.setattr(commands, "DEFAULT_CONFIG", str(here.config))
    assert main(["replay", "--json", str(here.log)]) == 0
    assert json.loads(capsys.readouterr().out)["rule"] == "High"


def test_a_reader_that_goes_away_is_no_traceback(here: Here) -> None:
    here.log.write_text(
        "".join(json.dumps({**ALERT, "src_ip": f"198.18.{n % 250}.{n // 250}"}) + "\n" for n in range(20_000))
    )
    root = Path(commands.__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-m", "ngfw", "replay", "--config", here.config, here.log],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (NotPermitted("the kernel does not let this user; run as root"), 3, "run as root"),
        (MissingTool("'iptables' is not installed; install the package iptables"), 1, "install the package iptables"),
        (KernelError("could not do that; try again"), 1, "try again"),
    ],
)
def test_errors_of_the_library_are_one_line(
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    text: str,
) -> None:
    def fail(_arguments: object) -> None:
        raise error

    monkeypatch.setattr(commands, "_firewall", fail)
    for argv in (["list"], ["flush"], ["unblock", "203.0.113.7"], ["whitelist", "list"]):
        assert here.run(*argv) == code
        assert capsys.readouterr().err.splitlines() == [f"ngfw: {error}"]
    assert text in str(error)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["block", "203.0.113.300"], "'203.0.113.300' is not an address"),
        (["block", "0.0.0.0/0"], "every address there is"),
        (["block", "--duration", "30", "203.0.113.7"], "'30' is not a duration"),
        (["block", "--rule", "a'b", "203.0.113.7"], "leave out quotes"),
        (["unblock", "nonsense"], "is not an address"),
        (["whitelist", "add", "$(id)"], "is not an address"),
    ],
)
def test_wrong_values_are_exit_code_2_before_anything_is_touched(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str], text: str
) -> None:
    def fail(_arguments: object) -> None:
        raise AssertionError("nothing may be touched")

    monkeypatch.setattr(commands, "_firewall", fail)
    assert here.run(*argv) == 2
    assert text in capsys.readouterr().err


class Kernel:
    """What `ngfw status` asks of the library."""

    def __init__(self, blocks: list[dict[str, Any]]) -> None:
        self._blocks = blocks

    def info(self, _gather: object) -> Kernel:
        return self

    def blocks_dict(self) -> list[dict[str, Any]]:
        return self._blocks

    def blocklists_dict(self) -> list[dict[str, Any]]:
        return []

    def other_chains(self) -> list[str]:
        return []


def test_status_without_a_watcher(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden(_arguments: object) -> None:
        raise NotPermitted("the kernel does not let this user; run as root")

    monkeypatch.setattr(commands, "_firewall", forbidden)
    assert here.run("status") == 1
    printed = capsys.readouterr()
    assert "not running" in printed.out
    assert "run as root" in printed.err
    assert here.run("status", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["alive"], found["blocks"]) == (False, None)


def test_check_as_json(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    assert here.run("check", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "valid": True,
        "problems": [],
        "warnings": [],
        "rules": 1,
    }
    here.write(chian="X")
    assert here.run("check", "--json") == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["valid"], found["problems"][0]["line"]) == (False, 2)


def options(parser: argparse.ArgumentParser) -> dict[str, set[str]]:
    """The options of each command; those of a command's own commands count as its own."""
    found: dict[str, set[str]] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                found[name] = set(inner._option_string_actions) - {"-h", "--help"}
                found[name].update(*options(inner).values())
    return found


def completed(*words: str) -> set[str]:
    script = Path(commands.__file__).parents[1] / "completion" / "ngfw"
    quoted = " ".join(f"'{word}'" for word in words)
    code = f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _ngfw; echo ${{COMPREPLY[@]}}"
    return set(subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_completion_knows_every_command_and_option() -> None:
    expected = options(parser())
    assert completed("ngfw", "") == set(expected)
    for command, names in expected.items():
        assert completed("ngfw", command, "--") == names, command
    assert completed("ngfw", "whitelist", "") == {"add", "remove", "list"}
    assert completed("ngfw", "block", "--action", "r") == {"reject", "rate_limit"}
    assert completed("ngfw", "sta") == {"status"}


def test_status_of_a_watcher(here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [
        {"address": f"203.0.113.{number}", "rule_name": "High", "packets": packets}
        for number, packets in ((7, 17), (8, 0))
    ]
    monkeypatch.setattr(commands, "_firewall", lambda _arguments: nullcontext(Kernel(blocks)))
    state = State(here.directory / "state", report=print)
    state.lock()
    counters: dict[str, Any] = {
        "ngfw_events_total": {"alert": 5, "flow": 7},
        "ngfw_lines_invalid_total": 1,
        "ngfw_rule_hits_total": {"High": 4},
        "ngfw_actions_total": [],
        "ngfw_blocks_created_total": 3,
        "ngfw_blocks_expired_total": 1,
        "ngfw_blocks_removed_total": 6,
        "ngfw_heals_total": 2,
        "ngfw_duplicates_skip_total": 9,
        "ngfw_skips_total": {"outbound": 2},
        "ngfw_errors_total": 1,
        "ngfw_active_blocks": 2,
        "ngfw_reaction_seconds": {"count": 2, "sum": 0.003, "last": 0.001, "buckets": {}},
        "ngfw_source_lag_bytes": 17,
    }
    status = {"started_at": 1.0, "rules": 1, "last_event": 1756812285.0, "counters": counters}
    (state.directory / "status.json").write_text(json.dumps(status))
    assert here.run("status") == 0
    out = capsys.readouterr().out
    for text in (
        f"process {os.getpid()}",
        "12, last 2025-09-0",
        "17 bytes",
        "3 blocks; 1 expired, 6 lifted",
        "2 times",
        "        4 hits    High",
        "2 in force",
        "        2 blocks  High",
        "       17 packets 203.0.113.7",
        "1.5 ms",
        "2 outbound",
    ):
        assert text in out
    assert here.run("status", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counters"] == counters
    assert found["blocks"] == {
        "count": 2,
        "by_rule": {"High": 2},
        "top_offenders": [{"address": "203.0.113.7", "packets": 17}],
    }
    (state.directory / "status.json").write_text("{torn")
    assert here.run("status") == 0


def test_a_second_watcher_is_refused(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    State(here.directory / "state", report=print).lock()
    here.write(log_directory=str(here.directory / "log"), dry_run=False)
    # A second start that would touch the kernel ends before it does.
    assert here.run("watch") == 1
    assert "already works on" in capsys.readouterr().err


def test_tables_are_aligned_and_safe() -> None:
    text = table(("A", "LONG TITLE"), [("x", "y"), ("a\nb", 12)])
    assert text == ["A       LONG TITLE", "x       y", "a\\x0ab  12"]
    block = {
        "address": "203.0.113.7",
        "action": "drop",
        "target": "source",
        "remaining": None,
        "packets": 5,
        "origin": "watcher",
        "rule_name": "High",
        "reason": "RULE High",
    }
    rows = blocks_table([block, {**block, "remaining": 0}, {**block, "remaining": 3700}])
    assert [row.split()[3] for row in rows] == ["REMAINING", "permanent", "0s", "1h1m40s"]
    assert blocks_table([]) == ["nothing is blocked"]
    assert whitelist_table([]) == ["the whitelist is empty"]
    (_titles, row) = whitelist_table([{"address": "203.0.113.7", "origin": "config", "comment": ""}])
    assert row == "203.0.113.7  config"


@pytest.mark.feature("S1")
def test_a_command_takes_no_more_memory_than_is_sensible(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    monkeypatch.setitem(cli._COMMANDS, "version", lambda arguments: len(bytearray(3 << 30)))
    assert main(["version"]) == 1
    assert "this takes more than 2 GiB of memory" in capsys.readouterr().err
    assert resource.getrlimit(resource.RLIMIT_AS) == before
