# SPDX-License-Identifier: GPL-3.0-or-later
"""What every request keeps in order beside its own: chain, jumps, guards, protected addresses. Pure, as plan.py is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from .address import Network
from .entry import Origin, valid_burst, valid_rate
from .errors import InvalidInput
from .guards import WhitelistItem, guard_comment, guard_note
from .iptables import ChainState, jumps_are_right, render_absent, render_present, same_rules
from .layout import HOOKS, Role, Rule, SetSpec, allow_set, chain_rules, own_set, parse_set_name
from .result import Result
from .state import Held, Plan, State, shared_parameters

_UNSPECIFIED = {"ipv4": Network(bytes(4), 32), "ipv6": Network(bytes(16), 128)}
_HOOKS_MARK = "unspecified; hooks "


class Upkeep:
    """Fills one plan and its result with what chain and guards need."""

    def __init__(
        self,
        chain: str,
        families: Sequence[str],
        state: State,
        origin: Origin,
        now: float,
        usual_hooks: Sequence[str] = HOOKS,
    ) -> None:
        self.plan = Plan()
        self.result = Result()
        self.state = state
        self._chain = chain
        self._families = families
        self._origin = origin
        self.now = now
        self._usual_hooks = usual_hooks

    def guard_sets(self) -> None:
        """Make the sets that every rule's guards need."""
        for family in self._families:
            self._need(allow_set(self._chain, family))
            self._need(own_set(self._chain, family))

    def protect(
        self, protected: Mapping[Network, str], passing: Mapping[Network, int], hooks: Sequence[str] | None
    ) -> None:
        """Bring the protected addresses up to date, and remember the hooks with them. Never a change by itself.

        `protected` has the reason of each; `passing` are SSH peers, with the seconds that their protection lasts.
        """
        wanted = {network: Held(None, guard_note(Origin.PROTECTED, why)) for network, why in protected.items()}
        for family, network in _UNSPECIFIED.items():
            chosen = ",".join(self.hooks(hooks, family))
            wanted[network] = Held(None, guard_note(Origin.PROTECTED, _HOOKS_MARK + chosen))
        for network, seconds in passing.items():
            wanted.setdefault(network, Held(self.now + seconds, guard_note(Origin.PROTECTED, "SSH peer")))
        for family in self._families:
            name = own_set(self._chain, family).name
            present = dict(self.state.live(name, self.now))
            renewed = {
                network: held
                for network, held in wanted.items()
                if network.family == family and not _as_good(present.get(network), held)
            }
            gone = [n for n, held in present.items() if n not in wanted and held.expires_at is None]
            if renewed:
                self.plan.renew[name] = renewed
            if gone:
                self.plan.expire[name] = gone

    def hooks(self, asked: Sequence[str] | None, family: str) -> tuple[str, ...]:
        """The hooks that jump to the chain in a family: as asked for, else as remembered, else the usual ones.

        A family of which nothing is remembered follows the other one.
        """
        if asked is None:
            families = sorted(_UNSPECIFIED, key=lambda each: each != family)
            found = (hooks for each in families for hooks in (self._remembered_hooks(each), self._jumping_hooks(each)))
            asked = next((hooks for hooks in found if hooks), self._usual_hooks)
        return tuple(hook for hook in HOOKS if hook in asked)

    def chain(self, hooks: Sequence[str] | None) -> None:
        """Give the chain the rules that its sets need and its jumps; to be called when the sets are planned."""
        if self.state.settled and not (self.plan.create or self.plan.fill or self.plan.destroy or self._new_rules()):
            return
        for family in self._families:
            present = self.state.chains.get(family, ChainState())
            self._refuse_foreign(family, present)
            self._restore(family, present, self.hooks(hooks, family))

    def tidy(self, unused: Collection[SetSpec], hooks: Sequence[str] | None) -> None:
        """Remove sets that nobody uses, with their rules: each rule costs every packet. Never a change by itself."""
        before, after = self.result.chain_before[:], self.result.chain_after[:]
        self.plan.destroy += unused
        for family in {spec.family for spec in unused}:
            self.plan.restore.pop(family, None)
            self._restore(family, self.state.chains.get(family, ChainState()), self.hooks(hooks, family))
        self.result.chain_before, self.result.chain_after = before, after

    def remove(self) -> None:
        """Plan the end of the chain, its jumps and all its sets."""
        for family in self._families:
            present = self.state.chains.get(family, ChainState())
            self._refuse_foreign(family, present)
            if present.exists:
                self.plan.restore[family] = render_absent(self._chain, present)
                self.result.chain_before += _chain_lines(self._chain, family, present)
        self.plan.destroy = [spec for spec in self.state.sets.values() if spec.family in self._families]
        self.result.chain_before += [f"{spec.family} set {spec.name}" for spec in self.plan.destroy]

    def revive(self, lost: Mapping[SetSpec, Mapping[Network, Held]]) -> None:
        """Put back what sets held that somebody destroyed, or emptied of what guards.

        Which addresses are protected for good is looked up anew.
        """
        for spec, entries in lost.items():
            self._need(spec)
            live = {n: held for n, held in entries.items() if held.expires_at is None or held.expires_at > self.now}
            if live:
                self.result.revived[spec.name] = len(live)
            if spec.role is Role.OWN:
                live = {network: held for network, held in live.items() if held.expires_at is not None}
            if live:
                self.plan.add[spec.name] = live

    def keep_whitelisted(self, items: Iterable[WhitelistItem]) -> None:
        """Put back what of the configuration's whitelist is missing."""
        missing: dict[str, dict[Network, Held]] = {}
        for item in items:
            name = allow_set(self._chain, item.network.family).name
            back = self.plan.add.get(name, {})
            if item.network not in back and self.state.held(name, item.network, self.now) is None:
                held = Held(None, guard_note(Origin.CONFIG, item.comment))
                missing.setdefault(name, {})[item.network] = held
        for name, entries in missing.items():
            self.plan.add.setdefault(name, {}).update(entries)
            self.result.revived[name] = self.result.revived.get(name, 0) + len(entries)

    def touches_guards(self) -> bool:
        """Whether the plan changes what is protected or whitelisted."""
        touched = {*self.plan.renew, *self.plan.expire, *self.plan.add, *self.plan.delete}
        return any(
            name in touched
            for family in self._families
            for name in (own_set(self._chain, family).name, allow_set(self._chain, family).name)
        )

    # --- inner steps -------------------------------------------------------------------------------------------

    def _need(self, spec: SetSpec) -> None:
        if spec.name not in self.state.sets and spec not in self.plan.create:
            self.plan.create.append(spec)

    def _restore(self, family: str, present: ChainState, hooks: Sequence[str]) -> None:
        """Plan the rules and jumps of one family, if they are not there."""
        sets = {**self.state.sets, **{spec.name: spec for spec in (*self.plan.create, *self.plan.fill)}}
        for spec in self.plan.destroy:
            sets.pop(spec.name, None)
        rules = chain_rules(self._chain, family, sets.values(), self._parameters(present))
        if present.exists and same_rules(present.rules, rules) and jumps_are_right(present, hooks):
            return
        self.plan.restore[family] = render_present(self._chain, present, rules, hooks)
        self.result.chain_before += _chain_lines(self._chain, family, present)
        after = ChainState(True, tuple(rules), dict.fromkeys(hooks, (1,)))
        self.result.chain_after += _chain_lines(self._chain, family, after)

    def _remembered_hooks(self, family: str) -> tuple[str, ...]:
        held = self.state.held(own_set(self._chain, family).name, _UNSPECIFIED[family], self.now)
        comment = guard_comment(held.comment)[1] if held is not None else ""
        return tuple(comment[len(_HOOKS_MARK) :].split(",")) if comment.startswith(_HOOKS_MARK) else ()

    def _jumping_hooks(self, family: str) -> tuple[str, ...]:
        """The hooks that have our jumps, if somebody has emptied the set that remembers them."""
        if own_set(self._chain, family).name not in self.state.sets:
            return ()
        present = self.state.chains.get(family, ChainState())
        return tuple(hook for hook in HOOKS if present.jumps.get(hook))

    def _refuse_foreign(self, family: str, present: ChainState) -> None:
        """A chain with rules of which none is about our sets belongs to somebody else, unless we have sets for it."""
        ours = own_set(self._chain, family).name in self.state.sets
        if present.rules and not ours and not any(_is_ours(self._chain, rule) for rule in present.rules):
            raise InvalidInput(
                f"chain '{self._chain}' ({family}) holds rules that are not from here, such as "
                f"'{' '.join(present.rules[0])[:80]}'; choose another name, or remove that chain yourself"
            )

    def _parameters(self, present: ChainState) -> dict[str, str]:
        """Parameters of log and rate sets: from their entries, else as the chain's rule has them."""
        found = {}
        for rule in present.rules:
            spec = next((s for word in rule if (s := parse_set_name(self._chain, word))), None)
            if spec is not None and spec.label and spec.role is Role.BLOCK:
                with suppress(ValueError):  # a rule that somebody else edited is not needed to be understood
                    found[spec.name] = _parameters_of(rule)
        found.update(self.state.parameters)
        sets = {**self.state.sets, **{spec.name: spec for spec in self.plan.create}}
        for name, entries in self.plan.add.items():
            parameters = shared_parameters(sets[name], (held.comment for held in entries.values()))
            if parameters is not None:
                found[name] = parameters
        return found

    def _new_rules(self) -> bool:
        """Whether sets that had no rule, for their parameters were unknown while they were empty, get entries."""
        return any(self.state.sets[name].label and name not in self.state.parameters for name in self.plan.add)


def _as_good(present: Held | None, wanted: Held) -> bool:
    """Whether a protected entry needs no renewal; one that runs out is renewed once an hour at most."""
    if present is None:
        return False
    if present.expires_at is None:
        return present.comment == wanted.comment or wanted.expires_at is not None
    return wanted.expires_at is not None and wanted.expires_at - present.expires_at < 3600


def _is_ours(chain: str, rule: Rule) -> bool:
    return any(parse_set_name(chain, word) is not None for word in rule)


def _parameters_of(rule: Rule) -> str:
    """`RATE/BURST` or the prefix that a log or rate rule of ours was made with; raises ValueError."""
    values = dict(zip(rule, rule[1:]))
    if "--hashlimit-above" in values:
        rate = valid_rate(values["--hashlimit-above"])
        return f"{rate}/{valid_burst(int(values.get('--hashlimit-burst', '5')), rate)}"
    return values.get("--log-prefix", "")


def _chain_lines(chain: str, family: str, state: ChainState) -> list[str]:
    lines = [f"{family} chain {chain} with {len(state.rules)} rules"] if state.exists else []
    for hook, positions in state.jumps.items():
        lines += [f"{family} jump from {hook} at position {position}" for position in positions]
    return lines
