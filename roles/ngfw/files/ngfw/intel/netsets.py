# SPDX-License-Identifier: GPL-3.0-or-later
"""The lists in force: read from files, asked in a microsecond, read again when a file changes, fetched when due.

One thread calls load(), fetches() and fetched(); any other may ask meanwhile: a list is replaced as a whole. Only the
jobs that fetches() hands out wait for a server, so they belong into threads of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from ..firewall.address import Network
from ..firewall.files import open_for_reading
from ..firewall.sanity import objection
from ..firewall.text import masked, masked_url
from ..settings.config import Netset
from .download import DownloadError, fetch, fingerprint, read_validators, signature
from .ranges import Ranges, read_ranges
from .verdict import State, Verdict
from .web import Web

_RETRY = 60.0
_BLOCK = 65536

Report = Callable[[str, bool], None]
"""Is told what people should know: a text, and whether it is a problem."""

Job = Callable[[Web, Callable[[], None]], "Ranges | DownloadError | None"]
"""Fetches a list; what it returns goes to ListFile.fetched()."""


class ListFile:
    """One list: its file, and what was last read of it that was good."""

    def __init__(self, settings: Netset) -> None:
        self.settings = settings
        self.path = Path(settings.path)
        self.ranges: Ranges | None = None
        self.reason = "not read yet"
        self.read_at = 0.0
        self._signature: tuple[int, ...] | None = None
        self._failures = 0
        self._fetching = False
        self._due: float | None = None
        self._removed = False
        self._said = ""

    def changed(self) -> bool:
        """Whether the file is another than when it was last read: one stat."""
        return signature(self.path) != self._signature

    def verdict(self, address: Network) -> Verdict:
        """What the list says about a public host."""
        ranges, name = self.ranges, self.settings.name
        if ranges is None:
            return Verdict(name, State.LIST_MISSING, None, self.reason, self.read_at)
        return Verdict(name, State.LISTED if ranges.covers(address) else State.CLEAN, None, "", self.read_at)

    def health(self) -> dict[str, str]:
        ranges, name = self.ranges, self.settings.name
        if ranges is None:
            return {"name": name, "state": State.LIST_MISSING.value, "detail": self.reason}
        return {"name": name, "state": "ok", "detail": f"{ranges.entries} entries"}

    def load(self, now: float, report: Report, breathe: Callable[[], None]) -> None:
        """Read the file; one that is bad or gone leaves in force what was."""
        seen = signature(self.path)
        self._signature = seen
        try:
            ranges = read_file(self.path, self._present(), breathe)
        except OSError as error:
            self._removed = self._removed or isinstance(error, FileNotFoundError)
            self._failed(f"cannot read {self.path} ({error.strerror})", report)
            self._due = self._due if self._failures else None  # where it is gone, fetch it now
        except ValueError as error:
            self._failed(f"{self.path}: {error}", report)
        else:
            self._take(ranges, now, report)

    def due(self, now: float) -> float | None:
        """Seconds until the list is to be fetched; None if it never is, or is being fetched."""
        if self.settings.url is None:
            return None
        if self._fetching:
            return None
        if self._due is None:
            known = read_validators(self.path)
            current = known.source == fingerprint(self.settings.url) and known.file == signature(self.path) != ()
            # A time in the future is of a clock that was wrong.
            self._due = known.checked_at + self.settings.refresh if current and known.checked_at <= now else now
        return max(0.0, min(self._due - now, self.settings.refresh))  # the clock may be set back, or `refresh` changed

    def job(self, now: float) -> Job | None:
        """What another thread is to do to fetch the list, once until fetched() is called; it changes nothing here."""
        url, path = self.settings.url, self.path
        if url is None or self._fetching:
            return None
        self._fetching = True
        return partial(_fetched_file, url, path, self._present() if path.exists() else 0, now)

    def fetched(self, result: Ranges | DownloadError | None, now: float, report: Report) -> None:
        """Take what the job came to: a new list, an unchanged one (None), or an error."""
        self._fetching = False
        if isinstance(result, DownloadError):
            self._failures += 1
            self._due = now + min(self.settings.refresh, _RETRY * 2 ** min(self._failures - 1, 10))
            address = masked_url(self.settings.url or "")
            self._failed(f"{address} was not taken: {masked(str(result), self.settings.url or '')}", report)
            return
        self._failures = 0
        self._due = now + self.settings.refresh
        if result is not None:
            self._signature = signature(self.path)
            self._take(result, now, report)
        elif self.ranges is not None:
            self._said = ""

    def _present(self) -> int:
        """How many entries the next list is compared with: none, once somebody removed the file for that."""
        return 0 if self.ranges is None or self._removed else self.ranges.entries

    def _take(self, ranges: Ranges, now: float, report: Report) -> None:
        self.ranges, self.reason, self.read_at = ranges, "", now
        self._removed = False
        self._said = ""
        text = f"netset {self.settings.name}: {ranges.entries} entries"
        if ranges.refusals:
            first = ranges.refused[0]
            text += f"; {ranges.refusals} lines left out, the first: {first.entry} ({first.reason.partition(';')[0]})"
        report(text, ranges.unreadable > 0)

    def _failed(self, text: str, report: Report) -> None:
        if self.ranges is None:
            self.reason = text
        if text != self._said:
            self._said = text
            stays = "without it" if self.ranges is None else f"the last good list ({self.ranges.entries}) stays"
            report(f"netset {self.settings.name}: {text}; {stays}", True)


class Netsets:
    """All lists of a configuration."""

    def __init__(self, settings: Iterable[Netset], *, report: Report = lambda text, problem: None) -> None:
        self._report = report
        self._lists: tuple[ListFile, ...] = ()
        self.adopt(settings)

    def adopt(self, settings: Iterable[Netset]) -> None:
        """Take a new configuration; what is the same list stays in force, others are missing until load()."""
        known = {(each.settings.name, each.settings.path): each for each in self._lists}
        lists = []
        for each in settings:
            file = known.get((each.name, each.path)) or ListFile(each)
            file.settings = each
            lists.append(file)
        self._lists = tuple(lists)

    def verdicts(self, address: Network) -> list[Verdict]:
        """What each list says about a public host, in the order of the configuration."""
        return [each.verdict(address) for each in self._lists]

    def changed(self) -> bool:
        """Whether a file changed since it was read: one stat for each."""
        return any(each.changed() for each in self._lists)

    def files(self) -> list[Path]:
        """What to watch for changes."""
        return [each.path for each in self._lists]

    def health(self) -> list[dict[str, str]]:
        """How each list is: {name, state, detail}."""
        return [each.health() for each in self._lists]

    def load(self, now: float, breathe: Callable[[], None] = lambda: None) -> None:
        """Read the lists whose files changed."""
        for each in self._lists:
            if each.changed():
                each.load(now, self._report, breathe)

    def any_loaded(self) -> bool:
        """Whether some list is in force."""
        return any(each.ranges is not None for each in self._lists)

    def any_missing(self) -> bool:
        """Whether the file of some list is not there."""
        return any(not each.path.exists() for each in self._lists)

    def due(self, now: float) -> float | None:
        """Seconds until the next list is to be fetched."""
        return min((due for due in (each.due(now) for each in self._lists) if due is not None), default=None)

    def fetches(self, now: float) -> list[tuple[ListFile, Job]]:
        """The lists that are due, each with the job that fetches it."""
        due = [(each, each.job(now)) for each in self._lists if each.due(now) == 0]
        return [(each, job) for each, job in due if job is not None]

    def fetched(self, which: ListFile, result: Ranges | DownloadError | None, now: float) -> None:
        """Take the result of a job."""
        which.fetched(result, now, self._report)


def _fetched_file(
    url: str, path: Path, present: int, now: float, web: Web, breathe: Callable[[], None]
) -> Ranges | DownloadError | None:
    try:
        return fetch(web, url, path, now=now, read=lambda fresh: read_file(fresh, present, breathe))
    except DownloadError as error:
        return error


def read_file(path: Path, present: int = 0, breathe: Callable[[], None] = lambda: None) -> Ranges:
    """The ranges of a list's file, to replace one of `present` entries.

    Raises OSError, and ValueError for what is no list to act on.
    """
    with open_for_reading(path, follow=True) as file:
        ranges = read_ranges(_blocks(file.read), breathe=breathe)
    if not ranges.entries:
        shown = f"; the first line left out: {ranges.refused[0].entry}" if ranges.refused else ""
        raise ValueError(f"it holds no usable address{shown}")
    why = objection(ranges.contents(), present)
    if why:
        raise ValueError(f"{why}; if that is meant, remove the file in force first")
    return ranges


def _blocks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    return iter(lambda: read(_BLOCK), b"")
