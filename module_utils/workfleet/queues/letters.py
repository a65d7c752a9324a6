"""Tasks that have failed for good, whatever their engine keeps of them: chosen, listed, and sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import resp
from ..engines.verbs.letters import PAGE, Letter, Letters, now
from ..errors import WorkfleetError

if TYPE_CHECKING:
    pass

#: No more are listed, replayed or dropped in one go.
MOST = 10_000


def chosen(letters: Letters, task_name: str | None, identity: str | None) -> list[Letter]:
    """Return the letters that are meant, the first 10,000 of them."""
    found: list[Letter] = []
    for letter in letters.read():
        if task_name in (None, letter.task_name) and identity in (None, letter.id):
            if len(found) == MOST or not letters.bears(len(letter.data)):
                letters.is_cut = True
                break
            found.append(letter)
    if identity is not None and not found:
        raise WorkfleetError(f"queue {letters.queue}: there is no dead letter {identity}")
    return found


def work(letters: Letters, task_name: str | None, identity: str | None, *, replay: bool, check: bool) -> dict[str, Any]:
    """List, and where that is asked for send again. ``cut`` tells that there are more than were looked at."""
    try:
        meant = chosen(letters, task_name, identity)
        sent = 0
        for letter in meant if replay else ():
            letters.again(letter)  # raises before the first is sent
        for start in range(0, len(meant) if replay and not check else 0, PAGE):
            sent += letters.replay(meant[start:start + PAGE])
    except resp.RespError as error:
        if error.code != "WRONGTYPE":
            raise
        raise WorkfleetError(f"queue {letters.queue}: a key of its name in Redis is of another kind: {error}") from error
    at = now(letters.client)
    replayed = len(meant) if check and replay else sent
    return {"changed": replayed > 0, "letters": [letter.entry(at) for letter in meant], "replayed": replayed, "cut": letters.is_cut,
            "problems": letters.unread.said()}


