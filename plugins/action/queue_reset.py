"""Ask for the typed confirmation and list what goes; then have a host dump it here, queue by queue, and delete it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines import taskqueues
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines.verbs.stash import Choice
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, dumps, queues

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STOPPED = "the nodes are stopped: run this again, which goes on from here, or start.yml"
PARTS = (("waiting", "waiting"), ("unacknowledged", "held by workers"), ("scheduled", "for later"), ("dead", "dead"))


class ActionModule(actions.Action):
    """The control node's half of ``queue_reset``."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what goes, or what has gone, and print it."""
        if actions.only(self.values) is not None:
            raise AnsibleActionFail("worker_only: a reset is of the whole app; leave it out, or empty a queue with purge.yml")
        looked = actions.nodes_of(self.values["hosts"], self.values["register"], self.task_vars, "nothing was touched")
        declared = queues.declarations(self.values, self.task_vars, self._templar)
        self.app, self.own = declared[0].app.name, queues.own(declared)
        if not self._task.check_mode:
            dumps.confirmed(f"reset {self.app} {','.join(self.values['hosts'])}", self.values["confirm"])
            self.folder = dumps.folder(self.values["dump_dir"])
        sources = list(whole(queues.sources(declared, None), declared[0].app.result_url))
        if self.values["step"] == "look":
            return self.look(sources)
        up = sorted(f"{node['unit']} on {host}" for host, nodes in looked.items() for node in nodes if node["pid"] is not None)
        if up:
            raise AnsibleActionFail(f"{', '.join(up)}: still runs, so nothing was deleted; {STOPPED}")
        try:
            return self.delete(sources)
        except AnsibleActionFail as error:
            raise AnsibleActionFail(f"{error.message}. {STOPPED[0].upper()}{STOPPED[1:]}") from error

    def step(self, name: str, source: Mapping[str, Any]) -> dict[str, Any]:
        """Have the host do one step for one engine's queues; what it refuses fails the task."""
        order = {"step": name, "app": self.app, "source": source, "hosts": self.values["hosts"], "holder": dumps.holder(),
                 "include_results": self.values["include_results"], "force": self.values["force"]}
        return told(self.module(order))

    # -- looking

    def look(self, sources: list[dict[str, Any]]) -> dict[str, Any]:
        """List what goes."""
        total: dict[str, Any] = {"changed": False, "queues": [], "traces": [], "result_count": None, "left": []}
        for source in sources:
            found = self.step("look", source)
            total["changed"] |= found["changed"]
            for key in ("queues", "traces", "left"):
                total[key] += found[key]
            if found["result_count"] is not None:
                total["result_count"] = (total["result_count"] or 0) + found["result_count"]
        for queue in total["queues"]:
            self.say(f"{queue['queue']}: {described(queue)}")
        for trace in total["traces"]:
            self.say(f"{words(trace['key'])}{': ' + words(trace['member']) if trace['member'] else ''}")
        if total["result_count"] is not None:
            self.say(f"{total['result_count']} results")
        for text in total["left"]:
            self.say(f"stays: {text}")
        return total

    def say(self, line: str) -> None:
        """Show a line."""
        self._display.display(f"  {line}")

    # -- deleting

    def delete(self, sources: list[dict[str, Any]]) -> dict[str, Any]:
        """Dump and delete every queue, then what is left of the app. Nothing goes while somebody is at work on one of the queues."""
        total: dict[str, Any] = {"changed": False, "dumps": [], "traces": [], "recovered": []}
        for source in sources:
            self.step("alone", source)
        for source in sources:
            for where, choice in self.purges(source):
                self.purge(where, choice, total)
            total["traces"] += self.step("sweep", source)["traces"]
        total["changed"] = bool(total["dumps"] or total["traces"])
        self.say(f"{len(total['traces'])} keys and marks that hold no task are gone")
        return total

    def purges(self, source: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Choice]]:
        """Yield what is to be emptied, and where it is."""
        yield from ((source, Choice(queue, whole=True)) for queue in source["queues"])
        if self.values["include_results"]:
            names = source["queues"] if taskqueues.named(source["engine"]).results_name_queues else [""]
            yield from (({**source, "url": source["results"]}, Choice(name, results=True)) for name in names)

    def purge(self, source: Mapping[str, Any], choice: Choice, total: dict[str, Any]) -> None:
        """Empty one queue, or the results."""
        what = f"results of {choice.queue or source['engine']}" if choice.results else choice.queue
        purge = dumps.Purge(self, self.task_vars, self.app, source, choice, self.own, force=self.values["force"])
        result = told(purge.run(self.folder), what)
        for text in (*result.get("recovered", []), *result.get("problems", [])):
            self._display.warning(text)
        if result["records"]:
            total["dumps"].append({"queue": choice.queue, "records": result["records"], "dump": result["dump"]})
            self.say(f"{what}: {result['records']} are dumped and gone: {result['dump']}")


def told(result: dict[str, Any], what: str = "") -> dict[str, Any]:
    """Return a module's result; one that has failed fails the task."""
    if result.get("failed") or result.get("unreachable"):
        raise AnsibleActionFail(f"{what}: {result['msg']}" if what else str(result["msg"]))
    return result


def whole(sources: list[dict[str, Any]], result_url: str) -> Iterator[dict[str, Any]]:
    """Yield the sources with the queues that no group consumes and that are the app's all the same, and where their results are."""
    for source in sources:
        queue = taskqueues.named(source["engine"])
        yield {**source, "queues": list(dict.fromkeys([*source["queues"], *queue.extra_queues(source["options"])])),
               "results": source["url"] if queue.results_name_queues else result_url or source["url"]}


def described(queue: Mapping[str, Any]) -> str:
    """Say what a queue holds."""
    if queue["tasks"] is None:
        return "too many tasks to count those that workers hold"
    parts = ", ".join(f"{queue[name]} {words}" for name, words in PARTS if queue[name])
    return f"{queue['tasks']} tasks" + (f" ({parts})" if parts else "")


def words(name: str) -> str:
    """A name in Redis for people: kombu puts control characters between its words."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
