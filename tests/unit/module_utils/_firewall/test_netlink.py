# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import struct

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import KernelError, MissingTool
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.host import protected
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.netlink import (
    NESTED,
    NETFILTER,
    ROUTE,
    Netlink,
    NetlinkError,
    attribute,
    attributes,
)
from hypothesis import given
from hypothesis import strategies as st


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40), max_size=8))
def test_attributes_survive_packing(found):
    packed = b"".join(attribute(kind | NESTED, value) for kind, value in found.items())

    assert len(packed) % 4 == 0
    assert attributes(packed) == found
    assert attributes(b"head" + packed + b"tail", 4, 4 + len(packed)) == found


@given(st.binary(max_size=64))
def test_what_is_broken_ends_without_an_error(data):
    attributes(data)


def test_the_last_of_a_kind_counts():
    assert attributes(attribute(1, b"one") + attribute(1, b"two")) == {1: b"two"}


def test_an_error_of_the_kernel_names_its_number():
    with pytest.raises(NetlinkError) as caught:
        Netlink(NETFILTER).execute(0x3F << 8, b"\0\0\0\0")  # no such subsystem

    assert caught.value.errno in (1, 22)  # EPERM without privileges, else EINVAL


def test_a_listing_is_read_to_its_end_and_the_socket_can_be_asked_again():
    route = Netlink(ROUTE)

    links = [list(route.dump(18, struct.pack("=BxHiII", 0, 0, 0, 0, 0))) for _round in range(2)]  # RTM_GETLINK

    assert links[0] == links[1]
    assert any(b"lo\0" in body for body in links[0])
    route.close()


LINKS = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
GET_LINKS = 18  # RTM_GETLINK


def test_an_answer_that_never_comes_is_an_error_with_a_remedy():
    route = Netlink(ROUTE)
    route._socket.close()
    route._socket, silent = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    route._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 1000))

    with pytest.raises(KernelError, match=r"has not answered within 30 seconds; look at 'dmesg'.*run again"):
        list(route.dump(GET_LINKS, LINKS))
    assert any(b"lo\0" in body for body in route.dump(GET_LINKS, LINKS))
    silent.close()
    route.close()


def test_answers_that_were_lost_are_an_error_and_the_next_request_works():
    route = Netlink(ROUTE)
    route._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)

    with pytest.raises(KernelError, match=r"an answer of the kernel was lost.*run again"):
        route.execute_each(GET_LINKS, [b""] * 64)
    assert any(b"lo\0" in body for body in route.dump(GET_LINKS, LINKS))
    route.close()


def test_a_protocol_that_the_kernel_does_not_have_is_named():
    with pytest.raises(MissingTool, match=r"no netlink socket to be had: .*modprobe nfnetlink"):
        Netlink(31)


def test_every_host_protects_its_loopback_and_what_no_block_may_touch():
    found = {str(network): why for network, why in protected().items()}

    assert found["127.0.0.0/8"] == "loopback"
    assert found["::1"] == "loopback"
    assert found["255.255.255.255"] == "limited broadcast"
    assert found["ff00::/8"] == "multicast"
