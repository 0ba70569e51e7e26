# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookups at AbuseIPDB, beside the loop: a thread that decides who is asked when, and one more for each request.

The thread waits for nothing but its inbox, so a server that hangs holds up its own request and no more: after a bounded
time that request is given up, and its late answer counts for nothing.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import NamedTuple, Union

from ..firewall.address import Network
from ..settings.config import AbuseIPDB
from .abuseipdb import NAME, Client, Result, longest, read_key
from .budget import subject
from .cache import Known, Store, Unfinished
from .gate import Gate, Pause
from .mailbox import Case, Counted, Mailbox, News, Said
from .verdict import State, Verdict, rated
from .waiting import MAX_CASES, Lookup, Pace, Waiting

_MESSAGES_AT_ONCE = 500
_IMPORT_SECONDS = 15.0
_LONGEST_SLEEP = 60.0
_AFTER_ERROR = 1.0


class Ask(NamedTuple):
    """Open a lookup; whoever asks was told that it is in the state `told`."""

    address: Network
    case: Case | None
    told: State


class Done(NamedTuple):
    """The final news on this lookup have had their effect: they need not be given again after a restart."""

    id: int


class Adopt(NamedTuple):
    """Take other settings."""

    settings: AbuseIPDB
    threshold: int


class _Reply(NamedTuple):
    number: int
    result: Result


Message = Union[Ask, Done, Adopt, _Reply]


class _Request(NamedTuple):
    number: int
    lookup: Lookup
    sent_at: float
    deadline: float  # of the monotonic clock


