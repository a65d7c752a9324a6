"""The source of a release, looked at on the control node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible import constants
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import release_choice, release_spec, source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.plugins.action import ActionBase


def look(plugin: ActionBase, declared: Mapping[str, Any], variables: Mapping[str, Any]) -> source.Source:
    """Look at a checked ``app_source``; a relative path counts from the inventory's directory."""
    base = variables.get("inventory_dir") or plugin._loader.get_basedir()
    found = release_spec.located(declared, str(base))
    return source.look(**found, cache=constants.DEFAULT_LOCAL_TMP)


def described(looked: source.Source) -> dict[str, Any]:
    """Return what a host is told of a source."""
    return {key: getattr(looked, key) for key in ("kind", "fingerprint", "label", "size", "install", "version")}


def identity(looked: source.Source, requirements: Sequence[str]) -> str:
    """Return the id of the release that a source and requirements make."""
    return release_choice.identity(described(looked), requirements)


def of_release(
    plugin: ActionBase, declared: Mapping[str, Any], version: str | None, release: str, requirements: Sequence[str],
    variables: Mapping[str, Any],
) -> source.Source | None:
    """Return the source of another release of the same app by the version that hosts tell of it; None where it is not that release."""
    if not version or declared["kind"] not in ("git", "pypi"):
        return None
    looked = look(plugin, {**declared, "version": version}, variables)
    return looked if identity(looked, requirements) == release else None
