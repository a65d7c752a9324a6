"""All queues of an app: where they are, what each engine tells of them, and what came and went within a few seconds."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import resp
from ..decode import Unread
from ..engines import taskqueues
from ..engines.taskqueue import Source
from ..engines.verbs.figures import Figures, Question
from ..errors import WorkfleetError
from . import purge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..nodes.consumers import Ours


LONGEST_SAMPLE = 300


def question_of(source: Source, app: str) -> Question:
    """What a whole look asks."""
    return Question(source.url, app, source.queues, source.options, all_of_it=True)


def own(sources: Sequence[Source]) -> dict[str, list[str]]:
    """Return the queues of an app by engine, the one for its dead letters too."""
    found: dict[str, list[str]] = {}
    for source in sources:
        found.setdefault(source.engine, []).extend([*source.queues, *taskqueues.named(source.engine).extra_queues(source.options)])
    return found


def require_known(app: str, source: Source, queue: str) -> None:
    """Refuse a queue that no worker group consumes and of which the broker has nothing: its name was mistyped."""
    if queue not in own([source])[source.engine]:
        require_one_of(queue, [figures.queue for figures in taskqueues.named(source.engine).figures(question_of(source, app))])


def require_one_of(queue: str, known: Sequence[str]) -> None:
    """Refuse a queue that is none of those that there are."""
    if queue not in known:
        raise WorkfleetError(f"queue = {queue!r}: no worker group consumes it, and the broker has nothing of it (nothing was changed). "
                             f"There are: {', '.join(known) or 'none'}")


def look(app: str, sources: Sequence[Source], sample_seconds: float = 0, mine: Mapping[str, Sequence[str]] | None = None,
         ours: Ours | None = None) -> dict[str, Any]:
    """Return ``queues`` and ``problems``; with ``sample_seconds`` also what comes and goes a second.

    A broker that cannot be asked is a problem, and its declared queues are told without figures. ``mine`` are all queues of the app
    by engine, where ``sources`` are only a part. With ``ours`` who consumes a declared queue and is none of them is a problem too.
    """
    if not 0 <= sample_seconds <= LONGEST_SAMPLE:
        raise WorkfleetError(f"sample_seconds = {sample_seconds:g}: must be from 0 to {LONGEST_SAMPLE}")
    problems: list[str] = []
    asked = [(source, question_of(source, app)) for source in sources]
    first = [ask(source, question, problems) for source, question in asked]
    if sample_seconds:
        time.sleep(sample_seconds)
        asked = [(source, replace(question, before=before, problems=[], unread=Unread(), heard={}))
                 for (source, question), before in zip(asked, first)]
        second = [ask(source, question, problems) for source, question in asked]
    else:
        second = first
    found = [{**figures.entry(source.engine), **rates(before, figures)}
             for source, before, after in zip(sources, first, second) for figures in after]
    problems += [text for _, question in asked for text in question.problems]
    problems += [figures.problem for after in second for figures in after if figures.problem]
    problems += [f"queue {entry['queue']}: {entry['waiting']} tasks wait and no node consumes it" for entry in found
                 if entry["waiting"] and entry["consumers"] == 0]
    if ours is not None:
        problems += [text for source, question in asked for text in ours.problems(question.heard, source.queues)]
    problems += unfinished(app, sources, own(sources) if mine is None else mine)
    return {"queues": sorted(found, key=lambda entry: (not entry["declared"], entry["engine"], entry["queue"])),
            "problems": list(dict.fromkeys(problems))}


def ask(source: Source, question: Question, problems: list[str]) -> list[Figures]:
    """Ask one engine."""
    try:
        return taskqueues.named(source.engine).figures(question)
    except WorkfleetError as error:
        problems.append(f"the queues of engine {source.engine} cannot be read: {error}")
        return unknown(source.queues)


def unfinished(app: str, sources: Sequence[Source], mine: Mapping[str, Sequence[str]]) -> list[str]:
    """Say what purges and restores were interrupted; of a broker that cannot be asked it was said already."""
    said = []
    for source in sources:
        with contextlib.suppress(WorkfleetError), resp.connect(source.url) as client:
            run = purge.Run(client, app, source.engine, source.options, "", mine)
            said += run.unfinished_purges() + run.unfinished_restores()
    return said


def unknown(queues: Sequence[str]) -> list[Figures]:
    """The same ignorance of all queues."""
    return [Figures(queue) for queue in queues]


def rates(before: Sequence[Figures], after: Figures) -> dict[str, float | None]:
    """Return what came and went a second, between two looks."""
    begun = next((figures.at for figures in before if figures.queue == after.queue), after.at)
    seconds = after.at - begun

    def rate(count: int | None) -> float | None:
        return None if count is None or seconds <= 0 else round(count / seconds, 2)

    return {"in_per_second": rate(after.came), "out_per_second": rate(after.went)}
