# SPDX-License-Identifier: GPL-3.0-or-later
"""Noticing that somebody changed the rules, at no cost while nobody does.

With nft the kernel tells of each commit: NEWGEN in include/uapi/linux/netfilter/nf_tables.h, received in the multicast
group NFNLGRP_NFTABLES. Legacy tables tell nothing, but they can be read in microseconds: struct ipt_getinfo and
ipt_get_entries in include/uapi/linux/netfilter_ipv4/ip_tables.h. Sets tell nothing either: their sizes are compared.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Callable, NamedTuple

from .address import IPV4
from .ipset import IpSets
from .layout import GUARDING, Role
from .netlink import NETFILTER
from .state import Entries, State

LOOK_SECONDS = 1.0
"""How often legacy tables and sets have to be looked at."""

UNUSED_SECONDS = 600.0
"""A rate or log prefix whose set was empty for so long is unused: its rule costs every packet."""

_SOL_NETLINK, _ADD_MEMBERSHIP, _NFTABLES_GROUP = 270, 1, 7
_SO_ATTACH_FILTER = 26
_NEWGEN = 10 << 8 | 15  # NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN
_TYPE_OFFSET = 4  # of struct nlmsghdr
_LOAD_HALF, _JUMP_EQUAL, _RETURN = 0x28, 0x15, 0x06  # linux/bpf_common.h
_GET_INFO, _GET_ENTRIES = 64, 65  # IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES; the same for IPv6
_INFO = struct.Struct("=32sI5I5III")  # name, valid hooks, hook entries, underflows, number of entries, size
_ENTRIES_HEAD = struct.Struct("=32sI4x")  # name, size; the entries follow, aligned to eight bytes
_MATCH_BYTES = {socket.IPPROTO_IP: 84, socket.IPPROTO_IPV6: 136}  # struct ipt_ip, struct ip6t_ip6
_AFTER_MATCH = struct.Struct("=I2HI")  # nfcache, target offset, next offset, comefrom; then two counters of 64 bits
_COUNTERS_BYTES = 16
_FEW = 500
"""Up to so many legacy rules, and entries of a set, are compared whole; of more rules only the first of each hook."""


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
    """Compares the legacy filter tables, but for their counters, with what they were at the last call."""

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
        """Whether the rules are others than at the last call."""
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
            if failed:
                found.append(os.strerror(ctypes.get_errno()).encode())
            else:
                found.append(buffer.raw + b"".join(self._rules(each, level, buffer.raw)))
        return found

    def _rules(self, each: socket.socket, level: int, info: bytes) -> Iterator[bytes]:
        """The rules without their counters: all if they are few, else the first of each hook."""
        _name, hooks, *offsets, number, total = _INFO.unpack(info)
        buffer = ctypes.create_string_buffer(_ENTRIES_HEAD.size + total)
        _ENTRIES_HEAD.pack_into(buffer, 0, b"filter", total)
        size = ctypes.c_uint32(len(buffer))
        if self._libc.getsockopt(each.fileno(), level, _GET_ENTRIES, buffer, ctypes.byref(size)):
            return  # they changed between the two questions: the next look sees that
        rules = buffer.raw[_ENTRIES_HEAD.size :]
        if number <= _FEW:
            offset = 0
            while offset < total:
                rule, offset = _rule(rules, offset, level)
                yield rule
        else:
            yield from (_rule(rules, offsets[hook], level)[0] for hook in range(5) if hooks >> hook & 1)


class Losses(NamedTuple):
    """What is missing: `sets` are those of guards that lost entries, and any that are gone; `blocks` are sets of blocks
    that lost entries before their time, and `unused` those of rates and prefixes that have been empty for
    UNUSED_SECONDS."""

    sets: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


class LossWatch:
    """Compares the sizes of sets with what they should hold, and with what they were at the last look."""

    def __init__(self, sets: IpSets, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._sets, self._clock = sets, clock
        self._sizes: dict[str, int] = {}
        self._empty_since: dict[str, float] = {}

    def look(self, state: State, now: float) -> Losses:
        """Against the sets and entries of a state, at `now` by its clock (epoch seconds). Raises what IpSets raises."""
        missing, blocks, unused = [], [], []
        for spec in state.sets.values():
            if spec.role not in (*GUARDING, Role.BLOCK):
                continue
            name, held = spec.name, state.entries.get(spec.name)
            header = self._sets.header(name)
            size = -1 if header is None else header.elements
            before, self._sizes[name] = self._sizes.get(name, size), size
            if size:
                self._empty_since.pop(name, None)
            if header is None or (spec.role in GUARDING and held is not None and size < _living(held, now)):
                missing.append(name)
            elif spec.role is Role.BLOCK and _lost(size, before, held, now):
                blocks.append(name)
            elif spec.role is Role.BLOCK and spec.label and not size:
                since = self._empty_since.setdefault(name, self._clock())
                if self._clock() - since >= UNUSED_SECONDS:
                    unused.append(name)
                    del self._empty_since[name]  # where a rule of others' keeps it, the next attempt is as far away
        return Losses(tuple(missing), tuple(blocks), tuple(unused))


def _living(entries: Entries, now: float) -> int:
    """How many entries are surely there still; the kernel rounds ends to seconds."""
    return sum(1 for held in entries.values() if held.expires_at is None or held.expires_at > now + 2)


def _lost(size: int, before: int, entries: Entries | None, now: float) -> bool:
    """Whether a set of blocks shrank by more than what has run out.

    Of many entries some always run out: they are counted only where half of them are gone.
    """
    if size >= before:
        return False
    if entries is None:
        return size * 2 < before
    return (size * 2 < before or len(entries) <= _FEW) and size < _living(entries, now)


def _rule(rules: bytes, offset: int, level: int) -> tuple[bytes, int]:
    """One rule without its counters, and where the next one begins."""
    after = offset + _MATCH_BYTES[level]
    end = offset + _AFTER_MATCH.unpack_from(rules, after)[2]
    counters = after + _AFTER_MATCH.size
    return rules[offset : counters - 4] + rules[counters + _COUNTERS_BYTES : end], max(end, offset + 1)


def watch(backend: str, families: Sequence[str]) -> CommitWatch | OutlineWatch:
    """What notices changes of the rules of that backend (`nft` or `legacy`). Raises OSError."""
    return CommitWatch() if backend == "nft" else OutlineWatch(families)
