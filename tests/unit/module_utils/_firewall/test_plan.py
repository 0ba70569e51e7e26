# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans against a small stand-in for the kernel, which carries them out on paper."""

from __future__ import annotations

import shlex

import pytest
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import (
    FAMILIES,
    IPV4,
    NetworkSet,
    parse_network,
    to_key,
)
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.entry import (
    Action,
    Block,
    Direction,
    Origin,
    decode_comment,
)
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import InvalidInput
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.guards import Guards, WhitelistItem, guard_comment
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.iptables import ChainState, parse_save
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.layout import (
    HOOKS,
    Role,
    allow_set,
    block_set,
    filling,
    list_set,
    own_set,
)
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.plan import Planner
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.state import Held, State, shared_parameters
from hypothesis import given
from hypothesis import strategies as st

CHAIN = "NGFW"
NOW = 1_800_000_000.0
OWN = {parse_network("203.0.113.1"): "own address", parse_network("2001:db8::1"): "own address"}
ATTACKER = parse_network("203.0.113.7")


class Paper:
    """What the kernel would hold: sets with entries, and tables as lists of rules."""

    def __init__(self):
        self.sets = {}
        self.entries = {}
        self.lists = {}
        self.tables = {family: {hook: [] for hook in HOOKS} for family in FAMILIES}
        self.now = NOW

    def state(self):
        state = State(chains={family: parse_save(self.save(family), CHAIN) for family in FAMILIES})
        state.sets = dict(self.sets)
        state.entries = {name: dict(self.entries.get(name, {})) for name in self.sets}
        for name, spec in self.sets.items():
            parameters = None
            if spec.role is Role.BLOCK:
                parameters = shared_parameters(spec, [held.comment for _network, held in state.live(name, self.now)])
            if parameters is not None:
                state.parameters[name] = parameters
        return state

    def apply(self, plan):
        for spec in plan.create:
            assert spec.name not in self.sets, "created twice"
            self.sets[spec.name] = spec
        for spec, members in plan.fill.items():
            self.sets[spec.name] = spec
            self.lists[spec] = set(members)
        for wanted in (plan.renew, plan.add):
            for name, entries in wanted.items():
                self.entries.setdefault(self.sets[name].name, {}).update(entries)
        for family, text in plan.restore.items():
            self.restore(family, text)
        for unwanted in (plan.delete, plan.expire):
            for name, networks in unwanted.items():
                for network in networks:
                    self.entries[name].pop(network)
        for spec in plan.destroy:
            assert not any(f"--match-set {spec.name} " in rule for rule in self.rules(spec.family)), "still in use"
            del self.sets[spec.name]
            self.entries.pop(spec.name, None)
            self.lists.pop(spec, None)

    def rules(self, family):
        return [rule for rules in self.tables[family].values() for rule in rules]

    def restore(self, family, text):
        table = {chain: list(rules) for chain, rules in self.tables[family].items()}
        lines = text.split("\n")
        assert lines[0] == "*filter"
        assert lines[-2:] == ["COMMIT", ""]
        for line in lines[1:-2]:
            command, chain, *rest = line.split(" ", 2)
            if command.startswith(":"):
                table[command[1:]] = []
            elif command == "-A":
                table[chain].append(rest[0])
            elif command == "-I":
                assert rest[0].startswith("1 ")
                table[chain].insert(0, rest[0][2:])
            elif command == "-D":
                table[chain].remove(rest[0])
            elif command == "-F":
                table[chain].clear()
            elif command == "-X":
                assert not table.pop(chain)
        for name in self.match_sets(table):
            assert name in self.sets, f"a rule needs the set {name}, which is not there"
        self.tables[family] = table

    @staticmethod
    def match_sets(table):
        for rules in table.values():
            for rule in rules:
                words = shlex.split(rule)
                yield from (words[at + 1] for at, word in enumerate(words) if word == "--match-set")

    def save(self, family):
        lines = [f":{chain} {'ACCEPT' if chain in HOOKS else '-'} [0:0]" for chain in self.tables[family]]
        lines += [f"-A {chain} {rule}" for chain, rules in self.tables[family].items() for rule in rules]
        return "\n".join(["*filter", *lines, "COMMIT", ""])

    def plan(self, request, *, origin=Origin.MODULE, hooks=None, prepare=True):
        """The planner of a request, as the facade would have it."""
        planner = Planner(CHAIN, FAMILIES, self.state(), origin, self.now)
        if prepare:
            planner.guard_sets()
            planner.protect(OWN, {}, hooks)
        request(planner)
        if prepare:
            planner.chain(hooks)
        return planner

    def ask(self, request, **options):
        """Carry out a request; its result."""
        planner = self.plan(request, **options)
        self.apply(planner.plan)
        return planner.result

    def blocks(self):
        """All live entries of blocks, as (set, network, held)."""
        state = self.state()
        for name, spec in self.sets.items():
            if spec.role is Role.BLOCK:
                yield from ((spec, network, held) for network, held in state.live(name, self.now))

    def allowed(self):
        """The whitelist, as {network: (origin, comment)}."""
        state = self.state()
        found = {}
        for family in FAMILIES:
            for network, held in state.live(allow_set(CHAIN, family).name, self.now):
                found[network] = guard_comment(held.comment)
        return found

    def passes(self, hook, source, destination):
        """Whether a UDP packet that comes to a hook passes the chain; rate limits count as used up."""
        family = source.family
        state = self.state()
        for rule in self.tables[family][hook]:
            for inner in self.tables[family][CHAIN] if rule == f"-j {CHAIN}" else ():
                words = shlex.split(inner)
                if "-p" in words or not all(self._matches(state, words, source, destination)):
                    continue
                target = words[words.index("-j") + 1]
                if target in ("DROP", "REJECT"):
                    return False
        return True

    def _matches(self, state, words, source, destination):
        for at, word in enumerate(words):
            if word == "--match-set":
                name, side = words[at + 1 : at + 3]
                address = source if side == "src" else destination
                members = NetworkSet([network for network, _held in state.live(name, self.now)])
                yield (members.covering(address) is not None) != (words[at - 1] == "!")


