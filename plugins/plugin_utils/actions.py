"""What our action plugins share: their base, arguments, payloads, and the declaration behind them."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import multiprocessing
import os
import socket
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.release import __version__
from ansible.utils import display
from ansible.utils.vars import load_extra_vars
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import model, shown
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.payload import pack
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import workers as spec
from ansible_collections.workfleet.core.plugins.plugin_utils import ourselves, results
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare
from ansible_collections.workfleet.core.plugins.plugin_utils.render import Renderer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: The oldest and the newest line of ansible-core that the tests run on; meta/runtime.yml says the same to Ansible.
SUPPORTED = ((2, 19), (2, 21))
#: Nobody is told when a host is given back: it is asked again so often.
LOCK_POLL_SECONDS = 1.0
ARGUMENTS = "ansible_collections.workfleet.core.plugins.module_utils.workfleet.arguments"
#: What a module takes from its action, and from no task.
HANDED_OVER = ("payload", "archive")
CHECKED = ("type", "elements", "required", "default", "choices")
EMPTY: dict[str, Any] = {"str": "", "path": "", "list": [], "dict": {}, "bool": False, "int": 0, "float": 0.0}


class Action(ActionBase):
    """One of our actions: its arguments are those of its module's table, and nothing that others wrote is shown as it is."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the arguments, act, and return what became of it."""
        require_ansible(__version__)
        result: dict[str, Any] = super().run(tmp, task_vars)
        self._display = Display(display.Display())
        self.task_vars, self.host = task_vars or {}, str((task_vars or {}).get("inventory_hostname", ""))
        try:
            options = arguments(self._load_name)
            _, given = self.validate_argument_spec(options)
            # What is given as null is not given.
            self.values: dict[str, Any] = {name: options[name].get("default") if value is None else value for name, value in given.items()}
            result.update(self.act(self.values, self.task_vars))
        except AnsibleActionFail as error:
            raise AnsibleActionFail(shown.text(str(error.message))) from None
        except WorkfleetError as error:
            result.update(failed=True, msg=str(error), **error.details)
        checked: dict[str, Any] = shown.value(result)
        self.keep(checked)
        return checked

    def keep(self, result: dict[str, Any]) -> None:
        """Write what this run was asked to write, as far as it has come."""
        batch = self.task_vars.get("ansible_play_batch", [self.host])
        results.keep(playbook(), load_extra_vars(self._loader), result, self._task._uuid, self.host, batch)

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the task's result; ``values`` are its arguments, with defaults."""
        raise NotImplementedError

    def module(self, values: Any) -> dict[str, Any]:
        """Run the module of this action on the task's host; see :func:`run_module`."""
        return run_module(self, self._load_name.rpartition(".")[2], values, self.task_vars)


class Display:
    """Ansible's display, to which nothing goes that would act on the terminal, or look like a line of ours."""

    def __init__(self, ansible: Any) -> None:
        self.ansible = ansible

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ansible, name)

    def display(self, text: str, color: str | None = None) -> None:
        """Show a line."""
        self.ansible.display(shown.text(text).replace("\n", " "), color=color)

    def warning(self, text: str) -> None:
        """Show a warning; lines but the first are indented."""
        self.ansible.warning(shown.text(text).replace("\n", "\n  "))

    def table(self, lines: Iterable[str]) -> None:
        """Show lines that are painted already; whoever painted them has seen to what they hold."""
        self.ansible.display("\n" + "\n".join(lines))


def require_ansible(version: str) -> None:
    """Refuse what is too old in a sentence: Ansible itself only warns, and its calls are others. What is newer may do."""
    if tuple(map(int, version.split(".")[:2])) < SUPPORTED[0]:
        oldest, newest = (".".join(map(str, each)) for each in SUPPORTED)
        raise AnsibleActionFail(
            f"workfleet.core needs ansible-core {oldest} to {newest}, and this is {version}; no host was touched. Where Python is 3.11 or "
            f"newer: pip install 'ansible-core~={oldest}.0'")


def table(action: str) -> dict[str, dict[str, Any]]:
    """Return the table of arguments of an action and its module, see :mod:`arguments.pieces`."""
    found: dict[str, dict[str, Any]] = import_module(f"{ARGUMENTS}.{action.rpartition('.')[2]}").ARGUMENTS
    return found


def arguments(action: str) -> dict[str, dict[str, Any]]:
    """Return the argument spec of an action: those of its module without what the action hands over to it."""
    return {name: {key: copy.deepcopy(option[key]) for key in CHECKED if key in option}
            for name, option in table(action).items() if name not in HANDED_OVER}


