"""What would make a deploy hurt, found before it does: looked at on every host, judged for the whole fleet."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .. import engines, redis_url, resp, shown
from ..engines import taskqueues
from ..errors import WorkfleetError
from ..host import foreign, limits, ownership
from ..host.builds import present, release_of
from ..host.layout import Layout
from ..host.release_choice import read_history
from ..nodes.host_nodes import current_release, fill
from .plan import existing, one_more

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ..nodes.host_nodes import HostNodes
    from ..nodes.request import GroupRequest, Request

ANSWER = "workfleet-tasks:"
#: For what nodes answer over the broker.
ANSWER_SECONDS = 2.0
#: Clocks that differ by more make tasks with a time, and canaries, come too early or too late.
CLOCKS_WARN, CLOCKS_REFUSE = 2.0, 30.0
#: No timeout of anybody's is longer.
MOST_SECONDS = 1e10
_NAMES_SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """``what`` is wrong, ``where`` (hosts; empty for the fleet), what to do about it, and whether it refuses the deploy."""

    what: str
    where: tuple[str, ...]
    todo: str
    refuses: bool

    def __str__(self) -> str:
        place = f"{', '.join(self.where)}: " if self.where else ""
        return f"{place}{self.what}. {self.todo}"


# On a host


def look(host_nodes: HostNodes, *, release: str | None) -> dict[str, Any]:
    """Return what this host tells. Without ``release`` of the host itself, with one of that release, of what waits and what ran."""
    request = host_nodes.request
    seen: dict[str, Any] = {"time": time.time(), "cpus": len(os.sched_getaffinity(0)), "quiesced": quiesced(host_nodes, release)}
    groups = [group for group in host_nodes.groups.values() if group.state == "started" and group.nodes]
    if release is None:
        ownership.require(request.root, request.app)
        seen.update(space(Layout(request.root)), broker=broker(request), counts={group.name: group.nodes for group in groups})
        return seen
    before = current_release(request.root)
    seen["groups"] = {group.name: ask(request, group, release) for group in groups}
    for group in groups:
        told = seen["groups"][group.name]
        if before and before != release and "tasks" in told:
            told["vanishes"] = sorted(set(ask(request, group, before).get("tasks", ())) - set(told["tasks"]))
    for name, counts in ran(host_nodes, groups).items():
        seen["groups"][name]["ran"] = dict(counts)
    seen["waiting"] = waiting(request, groups)
    return seen


def quiesced(host_nodes: HostNodes, release: str | None) -> list[str]:
    """Return the nodes, as ``group slot``, that were told to take no new tasks and are to stay, or to be started so by ``release``."""
    found = []
    for node in host_nodes.observe():
        generation = host_nodes.to.get(node.name.group)
        if generation is None or not host_nodes.groups[node.name.group].nodes:
            continue
        is_the_same = release is not None and node.present.file_generation == generation
        if node.is_quiesced or (is_the_same and host_nodes.manager.would_be_quiet(node.present)):
            found.append(f"{node.name.group} {node.name.slot}")
    return found


def space(layout: Layout) -> dict[str, int]:
    """Return how much is free, and how much one more release will probably take."""
    return {"free_bytes": shutil.disk_usage(existing(layout.releases)).free, "needed_bytes": 0 if goes_on(layout) else one_more(layout)}


def goes_on(layout: Layout) -> bool:
    """Whether a release is there that the deploy may turn out to want, one that was cut short or taken back.

    Who builds another one all the same looks at the disk then.
    """
    current = current_release(layout.root)
    been = read_history(layout, current and release_of(current), None).releases  # what is current among them
    return any(release_of(name) not in been for name in present(layout))


def broker(request: Request) -> dict[str, Any]:
    """Return whether the broker is reached, and what it does when its memory is full (``None`` where it does not say)."""
    if not redis_url.is_redis(request.broker_url):
        return {}
    try:
        with resp.connect(request.broker_url, timeout=3.0) as client:
            replies = client.pipeline([("INFO", "memory")], raise_errors=False)
    except WorkfleetError as error:
        return {"error": str(error)}
    told = dict(line.split(":", 1) for line in resp.text(replies[0]).splitlines() if ":" in line)
    return {"policy": told.get("maxmemory_policy"), "maxmemory": int(told.get("maxmemory", 0))}


def ask(request: Request, group: GroupRequest, release: str) -> dict[str, Any]:
    """Return what a release tells of the tasks of a group; ``error`` where it cannot be imported, nothing where none is asked."""
    seen: dict[str, Any] = {"engine": group.engine, "queues": list(group.queues)}
    values = json.loads(fill(group.values, {request.tokens["release"]: release}))
    argv = engines.named(group.engine).ask(values["command"], Layout(request.root).workfleet)
    if not argv:
        return seen
    if not os.path.exists(argv[0]):
        return {**seen, "unbuilt": True}
    try:
        done = foreign.run(values["user"], argv, check=False, env=values["environment"], cwd=values["directory"],
                           timeout=limits.of_import(request.rollout.ready_timeout_seconds))
    except WorkfleetError as error:
        return {**seen, "error": str(error)}
    lines = [line for line in done.out.splitlines() if line.startswith(ANSWER)]
    if done.rc or not lines:
        return {**seen, "error": last_lines(done.err or done.out)}
    try:
        return {**seen, **answered(lines[-1][len(ANSWER):])}
    except (ValueError, RecursionError):
        return {**seen, "error": f"what it tells of its tasks is no answer of an engine's: {lines[-1][:200]!a}"}


def answered(text: str) -> dict[str, Any]:
    """Return what a release tells of itself: its own code can say there what it likes. Raises ValueError."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no object")
    kinds: dict[str, Callable[[Any], bool]] = {"tasks": is_names, "queues_sent_to": is_lists_of_names,
                                               "time_limit": is_seconds, "visibility_timeout": is_seconds}
    told = {name: found[name] for name in kinds if name in found}
    wrong = [name for name, value in told.items() if not kinds[name](value)]
    if wrong or "tasks" not in told:
        raise ValueError(f"{wrong or 'tasks'}")
    return told


