"""The verdict of a rollout: what a host does next, judged of what all hosts have come to.

Nothing is looked at here and nothing is done. The playbooks have it judged before the turn of each host, before hosts go back,
and at the end; ``docs/deploying.md`` tells the outcomes to users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PLAYBOOKS = SITE, DEPLOY, ROLLBACK = ("site", "deploy", "rollback")
#: Turns that bring the nodes of before back, and the one that makes a release current.
BACK, CURRENT = ("undo_singles", "undo"), "current"
#: Turns after which the nodes of a host are those of before all the same.
UNREPLACED = ("begin", "converge")
NOTHING_REPLACED = "Nothing was replaced, so there is nothing to go back to: what was started stays as it is"
#: What is said where nothing goes back.
STOPS = {
    SITE: "It stops here: site.yml again goes on with what is declared, and with what was declared before it goes back.",
    DEPLOY: "It stops here, and nothing is taken back: deploy.yml again goes on, rollback.yml goes back.",
    ROLLBACK: "It stops here: site.yml goes on with the rest, deploy.yml goes forward again.",
}


@dataclass(frozen=True)
class Turn:
    """What one task of a rollout came to on a host; ``task`` is one of ``worker_nodes``, ``verify`` or ``current``.

    ``blame`` is empty where it was not a node of the release that failed, but something around it. A host that was ``locked`` is
    another run's. ``remembered`` is whether a rollout that was cut short was found.
    """

    task: str
    failed: bool = False
    msg: str = ""
    blame: str = ""
    locked: bool = False
    rolled_back: bool = False
    remembered: bool = False


@dataclass(frozen=True)
class Host:
    """A host with its turns. ``release`` is what its app has now, ``previous`` what was current before.

    ``runs`` is whether it has told of nodes. ``held`` is the release in place of which another one is held there now, ``against`` what
    ends that hold. A host that is ``gone`` could not be reached at the end.
    """

    name: str
    turns: Sequence[Turn] = ()
    failure_action: str = "rollback"
    release: str = ""
    previous: str = ""
    runs: bool = False
    held: str = ""
    against: str = ""
    gone: bool = False

    def had(self, is_meant: Callable[[Turn], bool]) -> bool:
        """Whether one of its turns was such."""
        return any(map(is_meant, self.turns))


@dataclass(frozen=True)
class Verdict:
    """What a host is to do, and what is to be said.

    ``task`` is its turn, empty where it has none. ``goes_back`` is whether its nodes do. At the end ``returns_to`` is the release that
    is made current again, with ``hold`` and ``why`` of it, or ``goes_on`` says that the new one is; ``end`` is the turn that ends the
    rollout. ``lost`` is what could not be done on this host, ``outcome`` is what failed, and what comes of it; both may be empty.
    """

    task: str = ""
    goes_back: bool = False
    goes_on: bool = False
    returns_to: str = ""
    hold: str = "free"
    why: str = ""
    end: str = "end"
    lost: str = ""
    outcome: str = ""


@dataclass(frozen=True)
class Rollout:
    """A rollout of a playbook; ``release`` is what it brings, where that is told to people. The hosts are in the order of the inventory."""

    playbook: str
    hosts: Sequence[Host]
    release: str = ""

    def judge(self, name: str, task: str = "") -> Verdict:
        """Return the verdict for a host that would do ``task`` now."""
        host = next((each for each in self.hosts if each.name == name), Host(name))
        failed, goes_back = self.failed, bool(self.back)
        blames = [f"{each.name}: {turn.blame}" for each in failed for turn in each.turns if turn.blame and self.is_failure(turn)]
        lost = next((turn.msg or "it failed" for turn in host.turns if turn.failed and not self.is_failure(turn)), "")
        return Verdict(
            task=self.next_task(host, task), goes_back=host in self.back,
            goes_on=self.playbook != SITE and not failed, returns_to=self.returns_to(host) if goes_back else "",
            hold="failed" if blames else "free", why=blames[0] if blames else "",
            end="pause" if (failed and not goes_back) or lost else "end",
            lost=lost, outcome=f"{self.first_failure}\n{self.consequence(host)}" if failed else "",
        )

    def next_task(self, host: Host, task: str) -> str:
        """Return what a host does in place of ``task``: nothing more, once one has failed, but to go back."""
        if task in BACK:
            return task
        was_canary = host.had(lambda turn: turn.task == "canary")
        is_late = task == "canary" and any(self.was_replaced(each) for each in self.hosts)
        return "" if self.failed or is_late else "rest" if task == "rollout" and was_canary else task

    def is_failure(self, turn: Turn) -> bool:
        """Whether a turn failed on the way forward. ``rollback.yml`` is not over before the release is current."""
        return turn.failed and turn.task not in BACK and (turn.task != CURRENT or self.playbook == ROLLBACK)

    @property
    def failed(self) -> list[Host]:
        """The hosts that failed on the way."""
        return [host for host in self.hosts if host.had(self.is_failure) or (host.gone and self.playbook == ROLLBACK)]

    @property
    def back(self) -> list[Host]:
        """The hosts whose nodes go back: those that were touched, also by a run that was cut short. A host that was locked met no fault."""
        is_fault = any(host.had(lambda turn: self.is_failure(turn) and not turn.locked) for host in self.hosts)
        if self.playbook == ROLLBACK or not is_fault:
            return []
        return [host for host in self.hosts if host.failure_action == "rollback"
                and host.had(lambda turn: turn.task != "begin" or turn.remembered)]

    @staticmethod
    def was_replaced(host: Host) -> bool:
        """Whether nodes of a host were replaced, or could have been."""
        return host.had(lambda turn: turn.task not in UNREPLACED)

    def returns_to(self, host: Host) -> str:
        """Return what becomes current on a host that goes back.

        A run that was killed may have made the new release current: what nodes run is it then, and ``previous`` only where there are none.
        """
        if self.playbook == DEPLOY:
            return "running" if host.previous else ""
        return ("running" if host.runs else host.previous) if host.release else ""

    @property
    def first_failure(self) -> str:
        """What failed first, in one line: whole, with what the node wrote, it was told when it failed."""
        host = self.failed[0]
        turn = next(filter(self.is_failure, host.turns), None)
        return f"{host.name}: {((turn.blame or turn.msg).splitlines() or ['it failed'])[0]}" if turn else f"{host.name} cannot be reached"

    def consequence(self, host: Host) -> str:
        """Return what comes of the failure, as it is on this host."""
        if not self.back:
            return STOPS[self.playbook]
        again, held = self.what_runs, host.held if self.returns_to(host) else ""
        if self.playbook == SITE:
            return (f"{again}, and its release is held: site.yml does not try {held} again while all is declared as it is, deploy.yml does."
                    if held else f"{again}; site.yml tries again what is declared.")
        kept = f", and release {self.release} is kept for a look"
        if held:
            same = "all is" if host.against == "configuration" else "that is"
            return f"{again}{kept}. site.yml does not try {held} again while {same} declared as it is; deploy.yml does."
        had_one = any(each.previous for each in self.hosts)
        return f"{again}{kept if had_one else ''}. deploy.yml tries again; site.yml does what the inventory declares."

    @property
    def what_runs(self) -> str:
        """What runs on the hosts after they went back."""
        lost = [host for host in self.back if host.had(lambda turn: turn.failed and turn.task in BACK)]
        undone = [host for host in self.back if host.had(lambda turn: turn.rolled_back)]
        if not (undone or lost):
            return NOTHING_REPLACED
        kept = [host for host in self.back if host not in (*undone, *lost) and self.was_replaced(host)]
        return (f"What ran before runs again{f' but on {names(lost)}' if lost else ''}"
                + (f"; on {names(kept)} nothing was replaced, and what was started stays as it is" if kept else ""))


def names(hosts: Iterable[Host]) -> str:
    """Return the names of hosts."""
    return ", ".join(host.name for host in hosts)
