# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch takes effect exactly once: announced first, then the kernel, then the journals, then the cursor.

The last two steps can be taken for several batches at once.

Whatever instant the process is killed at, the next start finds the announcement and finishes it: entries again, which
changes nothing that is there, and of the journals' text only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from ..decisions.decision import Decision, Outcome
from ..decisions.pipeline import Batch
from ..firewall.entry import Block, Entry
from ..firewall.errors import FirewallError, InvalidInput, LockTimeout
from ..metrics import Metrics
from .intent import Intent, Item, merged
from .journal import ALERT_LOG, ALERTS_JSON, BLOCKS_LOG, DECISION_LOGS, Growth, Journal, encoded, found, missing
from .state import State
from .wording import Told, alert_line, block_line, json_line, local_time, told_of

_LINE_BYTES = 400
"""What a line of alerts.json takes."""

PATIENCE = 3
"""After this many failures of a whole pass its blocks are tried one by one, so that one bad block stops no other."""

_MAX_REPORTED = 20


class Refusal(Protocol):
    """A block that the library did not take."""

    @property
    def address(self) -> str: ...

    @property
    def reason(self) -> str: ...


class Result(Protocol):
    """What the library did with the blocks of one pass."""

    @property
    def blocked(self) -> Iterable[Entry]: ...

    @property
    def extended(self) -> Iterable[Entry]: ...

    @property
    def already(self) -> Iterable[Block]: ...

    @property
    def refused(self) -> Iterable[Refusal]: ...


Key = tuple[Any, ...]
"""The network, action and direction of a block."""

Apply = Callable[[list[Block]], Result]
"""Puts blocks into the kernel in one pass; raises FirewallError if nothing can be said about any of them."""


class Accepted:
    """What became of the blocks of a pass."""

    def __init__(self) -> None:
        self.new: dict[Key, Entry] = {}
        self.extended: set[Key] = set()  # of the new ones those that stood before
        self.already: set[Key] = set()
        self.reasons: dict[str, str] = {}

    def add(self, result: Result) -> None:
        self.new.update({entry.block[:3]: entry for entry in (*result.blocked, *result.extended)})
        self.extended.update([entry.block[:3] for entry in result.extended])
        self.already.update([block[:3] for block in result.already])
        self.reasons.update({refusal.address: refusal.reason for refusal in result.refused})

    def made(self) -> Iterable[Key]:
        """The blocks that did not stand before."""
        return self.new.keys() - self.extended if self.extended else self.new

    def refusal(self, block: Block) -> str | None:
        """Why the kernel did not take the block; None if it did."""
        key = block[:3]
        if key in self.new or key in self.already:
            return None
        reason = self.reasons.get(str(block.network), "the kernel did not take it")
        return reason.replace("whitelisted:", "whitelist:", 1)


