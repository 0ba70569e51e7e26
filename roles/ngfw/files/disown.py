# SPDX-License-Identifier: GPL-3.0-or-later
"""Give to root what belongs to a user or its group below the directories named; prints how many files that were.

That user may be at work there meanwhile, so no link is followed, nothing that others own is touched, and a directory
is root's before its entries are looked at. What was only lent to the group (Suricata's logs) is for everybody to read
again. Arguments: the name of user and group, and directories.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import sys
from contextlib import suppress

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def main(name: str, directories: list[str]) -> int:
    user, group = pwd.getpwnam(name).pw_uid, grp.getgrnam(name).gr_gid
    return sum(_tree(path, user, group) for path in directories)


def _tree(path: str, user: int, group: int) -> int:
    """The directory and all below it; what lies deeper than there are descriptors is nobody's log."""
    top = os.open(path, _LIST)
    lent = os.fstat(top).st_uid != user
    changed = _give(top, user, group, lent)
    stack = [(top, os.listdir(top))]
    while stack:
        directory, names = stack[-1]
        if not names:
            os.close(directory)
            stack.pop()
            continue
        name = names.pop()
        try:
            found = os.open(name, _LOOK, dir_fd=directory)
        except OSError:  # it is gone, or too deep
            continue
        changed += _give(found, user, group, lent)
        if stat.S_ISDIR(os.fstat(found).st_mode):
            with suppress(OSError):
                listed = os.open(".", _LIST, dir_fd=found)
                stack.append((listed, os.listdir(listed)))
        os.close(found)
    return changed


def _give(descriptor: int, user: int, group: int, lent: bool) -> int:
    """What is open here, by its own number: by name it could be another one by now. A link stays as it is."""
    status = os.fstat(descriptor)
    theirs, shared = status.st_uid == user, status.st_gid == group
    if not (theirs or shared) or stat.S_ISLNK(status.st_mode):
        return 0
    itself = f"/proc/self/fd/{descriptor}"
    os.chown(itself, 0 if theirs else -1, 0 if shared else -1)
    mode, returned = stat.S_IMODE(status.st_mode), lent and not theirs
    if stat.S_ISDIR(status.st_mode):
        opened = stat.S_IROTH | stat.S_IXOTH if returned else 0
        os.chmod(itself, mode & ~(stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH) | opened)
    elif returned and stat.S_ISREG(status.st_mode):
        os.chmod(itself, mode | stat.S_IROTH)
    return 1


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2:]))
