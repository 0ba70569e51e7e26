# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shlex

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import FAMILIES, IPV4, IPV6, parse_network
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import Action, Block, Direction
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import InvalidInput
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.layout import (
    allow_set,
    block_set,
    chain_rules,
    filling,
    list_set,
    own_set,
    parse_set_name,
    valid_chain,
    valid_list_name,
)
from hypothesis import given
from hypothesis import strategies as st

SAMPLE = {IPV4: parse_network("203.0.113.7"), IPV6: parse_network("2001:db8::7")}
KERNEL_NAME_BYTES = 31  # ip_set.h, IPSET_MAXNAMELEN without the closing NUL


def legal(check, text):
    try:
        return check(text) == text
    except InvalidInput:
        return False


chains = st.from_regex(r"\A[A-Za-z0-9_]{1,12}\Z").filter(lambda text: legal(valid_chain, text))
list_names = st.from_regex(r"\A[a-z0-9_]{1,12}\Z").filter(lambda text: legal(valid_list_name, text))
blocks = st.builds(
    Block,
    st.sampled_from(list(SAMPLE.values())),
    st.sampled_from(Action),
    st.sampled_from(Direction),
    rate=st.sampled_from(["10/minute", "5/second"]),
    burst=st.integers(1, 10000),
    log_prefix=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=28),
)


@given(chains | st.just("W" * 12), list_names | st.just("w" * 12), blocks)
def test_every_name_is_short_enough_and_tells_what_the_set_is_for(chain, list_name, block):
    family, direction = block.network.family, block.direction
    specs = [
        block_set(chain, block),
        allow_set(chain, family),
        own_set(chain, family),
        list_set(chain, list_name, family, direction),
        filling(list_set(chain, list_name, family, direction)),
    ]

    assert len({spec.name for spec in specs}) == len(specs)
    for spec in specs:
        assert len(spec.name.encode()) <= KERNEL_NAME_BYTES
        assert parse_set_name(chain, spec.name) == spec


@given(chains, chains, blocks, list_names)
def test_no_set_belongs_to_two_chains(chain, other, block, list_name):
    for spec in (
        block_set(chain, block),
        allow_set(chain, IPV4),
        own_set(chain, IPV6),
        list_set(chain, list_name, IPV4, block.direction),
    ):
        assert (parse_set_name(other, spec.name) is not None) == (chain == other)


@given(st.text(max_size=31))
def test_any_text_is_a_name_of_ours_or_not_but_no_error(text):
    spec = parse_set_name("NGFW", "NGFW" + text)

    assert spec is None or spec.name == "NGFW" + text


@pytest.mark.parametrize(
    "name",
    [
        "NGFW",
        "NGFW-drop-src",
        "NGFW-drop-src5",
        "NGFW-drop-src4-00000000",
        "NGFW-log-src4",
        "NGFW-log-src4-0000000",
        "NGFW-log-src4-0000000G",
        "NGFW-allow4\n",
        "NGFWX-allow4",
        "ngfw-allow4",
        "NGFW.list.s4x",
        "NGFW.LIST.s4",
        "NGFW..s4",
    ],
)
def test_names_of_others(name):
    assert parse_set_name("NGFW", name) is None


def test_sets_of_different_parameters_have_different_names():
    block = Block(SAMPLE[IPV4], Action.RATE_LIMIT)
    names = {
        block_set("NGFW", block._replace(rate=rate, burst=burst)).name
        for rate in ("10/minute", "10/hour")
        for burst in (5, 6)
    }

    assert len(names) == 4


@pytest.mark.parametrize("name", ["NGFW", "A", "a_1", "0", "W" * 12, "INPUTS", "DROPS", "DOCKER_X"])
def test_chain_names(name):
    assert valid_chain(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "W" * 13, "a-b", "a.b", "a b", "ä", "NGFW\n", "٣", "-j"),
        *(
            "INPUT",
            "input",
            "Output",
            "FORWARD",
            "PREROUTING",
            "POSTROUTING",
            "ACCEPT",
            "DROP",
            "drop",
            "REJECT",
            "LOG",
        ),
        *("RETURN", "MASQUERADE", "SNAT", "SET", "NFLOG", "DOCKER", "docker", "LIBVIRT_INP"),
    ],
)
def test_names_that_a_chain_may_not_have(name):
    with pytest.raises(InvalidInput, match="chain '"):
        valid_chain(name)


@pytest.mark.parametrize("name", ["", "w" * 13, "Firehol", "a-b", "a.b", "ä", "x\n", "٣"])
def test_names_that_a_blocklist_may_not_have(name):
    with pytest.raises(InvalidInput, match="blocklist name '"):
        valid_list_name(name)


def guard(family, side):
    digit = family[-1]
    return f"-m set ! --match-set NGFW-allow{digit} {side} -m set ! --match-set NGFW-own{digit} {side}"


def rules_of(*blocks, family=IPV4, lists=()):
    sets = {spec.name: spec for spec in [*(block_set("NGFW", block) for block in blocks), *lists]}
    parameters = {block_set("NGFW", block).name: block.parameters for block in blocks}
    return chain_rules("NGFW", family, sets.values(), parameters)


