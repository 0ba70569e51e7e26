# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role makes of its variables, and of texts that it shows; documented in the .yml file of each filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.text import masked, printable
from ansible_collections.reflex.ngfw.plugins.plugin_utils._variables import problems, value
from ansible_collections.reflex.ngfw.plugins.plugin_utils._whitelist import changed_whitelist


def variable_problems(values: Mapping[str, object], entry: str) -> list[str]:
    return problems(values, entry)


def variable_value(given: object, name: str) -> Any:
    return value(name, given)


def variable_values(given: Mapping[str, object]) -> dict[str, Any]:
    return {name: value(name, each) for name, each in given.items()}


def whitelist_after(present: object, pushed: object, state: str) -> list[Any]:
    return changed_whitelist(present, pushed, state)


def presentable(text: object) -> str:
    return printable(masked(str(text)))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "variable_problems": variable_problems,
            "variable_value": variable_value,
            "variable_values": variable_values,
            "whitelist_after": whitelist_after,
            "presentable": presentable,
        }
