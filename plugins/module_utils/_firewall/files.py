# SPDX-License-Identifier: GPL-3.0-or-later
"""Files in directories that other users may write: opened without following, waiting for or trusting what they left.

A path is walked one component at a time. A link on it is followed only where nobody but root and this process's user
can have put it there, so an administrator's links work and a service user's lead nowhere; the last component is no link
at all, unless the caller takes what an administrator names. What is opened is a regular file of somebody who may write
its directory; nothing is read beyond a limit. A file is replaced by a fresh one that is renamed over it.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import UnsafeFile

_MAX_LINKS = 20
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LEFTOVER_SECONDS = 3600
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_descriptor(path: Path, flags: int = os.O_RDONLY, mode: int = 0o640, *, follow: bool = False) -> int:
    """A descriptor of a regular file; never waits. With `follow` the last component may be an administrator's link.

    With O_CREAT a missing file is made with `mode`, O_TRUNC takes effect after all checks. Raises UnsafeFile, OSError.
    """
    with _located(path, follow=follow) as (directory, name):
        try:
            descriptor = os.open(name, flags & ~os.O_TRUNC | _SAFE, mode, dir_fd=directory)
        except OSError as error:
            _refuse_special(path, directory, name)  # a link, or a FIFO that nobody reads
            error.filename = str(path)
            raise
        try:
            _check(path, os.fstat(descriptor), os.fstat(directory))
            if flags & os.O_TRUNC:
                os.ftruncate(descriptor, 0)
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def open_for_reading(path: Path, *, follow: bool = False) -> BinaryIO:
    """The file as a stream of bytes. Its length is whatever its owner made it. Raises UnsafeFile, OSError."""
    return os.fdopen(open_descriptor(path, follow=follow), "rb")


def read_bytes(path: Path, limit: int, *, follow: bool = False) -> bytes:
    """The whole file, of at most `limit` bytes. Raises UnsafeFile, also for a larger one, and OSError."""
    with open_for_reading(path, follow=follow) as stream:
        data = stream.read(limit + 1) if os.fstat(stream.fileno()).st_size <= limit else None
    if data is None or len(data) > limit:
        what = f"is larger than {limit >> 20} MiB" if limit >= 1 << 20 else f"is larger than {limit} bytes"
        raise UnsafeFile(path, what, "nothing here writes so much; remove it")
    return data


@contextmanager
def replacing(path: Path, mode: int = 0o640) -> Iterator[BinaryIO]:
    """A stream to a fresh file that takes the place of `path`, durably, when the block ends without an exception.

    Written by root it belongs to the directory's owner. Raises UnsafeFile, OSError.
    """
    with _located(path, follow=False) as (directory, name):
        fresh = f"{name}.{secrets.token_hex(8)}.new"
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600, dir_fd=directory)
        except OSError as error:
            error.filename = str(path.parent)
            raise
        try:
            with os.fdopen(descriptor, "wb") as stream:
                _hand_over(descriptor, os.fstat(directory), mode)
                yield stream
                stream.flush()
                os.fsync(descriptor)
            _rename(path, directory, fresh, name)
        except BaseException:
            with suppress(OSError):
                os.unlink(fresh, dir_fd=directory)
            raise
        _remove_leftovers(directory, name)


def replace(path: Path, data: bytes, mode: int = 0o640) -> None:
    """Make `data` the file's content, as `replacing` does. Raises UnsafeFile, OSError."""
    with replacing(path, mode) as stream:
        stream.write(data)


def put_aside(path: Path) -> Path:
    """Rename the file, whatever it is, to NAME.corrupt; returns the new path. Raises UnsafeFile, OSError."""
    aside = path.with_name(f"{path.name}.corrupt")
    with _located(path, follow=False) as (directory, name):
        _rename(aside, directory, name, aside.name)
    return aside


