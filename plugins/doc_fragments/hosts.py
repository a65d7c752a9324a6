# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options that name hosts of the inventory."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment ``workfleet.core.hosts``."""

    # The results of an earlier task, read on the control node.
    DOCUMENTATION = r"""
options:
  hosts:
    description: The hosts whose results the task reads.
    type: list
    elements: str
    required: true
  register:
    description: The variable in which each of O(hosts) has registered its result.
    type: str
    required: true
"""

    # Hosts that are read for their declaration.
    DECLARED = r"""
options:
  hosts:
    description: Hosts of the inventory whose worker groups are taken into account too.
    type: list
    elements: str
    default: []
"""