# --- requests ----------------------------------------------------------------------------------------------------

hosts = st.integers(0, 15).map(lambda last: parse_network(f"203.0.113.{last}"))
networks = (
    hosts
    | st.integers(28, 31).flatmap(lambda p: hosts.map(lambda host: host.widened(p)))
    | st.sampled_from([parse_network(text) for text in ("203.0.0.0/8", "2001:db8::1", "2001:db8::7", "2001:db8::/64")])
)
blocks = st.builds(
    Block,
    networks,
    st.sampled_from(Action),
    st.sampled_from(Direction),
    st.sampled_from([0, 60, 600, 3600]),
    st.sampled_from(["one", "two"]),
    rate=st.sampled_from(["10/minute", "60/minute", "1/second"]),
    burst=st.sampled_from([5, 9]),
    log_prefix=st.sampled_from(["", "NGFW: ", "it's \\ "]),
)
items = st.builds(WhitelistItem, networks, st.sampled_from(["", "friend", "x" * 250, "€" * 200, 'say "hi"\n']))


def block_request(wanted, refresh=False, purge="", later=False):
    def request(planner):
        guards = Guards.of_state(CHAIN, FAMILIES, planner.state, OWN, planner.now)
        planner.block(wanted, guards, refresh=refresh, purge=purge, later=later)

    return request


def whitelist_request(wanted, state="present", lift=True):
    def request(planner):
        targets = [item.network for item in wanted]
        if state == "absent":
            planner.whitelist_remove(targets)
            return
        planner.whitelist_add(wanted)
        if state == "exact":
            planner.whitelist_keep_only(targets)
        if lift and wanted:
            planner.lift_whitelisted()

    return request


def unblock_request(targets, action=None, directions=tuple(Direction)):
    return lambda planner: planner.unblock(targets, action, directions)


