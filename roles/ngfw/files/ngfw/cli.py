# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `ngfw`: arguments in, exit code out (docs/interface.md, section 4)."""

from __future__ import annotations

import argparse
import resource
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import NoReturn

from . import commands
from .commands import DEFAULT_CONFIG, FAILED, FORBIDDEN, USAGE, CommandError
from .firewall.errors import FirewallError, InvalidInput, NotPermitted
from .settings.yamlfile import ConfigError
from .terminal import complain

_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "watch": commands.watch,
    "check": commands.check,
    "replay": commands.replay,
    "status": commands.status,
    "list": commands.list_blocks,
    "block": commands.block,
    "unblock": commands.unblock,
    "whitelist": commands.whitelist,
    "flush": commands.flush,
    "explain": commands.explain,
    "save": commands.save,
    "restore": commands.restore,
    "version": commands.version,
}


_MEMORY = 2 << 30
"""Bytes that a command may use at most: it reads what others wrote. 2 million saved blocks take 1.3 GiB."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 bad usage or configuration, 3 not permitted."""
    arguments = parser().parse_args(argv)
    command = _COMMANDS[arguments.command]
    try:
        with nullcontext() if arguments.command == "watch" else _bounded_memory():
            return command(arguments)
    except ConfigError as error:
        complain(*map(str, error.problems))
        return USAGE
    except NotPermitted as error:
        return _complain(error, FORBIDDEN)
    except InvalidInput as error:
        return _complain(error, USAGE)
    except FirewallError as error:
        return _complain(error, FAILED)
    except CommandError as error:
        return _complain(error, error.code)
    except PermissionError as error:
        return _complain(f"{error.filename or 'not permitted'}: {error.strerror}; run as root", FORBIDDEN)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has gone, and Python would complain about the rest at its end
        return FAILED
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error), FAILED)
    except MemoryError:
        return _complain(f"this takes more than {_MEMORY >> 30} GiB of memory; see what lies in the files read", FAILED)
    except KeyboardInterrupt:
        return FAILED
    except Exception:  # a fault of this program: its message may quote anything
        complain(*traceback.format_exc().splitlines())
        return FAILED


@contextmanager
def _bounded_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = min(each for each in (*before, _MEMORY) if each != resource.RLIM_INFINITY)
    with suppress(OSError, ValueError):  # the boot's units forbid it, and have a bound of their own
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, before)


def _complain(problem: object, code: int) -> int:
    complain(f"ngfw: {problem}")
    return code


class _Parser(argparse.ArgumentParser):
    """Complains of wrong usage on one line, whatever was typed."""

    def error(self, message: str) -> NoReturn:
        complain(*self.format_usage().splitlines(), f"{self.prog}: error: {message}")
        sys.exit(USAGE)


def parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    text = f"the configuration (default: {DEFAULT_CONFIG})"
    common.add_argument("--config", default=argparse.SUPPRESS, metavar="FILE", help=text)
    printing = _Parser(add_help=False)
    printing.add_argument("--json", action="store_true", help="print JSON")

    top = _Parser(prog="ngfw", description="Turns Suricata's detections into kernel blocks.")
    top.add_argument("--config", default=None, metavar="FILE", help=text)
    names = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    watch = names.add_parser("watch", parents=[common], help="follow the logs and block (what the service runs)")
    watch.add_argument(
        "--dry-run", action="store_true", help="print what would be done; blocks nothing and writes nothing"
    )

    names.add_parser("check", parents=[common, printing], help="validate configuration and rules, touch nothing")

    replay = names.add_parser(
        "replay", parents=[common, printing], help="show what recorded logs would have led to, touch nothing"
    )
    replay.add_argument("files", nargs="+", metavar="FILE", help="a log of Suricata's")
    replay.add_argument(
        "--rules", action="append", metavar="PATH", help="a rule file, or a directory of them (may be repeated)"
    )
    replay.add_argument(
        "--format", choices=("auto", "eve", "fast"), default="auto", help="of the files (default: auto)"
    )

    replay.add_argument(
        "--online", action="store_true", help="ask AbuseIPDB, within its budget; without this local lists count only"
    )

    names.add_parser("status", parents=[common, printing], help="tell how the watcher is")
    names.add_parser("list", parents=[common, printing], help="list the blocks in force")

    block = names.add_parser("block", parents=[common, printing], help="block addresses; moves an end only later")
    block.add_argument("addresses", nargs="+", metavar="ADDR", help="an address, or a network as ADDRESS/LENGTH")
    block.add_argument("--duration", default="30m", help="such as 45s, 2h, 1d; 0 means permanent (default: 30m)")
    block.add_argument(
        "--action", choices=("drop", "reject", "log", "rate_limit"), default="drop", help="(default: drop)"
    )
    block.add_argument(
        "--target", choices=("source", "destination", "both"), default="source", help="(default: source)"
    )
    block.add_argument("--rule", default="manual", help="the name of the rule (default: manual)")
    block.add_argument("--reason", default="", help="why, in your words")
    block.add_argument(
        "--allow-wide", action="store_true", help="also if together they cover more than an eighth of the address space"
    )

    unblock = names.add_parser("unblock", parents=[common, printing], help="lift blocks, of whatever rule")
    unblock.add_argument("addresses", nargs="+", metavar="ADDR", help="exactly as it was blocked")

    whitelist = names.add_parser("whitelist", parents=[common], help="what no block may touch")
    steps = whitelist.add_subparsers(dest="step", required=True, metavar="add|remove|list")
    add = steps.add_parser("add", parents=[common, printing], help="add addresses; lifts blocks inside them")
    add.add_argument("addresses", nargs="+", metavar="ADDR", help="an address, or a network as ADDRESS/LENGTH")
    add.add_argument("--comment", default="", help="why, in your words")
    remove = steps.add_parser("remove", parents=[common, printing], help="remove addresses")
    remove.add_argument("addresses", nargs="+", metavar="ADDR", help="exactly as it was added")
    steps.add_parser("list", parents=[common, printing], help="list the whitelist and the protected addresses")

    flush = names.add_parser("flush", parents=[common, printing], help="lift all blocks; chain and whitelist stay")
    flush.add_argument("--rule", default=None, metavar="NAME", help="only the blocks of this rule")

    explain = names.add_parser("explain", parents=[common, printing], help="tell all that is known of an address")
    explain.add_argument("address", metavar="ADDR", help="an address, or a network as ADDRESS/LENGTH")

    names.add_parser("save", parents=[common, printing], help="keep what the sets hold for the next boot")
    restore = names.add_parser("restore", parents=[common, printing], help="put back what was saved, chain and sets")
    part = restore.add_mutually_exclusive_group()
    part.add_argument("--sets", action="store_true", help="only the sets, without rules (before the firewall starts)")
    part.add_argument("--chain", action="store_true", help="only the chain and its jumps, for the sets that are there")

    names.add_parser("version", parents=[common, printing], help="print the version")
    return top
