# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets and their entries, written and read through netlink.

Formats: the kernel's include/uapi/linux/netfilter/ipset/ip_set.h.
"""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from .address import IPV4, IPV6, Key, Network, from_key
from .errors import FirewallError, KernelError, MissingTool, NotPermitted, SetMissing
from .netlink import EXCL, NESTED, NETFILTER, NETWORK_ORDER, Netlink, NetlinkError, attribute, attributes

MAX_ELEMENTS = 1048576
"""How many entries a set may hold; a limit only, memory is taken as entries come."""

_SUBSYSTEM = 6 << 8
_CREATE, _DESTROY, _SWAP, _LIST, _ADD, _DELETE, _TEST, _TYPE = 2, 3, 6, 7, 9, 10, 11, 13
_GENERIC = struct.pack("=BBH", 0, 0, 0)  # nfgenmsg
_PROTOCOL, _SETNAME, _TYPENAME, _REVISION, _FAMILY, _FLAGS, _DATA, _ADT, _LINENO = 1, 2, 3, 4, 5, 6, 7, 8, 9
_IP, _CIDR, _TIMEOUT, _CADT_FLAGS, _MAXELEM, _ELEMENTS, _REFERENCES = 1, 3, 6, 8, 19, 24, 25
_BYTES, _PACKETS, _COMMENT = 24, 25, 26
_NOMATCH = 4  # IPSET_FLAG_NOMATCH: an exception from the networks around it, which only `ipset` makes
_FULL_FLAGS = 8 | 16  # IPSET_FLAG_WITH_COUNTERS, IPSET_FLAG_WITH_COMMENT
_LIST_HEADERS = 4
_FIND_TYPE, _BUSY, _REFERENCED, _FULL = 4098, 4100, 4108, 4352
_IS_THERE = _NOT_THERE = 4103  # IPSET_ERR_EXIST: an entry to be added is there, or one to be deleted or tested is not
_NUMBERS = {IPV4: 2, IPV6: 10}  # NFPROTO_IPV4, NFPROTO_IPV6
_FAMILIES = {number: family for family, number in _NUMBERS.items()}
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_TYPE_NAME = b"hash:net\0"
_PER_MESSAGE = 500
_BUSY_SECONDS = 10.0


class SetHeader(NamedTuple):
    """A set as the kernel describes it; `elements` counts expired entries that are not yet swept, too.

    `full` tells that its entries have time-outs, counters and comments, `references` how many matches of rules use it.
    """

    name: str
    type: str
    family: str
    full: bool
    elements: int
    references: int


class SetEntry(NamedTuple):
    """One entry of a set: `timeout` in seconds that remain, 0 for permanent."""

    network: Network
    timeout: int
    comment: str
    packets: int = 0
    bytes: int = 0


class Rejected(NamedTuple):
    """An entry that the kernel did not take into the set of that name, and why."""

    name: str
    network: Network
    reason: str


class IpSets:
    """The sets of this network namespace. All methods raise NotPermitted, MissingTool or KernelError."""

    def __init__(self) -> None:
        self._netlink: Netlink | None = None
        self._revision: int | None = None

    def headers(self) -> dict[str, SetHeader]:
        """All sets there are, by name; entries are not read."""
        body = _GENERIC + _PROTOCOL_SIX + attribute(_FLAGS | NETWORK_ORDER, _U32.pack(_LIST_HEADERS))
        found = {}
        try:
            for message in self._socket().dump(_SUBSYSTEM | _LIST, body):
                header = _header(attributes(message, 4))
                if header is not None:
                    found[header.name] = header
        except NetlinkError as error:
            raise _explained(error, "list the sets") from None
        return found

    def header(self, name: str) -> SetHeader | None:
        """One set, without its entries, in some microseconds; None if there is none of that name."""
        body = _GENERIC + _PROTOCOL_SIX + attribute(_SETNAME, name.encode() + b"\0")
        body += attribute(_FLAGS | NETWORK_ORDER, _U32.pack(_LIST_HEADERS))
        try:
            found = [_header(attributes(message, 4)) for message in self._socket().dump(_SUBSYSTEM | _LIST, body)]
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                return None
            raise _explained(error, f"look at the set {name}") from None
        return next((header for header in found if header is not None), None)

    def entries(self, name: str) -> list[SetEntry]:
        """The entries of one set; KernelError if it does not exist."""
        found: list[SetEntry] = []
        for message in self._listing(name):
            found += _entries(message)
        return found

    def first_entries(self, name: str) -> list[SetEntry]:
        """Some entries of one set, as many as one message holds; none if the set is empty."""
        part = IpSets()  # a listing that is not read to its end would block our own socket
        try:
            return next((found for message in part._listing(name) if (found := _entries(message))), [])
        finally:
            part.close()

    def create(self, name: str, family: str, *, plain: bool = False, elements: int = 0) -> None:
        """Make a hash:net set of that family if it is not there.

        Its entries have time-outs, counters and comments, or nothing but an address if `plain`;
        it can hold `elements`, at least MAX_ELEMENTS.
        """
        data = attribute(_MAXELEM | NETWORK_ORDER, _U32.pack(max(MAX_ELEMENTS, elements)))
        if not plain:
            data += attribute(_TIMEOUT | NETWORK_ORDER, _U32.pack(0))
            data += attribute(_CADT_FLAGS | NETWORK_ORDER, _U32.pack(_FULL_FLAGS))
        self._execute(
            _CREATE,
            attribute(_SETNAME, name.encode() + b"\0")
            + attribute(_TYPENAME, _TYPE_NAME)
            + attribute(_REVISION, bytes((self._newest_revision(family),)))
            + attribute(_FAMILY, bytes((_NUMBERS[family],)))
            + attribute(_DATA | NESTED, data),
            f"create the set {name}",
        )

    def destroy(self, name: str) -> None:
        """Remove a set; a rule that has just gone may hold it for a moment longer."""
        self._execute(_DESTROY, attribute(_SETNAME, name.encode() + b"\0"), f"remove the set {name}")

    def swap(self, first: str, second: str) -> None:
        """Exchange the contents of two sets at once."""
        names = attribute(_SETNAME, first.encode() + b"\0") + attribute(_TYPENAME, second.encode() + b"\0")
        self._execute(_SWAP, names, f"swap the sets {first} and {second}")

    def add(self, name: str, entries: Sequence[tuple[Network, int, str]]) -> list[Rejected]:
        """Add entries (network, time-out in seconds, comment), or give those that are there a new time-out and comment.

        Returns the entries that the kernel refused; all others are in.
        """
        return self._each(_ADD, name, [network for network, _timeout, _comment in entries], _encoded(entries))

    def add_absent(self, name: str, entries: Iterable[tuple[Network, int, str]]) -> list[bool]:
        """Add those entries that are not there; for each whether it was added, which a full set does not."""
        head = _GENERIC + _PROTOCOL_SIX + attribute(_SETNAME, name.encode() + b"\0")
        bodies = [head + attribute(_DATA | NESTED, entry) for entry in _encoded(entries)]
        numbers = self._socket().execute_each(_SUBSYSTEM | _ADD, bodies, EXCL)
        failed = next((number for number in numbers if number not in (0, _IS_THERE, _FULL)), 0)
        if failed:
            raise _explained(NetlinkError(failed), f"change the set {name}")
        return [number == 0 for number in numbers]

    def matches(self, name: str, networks: Iterable[Network]) -> list[bool]:
        """For each whether the set matches: it holds the network itself or, if that is a host, a network around it."""
        head = _GENERIC + _PROTOCOL_SIX + attribute(_SETNAME, name.encode() + b"\0")
        bodies = [head + attribute(_DATA | NESTED, _address(network)) for network in networks]
        numbers = self._socket().execute_each(_SUBSYSTEM | _TEST, bodies)
        failed = next((number for number in numbers if number not in (0, _NOT_THERE)), 0)
        if failed:
            raise _explained(NetlinkError(failed), f"look into the set {name}")
        return [number == 0 for number in numbers]

    def fill(self, name: str, members: Iterable[Key]) -> list[Rejected]:
        """Add networks to a set that was made `plain`; returns those that the kernel refused."""
        rejected: list[Rejected] = []
        rest = iter(members)
        while True:
            networks = [from_key(member) for member in islice(rest, _PER_MESSAGE * 20)]  # not all at once in memory
            if not networks:
                return rejected
            rejected += self._each(_ADD, name, networks, [_address(network) for network in networks])

    def members(self, name: str) -> set[Key]:
        """The networks of one set, without anything else about them."""
        found: set[Key] = set()
        for message in self._listing(name):
            found.update(_members(message))
        return found

    def delete(self, name: str, networks: Iterable[Network]) -> None:
        """Remove entries; those that are not there any more are no error."""
        members = list(networks)
        rejected = self._each(_DELETE, name, members, [_address(network) for network in members])
        if rejected:
            raise KernelError(f"could not remove {rejected[0].network} from the set {name}: {rejected[0].reason}")

    def close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _listing(self, name: str) -> Iterator[bytes]:
        """The attributes of all entries of a set, in pieces of some hundred entries."""
        body = _GENERIC + _PROTOCOL_SIX + attribute(_SETNAME, name.encode() + b"\0")
        try:
            for message in self._socket().dump(_SUBSYSTEM | _LIST, body):
                yield attributes(message, len(_GENERIC)).get(_ADT, b"")
        except NetlinkError as error:
            raise _explained(error, f"read the set {name}") from None

    def _each(self, command: int, name: str, networks: Sequence[Network], encoded: Sequence[bytes]) -> list[Rejected]:
        """Send entries in messages of some hundred. At an error the kernel stops and names its entry: go on there."""
        head = _GENERIC + _PROTOCOL_SIX + attribute(_SETNAME, name.encode() + b"\0") + _LINENO_HEAD
        rejected = []
        start, size = 0, _PER_MESSAGE
        while start < len(encoded):
            parts = [
                b"".join((_DATA_HEAD.pack(len(entry) + 12, _DATA | NESTED), entry, _LINENO_HEAD[:4], _U32.pack(line)))
                for line, entry in enumerate(encoded[start : start + size], start + 1)
            ]
            try:
                self._socket().execute(_SUBSYSTEM | command, head + attribute(_ADT | NESTED, b"".join(parts)))
                start, size = start + size, _PER_MESSAGE
            except NetlinkError as error:
                absent = command == _DELETE and error.errno == _NOT_THERE
                if not absent and error.errno not in (_FULL, errno.ENOMEM):
                    raise _explained(error, f"change the set {name}") from None
                start, size = _failed_line(error), 1  # one failure is seldom alone
                if not absent:
                    rejected.append(Rejected(name, networks[start - 1], "the set is full"))
        return rejected

    def _execute(self, command: int, body: bytes, purpose: str) -> None:
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._socket().execute(_SUBSYSTEM | command, _GENERIC + _PROTOCOL_SIX + body)
                return
            except NetlinkError as error:
                # A listing in progress, or a rule whose removal the kernel has not finished, holds a set for a moment.
                if error.errno not in (_BUSY, _REFERENCED, errno.EBUSY) or time.monotonic() > deadline:
                    raise _explained(error, purpose) from None
                time.sleep(0.002)

    def _newest_revision(self, family: str) -> int:
        if self._revision is None:
            body = _GENERIC + _PROTOCOL_SIX + attribute(_TYPENAME, _TYPE_NAME)
            try:
                answer = self._socket().query(_SUBSYSTEM | _TYPE, body + attribute(_FAMILY, bytes((_NUMBERS[family],))))
            except NetlinkError as error:
                raise _explained(error, "use sets of type hash:net") from None
            self._revision = attributes(answer, 4)[_REVISION][0]
        return self._revision

    def _socket(self) -> Netlink:
        if self._netlink is None:
            self._netlink = Netlink(NETFILTER)
        return self._netlink


_PROTOCOL_SIX = attribute(_PROTOCOL, b"\6")
_LINENO_HEAD = attribute(_LINENO | NETWORK_ORDER, bytes(4))
_DATA_HEAD = struct.Struct("=HH")
_TIMEOUT_HEAD = attribute(_TIMEOUT | NETWORK_ORDER, bytes(4))[:4]
_IPV4_HEAD = struct.pack("=HHHH", 12, _IP | NESTED, 8, 1 | NETWORK_ORDER)
_IPV6_HEAD = struct.pack("=HHHH", 24, _IP | NESTED, 20, 2 | NETWORK_ORDER)
_CIDRS = [attribute(_CIDR, bytes((prefix,))) for prefix in range(129)]
_BYTES_HEAD = attribute(_BYTES | NETWORK_ORDER, bytes(8))[:4]
# Heads of DATA and address, address, CIDR, time-out, bytes, packets, and the head of the comment.
_USUAL_IPV4, _USUAL_IPV6 = (struct.Struct(f">12x{size}s4xB3x4sI4sQ4xQ4x") for size in (4, 16))
_ERROR_HEADER = 4  # nfgenmsg, in front of the echoed attributes


def _address(network: Network) -> bytes:
    packed, prefix = network
    return (_IPV4_HEAD if len(packed) == 4 else _IPV6_HEAD) + packed + _CIDRS[prefix]


def _encoded(entries: Iterable[tuple[Network, int, str]]) -> list[bytes]:
    tails: dict[tuple[int, str], bytes] = {}
    found = []
    for network, timeout, comment in entries:
        tail = tails.get((timeout, comment))
        if tail is None:
            tail = _TIMEOUT_HEAD + _U32.pack(timeout)
            tail += attribute(_COMMENT, comment.encode() + b"\0") if comment else b""
            tails[timeout, comment] = tail
        found.append(_address(network) + tail)
    return found


def _failed_line(error: NetlinkError) -> int:
    """The number of the entry that the kernel stopped at: it writes it into the request that it sends back."""
    return int(_U32.unpack(attributes(error.echo, _ERROR_HEADER)[_LINENO])[0])


def _header(found: dict[int, bytes]) -> SetHeader | None:
    if _DATA not in found or _TYPENAME not in found:
        return None
    data = attributes(found[_DATA])
    flags = _U32.unpack(data[_CADT_FLAGS])[0] if _CADT_FLAGS in data else 0
    return SetHeader(
        found[_SETNAME].rstrip(b"\0").decode("utf-8", "replace"),
        found[_TYPENAME].rstrip(b"\0").decode("utf-8", "replace"),
        _FAMILIES.get(found[_FAMILY][0], ""),
        _TIMEOUT in data and flags & _FULL_FLAGS == _FULL_FLAGS,
        _U32.unpack(data[_ELEMENTS])[0] if _ELEMENTS in data else 0,
        _U32.unpack(data[_REFERENCES])[0] if _REFERENCES in data else 0,
    )


def _entries(adt: bytes) -> list[SetEntry]:
    """The entries in one piece of a listing. Nearly all are laid out alike; these are unpacked at once."""
    found: list[SetEntry] = []
    comments: dict[bytes, str] = {}
    heads, offset = _DATA_HEAD.unpack_from, 0
    usual = _USUAL_IPV6 if adt[4:6] == _IPV6_HEAD[:2] else _USUAL_IPV4
    unpack, text = usual.unpack_from, usual.size
    while offset + 4 <= len(adt):
        size = heads(adt, offset)[0]
        if size > text:
            packed, prefix, timeout_head, timeout, bytes_head, octets, packets = unpack(adt, offset)
            comment_size, comment_type = heads(adt, offset + text - 4)
            if timeout_head == _TIMEOUT_HEAD and bytes_head == _BYTES_HEAD and comment_type == _COMMENT:
                raw = adt[offset + text : offset + text + comment_size - 5]
                comment = comments.get(raw)
                if comment is None:
                    comment = comments[raw] = raw.decode("utf-8", "replace")
                found.append(SetEntry(Network(packed, prefix), timeout, comment, packets, octets))
                offset += (size + 3) & ~3
                continue
        fields = attributes(adt, offset + 4, offset + size)
        if _CADT_FLAGS not in fields or not _U32.unpack(fields[_CADT_FLAGS])[0] & _NOMATCH:
            found.append(_entry(fields))
        offset += (size + 3) & ~3
    return found


def _entry(fields: dict[int, bytes]) -> SetEntry:
    packed = fields[_IP][4:]
    return SetEntry(
        Network(packed, fields[_CIDR][0] if _CIDR in fields else len(packed) * 8),
        _U32.unpack(fields[_TIMEOUT])[0] if _TIMEOUT in fields else 0,
        fields[_COMMENT][:-1].decode("utf-8", "replace") if _COMMENT in fields else "",
        _U64.unpack(fields[_PACKETS])[0] if _PACKETS in fields else 0,
        _U64.unpack(fields[_BYTES])[0] if _BYTES in fields else 0,
    )


def _members(adt: bytes) -> Iterator[Key]:
    for fields in _each_data(adt):
        packed = fields[_IP][4:]
        yield packed + (fields[_CIDR][:1] if _CIDR in fields else bytes((len(packed) * 8,)))


def _each_data(adt: bytes) -> Iterator[dict[int, bytes]]:
    offset = 0
    while offset + 4 <= len(adt):
        size = _DATA_HEAD.unpack_from(adt, offset)[0]
        yield attributes(adt, offset + 4, offset + size)
        offset += (size + 3) & ~3


def _explained(error: NetlinkError, purpose: str) -> FirewallError:
    number = error.errno
    if number in (errno.EPERM, errno.EACCES):
        return NotPermitted(f"the kernel does not let this user {purpose}; run as root, or with CAP_NET_ADMIN")
    if number in (errno.EINVAL, errno.EPROTONOSUPPORT, _FIND_TYPE) and purpose.startswith(("list", "use")):
        return MissingTool(
            f"cannot {purpose}: the kernel has no ipset; run 'modprobe ip_set_hash_net', or use a kernel that has it"
        )
    if number in (_BUSY, _REFERENCED, errno.EBUSY):
        return KernelError(f"could not {purpose}: a rule that is not from here uses it; remove that, then run again")
    if number == errno.ENOENT:
        return SetMissing(f"could not {purpose}: it does not exist any more; run again")
    if number == errno.EEXIST:
        return KernelError(f"could not {purpose}: there is one of that name with another type; remove or rename it")
    return KernelError(f"could not {purpose}: {error.strerror}")
