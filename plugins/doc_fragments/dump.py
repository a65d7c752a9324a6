# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of modules that dump tasks to the control node or restore them."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment ``workfleet.core.dump``."""

    # The lock of purges and restores.
    DOCUMENTATION = r"""
options:
  force:
    description: Whether the task takes over the lock of another purge or restore of the app without waiting. Set it only when the other
      run was killed.
    type: bool
    default: false
"""

    # The directory of dumps.
    DIRECTORY = r"""
options:
  dump_dir:
    description: The directory of dumps on the control node. It is created when it is missing.
    type: str
    default: dumps
"""
