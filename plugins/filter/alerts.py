# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters over Suricata's alerts; documented in the .yml file of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

from ansible.errors import AnsibleFilterError
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.address import Network, parse_host
from ansible_collections.reflex.ngfw.plugins.module_utils._firewall.errors import AddressError
from ansible_collections.reflex.ngfw.plugins.plugin_utils import _alerts
from ansible_collections.reflex.ngfw.plugins.plugin_utils._inputs import FilterTypeError, as_list, shown

_SIDES = ("src_ip", "dest_ip")


def eve_alerts(text: object) -> list[_alerts.Alert]:
    return _alerts.eve_alerts(text)


def fastlog_alerts(text: object, zone: object = None) -> list[_alerts.Alert]:
    return _alerts.fastlog_alerts(text, None if zone is None else _zone(zone))


def top_offenders(alerts: object, n: object = 10, by: object = "src_ip") -> list[dict[str, Any]]:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise FilterTypeError(f"n is {shown(n)}; write how many are wanted, 1 or more")
    if by not in _SIDES:
        raise AnsibleFilterError(f"by is {shown(by)}; write src_ip or dest_ip")
    groups: dict[Network, list[dict[str, Any]]] = {}
    for alert in as_list(alerts, "make a list of alerts with reflex.ngfw.eve_alerts"):
        if not isinstance(alert, dict) or by not in alert:
            raise FilterTypeError(f"{shown(alert)} is not an alert with a {by}; make them with reflex.ngfw.eve_alerts")
        if alert[by] is not None:  # events of the decoder have no addresses
            groups.setdefault(_host(alert[by]), []).append(alert)
    ranked = sorted(groups, key=lambda host: (-len(groups[host]), len(host.packed), host))
    return [_offender(host, groups[host]) for host in ranked[:n]]


def _offender(host: Network, alerts: list[dict[str, Any]]) -> dict[str, Any]:
    times = sorted(alert["ts"] for alert in alerts if isinstance(alert.get("ts"), str))
    return {
        "address": str(host),
        "count": len(alerts),
        "sids": sorted({alert["sid"] for alert in alerts if isinstance(alert.get("sid"), int)}),
        "first": times[0] if times else None,
        "last": times[-1] if times else None,
    }


def _host(address: Any) -> Network:
    try:
        return parse_host(address)
    except AddressError as error:
        raise AnsibleFilterError(str(error)) from None


def _zone(name: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(name))
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise AnsibleFilterError(f"zone {shown(name)} is not known; write one such as UTC or Europe/Berlin") from None


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"eve_alerts": eve_alerts, "fastlog_alerts": fastlog_alerts, "top_offenders": top_offenders}
