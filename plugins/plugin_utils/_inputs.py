# SPDX-License-Identifier: GPL-3.0-or-later
"""What filters and tests take, and what they raise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.text import shown as quotable


class FilterTypeError(AnsibleFilterError, TypeError):
    """A filter or test was given something of another kind than it takes.

    ansible-core has such a class too, under another name from release to release.
    """


def as_list(value: object, remedy: str) -> list[Any]:
    """The items of a list, or of anything else that Jinja lists; raises FilterTypeError, which ends in `remedy`."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise FilterTypeError(f"{shown(value)} is not a list; {remedy}")
    return list(value)


def shown(value: object) -> str:
    """A value as a message may quote it: short, printable, with its kind unless it is a text."""
    if isinstance(value, str):
        return f"'{quotable(value)}'"
    if value is None or isinstance(value, bool):
        return str(value)
    kind = next((name for kind, name in _KINDS if isinstance(value, kind)), "object")
    return f"the {kind} {quotable(value)}"


_KINDS = ((dict, "dictionary"), ((list, tuple), "list"), ((int, float), "number"))
