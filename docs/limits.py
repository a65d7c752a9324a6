"""How much of everything is taken: each row is tried on the code that judges an inventory, and shows the sentence that refuses more."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from plugins.module_utils.workfleet import (
    autoscaler,
    forms,
    limits,
    load,
    lock,
    preflight,
    redis_config,
    release_spec,
    spec,
)
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.logs import parse_since
from plugins.module_utils.workfleet.managers import logfiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
