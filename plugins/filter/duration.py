# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter over durations; documented in its .yml file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.duration import parse_duration
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import DurationError
from ansible_collections.reflex.ngfw.plugins.plugin_utils._inputs import FilterTypeError, shown


def duration_seconds(duration: object) -> int:
    if isinstance(duration, bool) or not isinstance(duration, (str, int)):
        raise FilterTypeError(f"{shown(duration)} is not a duration; write a text such as 45s, 30m or 1h30m")
    try:
        return parse_duration(duration)
    except DurationError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"duration_seconds": duration_seconds}