requests = st.one_of(
    st.builds(
        block_request,
        st.lists(blocks, max_size=6),
        purge=st.sampled_from(["", "", "one"]),
        later=st.booleans(),
    ),
    st.builds(
        whitelist_request,
        st.lists(items, max_size=4),
        state=st.sampled_from(["present", "absent", "exact"]),
        lift=st.booleans(),
    ),
    st.builds(unblock_request, st.lists(networks, max_size=4), st.none() | st.sampled_from(Action)),
    st.sampled_from([None, "one"]).map(lambda rule: lambda planner: planner.flush_blocks(rule)),
    st.just(lambda planner: planner.flush_whitelist()),
    st.just(lambda planner: None),
)
origins = st.sampled_from([Origin.MODULE, Origin.CONFIG, Origin.WATCHER])


def flush_all(paper):
    paper.tables = {family: {hook: [] for hook in HOOKS} for family in FAMILIES}


def flush_chains(paper):
    for table in paper.tables.values():
        for rules in table.values():
            rules.clear()


def double_jumps(paper):
    for table in paper.tables.values():
        if CHAIN in table:
            table["INPUT"] += [f"-j {CHAIN}"] * 2
            table["OUTPUT"].insert(0, "-p tcp -j ACCEPT")


def foreign_entries(paper):
    for name, spec in list(paper.sets.items()):
        if spec.role is Role.BLOCK and spec.family == IPV4:
            entries = paper.entries.setdefault(name, {})
            entries[parse_network("203.0.113.13")] = Held(None, "module\t1800000000\t60\tone\tnonsense\treason")
            entries[parse_network("203.0.113.14")] = Held(None, "")
            entries[parse_network("203.0.113.15")] = Held(NOW + 300, "by hand\t1\t2")


def time_passes(paper):
    paper.now += 120


damages = st.sampled_from([flush_all, flush_chains, double_jumps, foreign_entries, time_passes])
histories = st.lists(st.tuples(requests, origins) | damages, max_size=6)


def lived(history):
    paper = Paper()
    for step in history:
        if isinstance(step, tuple):
            paper.ask(step[0], origin=step[1])
        else:
            step(paper)
    return paper


# --- properties --------------------------------------------------------------------------------------------------


@given(histories, requests, origins)
def test_what_was_done_needs_nothing_more(history, request_, origin):
    paper = lived(history)
    paper.ask(request_, origin=origin)

    again = paper.plan(request_, origin=origin)

    assert not again.plan.operations
    assert not again.result.blocked
    assert not again.result.extended
    assert not again.result.unblocked
    assert not again.result.added
    assert not again.result.removed


@given(histories, requests, origins, hosts, hosts)
def test_no_packet_is_stopped_by_an_entry_that_covers_a_whitelisted_or_protected_address(
    history, request_, origin, source, destination
):
    paper = lived(history)
    paper.ask(request_, origin=origin)
    free = NetworkSet([*paper.allowed(), *OWN])

    expected = True
    for spec, network, _held in paper.blocks():
        touched = source if spec.direction is Direction.SOURCE else destination
        stopping = spec.action is not Action.LOG
        expected &= not (stopping and network.contains(touched) and free.covering(touched) is None)

    for hook in HOOKS:
        assert paper.passes(hook, source, destination) == expected


@given(histories, st.lists(blocks, max_size=6), st.booleans(), st.booleans())
def test_what_lies_inside_a_guard_is_refused_and_all_else_is_in_force(history, wanted, refresh, later):
    paper = lived(history)
    free = NetworkSet([*paper.allowed(), *OWN])

    result = paper.ask(block_request(wanted, refresh=refresh, later=later))

    refused = {block.network for block in wanted if free.covering(block.network) is not None}
    assert {refusal.address for refusal in result.refused} == {str(network) for network in refused}
    state = paper.state()
    for block in wanted:
        if block.network not in refused:
            kinds = [
                name
                for name, spec in paper.sets.items()
                if (spec.role, spec.action, spec.direction) == (Role.BLOCK, block.action, block.direction)
                and state.held(name, block.network, paper.now)
            ]
            assert kinds


