# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Attributes that several modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment ``workfleet.core.attributes``."""

    # A module that only reads.
    DOCUMENTATION = r"""
attributes:
  check_mode:
    support: full
    description: The task changes nothing in any mode.
"""

    # A module that predicts its steps.
    STEPS = r"""
attributes:
  check_mode:
    support: full
    description: The task predicts the steps of a real run and takes none of them.
  diff_mode:
    support: full
    description: The diff shows the files that change. A secret is shown as changed or unchanged only.
"""

    # A module whose changes are no texts.
    NO_DIFF = r"""
attributes:
  diff_mode:
    support: none
    description: The task changes no text that could be compared.
"""