def is_names(value: Any) -> bool:
    """Whether it is a list of texts."""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def is_lists_of_names(value: Any) -> bool:
    """Whether it is a list of texts by name."""
    return isinstance(value, dict) and all(is_names(each) for each in value.values())


def is_seconds(value: Any) -> bool:
    """Whether it is a sensible number, or none."""
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MOST_SECONDS)


def last_lines(text: str, lines: int = 6) -> str:
    """Return the end of what a program said."""
    return shown.end("\n".join([line for line in text.splitlines() if line.strip()][-lines:]), 2000)


def waiting(request: Request, groups: Iterable[GroupRequest]) -> dict[str, Any]:
    """Return by queue what tasks wait, or ``error`` where that cannot be read."""
    queues: dict[str, list[str]] = {}
    for group in groups:
        queues.setdefault(group.engine, []).extend(group.queues)
    found: dict[str, Any] = {}
    if not request.broker_url:
        return found
    for engine, names in queues.items():
        try:
            told = taskqueues.named(engine).waiting_tasks(request.broker_url, list(dict.fromkeys(names)), request.broker_options)
        except WorkfleetError as error:
            return {"error": str(error)}
        found.update({queue: {"names": dict(backlog.names), "unreadable": backlog.unreadable, "cut": backlog.is_cut}
                      for queue, backlog in told.items()})
    return {"queues": found}