@given(histories, requests)
def test_a_result_tells_what_the_plan_does(history, request_):
    paper = lived(history)
    before = {(spec.name, network) for spec, network, _held in paper.blocks()}
    allowed = paper.allowed()

    result = paper.ask(request_)

    after = {(spec.name, network) for spec, network, _held in paper.blocks()}
    assert {network for _name, network in after - before} >= {entry.block.network for entry in result.blocked}
    assert len(after) - len(before) == len(result.blocked) - len(result.unblocked)
    assert len(result.extended) == len(result.replaced)
    added = {entry.network for entry in result.added}
    removed = {entry.network for entry in result.removed}
    assert set(paper.allowed()) == (set(allowed) - removed) | added


@given(histories, st.lists(networks, min_size=1, max_size=4), origins)
def test_an_exact_whitelist_leaves_what_another_kind_of_writer_made(history, targets, origin):
    paper = lived(history)
    before = paper.allowed()

    paper.ask(whitelist_request([WhitelistItem(n) for n in targets], state="exact"), origin=origin)

    after = paper.allowed()
    of_config = origin is Origin.CONFIG
    others = {n for n, (who, _comment) in before.items() if (who is Origin.CONFIG) != of_config}
    assert set(after) == others | set(targets)
    for network in set(targets) & set(before):
        assert (after[network][0] is Origin.CONFIG) == (before[network][0] is Origin.CONFIG or of_config)


@given(histories, requests)
def test_what_others_have_in_the_tables_stays_in_its_order(history, request_):
    paper = lived(history)
    paper.tables[IPV4]["INPUT"][:] = ["-p icmp -j ACCEPT", *paper.tables[IPV4]["INPUT"], "-s 192.0.2.0/24 -j DROP"]
    others = [[r for r in paper.tables[family][hook] if r != f"-j {CHAIN}"] for family in FAMILIES for hook in HOOKS]

    paper.ask(request_)

    assert others == [
        [r for r in paper.tables[family][hook] if r != f"-j {CHAIN}"] for family in FAMILIES for hook in HOOKS
    ]
    for family in FAMILIES:
        for hook in HOOKS:
            assert paper.tables[family][hook].index(f"-j {CHAIN}") == 0
            assert paper.tables[family][hook].count(f"-j {CHAIN}") == 1


@given(histories)
def test_removing_leaves_nothing(history):
    paper = lived(history)

    paper.ask(lambda planner: planner.remove(), prepare=False)

    assert paper.sets == {}
    assert not any(CHAIN in rule for family in FAMILIES for rule in paper.rules(family))
    assert all(CHAIN not in table for table in paper.tables.values())
    assert not paper.plan(lambda planner: planner.remove(), prepare=False).plan.operations


# --- tables ------------------------------------------------------------------------------------------------------


@pytest.mark.feature("C6")
@pytest.mark.parametrize(
    ("first", "second", "options", "outcome", "remaining", "rule"),
    [
        (600, 600, {}, "already", 480, "one"),
        (600, 599, {}, "already", 480, "one"),
        (600, 601, {}, "extended", 601, "two"),
        (600, 0, {}, "extended", None, "two"),
        (0, 3600, {}, "already", None, "one"),
        (0, 0, {}, "already", None, "one"),
        (600, 60, {"refresh": True}, "extended", 60, "two"),
        (0, 60, {"refresh": True}, "extended", 60, "two"),
        (600, 600, {"refresh": True}, "extended", 600, "two"),
        (0, 0, {"refresh": True}, "extended", None, "two"),
        (600, 481, {"later": True}, "extended", 481, "two"),
        (600, 480, {"later": True}, "already", 480, "one"),
        (600, 0, {"later": True}, "extended", None, "two"),
        (0, 3600, {"later": True}, "already", None, "one"),
        (100, 60, {}, "blocked", 60, "two"),  # the first has run out
    ],
)
def test_a_second_request_two_minutes_later(first, second, options, outcome, remaining, rule):
    paper = Paper()
    paper.ask(block_request([Block(ATTACKER, duration=first, rule_name="one")]))
    time_passes(paper)

    result = paper.ask(block_request([Block(ATTACKER, duration=second, rule_name="two")], **options))

    lists = {name: len(getattr(result, name)) for name in ("blocked", "extended", "already")}
    assert lists == {**dict.fromkeys(lists, 0), outcome: 1}
    ((_spec, _network, held),) = paper.blocks()
    assert held.expires_at == (None if remaining is None else paper.now + remaining)
    assert decode_comment(held.comment).rule_name == rule


