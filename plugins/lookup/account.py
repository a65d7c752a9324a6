"""Whose process this run of Ansible is."""

from __future__ import annotations

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.workfleet.core.plugins.plugin_utils import ourselves

DOCUMENTATION = """
name: account
short_description: Whose process this run of Ansible is
description:
  - Returns C(user) and C(group) as names, or as numbers where the machine knows no names, as in a container that was started as a number.
options: {}
"""
EXAMPLES = """
app_user: "{{ lookup('workfleet.core.account').user }}"
"""
RETURN = """
_raw:
  description: One mapping, C(user) and C(group).
  type: list
  elements: dict
"""


class LookupModule(LookupBase):
    """Asks the system, not the environment."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, str]]:
        """Return both."""
        return [{"user": ourselves.user(), "group": ourselves.group()}]