def ran(host_nodes: HostNodes, groups: Iterable[GroupRequest]) -> dict[str, Counter[str]]:
    """Return by group how many tasks of each name its nodes have run since their start, or hold, as far as they tell.

    Nodes that are on their way down are not asked: they take none any more, and what they do not finish waits again.
    """
    request, found = host_nodes.request, {}
    running = [node for node in host_nodes.manager.present() if node.activity == "running"]
    for group in groups:
        up = {host_nodes.broker_name(node.name): node for node in running if node.name.group == group.name}
        told: dict[str, Counter[str]] = {
            name: Counter(str(task["task"]) for task in node.record.holds["tasks"] if task["task"])
            for name, node in up.items() if node.record is not None and node.record.holds}
        if up and request.broker_url:
            told.update(engines.named(group.engine).ran(request.broker_url, list(up), request.broker_options, ANSWER_SECONDS))
        found[group.name] = sum(told.values(), Counter())
    return found


# For the fleet: pure


@dataclass(frozen=True)
class Nodes:
    """The nodes of a group on a host. In a rollout ``beside`` new ones work beside old ones that still take tasks, and up to
    ``behind`` old ones still end tasks when the rollout is over.
    """

    engine: str
    number: int
    concurrency: int | None = None
    beside: int = 0
    behind: int = 0

    def places(self, number: int, cpus: int) -> int:
        """Return how many tasks so many of them run at once."""
        return number * (self.concurrency or engines.named(self.engine).places or cpus)


@dataclass(frozen=True)
class Fleet:
    """What hosts told, by name, and what of the inventory it is judged by.

    ``clocks`` are the earliest and the latest that a host's clock can be ahead of the control node's, in seconds.
    """

    seen: Mapping[str, Mapping[str, Any]]
    clocks: Mapping[str, tuple[float, float]]
    nodes: Mapping[str, Iterable[Nodes]]
    database_connections: int | None = None
    allow_unregistered: bool = False


def before_build(fleet: Fleet) -> list[Finding]:
    """Judge what is known before anything is built."""
    return [*held_back(fleet), *disks(fleet), *brokers(fleet), *strangers(fleet), *clocks(fleet), *connections(fleet)]


def after_build(fleet: Fleet) -> list[Finding]:
    """Judge a release that is there by what it tells of itself."""
    return [*held_back(fleet), *imports(fleet), *unbuilt(fleet), *unregistered(fleet), *missed(fleet), *timeouts(fleet), *orphans(fleet)]


def held_back(fleet: Fleet) -> Iterator[Finding]:
    """Refuse where nodes would not be replaced: a successor would take the tasks that they were told not to take."""
    for name, seen in fleet.seen.items():
        if seen.get("quiesced"):
            yield Finding(f"nodes were told to take no new tasks (drain.yml), and a deploy does not change that: {first(seen['quiesced'])}",
                          (name,), "resume.yml lets them take tasks, those too that stop.yml has stopped", refuses=True)


def disks(fleet: Fleet) -> Iterator[Finding]:
    """Refuse where a release more would fill the disk."""
    for name, seen in fleet.seen.items():
        free, needed = seen.get("free_bytes"), seen.get("needed_bytes", 0)
        if free is not None and free < needed:
            yield Finding(f"{free // 1_000_000} MB are free, and one more release takes about {needed // 1_000_000} MB", (name,),
                          "Make room where the releases are, or lower app_releases_kept", refuses=True)


def brokers(fleet: Fleet) -> Iterator[Finding]:
    """Refuse where the broker is not reached; warn where it may throw tasks away."""
    policies: dict[str, list[str]] = {}
    for name, seen in fleet.seen.items():
        told = seen.get("broker") or {}
        if "error" in told:
            yield Finding(f"the broker is not reached: {told['error']}", (name,), "New nodes could not become ready", refuses=True)
        elif told.get("policy") not in (None, "noeviction"):
            policies.setdefault(told["policy"], []).append(name)
    for policy in policies:
        yield Finding(f"the broker's maxmemory-policy is {policy}: when its memory is full, queues are thrown away", (),
                      "Set redis_maxmemory_policy: noeviction", refuses=False)


def strangers(fleet: Fleet) -> Iterator[Finding]:
    """Warn of workers that are not of the inventory: they go on with the code that they have."""
    for text in dict.fromkeys(text for seen in fleet.seen.values() for text in seen.get("strangers", ())):
        yield Finding(text, (), "The deploy does not replace it", refuses=False)