@pytest.mark.feature("C6")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"action": Action.RATE_LIMIT, "rate": "10/minute"}, {"action": Action.RATE_LIMIT, "rate": "20/minute"}),
        ({"action": Action.RATE_LIMIT, "burst": 5}, {"action": Action.RATE_LIMIT, "burst": 6}),
        ({"action": Action.LOG, "log_prefix": "a"}, {"action": Action.LOG, "log_prefix": "b"}),
        ({"action": Action.LOG, "log_prefix": "a"}, {"action": Action.LOG, "log_prefix": ""}),
    ],
)
def test_new_parameters_replace_the_old_and_keep_the_end(old, new):
    paper = Paper()
    paper.ask(block_request([Block(ATTACKER, duration=600, rule_name="one", reason="why", **old)]))
    time_passes(paper)

    result = paper.ask(block_request([Block(ATTACKER, duration=60, rule_name="two", **new)]))

    assert len(result.extended) == len(result.replaced) == 1
    ((spec, _network, held),) = paper.blocks()
    assert spec == block_set(CHAIN, Block(ATTACKER, **new))
    assert held.expires_at == NOW + 600
    note = decode_comment(held.comment)
    assert (note.rule_name, note.reason, note.duration) == ("one", "why", 600)


def test_of_the_same_address_twice_in_one_request_the_longer_counts():
    paper = Paper()

    result = paper.ask(block_request([Block(ATTACKER, duration=duration) for duration in (60, 0, 600)]))

    assert [entry.block.duration for entry in result.blocked] == [0]


def test_purge_lifts_every_other_entry_of_its_rule():
    paper = Paper()
    kept, lifted = parse_network("203.0.113.8"), parse_network("203.0.113.9")
    forms = [(action, direction) for action in Action for direction in Direction]
    paper.ask(block_request([Block(lifted, *form, rule_name="one") for form in forms]))
    paper.ask(block_request([Block(kept, *form, rule_name="two") for form in forms]))
    paper.ask(block_request([Block(ATTACKER, Action.REJECT, rule_name="one")]))

    result = paper.ask(block_request([Block(ATTACKER, rule_name="one")], purge="one"))

    assert len(result.unblocked) == len(forms) + 1
    assert {(network, spec.action) for spec, network, _held in paper.blocks() if network != kept} == {
        (ATTACKER, Action.DROP)
    }


def test_purging_with_an_empty_list_lifts_the_whole_rule():
    paper = Paper()
    paper.ask(block_request([Block(ATTACKER, rule_name="one"), Block(parse_network("203.0.113.8"), rule_name="two")]))

    assert len(paper.ask(block_request([], purge="one")).unblocked) == 1


def test_unblocking_means_exact_entries_and_warns_where_a_network_still_covers_them():
    paper = Paper()
    wide = parse_network("203.0.113.0/24")
    paper.ask(block_request([Block(wide)]))

    result = paper.ask(unblock_request([ATTACKER]))

    assert [block.network for block in result.already] == [ATTACKER]
    assert result.warnings == [
        f"{ATTACKER} is still inside the blocked network {wide}; unblock that, or whitelist {ATTACKER}"
    ]
    assert len(list(paper.blocks())) == 1


