"""What dead arq workers left behind: marks of jobs in progress, for which arq waits until their time is over, and heartbeats.

arq's mark bears no owner, so the runner writes one into it: ``<node> <pid> <queue>``. While it stands nobody takes the job,
which is still in its queue: taking the mark away is all that a return is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ... import resp
from ...decode import Unread
from ..pickled import text_of
from ..verbs import reaping
from ..verbs.figures import strings
from ..verbs.reaping import is_gone, values
from .queues import HEALTH_CHECK_KEY, IN_PROGRESS, JOB, report

if TYPE_CHECKING:
    from ..verbs.reaping import Found, Reaping

_OWNER = re.compile(r"(?P<node>\S+@\S+) (?P<pid>\d{1,10}) (?P<queue>.*)", re.DOTALL)
BEATS = reaping.Beats(HEALTH_CHECK_KEY, lambda said: report(said).pid)


def note(order: Reaping) -> dict[str, Any]:
    """Return what jobs are in progress, and which nodes have told of themselves."""
    with resp.connect(order.url) as client:
        return {"marks": values(client, IN_PROGRESS), "beats": values(client, HEALTH_CHECK_KEY)}


def reap(order: Reaping, found: Found, *, check: bool) -> None:
    """Free the jobs of dead workers, and forget these."""
    with resp.connect(order.url) as client:
        marks = order.seen["marks"]
        owners = {job: owner for job, value in sorted(marks.items()) if (owner := _OWNER.match(value))
                  and reaping.app_of(owner["node"]) == order.app}
        holders = [owner["node"] for owner in owners.values()]
        beats = BEATS.watched(client, order, holders)
        for job, owner in owners.items():
            free(client, order, found, job, owner, beats.get(owner["node"]), check=check)
        BEATS.forget(client, order, beats, found, check=check)
        strange = [job for job, value in marks.items() if _OWNER.match(value) is None]
        places = client.pipeline([("ZSCORE", queue, job) for job in strange for queue in order.queues], raise_errors=False)
        untold = sum(isinstance(place, bytes) for place in places)
        if untold:
            found.left.append(f"{untold} jobs in progress do not tell their worker, as under a command "
                              "of your own: arq gives those of a dead one to others when their job_timeout is over")


def free(client: resp.Client, order: Reaping, found: Found, job: str, owner: re.Match[str], before: str | None, *, check: bool) -> None:
    """Take the mark of a dead worker's job away; ``before`` is its heartbeat, as it was watched."""
    node, queue = owner["node"], owner["queue"]
    place, = client.pipeline([("ZSCORE", queue, job)], raise_errors=False)
    (_, data), = strings(client, [JOB + job], Unread())
    doubt, is_news = BEATS.doubt(client, order, node, before, int(owner["pid"]))
    if doubt is not None:
        found.left += [f"{queue}: {job}: {node} has it: {doubt}"] if is_news else []
    elif is_gone(client, IN_PROGRESS + job, owner.string, check=check) and isinstance(place, bytes):
        found.returned.append(reaping.task(queue, job, text_of(data, "f")))
