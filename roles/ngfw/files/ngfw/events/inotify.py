# SPDX-License-Identifier: GPL-3.0-or-later
"""Linux's inotify(7) through ctypes, and what has to be watched to see a path change."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from glob import glob, has_magic

MODIFY = 0x00000002
ATTRIB = 0x00000004
CLOSE_WRITE = 0x00000008
MOVED_FROM = 0x00000040
MOVED_TO = 0x00000080
CREATE = 0x00000100
DELETE = 0x00000200
DELETE_SELF = 0x00000400
MOVE_SELF = 0x00000800
OVERFLOW = 0x00004000
ONLYDIR = 0x01000000
MASK_ADD = 0x20000000

DIRECTORY_CHANGES = (
    CREATE | DELETE | MOVED_FROM | MOVED_TO | ATTRIB | DELETE_SELF | MOVE_SELF | ONLYDIR | MASK_ADD
)  # not MODIFY, which would wake for every line of every other log beside ours

_FILE_CHANGES = CLOSE_WRITE | ATTRIB | DELETE_SELF | MOVE_SELF  # a file that another replaces loses its link: ATTRIB

_EVENT = struct.Struct("iIII")
_BUFFER = 64 * 1024
_LINKS_FOLLOWED = 40

# File systems whose changes on other machines raise no event here (fs/*/ of the kernel, fstype in mountinfo).
_CLUSTERED = ("beegfs", "ceph", "gfs2", "glusterfs", "gpfs", "lustre", "ocfs2", "orangefs")
_REMOTE = frozenset((*_CLUSTERED, "9p", "afs", "cifs", "coda", "ncpfs", "nfs", "nfs4", "smb3", "smbfs", "virtiofs"))


class Inotify:
    """One inotify instance; raises OSError where the kernel refuses it."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        # The kernel defines IN_NONBLOCK and IN_CLOEXEC as the open(2) flags of each architecture.
        self._fd: int = self._call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._fd

    def add(self, path: str, mask: int) -> int:
        """Watch the inode that `path` leads to; returns its watch descriptor, the same for the same inode."""
        return self._call("inotify_add_watch", self._fd, os.fsencode(path), ctypes.c_uint32(mask))

    def remove(self, watch: int) -> None:
        """Stop a watch; one that the kernel has dropped already is no error."""
        try:
            self._call("inotify_rm_watch", self._fd, watch)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise

    def read(self) -> list[tuple[int, int]]:
        """All events that wait, as (watch descriptor, mask); never blocks."""
        events: list[tuple[int, int]] = []
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return events
            at = 0
            while at < len(data):
                watch, mask, _cookie, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size + length
                events.append((watch, mask))
            if len(data) < _BUFFER // 2:
                return events

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _call(self, function: str, *arguments: object) -> int:
        result: int = getattr(self._libc, function)(*arguments)
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{function}: {os.strerror(number)}")
        return result


class FileWatch:
    """Whether any of some files was written to or replaced; one that is missing is not noticed when it comes."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Raises OSError where the kernel has no inotify instance left."""
        self._paths = tuple(paths)
        self._inotify = Inotify()
        self._arm()

    def fileno(self) -> int:
        """Readable after a change."""
        return self._inotify.fileno()

    def again(self) -> None:
        """Forget what changed, and watch what the paths lead to now."""
        self._inotify.read()
        self._arm()

    def close(self) -> None:
        self._inotify.close()

    def _arm(self) -> None:
        for path in self._paths:
            with suppress(OSError):
                self._inotify.add(path, _FILE_CHANGES)


def lookup_directories(pattern: str) -> set[str]:
    """The directories in which a change of names can alter what `pattern` (a path or a glob) leads to.

    That is where the file itself is looked up, where each symbolic link on the way lies, and for a directory that is
    missing the nearest one above it.
    """
    directories: set[str] = set()
    pending = [os.path.abspath(pattern)]
    for _link in range(_LINKS_FOLLOWED):
        if not pending:
            break
        path = pending.pop()
        above = os.path.dirname(path)
        for parent in glob(above) if has_magic(above) else [above]:
            existing = _nearest(parent)
            directories.add(existing)
            pending.extend(_links_above(existing, directories))
        if has_magic(above):
            pending.append(above)
        elif os.path.islink(path):
            pending.append(_link_target(path))
    return directories


def reports_changes(device: int, mountinfo: str = "/proc/self/mountinfo") -> bool:
    """Whether inotify sees all changes on the file system with that `st_dev`: not if others write to it elsewhere.

    The file's format: proc_pid_mountinfo(5). If it cannot be read, the answer is yes.
    """
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(mountinfo, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                fields, _dash, rest = line.partition(" - ")
                if fields.split(" ")[2:3] == [wanted]:
                    kind = rest.split(" ")[0]
                    return kind not in _REMOTE and not kind.startswith("fuse.")
    except OSError:
        pass
    return True


def _nearest(directory: str) -> str:
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    return directory


def _links_above(directory: str, directories: set[str]) -> list[str]:
    """Note where each link among the parts of `directory` lies; returns the links' targets."""
    targets = []
    while directory != os.path.dirname(directory):
        if os.path.islink(directory) and os.path.dirname(directory) not in directories:
            directories.add(os.path.dirname(directory))
            targets.append(_link_target(directory))
        directory = os.path.dirname(directory)
    return targets


def _link_target(link: str) -> str:
    try:
        return os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link)))
    except OSError:
        return link