def test_lifting_an_address_warns_too_where_a_network_still_covers_it_unless_that_goes_as_well():
    paper = Paper()
    wide = parse_network("203.0.113.0/24")
    blocks = block_request([Block(ATTACKER), Block(wide)])
    paper.ask(blocks)

    result = paper.ask(unblock_request([ATTACKER]))

    assert len(result.unblocked) == 1
    assert [warning.partition(";")[0] for warning in result.warnings] == [
        f"{ATTACKER} is still inside the blocked network {wide}"
    ]
    paper.ask(blocks)
    assert paper.ask(unblock_request([ATTACKER, wide])).warnings == []


def test_only_a_network_that_stops_packets_in_some_direction_is_warned_of():
    paper = Paper()
    wide = parse_network("203.0.113.0/24")
    paper.ask(block_request([Block(wide, Action.LOG), Block(wide, Action.RATE_LIMIT)]))
    assert paper.ask(unblock_request([ATTACKER])).warnings == []
    paper.ask(block_request([Block(wide, direction=Direction.DESTINATION)]))

    for action in (None, Action.DROP, Action.REJECT):
        (warning,) = paper.ask(unblock_request([ATTACKER], action, (Direction.SOURCE,))).warnings
        assert f"still inside the blocked network {wide}" in warning
    assert paper.ask(unblock_request([wide], Action.REJECT)).warnings == []


def test_many_warnings_are_cut_and_counted():
    paper = Paper()
    paper.ask(block_request([Block(parse_network("203.0.113.0/24"))]))

    warnings = paper.ask(unblock_request([parse_network(f"203.0.113.{last}") for last in range(30)])).warnings

    assert len(warnings) == 21
    assert warnings[-1] == "10 more addresses are still inside blocked networks"


def test_a_refused_address_is_told_once_whatever_its_forms():
    paper = Paper()
    own = next(iter(OWN))

    result = paper.ask(block_request([Block(own, direction=direction) for direction in Direction]))

    assert [refusal.address for refusal in result.refused] == [str(own)]


def test_unblocking_one_form_leaves_the_others():
    paper = Paper()
    paper.ask(block_request([Block(ATTACKER, action, direction) for action in Action for direction in Direction]))

    paper.ask(unblock_request([ATTACKER], Action.DROP, (Direction.SOURCE,)))

    assert len(list(paper.blocks())) == 7


def test_a_whitelist_entry_keeps_its_comment_unless_there_is_a_new_one():
    paper = Paper()
    paper.ask(whitelist_request([WhitelistItem(ATTACKER, "friend")]))

    assert paper.ask(whitelist_request([WhitelistItem(ATTACKER)])).kept
    result = paper.ask(whitelist_request([WhitelistItem(ATTACKER, "old friend")]))

    assert [(entry.comment, entry.origin) for entry in result.removed] == [("friend", Origin.MODULE)]
    assert paper.allowed() == {ATTACKER: (Origin.MODULE, "old friend")}


def test_of_the_same_whitelist_entry_twice_the_last_comment_counts():
    paper = Paper()
    twice = whitelist_request([WhitelistItem(ATTACKER, "one"), WhitelistItem(ATTACKER, "two")])

    result = paper.ask(twice)

    assert [entry.comment for entry in result.added] == ["two"]
    assert paper.allowed() == {ATTACKER: (Origin.MODULE, "two")}
    assert not paper.plan(twice).plan.changes


def test_lifting_takes_blocks_wholly_inside_and_no_others():
    paper = Paper()
    inside = [parse_network(text) for text in ("203.0.113.7", "203.0.113.4/30", "203.0.113.0/28")]
    outside = [parse_network(text) for text in ("203.0.113.16", "203.0.113.0/27", "2001:db8::7")]
    paper.ask(block_request([Block(network, duration=0) for network in (*inside, *outside)]))

    result = paper.ask(whitelist_request([WhitelistItem(parse_network("203.0.113.0/28"))]))

    assert {entry.block.network for entry in result.unblocked} == set(inside)