def clocks(fleet: Fleet) -> Iterator[Finding]:
    """Compare the hosts' clocks; what the way there and back can explain is not held against them."""
    if len(fleet.clocks) < 2:
        return
    slow = min(fleet.clocks, key=lambda name: fleet.clocks[name][1])
    fast = max(fleet.clocks, key=lambda name: fleet.clocks[name][0])
    apart = fleet.clocks[fast][0] - fleet.clocks[slow][1]
    if apart > CLOCKS_WARN:
        yield Finding(f"the clock of {fast} is at least {apart:.1f} s ahead of that of {slow}", (),
                      "Tasks with a time or an expiry come too early or too late: see to chrony or systemd-timesyncd there",
                      refuses=apart > CLOCKS_REFUSE)


def connections(fleet: Fleet) -> Iterator[Finding]:
    """Compare what all nodes can do at once with the connections that the database has for them, in a rollout too."""
    most = fleet.database_connections
    if most is None:
        return
    nodes = [(each, int(fleet.seen[name].get("cpus", 1))) for name, groups in fleet.nodes.items() for each in groups]
    total = sum(each.places(each.number, cpus) for each, cpus in nodes)
    # Host by host and group by group: one batch at a time.
    beside = max((each.places(each.beside, cpus) for each, cpus in nodes), default=0)
    behind = sum(each.places(each.behind, cpus) for each, cpus in nodes)
    limit, todo = f"and app_database_connections is {most}", "Lower nodes or concurrency, or give the database more connections"
    if total + beside > most:
        new = f", with the new ones beside them that start first {total + beside}" if beside else ""
        yield Finding(f"the nodes of all hosts can run {total} tasks at once{new}, {limit}", (), todo, refuses=True)
    elif total + behind > most:
        yield Finding(f"while old nodes end their tasks, old and new ones can run {total + behind} at once, {limit}", (),
                      f"{todo}, or set worker_rollout.wait_for_drain or its order to stop-first", refuses=False)