class Lookups:
    """One provider's lookups. The methods and attributes without underscore may be used by the loop at any time."""

    def __init__(
        self,
        settings: AbuseIPDB,
        threshold: int,
        store: Store,
        mailbox: Mailbox,
        *,
        clock: Callable[[], float],
        pace: Pace,
    ) -> None:
        self._settings, self._threshold = settings, threshold
        self._store, self._mailbox = store, mailbox
        self._clock, self._pace = clock, pace
        self._inbox: SimpleQueue[Message | None] = SimpleQueue()
        self._results: OrderedDict[Network, Known] = OrderedDict()
        self._waiting = Waiting(pace.most_open)
        self._gate = Gate(settings, store, say=self._say, failures=pace.failures, rest=pace.failing)
        self._client, self._warm = Client(settings, clock=clock), False
        self._request: _Request | None = None
        self._number = 0  # of the last request
        self._last_id = 0
        self._thread = threading.Thread(target=self._run, name="ngfw-lookups", daemon=True)

    # -- for the loop; none of these waits for anything but close()

    def start(self) -> None:
        """Take up what an earlier run left, and begin."""
        self._restore()
        self._thread.start()

    def close(self, seconds: float) -> bool:
        """End within that time; False if the thread could not be ended."""
        self._inbox.put(None)
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def post(self, message: Message) -> None:
        self._inbox.put(message)

    def backlog(self) -> int:
        """How many messages the thread has not come to yet."""
        return self._inbox.qsize()

    def known(self, address: Network) -> Verdict | None:
        """What the provider has answered, as long as that is valid."""
        known, now = self._results.get(subject(address)), self._clock()
        if known is None or not now - self._settings.cache < known.at <= now:
            return None
        return rated(NAME, known.score, self._threshold, known.at)

    def unavailable(self) -> Verdict | None:
        """What every lookup would come to, while nobody can be asked at all."""
        now = self._clock()
        pause = self._gate.pause(now)
        return pause.verdict(now) if pause is not None and pause.state is State.UNKNOWN else None

    def has_no_key(self) -> bool:
        """Whether there was no key when somebody was to be asked last: one is looked for every half a minute."""
        return self._gate.has_no_key

    def health(self) -> dict[str, str]:
        """How the provider is: {name, state, detail}."""
        key = read_key(self._settings)
        if isinstance(key, Result):
            state = "no key" if key.detail.startswith("no key") else "off"
            return {"name": NAME, "state": state, "detail": key.detail}
        pause = self._gate.pause(self._clock())
        detail = f"{len(self._waiting)} lookups open"
        if pause is None:
            return {"name": NAME, "state": "ok", "detail": detail}
        return {"name": NAME, "state": pause.state.value, "detail": f"{pause.detail}; {detail}"}

    def open_lookup(self, address: Network) -> Lookup | None:
        """The lookup whose answer is about this address, too, if it is open; only to be read."""
        return self._waiting.get(address)

    # -- the thread

    def _run(self) -> None:
        while True:
            try:
                if not self._step():
                    return
            except Exception as error:  # lookups go on whatever one of them does
                self._say(f"{NAME}: an error of this program, {type(error).__name__}: {error}")
                time.sleep(_AFTER_ERROR)

    def _step(self) -> bool:
        """Do what is to be done, wait, and take what is in the inbox; False to end."""
        self._work()
        self._store.commit()
        with suppress(Empty):
            for count in range(_MESSAGES_AT_ONCE):
                message = self._inbox.get(timeout=self._sleep()) if count == 0 else self._inbox.get_nowait()
                if message is None:
                    self._store.close()
                    return False
                self._take(message)
        return True

    def _take(self, message: Message) -> None:
        if isinstance(message, Ask):
            self._open(message)
        elif isinstance(message, _Reply):
            self._replied(message)
        elif isinstance(message, Done):
            self._store.drop_lookup(message.id)
        else:
            self._settings, self._threshold = message
            self._gate.adopt(self._settings)
            self._client, self._warm = Client(self._settings, clock=self._clock), False

    def _open(self, ask: Ask) -> None:
        address, case = ask.address, ask.case
        cases = {} if case is None else {case.key: case.text}
        known = self.known(address)
        if known is not None:  # it was answered while the question was on its way
            self._mailbox.put(News(0, address, known, cases, True))
            return
        lookup = self._waiting.get(address)
        if lookup is None:
            now = self._clock()
            self._last_id += 1
            lookup = Lookup(self._last_id, address, now, Verdict(NAME, State.PENDING, at=now))
            dropped = self._waiting.add(lookup)
            if dropped is not None:
                most = self._pace.most_open
                self._gate.say_seldom(f"{NAME}: more than {most} lookups are open; the oldest are dropped")
                self._close(dropped, Verdict(NAME, State.OVER_BUDGET, None, "too many open lookups", now))
        elif lookup.verdict.state not in (State.PENDING, ask.told):
            self._mailbox.put(News(lookup.id, address, lookup.verdict, cases, False))
        if case is not None and len(lookup.cases) < MAX_CASES:
            lookup.cases.setdefault(case.key, case.text)
        self._store.put_lookup(Unfinished(lookup.id, address, lookup.asked_at, lookup.cases))

    def _work(self) -> None:
        """Give up what is late, tell who has to wait, and send the next request."""
        now = self._clock()
        if self._request is not None and time.monotonic() >= self._request.deadline:
            self._give_up(self._request)
        self._waiting.wake(time.monotonic())
        if not self._waiting.any_ready():
            return
        pause = self._gate.obstacle(now)
        if pause is not None:
            self._tell_untold(pause, now)
        elif self._request is None:
            key = read_key(self._settings)
            if isinstance(key, Result):
                self._gate.close(key, now)
                self._work()
                return
            lookup = self._next(now)
            if lookup is not None:
                self._send(lookup, key, now)

    def _next(self, now: float) -> Lookup | None:
        """The lookup to send next; those of sites whose share is used up come later."""
        while self._waiting.any_ready():
            lookup = self._waiting.pop_newest()
            pause = self._gate.share(lookup.address, now)
            if pause is None:
                return lookup
            self._waiting.put_off(lookup, time.monotonic() + pause.until - now)
            self._mailbox.put(Counted(NAME, pause.state.value))
            self._tell(lookup, pause.verdict(now))
        return None

    def _tell_untold(self, pause: Pause, now: float) -> None:
        verdict = pause.verdict(now)
        for lookup in self._waiting.take_untold():
            if pause.state is State.UNKNOWN:
                self._close(lookup, verdict)
                continue
            if pause.state is State.ERROR:
                self._waiting.put_off(lookup, time.monotonic() + pause.until - now)
            self._mailbox.put(Counted(NAME, pause.state.value))
            self._tell(lookup, verdict)

    def _tell(self, lookup: Lookup, verdict: Verdict) -> None:
        """Pass on what is new about a lookup that stays open."""
        news = verdict.state is not lookup.verdict.state
        lookup.verdict = verdict
        if news:
            self._mailbox.put(News(lookup.id, lookup.address, verdict, dict(lookup.cases), False))

    def _close(self, lookup: Lookup, verdict: Verdict) -> None:
        self._waiting.remove(lookup)
        lookup.verdict = verdict
        if not lookup.cases:
            self._store.drop_lookup(lookup.id)
        self._mailbox.put(News(lookup.id, lookup.address, verdict, dict(lookup.cases), True))

    # -- requests

    def _send(self, lookup: Lookup, key: str, now: float) -> None:
        if now - lookup.asked_at > self._pace.keep:
            self._close(lookup, Verdict(NAME, State.ERROR, None, "not answered in time", now))
            return
        self._gate.spend(lookup.address, now)
        self._number += 1
        patience = longest(self._settings) + (0.0 if self._warm else _IMPORT_SECONDS)
        self._request = _Request(self._number, lookup, now, time.monotonic() + patience)
        arguments = (self._client, lookup.address, key, self._number, self._inbox)
        try:
            threading.Thread(target=_request, args=arguments, name="ngfw-request", daemon=True).start()
        except RuntimeError:
            self._inbox.put(_Reply(self._number, Result(State.ERROR, None, "no thread to be had", sent=False)))

    def _give_up(self, request: _Request) -> None:
        self._request = None
        self._gate.hanging += 1
        self._client, self._warm = Client(self._settings, clock=self._clock), False
        detail = f"timeout: not done within {longest(self._settings):g} s"
        self._conclude(request, Result(State.ERROR, None, detail, outage=True))

    def _replied(self, reply: _Reply) -> None:
        request = self._request
        if request is None or reply.number != request.number:
            self._gate.hanging -= 1
            return
        self._request = None
        self._warm = True
        self._conclude(request, reply.result)

    def _conclude(self, request: _Request, result: Result) -> None:
        now, lookup = self._clock(), request.lookup
        if not result.sent:
            self._gate.refund(request.sent_at)
        if result.score is not None:
            self._gate.answered()
            self._remember(lookup.address, Known(result.score, now))
            verdict = rated(NAME, result.score, self._threshold, now)
            self._mailbox.put(Counted(NAME, verdict.state.value))
            self._close(lookup, verdict)
            return
        self._mailbox.put(Counted(NAME, result.state.value))
        self._say(f"{NAME}: {lookup.address}: {result.detail}")
        if result.state is State.OVER_BUDGET:
            self._gate.close(result, now)
            self._waiting.make_ready(lookup)
        elif result.again and not lookup.retried:
            lookup.retried = True
            self._waiting.make_ready(lookup)
        else:
            self._failed(lookup, result, now)

    def _failed(self, lookup: Lookup, result: Result, now: float) -> None:
        lookup.attempts += 1
        verdict = Verdict(NAME, State.ERROR, None, result.detail, now)
        if lookup.attempts >= self._pace.attempts:
            self._close(lookup, verdict)
        else:
            pause = min(self._pace.retry * 2 ** (lookup.attempts - 1), self._pace.retry_most)
            self._waiting.put_off(lookup, time.monotonic() + max(pause, result.pause))
            self._tell(lookup, verdict)
        if result.pause:
            self._gate.close(result, now)
        elif result.outage:
            self._gate.failed(result.detail, now)

    def _remember(self, address: Network, known: Known) -> None:
        about = subject(address)
        self._results[about] = known
        self._results.move_to_end(about)
        self._store.put_result(about, known)
        while len(self._results) > self._pace.most_results:
            oldest, _known = self._results.popitem(last=False)
            self._store.drop_result(oldest)

    # -- the rest

    def _restore(self) -> None:
        kept, now = self._store.load(), self._clock()
        for address, known in kept.results:
            if now - self._settings.cache < known.at <= now:
                self._results[subject(address)] = known
            else:
                self._store.drop_result(address)
        self._gate.restore(kept, now)
        surplus = max(0, len(kept.lookups) - self._pace.most_open)
        for unfinished in kept.lookups[:surplus]:
            self._store.drop_lookup(unfinished.id)
        for unfinished in kept.lookups[surplus:]:
            self._last_id = max(self._last_id, unfinished.id)
            lookup = Lookup(
                unfinished.id, unfinished.address, unfinished.asked_at, Verdict(NAME, State.PENDING, at=now)
            )
            lookup.cases = unfinished.cases
            verdict = self.known(lookup.address)
            if verdict is not None:
                self._close(lookup, verdict)
            else:
                self._waiting.add(lookup)
        self._store.commit()

    def _sleep(self) -> float:
        """How long nothing is to be done unless a message comes."""
        now = self._clock()
        moments = [_LONGEST_SLEEP]
        if self._request is not None:
            moments.append(self._request.deadline - time.monotonic())
        due = self._waiting.next_due()
        if due is not None:
            moments.append(due - time.monotonic())
        if self._waiting.any_ready() and self._request is None:
            pause = self._gate.obstacle(now)
            moments.append(0.0 if pause is None else pause.until - now)
        return max(0.0, min(moments) + 0.001)

    def _say(self, text: str) -> None:
        self._mailbox.put(Said(text, True))


def _request(client: Client, address: Network, key: str, number: int, inbox: SimpleQueue[Message | None]) -> None:
    try:
        client.prepare()
        result = client.check(address, key)
    except ImportError as error:
        result = Result(
            State.ERROR, None, f"requests cannot be imported ({error}); install python3-requests", sent=False
        )
    except Exception as error:
        result = Result(State.ERROR, None, f"an error of this program, {type(error).__name__}", sent=False)
    inbox.put(_Reply(number, result))