def test_lifting_goes_by_the_whole_whitelist():
    paper = Paper()
    paper.ask(block_request([Block(ATTACKER), Block(parse_network("203.0.113.99"))]))
    paper.ask(whitelist_request([WhitelistItem(ATTACKER), WhitelistItem(parse_network("203.0.113.99"))], lift=False))

    result = paper.ask(whitelist_request([WhitelistItem(parse_network("198.51.100.1"))]))

    assert {entry.block.network for entry in result.unblocked} == {ATTACKER, parse_network("203.0.113.99")}
    assert not paper.plan(whitelist_request([WhitelistItem(parse_network("198.51.100.1"))])).plan.changes


def test_lifting_leaves_what_an_exact_whitelist_lets_go():
    paper = Paper()
    paper.ask(block_request([Block(ATTACKER)]))
    paper.ask(whitelist_request([WhitelistItem(ATTACKER)], lift=False))

    assert not paper.ask(whitelist_request([WhitelistItem(parse_network("198.51.100.1"))], state="exact")).unblocked


@pytest.mark.parametrize(("asked", "remembered"), [(["INPUT"], ("INPUT",)), (["OUTPUT", "INPUT"], ("INPUT", "OUTPUT"))])
def test_hooks_are_remembered_over_a_flush_of_everything(asked, remembered):
    paper = Paper()
    paper.ask(lambda planner: None, hooks=asked)
    flush_all(paper)

    paper.ask(block_request([Block(ATTACKER)]))

    for family in FAMILIES:
        assert tuple(parse_save(paper.save(family), CHAIN).jumps) == remembered


def test_protected_addresses_come_and_go_without_being_a_change():
    paper = Paper()
    paper.ask(lambda planner: None)
    new = parse_network("203.0.113.99")

    def plan(protected, passing):
        planner = Planner(CHAIN, FAMILIES, paper.state(), Origin.MODULE, paper.now)
        planner.protect(protected, passing, None)
        paper.apply(planner.plan)
        return planner

    first = plan({new: "own address"}, {ATTACKER: 86400})
    assert first.plan.operations
    assert not first.plan.changes
    entries = paper.entries[own_set(CHAIN, IPV4).name]
    assert next(iter(OWN)) not in entries
    assert entries[new].expires_at is None
    assert entries[ATTACKER].expires_at == paper.now + 86400
    assert parse_network("0.0.0.0") in entries

    paper.now += 600
    assert not plan({new: "own address"}, {ATTACKER: 86400}).plan.operations  # renewed once an hour at most
    paper.now += 3600
    assert plan({new: "own address"}, {ATTACKER: 86400}).plan.renew
    plan({new: "own address"}, {})
    assert ATTACKER in entries  # an SSH peer stays protected until its day is over


@pytest.mark.parametrize(
    "rule",
    [
        ("-p", "tcp", "-j", "ACCEPT"),
        ("-m", "set", "--match-set", "users", "src", "-j", "DROP"),
        ("-p", "ipv6-icmp", "-m", "icmp6", "--icmpv6-type", "135", "-j", "RETURN"),
    ],
)
def test_a_chain_that_holds_rules_of_which_none_is_ours_is_refused(rule):
    state = State(chains={IPV4: ChainState(True, (rule,))})
    planner = Planner(CHAIN, [IPV4], state, Origin.MODULE, NOW)

    with pytest.raises(InvalidInput, match="holds rules that are not from here"):
        planner.chain(None)
    with pytest.raises(InvalidInput, match="holds rules that are not from here"):
        planner.remove()


def test_an_empty_chain_of_that_name_is_taken():
    paper = Paper()
    paper.tables[IPV4][CHAIN] = []

    assert paper.ask(lambda planner: None).chain_before == ["ipv4 chain NGFW with 0 rules"]