def run_module(plugin: ActionBase, name: str, values: Any, task_vars: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Run a module of ours on the task's host and return its result.

    The values are what the module reads, best as the dataclass that it reads, and travel as one text. An argument that the module
    requires is empty: the action of that name has checked the task's.
    """
    empty = {key: EMPTY[option["type"]] for key, option in table(name).items() if option.get("required")}
    result: dict[str, Any] = plugin._execute_module(
        module_name=f"workfleet.core.{name}", module_args={**empty, "payload": pack(values), **more}, task_vars=task_vars)
    return result


def declaration(arguments: Mapping[str, Any], host: str) -> model.Declaration:
    """Return the declaration in a task's arguments; a wrong one fails the task with every mistake."""
    keys = ("app", "groups", "scheduler", "dashboard", "parts", "manager", "run_directory", "rollout", "log")
    try:
        return spec.parse({"host": host, **{key: bare(arguments.get(key)) for key in keys}})
    except WorkfleetError as error:
        raise AnsibleActionFail(str(error)) from error


def payload(declared: model.Declaration, overrides: str | None = None) -> dict[str, Any]:
    """Return the part of a module's payload that follows from the declaration; what cannot be rendered fails the task."""
    try:
        return Renderer(declared, overrides).payload()
    except WorkfleetError as error:
        raise AnsibleActionFail(str(error)) from error


def only(arguments: Mapping[str, Any]) -> list[str] | None:
    """Return the groups that a task narrows to; a host need not have any of them."""
    return spec.selected(arguments.get("only"))


def who() -> dict[str, str]:
    """Return which run of a playbook this is, and for people whose, for the lock of a host."""
    return {"run": f"{here()}.{playbook()}", "ended_run": "",
            "holder": f"{ourselves.user()} on {socket.gethostname()} (ansible-playbook, pid {playbook()})"}


def playbook() -> int:
    """Return the process id of the ansible-playbook that forked us, one of its workers; it may have ended since."""
    parent = multiprocessing.parent_process()
    return os.getppid() if parent is None or parent.pid is None else parent.pid


def require_run() -> None:
    """Refuse to go on with a run that was killed: its workers outlive it, and others take its hosts over."""
    if os.getppid() != playbook():
        raise AnsibleActionFail("the run of ansible-playbook that this is of was killed: nothing more is changed")


def call(
    plugin: ActionBase, module: str, request: dict[str, Any], until: float, task_vars: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """Call a module that changes nodes, or what they are started from, once.

    Where another run holds the host, it is waited for; where its process is gone, this one goes on.
    ``until`` is by :func:`time.monotonic`. A run whose process is gone stands in the request from then on.
    """
    said = ""
    while True:
        require_run()
        result = run_module(plugin, module, request, task_vars, **more)
        if not result.get("locked"):
            return result
        if has_ended(result.get("run")) and request["ended_run"] != result["run"]:
            request["ended_run"] = result["run"]
            continue
        if time.monotonic() > until:
            return result
        if said != (said := f"waiting for {result['holder']}"):
            plugin._display.display(f"  {task_vars['inventory_hostname']}: {said}")
        time.sleep(LOCK_POLL_SECONDS)


def require_terminal(what: str) -> None:
    """Refuse to follow where nobody sees it."""
    try:
        output = os.readlink(f"/proc/{os.getppid()}/fd/1")  # we are forked from the process that has the terminal
    except OSError:
        output = "/dev/tty"  # not Linux: let it be
    if not output.startswith(("/dev/pts/", "/dev/tty", "/dev/console")):
        raise AnsibleActionFail(f"follow shows {what} in a terminal until it is interrupted, and there is none: leave follow out")


def nodes_of(hosts: Sequence[str], register: str, task_vars: Mapping[str, Any], otherwise: str) -> dict[str, list[dict[str, Any]]]:
    """Return the nodes of each host, as it has registered them; one that did not tell fails the task."""
    found = {}
    for host in hosts:
        told = task_vars["hostvars"].get(host, {}).get(register) or {}
        if "nodes" not in told:
            why = str(told.get("msg") or "it was not looked at: leave --limit out")
            raise AnsibleActionFail(f"{host}: {why}. A worker may run there, so {otherwise}")
        found[host] = list(told["nodes"])
    return found


def here() -> str:
    """Return a name of this machine, boot and container, in which process ids mean what they mean here."""
    told = [socket.gethostname()]
    with contextlib.suppress(OSError):  # another system than Linux: nobody there can tell that a run has ended
        told += [Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"), os.readlink("/proc/self/ns/pid")]
    return f"{told[0]}.{hashlib.sha256(repr(told).encode()).hexdigest()[:12]}"


def has_ended(run: str | None) -> bool:
    """Whether a run of a playbook was one of this machine, and its process is no more. What cannot be told has not ended."""
    where, _, pid = (run or "").rpartition(".")
    return where == here() and os.path.isdir("/proc/self") and not os.path.exists(f"/proc/{pid}")
