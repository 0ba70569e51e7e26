# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells the second record of a packet that Suricata saw on two interfaces, or in two threads, from the first.

What Suricata 7.0.10 and 8.0.8 write then, seen with af-packet on a bridge and its port, and on one interface twice:
the same addresses, ports and signature, the same transaction (`tx_id`), times that differ by some microseconds. On two
interfaces `in_iface` differs and, unless `livedev.use-for-tracking` is off, `flow_id` too. `community_id` is made of
the addresses and ports, which are always there, so these are compared.

A client that tries again within a second, over the same connection, is no double: each interface sees it as often as
the other, so what counts is the interface that saw most. At one interface only what comes within 100 microseconds, and
in the same transaction, is a double: that costs no rule more than what exceeds 10,000 events a second of one flow.
Records without `flow_id`, as fast.log's, are never doubles.
"""

from __future__ import annotations

from typing import Any, NamedTuple

_APART = 1.0
"""Seconds between the records of one packet from two interfaces, at most."""

_AT_ONCE = 0.0001
"""The same for two threads at one interface: their copies have times of their own."""

_MANY = 256
"""Records that are compared with at least, twice as many at most. They come within a few lines of each other, and more
would not stay in the processor's cache: this is asked for each event that counts.
"""

# A record of a whole flow has times of its own in its object; in others it tells records of one packet apart.
_OF_FLOWS = frozenset(("flow", "netflow"))


class _Seen(NamedTuple):
    """What one interface saw: how many packets, and when the last (epoch seconds)."""

    packets: int
    last: float


class Doubles:
    """Remembers the last records, in bounded memory. Times are the events' own, in epoch seconds."""

    def __init__(self) -> None:
        # When a packet was first seen, at which interface, and the same of those that followed within a second.
        self._young: dict[int, tuple[float, int, dict[int, _Seen] | None]] = {}
        self._old = self._young

    def is_double(self, event_type: str, record: dict[str, Any], time: float) -> bool:
        """Whether the packet of this record was seen before; ask once for each record. Never raises."""
        if "flow_id" not in record:
            return False
        try:
            key, interface = hash(_key(event_type, record)), hash(record.get("in_iface"))  # they can be of any length
            known = self._young.get(key) or self._old.get(key)
            if known is not None and abs(time - known[0]) <= _APART:
                first, origin, others = known
                seen = {origin: _Seen(1, first)} if others is None else others
                found = _is_double(seen, interface, time)
                self._young[key] = first, origin, seen
                return found
            if len(self._young) >= _MANY:
                self._old, self._young = self._young, {}
            self._young[key] = time, interface, None
        except (TypeError, RecursionError):  # a list or an object where a number or text is due
            pass
        return False


def _is_double(seen: dict[int, _Seen], interface: int, time: float) -> bool:
    here = seen.get(interface)
    if here is not None and abs(time - here.last) <= _AT_ONCE:
        return True
    packets = 1 if here is None else here.packets + 1
    elsewhere = max((each.packets for name, each in seen.items() if name != interface), default=0)
    seen[interface] = _Seen(packets, time)
    return packets <= elsewhere


def _key(event_type: str, record: dict[str, Any]) -> tuple[Any, ...]:
    get = record.get
    if event_type == "alert":
        alert = get("alert")
        what = alert.get("signature_id") if alert.__class__ is dict else None
    else:
        what = None if event_type in _OF_FLOWS else hash(repr(get(event_type)))
    return event_type, what, get("tx_id"), get("src_ip"), get("src_port"), get("dest_ip"), get("dest_port")