def told_groups(fleet: Fleet) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield host, group and what the release told of it there."""
    for name, seen in fleet.seen.items():
        for group, told in (seen.get("groups") or {}).items():
            yield name, group, told


def imports(fleet: Fleet) -> Iterator[Finding]:
    """Refuse a release that cannot be imported."""
    said: dict[tuple[str, str], list[str]] = {}
    for name, group, told in told_groups(fleet):
        if "error" in told:
            said.setdefault((group, told["error"]), []).append(name)
    for (group, error), names in said.items():
        lines = "".join(f"\n  | {line}" for line in error.splitlines())
        yield Finding(f"the release does not tell what tasks the group {group} would have:{lines}\n ", tuple(names),
                      "A node would end in the same way: mend the release", refuses=True)


def unbuilt(fleet: Fleet) -> Iterator[Finding]:
    """Say what a check cannot tell."""
    hosts = tuple(dict.fromkeys(name for name, _, told in told_groups(fleet) if "unbuilt" in told))
    if hosts:
        yield Finding("the release is not built there, so what tasks it registers was not compared with those that wait and run", hosts,
                      "The real run compares them before it touches a node", refuses=False)


def unregistered(fleet: Fleet) -> Iterator[Finding]:
    """Refuse where tasks wait that a group which takes them would not know: a worker throws such a task away."""
    consumers: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for _, group, told in told_groups(fleet):
        for queue in told["queues"]:
            if "tasks" in told:
                consumers.setdefault(queue, []).append((group, told))
    backlogs: dict[str, Mapping[str, Any]] = {}
    for name, seen in fleet.seen.items():
        told_waiting = seen.get("waiting") or {}
        if "error" in told_waiting:
            yield Finding(f"what waits in the queues cannot be read: {told_waiting['error']}", (name,),
                          "Mend that, or pass -e allow_unregistered=true", refuses=not fleet.allow_unregistered)
        backlogs.update(told_waiting.get("queues") or {})
    for queue, backlog in backlogs.items():
        for group in dict.fromkeys(group for group, _ in consumers.get(queue, [])):
            lacks = {task: number for task, number in backlog["names"].items()
                     if any(name == group and task not in told["tasks"] for name, told in consumers[queue])}
            if lacks:
                more = ", among those that were read" if backlog["cut"] else ""
                yield Finding(f"queue {queue}: tasks wait that the new release does not register in the group {group}{more}: {some(lacks)}",
                              (), "A worker throws such a task away. Let the old release finish them, keep the tasks' names in the new "
                              "one, or pass -e allow_unregistered=true", refuses=not fleet.allow_unregistered)
        if queue in consumers and backlog["unreadable"]:
            yield Finding(f"queue {queue}: {backlog['unreadable']} messages do not tell the names of their tasks", (),
                          "Whether the new release knows these is not known", refuses=False)


def missed(fleet: Fleet) -> Iterator[Finding]:
    """Refuse where tasks have been run that the release does not register, and warn of others that it lacks: none need wait just now."""
    run: dict[str, Counter[str]] = {}
    gone: dict[str, set[str]] = {}
    for _, group, told in told_groups(fleet):
        if "tasks" in told:
            lacks = {name: number for name, number in told.get("ran", {}).items() if name not in told["tasks"]}
            run.setdefault(group, Counter()).update(lacks)
            gone.setdefault(group, set()).update(told.get("vanishes", ()))
    for group, lacks in run.items():
        if lacks:
            yield Finding(f"group {group}: its nodes have run or hold tasks, since they were started, that the new release does not "
                          f"register: {some(lacks)}", (), "Where such tasks are still sent, a worker throws them away. Keep their names "
                          "in the new release, or, where nobody sends them any more, pass -e allow_unregistered=true",
                          refuses=not fleet.allow_unregistered)
        names = sorted(gone[group] - set(lacks))
        if names:
            yield Finding(f"group {group}: the new release does not register any more: {first(names)}", (),
                          "See that nobody sends these any more: a worker throws them away", refuses=False)


def first(names: Sequence[str]) -> str:
    """Return the first few names."""
    left = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {left} more" if left > 0 else "")


def some(counts: Mapping[str, int]) -> str:
    """Return names and counts, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    left = len(ordered) - _NAMES_SHOWN
    return ", ".join(f"{name} ({number})" for name, number in ordered[:_NAMES_SHOWN]) + (f" and {left} more names" if left > 0 else "")


def timeouts(fleet: Fleet) -> Iterator[Finding]:
    """Warn where Redis gives a task to a second worker while the first may still run it."""
    said = {}
    for _, group, told in told_groups(fleet):
        visible, limit = told.get("visibility_timeout"), told.get("time_limit")
        if visible and limit and visible < limit:
            said[group] = f"group {group}: visibility_timeout is {visible:g} s, shorter than the longest task limit of {limit:g} s"
    for text in said.values():
        yield Finding(text, (), "With late acknowledgement such a task is run a second time while it runs: raise visibility_timeout in "
                      "broker_transport_options", refuses=False)


def orphans(fleet: Fleet) -> Iterator[Finding]:
    """Warn of queues that the app sends to and no group takes from."""
    taken = {queue for _, _, told in told_groups(fleet) for queue in told["queues"]}
    sent: dict[str, list[str]] = {}
    for _, _, told in told_groups(fleet):
        for queue, names in (told.get("queues_sent_to") or {}).items():
            sent.setdefault(queue, names)
    for queue in sorted(set(sent) - taken):
        names = sent[queue]
        what = f" ({', '.join(names[:4])}{' …' if len(names) > 4 else ''})" if names else ""
        yield Finding(f"the app sends to the queue {queue}{what}, and no worker group consumes it", (),
                      "Add it to the queues of a group, if no other app takes from it", refuses=False)


def described(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings for JSON."""
    return [asdict(finding) for finding in findings]
