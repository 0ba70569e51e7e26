# SPDX-License-Identifier: GPL-3.0-or-later
"""Noticing that somebody changed the rules, at no cost while nobody does.

With nft the kernel tells of each commit: NEWGEN in include/uapi/linux/netfilter/nf_tables.h, received in the multicast
group NFNLGRP_NFTABLES. Legacy tables tell nothing, but their outline can be read in microseconds: struct ipt_getinfo
in include/uapi/linux/netfilter_ipv4/ip_tables.h.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Sequence

from .address import IPV4
from .netlink import NETFILTER

LOOK_SECONDS = 1.0
"""How often legacy tables have to be looked at."""

_SOL_NETLINK, _ADD_MEMBERSHIP, _NFTABLES_GROUP = 270, 1, 7
_SO_ATTACH_FILTER = 26
_NEWGEN = 10 << 8 | 15  # NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN
_TYPE_OFFSET = 4  # of struct nlmsghdr
_LOAD_HALF, _JUMP_EQUAL, _RETURN = 0x28, 0x15, 0x06  # linux/bpf_common.h
_GET_INFO = 64  # IPT_SO_GET_INFO, IP6T_SO_GET_INFO
_INFO = struct.Struct("=32sI5I5III")


class CommitWatch:
    """Hears of every commit to nftables in this network namespace, by whoever made it."""

    def __init__(self) -> None:
        """Raises OSError where the kernel does not let this user listen."""
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETFILTER
        )
        self._hear_only_newgen()
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFTABLES_GROUP)

    def fileno(self) -> int:
        """Readable after a commit."""
        return self._socket.fileno()

    def changed(self) -> bool:
        """Whether there were commits since the last call."""
        heard = False
        while True:
            try:
                self._socket.recv(256)
            except BlockingIOError:
                return heard
            except OSError:  # ENOBUFS: more than the socket could hold
                heard = True
            else:
                heard = True

    def close(self) -> None:
        self._socket.close()

    def _hear_only_newgen(self) -> None:
        """Let the kernel drop all other messages, so that a commit of a thousand rules wakes us once."""
        wanted = socket.htons(_NEWGEN)  # BPF loads in network order, netlink writes in the host's
        program = b"".join(
            struct.pack("=HBBI", *instruction)
            for instruction in (
                (_LOAD_HALF, 0, 0, _TYPE_OFFSET),
                (_JUMP_EQUAL, 0, 1, wanted),
                (_RETURN, 0, 0, 0xFFFF),
                (_RETURN, 0, 0, 0),
            )
        )
        buffer = ctypes.create_string_buffer(program, len(program))
        self._socket.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(buffer))
        )


class OutlineWatch:
    """Compares the outline of the legacy filter tables with what it was at the last call."""

    def __init__(self, families: Sequence[str]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._sockets = [
            (
                socket.socket(
                    socket.AF_INET if family == IPV4 else socket.AF_INET6,
                    socket.SOCK_RAW | socket.SOCK_CLOEXEC,
                    socket.IPPROTO_RAW,
                ),
                socket.IPPROTO_IP if family == IPV4 else socket.IPPROTO_IPV6,
            )
            for family in families
        ]
        self._outlines = self._read()

    def fileno(self) -> int:
        """There is nothing to wait for: call `changed` every LOOK_SECONDS."""
        return -1

    def changed(self) -> bool:
        """Whether number, size or entry points of the rules are others than at the last call."""
        before, self._outlines = self._outlines, self._read()
        return self._outlines != before

    def close(self) -> None:
        for each, _level in self._sockets:
            each.close()

    def _read(self) -> list[bytes]:
        found = []
        for each, level in self._sockets:
            buffer = ctypes.create_string_buffer(b"filter", _INFO.size)
            size = ctypes.c_uint32(_INFO.size)
            failed = self._libc.getsockopt(each.fileno(), level, _GET_INFO, buffer, ctypes.byref(size))
            found.append(os.strerror(ctypes.get_errno()).encode() if failed else buffer.raw)
        return found


def watch(backend: str, families: Sequence[str]) -> CommitWatch | OutlineWatch:
    """What notices changes of the rules of that backend (`nft` or `legacy`). Raises OSError."""
    return CommitWatch() if backend == "nft" else OutlineWatch(families)
