# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of role and playbooks: which there are, and what a text given for one of another type means.

A variable that is set by `-e NAME=VALUE` is a text, whatever its type; the role's argument specification says the type.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.validation import (
    check_type_bool,
    check_type_dict,
    check_type_float,
    check_type_int,
)
from ansible_collections.reflex.ngfw.plugins.plugin_utils._inputs import FilterTypeError, shown
from ansible_collections.reflex.ngfw.plugins.plugin_utils._whitelist import parse_whitelist

_SPECS = Path(__file__).parents[2] / "roles" / "ngfw" / "meta" / "argument_specs.yml"
_OF_PLAYBOOKS = frozenset({"ngfw_hosts", "ngfw_serial"})
"""What the playbooks read and the role does not."""

_MEANT = {
    "flush": {"ngfw_rule_name": "ngfw_flush_rule", "ngfw_rule": "ngfw_flush_rule"},
    "unblock": {"ngfw_rule_name": "ngfw_addresses alone, whose blocks of any rule are lifted"},
    "whitelist": {"ngfw_addresses": "ngfw_whitelist", "ngfw_entries": "ngfw_whitelist"},
}
"""What somebody means who gives a playbook an option of its module, or a variable of another playbook."""

_INSTEAD_OF_ABSENT = {
    "whitelist": "to take entries out, write ngfw_whitelist_state=absent",
    "block": "to lift blocks, use the playbook unblock",
}

_RESERVED_SIDS = (
    (range(1900000, 1901000), "of the signatures that come with the role"),
    (range(2200000, 2300000), "of Suricata's own decoder and stream events"),
)
_SID = re.compile(r"\bsid\s*:\s*([0-9]{1,10})\s*;")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_LINES = frozenset({"ngfw_suricata_rules"})
"""Lists whose items hold commas and blanks: as text they have an item a line."""

_DICTIONARIES = frozenset({"ngfw_rules", "ngfw_sources"})
"""Lists of dictionaries; as text they are JSON."""

_MAY_BE_EMPTY = frozenset({"ngfw_suricata_interface"})
"""Lists for which an empty text is as good as none; elsewhere it is more likely a shell's variable that is not set."""

_SCALARS: dict[str, Callable[[Any], Any]] = {"bool": check_type_bool, "int": check_type_int, "float": check_type_float}


def problems(values: Mapping[str, object], entry: str) -> list[str]:
    """What is wrong with the variables that are set (all that begin with `ngfw_`), each with its remedy.

    `entry` names the entry point of the role that is about to run.
    """
    options = _specs()
    of_entry = {**options["main"], **options[entry]}
    known = {*_OF_PLAYBOOKS, *(name for each in options.values() for name in each)}
    found = [_misplaced(name, entry, known) for name in sorted(values)]
    read = {name: given for name, given in values.items() if name in of_entry}
    typed: dict[str, object] = {}
    for name, given in read.items():
        try:
            typed[name] = value(name, given)
        except AnsibleFilterError as error:
            found.append(str(error))
    # What is missing, and choices; lists and dictionaries are left out, for Ansible's own are slow to be copied.
    plain = {name: given for name, given in typed.items() if name in options[entry] and not _is_container(given)}
    left = {name: option for name, option in options[entry].items() if name in plain or name not in values}
    found += ArgumentSpecValidator(left).validate(plain).error_messages
    if typed.get("ngfw_state") == "absent" and entry in _INSTEAD_OF_ABSENT:
        found.append(f"ngfw_state is of the role only; {_INSTEAD_OF_ABSENT[entry]}")
    return [text for text in found if text]


def value(name: str, given: object) -> Any:
    """What was given for a variable, as the type that it has; raises FilterTypeError, AnsibleFilterError."""
    option = next(options[name] for options in _specs().values() if name in options)
    kind = option.get("type", "str")
    if name == "ngfw_whitelist":
        return _whitelist(name, _listed(name, given, option))
    if kind == "list":
        items = _listed(name, given, option)
        return list(_checked_signatures(items)) if name in _LINES else items
    if kind == "dict":
        return _mapping(name, given)
    if kind in _SCALARS:
        try:
            return _SCALARS[kind](given)
        except TypeError:
            raise FilterTypeError(f"{name} must be {_an(kind)}, not {shown(given)}") from None
    return given


