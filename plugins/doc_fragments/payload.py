# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The option through which an action plugin hands its values over to its module."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment ``workfleet.core.payload``."""

    DOCUMENTATION = r"""
options:
  payload:
    description: Set by the action plugin and never by a task. It is one opaque text, so that no value reaches a journal.
    type: str
"""
