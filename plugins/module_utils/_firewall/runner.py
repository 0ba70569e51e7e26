# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting the kernel's tools: argument lists, never a shell, bulk on standard input."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from .errors import KernelError, MissingTool

_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_TIMEOUT_SECONDS = 60


class Output(NamedTuple):
    """What a program left behind; `code` is its exit status."""

    code: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """Runs one program to its end; raises MissingTool if there is none of that name."""

    def run(self, argv: Sequence[str], stdin: str = "") -> Output: ...


class SystemRunner:
    """Runs programs of the system.

    They inherit the descriptors that are inheritable: the lock's, so that it lasts until they have ended, whatever
    happens to us.
    """

    def run(self, argv: Sequence[str], stdin: str = "") -> Output:
        try:
            done = subprocess.run(
                list(argv),
                input=stdin.encode("utf-8", "surrogateescape"),
                capture_output=True,
                env={"LC_ALL": "C", "PATH": _PATH},
                close_fds=False,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise MissingTool(f"'{argv[0]}' is not installed; install the package iptables") from None
        except subprocess.TimeoutExpired:
            raise KernelError(f"'{argv[0]}' did not end within {_TIMEOUT_SECONDS} s; see what it waits for") from None
        return Output(
            done.returncode,
            done.stdout.decode("utf-8", "surrogateescape"),
            done.stderr.decode("utf-8", "surrogateescape"),
        )
