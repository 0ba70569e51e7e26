# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints all that a removal has to leave as it was: rules, sets, units, users, and each file with owner, mode, sum.

Runs on the host. What other programs change by themselves (caches, journals, state of systemd and apt) is left out.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

COMMANDS = (
    ["iptables-save", "-t", "filter"],
    ["ip6tables-save", "-t", "filter"],
    ["ipset", "list"],
    ["systemctl", "list-unit-files", "--no-legend", "--no-pager"],
    ["systemctl", "list-units", "--no-legend", "--no-pager", "--plain", "--state=failed"],
    ["getent", "passwd"],
    ["getent", "group"],
)
TREES = ("/etc", "/usr", "/var", "/root", "/home", "/srv", "/opt", "/run/ngfw", "/boot")
LEFT_OUT = re.compile(
    r"/(etc/(passwd|group|shadow|gshadow|subuid|subgid)-|etc/\.pwd\.lock|etc/(resolv\.conf|mtab)|root/\.ansible|root/before"
    r"|var/(cache|tmp|backups|lib/(apt|dpkg|systemd|logrotate|ucf|pam)|log/(journal|apt|lastlog|wtmp|btmp|dpkg\.log))"
    r"|var/log/(ngfw|wtmp\.db))(/|$|-)|/__pycache__(/|$)"
)


def look(path: Path) -> str:
    status = path.lstat()
    line = f"{path} {status.st_mode:o} {status.st_uid}:{status.st_gid}"
    if path.is_symlink():
        return f"{line} -> {os.readlink(path)}"
    if path.is_file() and not str(path).startswith("/var/log/suricata"):
        return f"{line} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return line


def main() -> None:
    for command in COMMANDS:
        print("##", *command)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(re.sub(r"^#.*\n|\[\d+:\d+\]", "", done.stdout, flags=re.M))
    for tree in TREES:
        for directory, directories, files in os.walk(tree):
            paths = [Path(directory, name) for name in sorted(directories + files)]
            for path in (path for path in paths if not LEFT_OUT.search(str(path))):
                print(look(path))


main()
