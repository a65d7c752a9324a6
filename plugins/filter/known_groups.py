"""Which part of a pattern of hosts an inventory knows: a fleet need not have a scheduler, nor a Redis of ours, and that is no news."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container

DOCUMENTATION = """
name: known_groups
short_description: The part of a pattern of groups that an inventory knows
version_added: 0.1.0
description:
  - Leaves out of a pattern the groups that are not in the inventory, of which Ansible would warn. What is left matches the same hosts.
positional: groups
options:
  _input:
    description: Groups with colons between them; C(&) before one that a host must be in too, C(!) before one that it must not be in.
    type: str
    required: true
  groups:
    description: The variable C(groups).
    type: dict
    required: true
"""

EXAMPLES = """
- name: Whatever there is of these
  hosts: "{{ 'workers:scheduler:dashboard' | workfleet.core.known_groups(groups) }}"
"""

RETURN = """
_value:
  description: The pattern; one that matches no host where nothing is left.
  type: str
"""

NOBODY = "all:!all"


def known_groups(pattern: str, groups: Container[str]) -> str:
    """Return the part of a pattern that is in the inventory."""
    words = pattern.split(":")
    here = [word for word in words if word.lstrip("&!") in groups]
    lacks_a_condition = any(word.startswith("&") and word not in here for word in words)
    return NOBODY if lacks_a_condition or not any(word[0] not in "&!" for word in here) else ":".join(here)


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[[str, Container[str]], str]]:
        """Return the filter by its name."""
        return {"known_groups": known_groups}
