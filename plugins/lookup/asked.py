# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The answers that a person gives to a playbook by ``-e``."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: asked
short_description: Answers that a person gives to a playbook
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Returns one mapping of the words of C(docs/playbooks.md) that were given by C(-e).
  - Such a word is an answer for one run. An inventory may have a variable of the same name and of another meaning, so these words are never
    read from hosts, groups, facts or plays.
options: {}
"""

EXAMPLES = r"""
- name: Show the queue
  ansible.builtin.debug:
    msg: "{{ lookup('workfleet.core.asked').queue | default('every queue') }}"
"""

RETURN = r"""
_raw:
  description: One mapping, without the words that were not given.
  type: list
  elements: dict
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars

#: All that playbooks take by -e, but for names that begin with one of ours, such as verify_, and may stand in an inventory.
WORDS = frozenset((
    "allow_unregistered", "autoscale_max", "autoscale_min", "confirm", "control", "count", "dump", "dump_dir", "follow", "force",
    "group", "include_results", "letters", "level", "lines", "nodes", "older_than", "priority", "processes", "queue", "rate",
    "rate_limit", "release", "release_commands", "release_hold", "sample_seconds", "signal", "since", "soft_time_limit", "task_args",
    "task_id", "task_kwargs", "task_name", "terminate", "time_limit", "version", "wait_for_drain",
))


class LookupModule(LookupBase):
    """Reads the command line, which no inventory can add to."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Return what was asked for, templated."""
        given = load_extra_vars(self._loader)
        return [{name: self._templar.template(given[name]) for name in sorted(WORDS & given.keys())}]
