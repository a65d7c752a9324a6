"""A purge and a restore from the control node: the steps on the host, and the dump's way between the two."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import socket
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import dump
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines.verbs.stash import Choice
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, ourselves, queues

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ansible.plugins.action import ActionBase


def holder() -> str:
    """Say who we are to those whom we keep out."""
    return f"{ourselves.user()} on {socket.gethostname()} (ansible-playbook, pid {os.getppid()})"


def confirmed(words: str, given: Any) -> None:
    """Refuse what was not typed; what is to be typed can be pasted into a shell as it stands."""
    received = str(given or "")
    if received != words:
        # No colon: an output in YAML would then be quoted anew.
        raise AnsibleActionFail(option("confirm", words) + (f" is to be typed, and confirm was received as {received}" if received else ""))


def option(name: str, value: str) -> str:
    """Return the words that give a variable to ansible-playbook, as they are typed into a shell, which takes one pair of quotes away."""
    if re.search("[\"'$`\\\\!]", value):
        return f"-e {shlex.quote(json.dumps({name: value}))}"
    return f"-e \"{name}='{value}'\""


@contextmanager
def remote_directory(action: ActionBase) -> Iterator[str]:
    """A directory of the login user's on the host, for the length of a block."""
    path = action._make_tmp_path()
    try:
        yield path
    finally:
        action._remove_tmp_path(path, force=True)


class Purge:
    """One purge, from its first step to the dump on the control node."""

    def __init__(
        self, action: ActionBase, task_vars: dict[str, Any], app: str, source: Mapping[str, Any], choice: Choice,
        own: Mapping[str, list[str]], *, force: bool,
    ) -> None:
        """``own`` are the app's queues by engine; what an interrupted purge of another queue left is left alone."""
        self.action, self.task_vars, self.app, self.choice, self.force = action, task_vars, app, choice, force
        self.source, self.declared = source, list(own.get(source["engine"], ()))
        self.queues = queues.with_queue(own, source["engine"], choice.queue)
        self.id = secrets.token_hex(16)

    def step(self, name: str, path: str = "") -> dict[str, Any]:
        """Have the host do one step."""
        request = {
            "app": self.app, "engine": self.source["engine"], "url": self.source["url"], "options": self.source["options"], "id": self.id,
            "holder": holder(), "choice": asdict(self.choice), "step": name, "path": path, "force": self.force,
            "queues": self.queues, "declared": self.declared,
            "header": {"made": datetime.now(timezone.utc).isoformat(timespec="seconds"), "by": holder()},
        }
        return actions.run_module(self.action, "queue_purge", request, self.task_vars)

    def run(self, folder: str) -> dict[str, Any]:
        """Dump, bring here, look, delete. What goes wrong before the deletion is undone."""
        if self.action._task.check_mode:
            return {**self.step("write"), "dump": None}
        name = re.sub(r"[^\w.-]", "_", f"{self.app}-{self.choice.queue}")[:100]
        target = os.path.join(folder, f"{name}-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{self.id[:8]}.dump")
        with remote_directory(self.action) as directory:
            remote = os.path.join(directory, "tasks.dump")
            result = self.step("write", remote)
            if result.get("failed"):
                return result
            if not result["records"]:
                return {**self.step("put_back"), **result, "changed": False, "dump": None}
            try:
                self.fetch(remote, target, result["sha256"])
            except (OSError, WorkfleetError, AnsibleError) as error:  # AnsibleError: the connection may be lost
                undone = self.put_back()
                after = f"and putting the tasks back failed too: {undone['msg']}; the next purge or restore does it" \
                    if undone.get("failed") else "all tasks are back in their queue"
                raise AnsibleActionFail(f"the dump did not reach {target}: {error}; {after}") from error
            try:
                deleted = self.step("commit")
            except AnsibleError as error:
                raise AnsibleActionFail(f"the dump is whole, {target}, but whether its tasks were deleted is not known: {error}. "
                                        "queues.yml tells; the next purge or restore ends it") from error
        if deleted.get("failed"):
            return {**deleted, "dump": target}
        return {**result, "dump": target, "problems": [*result.get("problems", []), *deleted.get("problems", [])]}

    def put_back(self) -> dict[str, Any]:
        """Undo it; where the host cannot be reached that is left to another run."""
        try:
            return self.step("put_back")
        except AnsibleError as error:
            return {"failed": True, "msg": str(error)}

    def fetch(self, remote: str, target: str, sha256: str) -> None:
        """Bring the dump here, see that it is whole and on the disk, and only then give it its name."""
        folder = os.path.dirname(target)
        with tempfile.TemporaryDirectory(prefix=".purge-", dir=folder) as private:
            part = os.path.join(private, "tasks.dump")
            self.action._connection.fetch_file(remote, part)
            os.chmod(part, 0o600)
            if dump.verify(part).sha256 != sha256:
                raise WorkfleetError("it is another file than the host wrote")
            sync(part)
            os.rename(part, target)
        sync(folder)


def sync(path: str) -> None:
    """See that a file, or what a directory lists, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def folder(path: Any) -> str:
    """Return the directory for dumps, made where it is not there; nobody else can look into a new one."""
    found = os.path.abspath(os.path.expanduser(str(path or "dumps")))
    try:
        os.makedirs(found, mode=0o700, exist_ok=True)
    except OSError as error:
        raise AnsibleActionFail(f"dump_dir = {found}: cannot be made: {error.strerror}; no host was touched") from error
    return found