def make_private_directory(path: Path) -> None:
    """Make a directory that only this process's user may enter; one that is there has to be that. Raises like open."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _located(path, follow=False) as (directory, name):
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=directory)
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise UnsafeFile(path, "is no directory that only this user may write", "remove it; it is made anew")


@contextmanager
def _located(path: Path, *, follow: bool) -> Iterator[tuple[int, str]]:
    """A descriptor of the directory and the name in it that `path` leads to; `follow`: also if that is a link."""
    directory = os.open("/" if path.is_absolute() else ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        waiting = _parts(str(path))
        links = 0
        while len(waiting) > 1 or follow:
            name = waiting.pop()
            try:
                found = os.open(name, _LOOK, dir_fd=directory)
            except FileNotFoundError as error:
                if not waiting:  # the caller may want to make it
                    waiting.append(name)
                    break
                error.filename = str(path)
                raise
            except OSError as error:
                error.filename = str(path)
                raise
            status = os.fstat(found)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                target = _target(path, found, status, os.fstat(directory), links)
                waiting += _parts(target)
                if target.startswith("/"):
                    os.close(directory)
                    directory = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            elif waiting and stat.S_ISDIR(status.st_mode):
                os.close(directory)
                directory = found
            else:
                os.close(found)
                if waiting:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
                waiting.append(name)
                break
        yield directory, waiting[-1]
    finally:
        os.close(directory)


def _parts(path: str) -> list[str]:
    """The components of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")] or ["."]


def _target(path: Path, link: int, status: os.stat_result, directory: os.stat_result, links: int) -> str:
    """Where a link on the way leads; closes its descriptor. Raises UnsafeFile where it may not be followed."""
    try:
        ours = (0, os.geteuid())
        shared = directory.st_mode & 0o022 and not directory.st_mode & stat.S_ISVTX
        if directory.st_uid not in ours or shared or (directory.st_mode & 0o022 and status.st_uid not in ours):
            raise UnsafeFile(
                path,
                "is or leads over a symbolic link in a directory that others may write",
                "remove the link, or name the file itself",
            )
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def _refuse_special(path: Path, directory: int, name: str) -> None:
    """Raises UnsafeFile if what has that name is no regular file."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeFile(path, f"is {_KINDS.get(stat.S_IFMT(status.st_mode), 'something else')}, not a regular file")


def _check(path: Path, file: os.stat_result, directory: os.stat_result) -> None:
    """Raises UnsafeFile unless it is a regular file that somebody who may write the directory has made there."""
    if not stat.S_ISREG(file.st_mode):
        raise UnsafeFile(path, f"is {_KINDS.get(stat.S_IFMT(file.st_mode), 'something else')}, not a regular file")
    if directory.st_uid in (0, os.geteuid()) and not directory.st_mode & 0o022:
        return  # nobody else can have put it there
    writers_own = (
        file.st_uid in (0, os.geteuid(), directory.st_uid)
        or (directory.st_mode & stat.S_IWGRP and file.st_gid == directory.st_gid)
        or directory.st_mode & stat.S_IWOTH
    )
    if not writers_own:
        raise UnsafeFile(path, f"belongs to user {file.st_uid}, who may not write its directory")
    if file.st_nlink > 1:
        raise UnsafeFile(path, "has a second name elsewhere (a hard link), so it may be another program's file")


def _hand_over(descriptor: int, directory: os.stat_result, mode: int) -> None:
    if os.geteuid() == 0 and directory.st_uid != 0:
        os.fchown(descriptor, directory.st_uid, directory.st_gid)
    os.fchmod(descriptor, mode)


def _rename(path: Path, directory: int, old: str, new: str) -> None:
    try:
        os.rename(old, new, src_dir_fd=directory, dst_dir_fd=directory)
    except (IsADirectoryError, NotADirectoryError):
        raise UnsafeFile(path, "is a directory, not a regular file") from None
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _remove_leftovers(directory: int, name: str) -> None:
    """Remove what writers of that file left who were killed."""
    before = time.time() - _LEFTOVER_SECONDS
    with suppress(OSError):
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            with os.scandir(readable) as entries:
                for entry in entries:
                    if entry.name.startswith(f"{name}.") and entry.name.endswith(".new"):
                        with suppress(OSError):
                            if entry.stat(follow_symlinks=False).st_mtime < before:
                                os.unlink(entry.name, dir_fd=directory)
        finally:
            os.close(readable)
