# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink: one socket to a subsystem of the kernel. It knows messages and attributes, not what they mean.

Formats: netlink(7), and the kernel's include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NoReturn

from .errors import KernelError, MissingTool

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
ATTRIBUTE = struct.Struct("=HH")  # length, type
_ERROR = struct.Struct("=i")
_ERROR_TYPE, _DONE_TYPE = 2, 3

REQUEST, ACK, EXCL, DUMP = 0x1, 0x4, 0x200, 0x300
NESTED, NETWORK_ORDER = 0x8000, 0x4000
_TYPE_MASK = 0x3FFF
_RECEIVE_BYTES = 1 << 17
_PATIENCE_SECONDS = 30
_AT_ONCE = 64  # as many answers as the socket surely has room for

NETFILTER = 12  # NETLINK_NETFILTER
ROUTE = 0  # NETLINK_ROUTE


class NetlinkError(OSError):
    """The kernel's answer to a request was an error; `errno` is its number, `echo` the request as it sends it back."""

    def __init__(self, number: int, echo: bytes = b"") -> None:
        super().__init__(number, os.strerror(number) if number < 4096 else f"kernel error {number}")
        self.echo = echo


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    size = 4 + len(value)
    return ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def attributes(data: bytes, start: int = 0, end: int | None = None) -> dict[int, bytes]:
    """The attributes in `data[start:end]` by type, without flags; the last of a type counts."""
    found = {}
    end = len(data) if end is None else end
    while start + 4 <= end:
        size, kind = ATTRIBUTE.unpack_from(data, start)
        if size < 4:
            break
        found[kind & _TYPE_MASK] = data[start + 4 : start + size]
        start += (size + 3) & ~3
    return found


class Netlink:
    """A socket to one protocol; requests are answered in order.

    All methods raise KernelError if the kernel does not answer in time, or its answer is lost.
    """

    def __init__(self, protocol: int) -> None:
        """Raises MissingTool if the kernel has no such protocol, or lets this process have no such socket."""
        self._protocol = protocol
        self._socket = _opened(protocol)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def execute(self, kind: int, body: bytes, flags: int = 0) -> None:
        """Send a request that changes something and wait for the kernel's word; raises NetlinkError."""
        for _answer in self._exchange(kind, body, REQUEST | ACK | flags):
            pass

    def execute_each(self, kind: int, bodies: Sequence[bytes], flags: int = 0) -> list[int]:
        """Send requests that change something in a row; for each the number of its error, 0 if it was carried out."""
        numbers: list[int] = []
        for start in range(0, len(bodies), _AT_ONCE):
            part = bodies[start : start + _AT_ONCE]
            first = self._sequence + 1
            self._sequence += len(part)
            self._send(
                b"".join(self._packed(kind, body, REQUEST | ACK | flags, n) for n, body in enumerate(part, first))
            )
            while len(numbers) < start + len(part):
                answers = self._messages(self._receive(), first)
                numbers += [-_ERROR.unpack_from(answer)[0] for _kind, answer in answers]
        return numbers

    def query(self, kind: int, body: bytes) -> bytes:
        """The body of the one message that answers a request; raises NetlinkError."""
        return b"".join(self._exchange(kind, body, REQUEST | ACK))

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """The bodies of all messages that answer a listing; raises NetlinkError.

        It has to be read to its end before the next request.
        """
        return self._exchange(kind, body, REQUEST | DUMP)

    def _exchange(self, kind: int, body: bytes, flags: int) -> Iterator[bytes]:
        self._sequence += 1
        self._send(self._packed(kind, body, flags, self._sequence))
        while True:
            for answer_kind, answer in self._messages(self._receive(), self._sequence):
                if answer_kind in (_DONE_TYPE, _ERROR_TYPE):
                    number = -_ERROR.unpack_from(answer)[0] if len(answer) >= 4 else 0
                    if number:
                        raise NetlinkError(number, answer[4 + HEADER.size :])
                    return
                yield answer

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            self._give_up(error)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> NoReturn:
        """What else comes on this socket, or a listing that is still going on, is nothing to the next request."""
        self._socket.close()
        self._socket = _opened(self._protocol)
        if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
            what = (
                f"the kernel has not answered within {_PATIENCE_SECONDS} seconds; look at 'dmesg' for what holds it up"
            )
        elif error.errno == errno.ENOBUFS:
            what = "an answer of the kernel was lost, for it was more than the socket holds"
        else:
            what = f"the kernel cannot be asked: {error.strerror}"
        raise KernelError(f"{what}; what was asked for may be done or not, so run again") from None

    @staticmethod
    def _packed(kind: int, body: bytes, flags: int, sequence: int) -> bytes:
        return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body

    @staticmethod
    def _messages(data: bytes, first: int) -> Iterator[tuple[int, bytes]]:
        """The messages in `data` from that sequence number on; an older one answers a request that was given up."""
        offset = 0
        while offset + HEADER.size <= len(data):
            size, kind, _flags, sequence, _port = HEADER.unpack_from(data, offset)
            if sequence >= first:
                yield kind, data[offset + HEADER.size : offset + size]
            offset += (size + 3) & ~3


def _opened(protocol: int) -> socket.socket:
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        raise MissingTool(
            f"no netlink socket to be had: {error.strerror}; run 'modprobe nfnetlink', and allow AF_NETLINK to this "
            "process where a sandbox restricts it"
        ) from None
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    # The kernel's own time-outs: with Python's there is a poll before each call.
    patience = struct.pack("@ll", _PATIENCE_SECONDS, 0)  # a timeval: seconds, microseconds
    for direction in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        opened.setsockopt(socket.SOL_SOCKET, direction, patience)
    return opened
