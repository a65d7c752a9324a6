"""What the inventory itself says of an app, as digests: without what a run was given by ``-e``, and of all hosts, whatever ``--limit`` is.

A hold is held against it, and by it a host knows whether the release that it has is the declared one. ``validate`` reads the whole
inventory anyway, and leaves the digests for the other tasks of the run in a file of its own: secrets are in them, and results are shown.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from ansible import constants
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.host import release_choice
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, inventory

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MADE_OF = ("app_source", "app_requirements", "app_python")


def raw(hostvars: Any, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the variables of hosts, untemplated, as they are without any ``-e``."""
    manager = copy.copy(hostvars._variable_manager)
    manager._extra_vars = {}
    found = {name: manager.get_vars(host=hostvars._inventory.get_host(name), include_hostvars=False) for name in names}
    return {name: {**values, "hostvars": hostvars} for name, values in found.items()}


def are_given(hostvars: Any) -> bool:
    """Whether this run was given any variable by ``-e``."""
    return bool(hostvars._variable_manager.extra_vars)


def keep(hosts: Sequence[inventory.Host], given: Sequence[inventory.Host]) -> None:
    """Keep the words of each app for the other tasks of this run; what an inventory leaves to ``-e`` is as it was ``given``."""
    told: dict[str, dict[str, list[str]]] = {}
    sources, made = {}, {}
    for host, same in zip(hosts, given, strict=True):
        if same.parts:
            mine = said(host)
            mine = said(same) if host.unread else mine
            app = told.setdefault(str(mine["app"]["name"]), {"source": [], "whole": []})
            app["source"].append(digest({name: mine[name] for name in MADE_OF}))
            app["whole"].append(digest(mine))
            sources[host.name] = digest(mine["app_source"] or None)
            made[host.name] = digest({name: mine[name] for name in MADE_OF if name != "app_python"})
    words = {app: {key: digest(sorted(set(each))) for key, each in found.items()} for app, found in told.items()}
    os.makedirs(os.path.dirname(path()), mode=0o700, exist_ok=True)
    with open(os.open(path(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump({"apps": words, "sources": sources, "made": made}, file)


def said(host: inventory.Host) -> dict[str, Any]:
    """Return what is declared of an app for one host. Its name is no part of that: another host of the same kind changes nothing."""
    values = {**host.declaration(), **{name: host.value(name) for name in MADE_OF}}
    return {key: value for key, value in values.items() if key != "host"}


def of(app: str) -> release_choice.Words:
    """Return the words of an app; they are empty in a run that has not read its inventory."""
    return release_choice.Words(**kept().get("apps", {}).get(app, {}))


def are_source(host: str, source: Any) -> bool:
    """Whether a source is the one that the inventory gives a host, as far as that was read."""
    mine = kept().get("sources", {}).get(host)
    return mine is None or mine == digest(inventory.bare(source) or None)


def made_of() -> dict[str, str]:
    """Return a digest for each host of what its release is declared to be made of."""
    return dict(kept().get("made", {}))


def kept() -> dict[str, Any]:
    """Return what :func:`keep` has kept."""
    with contextlib.suppress(FileNotFoundError), open(path(), encoding="utf-8") as file:
        return dict(json.load(file))
    return {}


def path() -> str:
    """Return the file, in a directory that goes with this run of ansible-playbook."""
    return os.path.join(constants.DEFAULT_LOCAL_TMP, f"words-{actions.playbook()}.json")


def digest(value: Any) -> str:
    """Return a digest of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]
