# SPDX-License-Identifier: GPL-3.0-or-later
"""What no block may touch: whitelisted and protected networks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from .address import Network, NetworkSet, merge
from .entry import Origin, clean_text
from .layout import allow_set, own_set
from .state import State


class WhitelistItem(NamedTuple):
    """A network that no block may touch."""

    network: Network
    comment: str = ""


class WhitelistEntry(NamedTuple):
    """A network of the whitelist or a protected one, as the kernel holds it."""

    network: Network
    comment: str
    origin: Origin


class Guard(NamedTuple):
    """What stands between a network and any block: `kind` is `protected` or `whitelisted`."""

    kind: str
    network: Network
    comment: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.network}" + (f" ({self.comment})" if self.comment else "")


class Guards:
    """The protected and the whitelisted networks, each with its comment; of a protected one it is the reason."""

    def __init__(self, protected: Mapping[Network, str], allowed: Mapping[Network, str]) -> None:
        self._kinds = (
            ("protected", NetworkSet(protected), protected),
            ("whitelisted", NetworkSet(allowed), allowed),
        )
        self._all = NetworkSet(merge((*protected, *allowed)))

    @classmethod
    def of_state(
        cls,
        chain: str,
        families: Iterable[str],
        state: State,
        protected: Mapping[Network, str],
        now: float,
        leaving: Collection[Network] = (),
    ) -> Guards:
        """Those of a state; `protected` are more of them, `leaving` are protected ones of it that do not count."""
        own, allowed = {}, {}
        for family in families:
            for network, held in state.live(own_set(chain, family).name, now):
                if network not in leaving:
                    own[network] = guard_comment(held.comment)[1]
            for network, held in state.live(allow_set(chain, family).name, now):
                allowed[network] = guard_comment(held.comment)[1]
        own.update(protected)
        return cls(own, allowed)

    def covering(self, network: Network) -> Guard | None:
        """What wholly covers the network, by itself or together: a protected one first."""
        together = self._all.covering(network)
        if together is None:  # as nearly always
            return None
        for kind, networks, comments in self._kinds:
            found = networks.covering(network)
            if found is not None:
                return Guard(kind, found, comments[found])
        own = NetworkSet(merge(self._kinds[0][1]))
        kind = "whitelisted" if own.covering(network) is None else "protected"
        return Guard(kind, together, "by several entries together")

    def near(self, network: Network) -> bool:
        """Whether a protected or whitelisted network shares an address with this one."""
        return self._all.overlaps(network)


def guard_comment(comment: str) -> tuple[Origin, str]:
    """The origin and the text in the comment of a whitelist entry or protected address."""
    origin, tab, text = comment.partition("\t")
    try:
        return (Origin(origin), text) if tab else (Origin.COMMAND, comment)
    except ValueError:
        return Origin.COMMAND, comment


def guard_note(origin: Origin, text: str) -> str:
    """The comment that keeps both."""
    return f"{origin.value}\t" + guard_text(text)


def guard_text(text: str) -> str:
    """A whitelist entry's comment as the kernel keeps it, beside the origin."""
    return clean_text(text, 240)