class Transaction:
    """Carries one batch after the other through its four steps: begin(), finish(), and settle() for the last two."""

    def __init__(
        self,
        state: State,
        journal: Journal,
        metrics: Metrics,
        apply: Apply,
        *,
        dry_run: bool = False,
        clock: Callable[[], float],
        on_entries: Callable[[Iterable[Entry]], None] = lambda entries: None,
        lifted: Callable[[Iterable[Key]], dict[Key, Told]] = lambda made: {},
        offended: Callable[[Iterable[Block], float], None] = lambda blocks, at: None,
        after: Callable[[str], None] = lambda step: None,
    ) -> None:
        """`after` is called with the name of each step that is done.

        `lifted` is told of blocks that were made, and says what to tell of those that stood in their places, which
        somebody had lifted unseen. `offended` is told of the blocks that count as offences and when they were
        made (epoch seconds), perhaps twice.
        """
        self._state, self._journal, self._metrics = state, journal, metrics
        self._lifted, self._offended = lifted, offended
        self._apply = apply
        self._dry_run = dry_run
        self._clock = clock
        self._on_entries = on_entries
        self._after = after
        self._open: tuple[Intent, Batch] | None = None
        self._done: list[Intent] = []  # in the kernel, but not in the journals yet
        self._failures = 0
        self._growth = Growth()
        self._durable = True
        self._hanging = False

    @property
    def unfinished(self) -> bool:
        """Whether a batch is announced that the kernel could not be given yet."""
        return self._open is not None

    @property
    def hanging(self) -> bool:
        """Whether what was settled last left lookups in the cursor's file."""
        return self._hanging

    def begin(self, batch: Batch, positions: dict[str, Any]) -> None:
        """Announce a batch; finish() must follow before the next one."""
        if not self._durable:
            self.settle()  # nothing may have to be added to what could not be written
        now = self._clock()
        stamp = local_time(now)
        alerts = "".join([alert_line(decision, stamp) for decision in batch.alerts])
        if not self._growth.admits(len(alerts) + _LINE_BYTES * len(batch.decisions), now):
            batch, alerts = self._without_told(batch), ""
        elif self._growth.left_out:
            self._journal.say(f"{self._growth.left_out} lines of alerts and refusals were left out of the journals")
            self._growth.left_out = 0
        intent = Intent(
            positions=positions,
            alerts=alerts,
            items=[
                Item(decision.block, told_of(decision, now=now, dry_run=self._dry_run), decision.offence)
                for decision in batch.decisions
            ],
            marks=self._done[0].marks if self._done else self._journal.marks(),
            written_at=now,
            lookups=tuple((str(address), *case) for address, case in batch.lookups),
        )
        self._announce(intent, anew=not self._done)
        self._open = (intent, batch)
        self._failures = 0

    def _without_told(self, batch: Batch) -> Batch:
        """The batch without the lines that tell of what blocks nobody."""
        if not self._growth.left_out:
            self._journal.say(
                "the journals grow too fast: lines of alerts and refusals are left out for a while, none of blocks",
                level="WARNING",
            )
        decisions = [decision for decision in batch.decisions if decision.block is not None]
        self._growth.left_out += len(batch.alerts) + len(batch.decisions) - len(decisions)
        return batch._replace(decisions=decisions)

    def note(self, ends: list[Told], positions: dict[str, Any]) -> None:
        """Journal what happened without a batch, such as the end of blocks: once, too."""
        self.settle()
        items = [Item(None, each) for each in ends]
        intent = Intent(positions, "", items, self._journal.marks(), self._clock(), settled=True)
        announced = self._open is None
        if announced:
            self._announce(intent)
        self._journal.append(_texts(intent))
        if announced:
            self._commit()
        else:
            self._announce_open()

    def finish(self) -> None:
        """Give the open batch to the kernel; settle() must follow, before or after the next batches.

        Raises FirewallError if the kernel can be given nothing at present: call again later.
        """
        if self._open is None:
            return
        intent, batch = self._open
        wanted = [item.block for item in intent.items if item.block is not None]
        accepted = self._enforce([*wanted, *(each.block for each in batch.repeats if each.block is not None)])
        self._after("enforced")
        intent = self._agree(intent, batch, accepted)
        self._on_entries(accepted.new.values())
        self._done.append(intent)
        self._open = None

    def settle(self) -> bool:
        """Write the journals and move the cursor for what the kernel has been given; whether there was anything.

        While another batch is still open, the cursor stays.
        """
        if not self._done:
            return False
        intent, self._done = merged(self._done), []
        self._journal.append(_texts(intent))
        self._after("journaled")
        self._offended(_offences(intent), intent.written_at)
        self._hanging = bool(intent.lookups)
        if self._open is not None:
            self._announce_open()
        else:
            self._commit()
            self._after("committed")
        return True

    def resume(self, deadly: Callable[[str, bytes], bool] | None = None) -> bool:
        """Finish what an earlier run announced; False if there is nothing. Raises FirewallError.

        If the run died, `deadly` is told of each block before it is made, and whether it has to be left out.
        """
        intent = self._state.pending()
        if intent is None:
            return False
        added = {name: self._journal.since(name, intent.marks.get(name)) for name in DECISION_LOGS}
        age = self._clock() - intent.written_at
        blocks = [item.block for item in intent.items if item.block and not _outdated(item, age)]
        accepted = self._enforce(blocks) if deadly is None else self._enforce_with_care(blocks, deadly)
        self._on_entries(accepted.new.values())
        before = intent
        if not intent.settled and not any(data for data, _named in added.values()):
            intent = replace(intent, items=[self._resumed(item, accepted, age) for item in intent.items])
        for name, (data, named) in added.items():
            if not named:
                # It was rotated: what stands in the old file is done, and the new one counts from its present end.
                marks = {**intent.marks, name: self._journal.mark(name)}
                done = intent.done.get(name, 0) + found(encoded(_texts(intent)[name]), data)
                intent = replace(intent, marks=marks, done={**intent.done, name: done})
                added[name] = (b"", True)
        if intent != before:
            intent = replace(intent, settled=True)
            self._announce(intent)
        for name, text in _texts(intent).items():
            self._journal.append_bytes(name, missing(encoded(text), added[name][0]))
        self._after("journaled")
        self._offended(_offences(intent), intent.written_at)
        self._commit()
        return True

    @staticmethod
    def _resumed(item: Item, accepted: Accepted, age: float) -> Item:
        if item.block is None:
            return item
        refusal = f"stale: {age:.0f} s old" if _outdated(item, age) else accepted.refusal(item.block)
        return item if refusal is None else Item(None, item.told.refused(refusal))

    def _announce_open(self) -> None:
        """Announce the open batch alone: what has been journaled meanwhile is none of its text."""
        if self._open is not None:
            waiting, batch = self._open
            self._open = (replace(waiting, marks=self._journal.marks()), batch)
            self._announce(self._open[0])

    def _announce(self, *intents: Intent, anew: bool = True) -> None:
        try:
            self._state.announce(intents, anew=anew)
        except OSError as error:
            self._not_durable(error)
            return
        if not self._durable:
            self._durable = True
            self._journal.say(f"{self._state.directory} can be written again")
        self._after("announced")

    def _not_durable(self, error: OSError) -> None:
        if self._durable:
            self._durable = False
            self._metrics.errors += 1
            self._journal.say(
                f"cannot write to {self._state.directory} ({error.strerror}); blocking goes on, but after a "
                "crash lines may be read twice: make room there, and let the watcher's user write",
                level="ERROR",
            )

    def _commit(self) -> None:
        if not self._durable:
            return
        try:
            self._state.commit()
        except OSError as error:
            self._not_durable(error)

    def _enforce(self, blocks: list[Block]) -> Accepted:
        accepted = Accepted()
        if not blocks:
            return accepted
        try:
            accepted.add(self._apply(blocks))
        except FirewallError as error:
            self._failures += 1
            if isinstance(error, LockTimeout) or (self._failures < PATIENCE and not isinstance(error, InvalidInput)):
                raise
            self._one_by_one(blocks, accepted, error)
        self._failures = 0
        return accepted

    def _enforce_with_care(self, blocks: list[Block], deadly: Callable[[str, bytes], bool]) -> Accepted:
        accepted = Accepted()
        for block in blocks:
            if deadly("block", repr(block).encode()):
                accepted.reasons[str(block.network)] = "set aside: earlier runs died at it"
            else:
                accepted.add(self._apply([block]))
        return accepted

    def _one_by_one(self, blocks: list[Block], accepted: Accepted, error: FirewallError) -> None:
        for block in blocks:
            try:
                accepted.add(self._apply([block]))
            except FirewallError as single:
                accepted.reasons[str(block.network)] = str(single)
        if not (accepted.new or accepted.already):
            raise error

    def _agree(self, intent: Intent, batch: Batch, accepted: Accepted) -> Intent:
        """Make the announced text say what the kernel did, where that differs; announced anew, so it stays certain."""
        now = self._clock()
        lifted = self._lifted(accepted.made())
        wanted = [decision for decision in batch.decisions if decision.block is not None]
        if len(accepted.new) == len(wanted) and not (lifted or batch.repeats):  # it took all of it, as nearly always
            self._count(wanted, now)
            return intent
        items: list[Item] = []
        enforced: list[Decision] = []
        failed: list[str] = []
        for item, decision in zip(intent.items, batch.decisions):
            if item.block is not None:
                refusal = accepted.refusal(item.block)
                if refusal is None:
                    if lifted:
                        items += _end(item.block, lifted)
                    enforced.append(decision)
                else:
                    self._metrics.actions[decision.action, "failed"] += 1
                    failed.append(f"{decision.ip} was not blocked ({decision.what.rule}): {refusal}")
                    item = Item(None, item.told.refused(refusal))
            items.append(item)
        if batch.repeats:
            items += self._made_again(batch, accepted, lifted, now)
        self._count(enforced, now)
        self._metrics.errors += len(failed)
        for text in failed[:_MAX_REPORTED]:
            self._journal.say(text, level="ERROR")
        if items == intent.items:
            return intent
        agreed = replace(intent, items=items, settled=True)
        self._announce(*(replace(each, settled=True) for each in self._done), agreed)
        return agreed

    def _made_again(self, batch: Batch, accepted: Accepted, lifted: dict[Key, Told], now: float) -> list[Item]:
        """What tells of blocks that stood, but somebody had lifted them with a tool that tells nobody: new ones."""
        items: list[Item] = []
        decided = {decision.block[:3] for decision in batch.decisions if decision.block is not None}
        for decision in batch.repeats:
            block = decision.block
            if block is not None and block[:3] in accepted.new and block[:3] not in decided:
                self._metrics.duplicates_skip -= 1  # as which it was counted
                again = decision._replace(outcome=Outcome.NEW)
                items += [*_end(block, lifted), Item(block, told_of(again, now=now, dry_run=self._dry_run))]
                self._count([again], now)
        return items

    def _count(self, enforced: list[Decision], now: float) -> None:
        """Count what was put in force."""
        result = "dry_run" if self._dry_run else "success"
        self._metrics.actions.update([(decision.action, result) for decision in enforced])
        observe = self._metrics.reaction.observe
        for decision in enforced:
            if decision.outcome is Outcome.NEW:
                observe(max(0.0, now - decision.time))


def _end(block: Block, lifted: dict[Key, Told]) -> list[Item]:
    """What tells of the block that stood in the place of one just made, if somebody had lifted it unseen."""
    end = lifted.pop(block[:3], None)
    return [] if end is None else [Item(None, end)]


def _offences(intent: Intent) -> list[Block]:
    return [item.block for item in intent.items if item.offence and item.block is not None]


def _texts(intent: Intent) -> Mapping[str, str]:
    """What has to stand in each journal after its mark."""
    texts = {
        BLOCKS_LOG: "".join([block_line(item.told) for item in intent.items if item.told.cut_off]),
        ALERT_LOG: intent.alerts,
        ALERTS_JSON: "".join([json_line(item.told) for item in intent.items]),
    }
    for name, done in intent.done.items():
        texts[name] = "".join(f"{line}\n" for line in texts[name].split("\n")[done:-1])
    return texts


def _outdated(item: Item, age: float) -> bool:
    return item.block is not None and 0 < item.block.duration <= age