def _whitelist(name: str, items: list[Any]) -> list[Any]:
    try:
        return parse_whitelist(items)
    except AnsibleFilterError as error:
        raise AnsibleFilterError(f"{name}, {error}") from None


def _is_container(given: object) -> bool:
    return isinstance(given, (Mapping, list, tuple))


@lru_cache(maxsize=1)
def _specs() -> dict[str, dict[str, dict[str, Any]]]:
    """The options of each entry point of the role."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loaded = yaml.load(_SPECS.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506  # both are safe loaders
    return {entry: spec["options"] for entry, spec in loaded["argument_specs"].items()}


def _misplaced(name: str, entry: str, known: set[str]) -> str:
    """What is wrong with the name of a variable, or nothing."""
    meant = _MEANT.get(entry, {}).get(name)
    if meant:
        return f"{name} means nothing to the playbook {entry}; write {meant}"
    if name in known:
        return ""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    hint = f"did you mean {near[0]}?" if near else "ansible-doc -t role reflex.ngfw.ngfw lists all"
    return f"{shown(name)[1:-1]} is no variable of reflex.ngfw; {hint}"


def _listed(name: str, given: object, option: Mapping[str, Any]) -> list[Any]:
    """The items of a list, or of a text."""
    items = _from_text(name, given) if isinstance(given, str) else given
    if not isinstance(items, (list, tuple)):
        raise FilterTypeError(f"{name} must be a list, not {shown(items)}; write {_example(name)}")
    found = []
    for number, item in enumerate(items, 1):
        if option["elements"] == "str" and not isinstance(item, str):
            raise FilterTypeError(f"{name}, item {number} must be a text, not {shown(item)}; write {_example(name)}")
        if name in _DICTIONARIES and not isinstance(item, Mapping):
            raise FilterTypeError(f"{name}, item {number} must be a dictionary, not {shown(item)}")
        found.append(item.strip() if isinstance(item, str) else item)
    return found


def _from_text(name: str, text: str) -> Any:
    """A list written as text: JSON, or words between commas, blanks and line ends, or lines."""
    json_text = text.lstrip()[:1] in ("[", "{")
    items = _from_json(text) if json_text else None
    if items is not None:
        return items
    if name in _DICTIONARIES or (json_text and "{" in text):
        raise FilterTypeError(f"{name} must be a list, not {shown(text)}; in a text, write it as JSON")
    items = _lines(text) if name in _LINES else [word for word in re.split(r"[\s,]+", text.strip("[] ")) if word]
    if not items and name not in _MAY_BE_EMPTY:
        raise FilterTypeError(f"{name} is an empty text; write [] for a list without items")
    return items


def _mapping(name: str, given: object) -> Mapping[str, Any]:
    """A dictionary, or one in a text as JSON."""
    try:
        found = check_type_dict(given)
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise FilterTypeError(f"{name} must be a dictionary, not {shown(given)}; write {{KEY: VALUE}}, by -e as JSON")
    return found


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _lines(text: str) -> list[str]:
    """The lines that say something; one that ends in a backslash goes on in the next."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _checked_signatures(signatures: list[Any]) -> Iterator[str]:
    """The signatures; raises FilterTypeError for one with a number that others use."""
    for number, signature in enumerate(signatures, 1):
        for sid in _SID.findall(_QUOTED.sub('""', signature)):
            for reserved, whose in _RESERVED_SIDS:
                if int(sid) in reserved:
                    raise FilterTypeError(
                        f"ngfw_suricata_rules, item {number}: sid {sid} is one {whose} "
                        f"({reserved.start} to {reserved.stop - 1}); take one from 1000000 to 1899999"
                    )
        yield signature


def _example(name: str) -> str:
    return "one signature an item" if name in _LINES else "[a, b], or by -e words with commas"


def _an(kind: str) -> str:
    return {"bool": "true or false", "int": "a whole number", "float": "a number"}[kind]
