"""The source of a release, looked at on the control node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible import constants
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.host import release_choice
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.release import source
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.release import spec as release_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.plugins.action import ActionBase


def look(plugin: ActionBase, declared: Mapping[str, Any], variables: Mapping[str, Any], seconds: float) -> source.Source:
    """Look at a checked ``app_source``; a relative path counts from the inventory's directory. A fetch has ``seconds``."""
    base = str(variables.get("inventory_dir") or plugin._loader.get_basedir())
    found = release_spec.located(declared, base, linked(base))
    return source.look(**found, cache=constants.DEFAULT_LOCAL_TMP, seconds=seconds)


def linked(inventory: str) -> list[str]:
    """Return where the links in the directory of an inventory lead to: it may be made of links to the real one, as molecule makes it."""
    links = [path for path in Path(inventory).glob("*") if path.is_symlink()]
    return sorted({os.path.dirname(os.path.realpath(path)) for path in links})


def described(looked: source.Source) -> dict[str, Any]:
    """Return what a host is told of a source."""
    return {key: getattr(looked, key) for key in ("kind", "fingerprint", "label", "size", "install", "version")}


def identity(looked: source.Source, made_of: Sequence[Sequence[str]]) -> str:
    """Return the id of the release that a source makes, with what else it is ``made_of``."""
    return release_choice.identity(described(looked), made_of)


def of_release(
    plugin: ActionBase, declared: Mapping[str, Any], version: str | None, release: str, made_of: Sequence[Sequence[str]],
    variables: Mapping[str, Any], seconds: float,
) -> source.Source | None:
    """Return the source of another release of the same app by the version that hosts tell of it; None where it is not that release."""
    if not version or declared["kind"] not in ("git", "pypi"):
        return None
    looked = look(plugin, {**declared, "version": version}, variables, seconds)
    return looked if identity(looked, made_of) == release else None