FROM_SET = "-m set --match-set {set} {side} {guard} "
LIMITED = FROM_SET + "-m limit --limit 10/sec --limit-burst 20 -j LOG"
ABOVE = FROM_SET + "-m hashlimit --hashlimit-above {rate} --hashlimit-mode {mode} --hashlimit-htable-expire {expire}"
DROPPED = " --hashlimit-name {set} -j DROP"
HASHLIMITS = {
    ("10/minute", 5): ("10/min --hashlimit-burst 5", 60000),
    ("2/second", 9): ("2/sec --hashlimit-burst 9", 5000),
    ("1/day", 3): ("1/day --hashlimit-burst 3", 259200000),
    ("7/hour", 2): ("7/hour --hashlimit-burst 2", 3600000),
}


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (Block(SAMPLE[IPV4]), FROM_SET + "-j DROP"),
        (Block(SAMPLE[IPV6], direction=Direction.DESTINATION), FROM_SET + "-j DROP"),
        (Block(SAMPLE[IPV4], Action.LOG, log_prefix="NGFW: "), LIMITED + " --log-prefix 'NGFW: '"),
        (Block(SAMPLE[IPV4], Action.LOG, log_prefix=""), LIMITED),
        *((Block(SAMPLE[IPV4], Action.RATE_LIMIT, rate=r, burst=b), ABOVE + DROPPED) for r, b in HASHLIMITS),
        (Block(SAMPLE[IPV6], Action.RATE_LIMIT, Direction.DESTINATION), ABOVE + DROPPED),
    ],
)
def test_rules_are_those_of_the_kernel_notes(block, text):
    family = block.network.family
    side = "src" if block.direction is Direction.SOURCE else "dst"
    rate, expire = HASHLIMITS[block.rate, block.burst]
    mode = f"{side}ip" + (f" --hashlimit-{side}mask 64" if family == IPV6 else "")
    name = block_set("NGFW", block).name
    wanted = text.format(set=name, side=side, guard=guard(family, side), rate=rate, mode=mode, expire=expire)

    assert rules_of(block, family=family) == [tuple(shlex.split(wanted))]
    assert rules_of(block, family=IPV6 if family == IPV4 else IPV4) == []


def test_reject_lets_its_own_answers_out_and_neighbours_be_found():
    related = "-m conntrack --ctstate RELATED -m set --match-set NGFW-reject-src6 dst -j RETURN"
    rules = [" ".join(rule) for rule in rules_of(Block(SAMPLE[IPV6], Action.REJECT), family=IPV6)]

    assert rules == [
        *(
            f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -m set --match-set NGFW-reject-src6 {side} -j RETURN"
            for kind in (135, 136)
            for side in ("src", "dst")
        ),
        f"-p tcp -m tcp --tcp-flags RST RST {related}",
        f"-p ipv6-icmp -m icmp6 --icmpv6-type 1/4 {related}",
        f"-p tcp -m set --match-set NGFW-reject-src6 src {guard(IPV6, 'src')} -j REJECT --reject-with tcp-reset",
        f"-m set --match-set NGFW-reject-src6 src {guard(IPV6, 'src')} -j REJECT --reject-with icmp6-port-unreachable",
    ]


def test_reject_in_ipv4_needs_four_rules():
    rules = [" ".join(rule) for rule in rules_of(Block(SAMPLE[IPV4], Action.REJECT, Direction.DESTINATION))]

    assert len(rules) == 4
    related = "-m conntrack --ctstate RELATED -m set --match-set NGFW-reject-dst4 src -j RETURN"
    assert rules[0] == f"-p tcp -m tcp --tcp-flags RST RST {related}"
    assert rules[1] == f"-p icmp -m icmp --icmp-type 3/3 {related}"
    assert rules[3].endswith("-j REJECT --reject-with icmp-port-unreachable")


@given(st.lists(blocks, max_size=8), st.sampled_from(FAMILIES), list_names)
def test_every_rule_that_stops_a_packet_is_guarded_on_its_own_side(chosen, family, list_name):
    lists = [list_set("NGFW", list_name, family, direction) for direction in Direction]
    digit = family[-1]
    for rule in rules_of(*chosen, family=family, lists=lists):
        if rule[-1] == "RETURN":
            continue
        at = rule.index("--match-set")
        side = rule[at + 2]
        assert rule[at + 3 : at + 15] == tuple(guard(family, side).split())
        assert rule[at + 1].split("-")[0].split(".")[0] == "NGFW"
        assert digit in rule[at + 1]


def test_the_order_is_log_rate_reject_drop_and_lists_last():
    blocks = [Block(SAMPLE[IPV4], action, direction) for action in Action for direction in reversed(Direction)]
    rules = rules_of(*blocks, lists=[list_set("NGFW", "firehol", IPV4, Direction.SOURCE)])

    sets = [rule[rule.index("--match-set") + 1] for rule in rules if rule[-1] != "RETURN"]
    kinds = [name.replace(".", "-").split("-")[1] for name in sets]
    assert kinds == ["log", "log", "rate", "rate", "reject", "reject", "reject", "reject", "drop", "drop", "firehol"]
    sides = [rule[rule.index("--match-set") + 2] for rule in rules if rule[-1] == "DROP"]
    assert sides == ["src", "dst", "src", "dst", "src"]


def test_a_set_that_is_being_filled_has_no_rule():
    assert rules_of(lists=[filling(list_set("NGFW", "firehol", IPV4, Direction.SOURCE))]) == []


def test_a_log_or_rate_set_whose_parameters_nobody_knows_has_no_rule():
    specs = [block_set("NGFW", Block(SAMPLE[IPV4], action)) for action in (Action.LOG, Action.RATE_LIMIT)]

    assert chain_rules("NGFW", IPV4, specs, {}) == []
