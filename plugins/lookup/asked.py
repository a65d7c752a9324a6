"""What the person who runs a playbook has asked for by ``-e``, and nobody else."""

from __future__ import annotations

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars

DOCUMENTATION = """
name: asked
short_description: What -e asks a playbook for
description:
  - Returns one mapping, of those words of C(docs/playbooks.md) that were given by C(-e).
  - Such words are an answer for one run. An inventory may well have variables of the same names, which mean something else, so they
    are never read from hosts, groups, facts or plays.
options: {}
"""
EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ lookup('workfleet.core.asked').queue | default('every queue') }}"
"""
RETURN = """
_raw:
  description: One mapping; what was not given is not there.
  type: list
  elements: dict
"""
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
