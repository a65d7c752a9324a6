# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The account of this run of Ansible."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: account
short_description: Account of this run of Ansible
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Returns C(user) and C(group) as names, or as numbers where the machine has no names for them, as in a container that runs as a number.
options: {}
"""

EXAMPLES = r"""
- name: Show the account
  ansible.builtin.debug:
    msg: "{{ lookup('workfleet.core.account').user }}"
"""

RETURN = r"""
_raw:
  description: One mapping of C(user) and C(group).
  type: list
  elements: dict
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.workfleet.core.plugins.plugin_utils import ourselves


class LookupModule(LookupBase):
    """Asks the system, not the environment."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, str]]:
        """Return both."""
        return [{"user": ourselves.user(), "group": ourselves.group()}]