def test_a_blocklist_is_filled_counted_and_removed():
    paper = Paper()
    source = list_set(CHAIN, "firehol", IPV4, Direction.SOURCE)
    destination = list_set(CHAIN, "firehol", IPV4, Direction.DESTINATION)
    keys = [to_key(parse_network(f"203.0.113.{last}")) for last in range(4)]

    def fill(wanted):
        return lambda planner: planner.blocklist("firehol", wanted, paper.lists)

    first = paper.ask(fill({source: set(keys[:3])}))
    assert first.listed == [(source, set(keys[:3]))]
    assert "--match-set NGFW.firehol.s4 src" in paper.tables[IPV4][CHAIN][-1]
    assert not paper.plan(fill({source: set(keys[:3])})).plan.operations

    second = paper.ask(fill({source: set(keys[1:])}))
    assert second.listed == [(source, {keys[3]})]
    assert second.unlisted == [(source, {keys[0]})]
    assert second.same == [(source, set(keys[1:3]))]

    paper.ask(fill({destination: set(keys)}))
    assert set(paper.lists) == {destination}

    paper.ask(lambda planner: planner.flush_blocklists(paper.lists))
    assert paper.lists == {destination: set()}

    paper.ask(fill({}))
    assert paper.lists == {}
    assert destination.name not in paper.sets


def test_a_rate_rule_that_was_left_out_for_want_of_parameters_comes_with_the_next_block():
    """A process that stays: chain wiped and healed while the set was empty, then a block with the same rate."""
    paper = Paper()
    limit = Block(ATTACKER, Action.RATE_LIMIT, duration=60)
    paper.ask(block_request([limit]))
    time_passes(paper)
    flush_all(paper)
    paper.ask(lambda planner: None)

    state = paper.state()
    state.settled = True
    planner = Planner(CHAIN, FAMILIES, state, Origin.WATCHER, paper.now)
    block_request([limit])(planner)
    planner.chain(None)
    paper.apply(planner.plan)

    assert any("--hashlimit-above 10/min" in rule for rule in paper.rules(IPV4))


def test_comments_that_others_wrote_into_our_sets_stop_nothing():
    paper = Paper()
    paper.ask(block_request([Block(ATTACKER, action) for action in Action]))
    for name, spec in paper.sets.items():
        if spec.role is Role.BLOCK:
            comment = "module\t1800000000\t60\trule\tnonsense\treason"
            paper.entries[name][parse_network("203.0.113.8")] = Held(None, comment)
            paper.entries[name] = dict(reversed(list(paper.entries[name].items())))
    flush_all(paper)

    result = paper.ask(unblock_request([parse_network("203.0.113.8")]))

    assert len(result.unblocked) == len(Action)
    assert any("--hashlimit-above 10/min" in rule for rule in paper.rules(IPV4))
    assert any("--log-prefix" in rule for rule in paper.rules(IPV4))


def test_a_rate_rule_that_others_edited_stops_nothing():
    paper = Paper()
    paper.ask(block_request([Block(ATTACKER, Action.RATE_LIMIT, duration=60)]))
    time_passes(paper)  # the set is empty now, so only the rule could tell its parameters
    chain = paper.tables[IPV4][CHAIN]
    chain[:] = [rule.replace("--hashlimit-above 10/min", "--hashlimit-above 10kb/s") for rule in chain]

    paper.ask(lambda planner: None)

    assert not any("10kb/s" in rule for rule in paper.rules(IPV4))


@pytest.mark.parametrize("refreshed", [True, False])
def test_what_a_killed_writer_left_of_a_list_goes_once_and_counts_for_nothing(refreshed):
    paper = Paper()
    source = list_set(CHAIN, "bad", IPV4, Direction.SOURCE)
    paper.ask(lambda planner: planner.blocklist("bad", {source: {to_key(ATTACKER)}}, paper.lists))
    left = filling(source)
    paper.sets[left.name] = left
    wanted = {to_key(parse_network("203.0.113.8" if refreshed else str(ATTACKER)))}

    planner = paper.plan(lambda planner: planner.blocklist("bad", {source: wanted}, paper.lists))

    # A list that is filled anew replaces what lies beside it; else it is destroyed.
    assert (source in planner.plan.fill, planner.plan.destroy) == ((True, []) if refreshed else (False, [left]))
    assert sum(len(members) for _spec, members in planner.result.unlisted) == refreshed
