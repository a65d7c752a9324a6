"""A scenario's fleet, as a user and an eyewitness have it: playbooks are run, hosts are looked at."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import warm
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
INVENTORY = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "inventory"
ANSIBLE = str(Path(sys.executable).parent / "ansible-playbook")
#: Executes what it is sent, a line of JSON each, in fresh names; what has been imported stays.
CLIENT = """
import contextlib, io, json, sys, traceback
for line in sys.stdin:
    out, error = io.StringIO(), ""
    with contextlib.redirect_stdout(out):
        try:
            exec(json.loads(line), {"__name__": "__main__"})
        except Exception:
            error = traceback.format_exc()
    print(json.dumps([out.getvalue(), error]), flush=True)
"""


@dataclass(frozen=True)
class Run:
    """A finished playbook: its exit status, what it printed, and the steps it reported."""

    rc: int
    out: str
    steps: list[dict[str, Any]]

    @property
    def actions(self) -> list[tuple[str, str]]:
        """The steps without their reasons."""
        return [(step["action"], step["unit"]) for step in self.steps]

    @property
    def touched(self) -> set[str]:
        """The units that steps are about."""
        return {step["unit"] for step in self.steps if step["group"]}


class Fleet:
    """The hosts of the scenario that runs."""

    def __init__(self) -> None:
        listing = json.loads(subprocess.run(
            [str(Path(ANSIBLE).parent / "ansible-inventory"), "-i", str(INVENTORY), "--list"],
            check=True, capture_output=True, text=True, cwd=PROJECT).stdout)
        self.workers: list[str] = listing["workers"]["hosts"]
        self.worker = self.workers[0]
        self.redis: str = listing.get("redis", {"hosts": [self.worker]})["hosts"][0]
        self.hostvars: dict[str, dict[str, Any]] = listing["_meta"]["hostvars"]
        self.vars = self.hostvars[self.worker]
        self.app: str = self.vars["app_name"]
        self.client: subprocess.Popen[str] | None = None

    # -- as a user --------------------------------------------------------------------------------------------------

    def command(self, playbook: str, steps: str, extra: dict[str, Any], *options: str) -> list[str]:
        """Return the command line of a playbook, as a user would type it."""
        return [ANSIBLE, "-i", str(INVENTORY), f"playbooks/{playbook}.yml", "-e", json.dumps({**extra, "steps_json": steps}), *options]

    def play(self, playbook: str, *options: str, expect: int = 0, **extra: Any) -> Run:
        """Run a playbook and return what it did; its exit status must be ``expect``."""
        with tempfile.NamedTemporaryFile(suffix=".json") as steps:
            _, *words = self.command(playbook, steps.name, extra, *options)
            done = warm.play(words, cwd=PROJECT)
            out = done.stdout + done.stderr
            assert done.returncode == expect, f"{playbook} ended with {done.returncode}:\n{out}"
            return Run(done.returncode, out, json.loads(Path(steps.name).read_text() or "[]"))

    def play_and_kill(self, playbook: str, when: Callable[[], bool], seconds: float = 60, **extra: Any) -> None:
        """Start a playbook and kill the whole of it with -9 as soon as ``when`` holds, for which it has so long."""
        with tempfile.NamedTemporaryFile(suffix=".json") as steps:
            process = subprocess.Popen(self.command(playbook, steps.name, extra), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       cwd=PROJECT, start_new_session=True)
            try:
                wait(when, seconds)
                assert process.poll() is None, "the playbook was over before it could be killed"
            finally:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def status(self, *options: str, **extra: Any) -> dict[str, Any]:
        """Return the status JSON."""
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            self.play("status", *options, status_json=file.name, **extra)
            return dict(json.loads(Path(file.name).read_text()))

    def groups(self, **changes: dict[str, Any]) -> list[dict[str, Any]]:
        """Return ``worker_groups`` with changes to named groups."""
        return [{**group, **changes.get(group["name"], {})} for group in self.vars["worker_groups"]]

    # -- as an eyewitness -------------------------------------------------------------------------------------------

    def run(self, host: str, *argv: str, check: bool = True) -> str:
        """Run a command on a host as root, past Ansible, and return its output."""
        done = subprocess.run(self.on(host, *argv), check=False, capture_output=True, text=True, errors="replace",
                              stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, f"{argv} on {host} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def on(self, host: str, *argv: str) -> list[str]:
        """Return the command line that runs a command on a host as root, past Ansible."""
        return [str(PROJECT / "molecule/resources/hosts"), "run", host, *argv]

    @contextlib.contextmanager
    def clean_host(self) -> Iterator[str]:
        """One more host, to which nothing was done."""
        name, command = f"{self.worker}-clean", str(PROJECT / "molecule/resources/hosts")
        subprocess.run([command, "up", name], check=True, capture_output=True)
        try:
            yield name
        finally:
            subprocess.run([command, "down", name], check=True, capture_output=True)

    def main_processes(self, host: str | None = None) -> dict[str, int]:
        """Return the main process of every node on a host: node name → pid. Two of one name are an error."""
        processes = {}
        for line in self.run(host or self.worker, "ps", "-ww", "-eo", "pid=,ppid=,args=").splitlines():
            pid, parent, args = line.split(None, 2)
            match = re.search(rf"\b{self.app}\.[a-z]+\.\d+\.\d+@[\w-]+", args)
            if match and "launch.py" not in args:
                processes[int(pid)] = (int(parent), match[0])
        found: dict[str, int] = {}
        for pid, (parent, node) in processes.items():
            if parent not in processes:
                assert node not in found, f"two processes are {node}"
                found[node] = pid
        return found

    def exposures(self, host: str) -> dict[str, float]:
        """Return the exposure of every unit of ours on a host, and of its Redis, as systemd itself judges it."""
        lines = [line.split() for line in self.run(host, "systemd-analyze", "security", "--no-pager").splitlines()]
        return {words[0]: float(words[1]) for words in lines
                if words and re.match(rf"workfleet\.|{self.app}-|(redis|valkey)-server\.", words[0])}

    def in_app(self, code: str) -> str:
        """Run Python in the app's environment on the worker host and return what it prints.

        One process of the app's release does it for all: to start a Python with Celery takes longer than what is asked of it.
        """
        for _ in range(2):  # a reboot has ended it
            client = self.client or subprocess.Popen(
                self.on(self.worker, f"{self.vars.get('app_root', '/opt/' + self.app)}/bin/run", "python", "-u", "-c", CLIENT),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            self.client = client
            assert client.stdin is not None and client.stdout is not None
            try:
                client.stdin.write(json.dumps(code) + "\n")
                answer = client.stdout.readline()
            except BrokenPipeError:
                answer = ""
            if answer:
                out, error = json.loads(answer)
                assert not error, error
                return str(out).strip()
            self.forget_client()
        raise AssertionError(f"nothing answers in the app on {self.worker}")

    def forget_client(self) -> None:
        """End the process of the app's: the next code runs in another, of the release that is current then."""
        if self.client:
            self.client.kill()
            self.client.communicate()
            self.client = None

    def send(self, task: str, *args: Any, queue: str) -> str:
        """Send a task and return its id."""
        return self.in_app(f"from app import tasks; print(tasks.{task}.apply_async({args!r}, queue={queue!r}).id)")

    def state(self, task_id: str) -> str:
        """Return the state of a task's result."""
        return self.in_app(f"from app.celery_app import celery_app; print(celery_app.AsyncResult({task_id!r}).state)")

    def ended(self, task_id: str, seconds: float) -> str:
        """Wait until a task has a result, and return its state."""
        wait(lambda: self.state(task_id) not in ("PENDING", "STARTED", "RETRY"), seconds)
        return self.state(task_id)

    def reboot(self, host: str) -> None:
        """Reboot a host, whose services get longer than the longest drain, and do not wait until its boot is over.

        With the broker down it takes as long as systemd waits for a node's start.
        """
        subprocess.run([str(PROJECT / "molecule/resources/in-namespace"), "podman", "restart", "--time", "120", host],
                       check=True, capture_output=True)

    def wait_until_reachable(self, host: str, seconds: float = 90) -> None:
        """Wait until a host takes ssh connections: after a reboot its address has another MAC, which takes its time."""

        def answers() -> bool:
            try:
                socket.create_connection((self.hostvars[host]["ansible_host"], 22), timeout=1).close()
            except OSError:
                return False
            return True

        wait(answers, seconds)

    def wait_until_ready(self, seconds: float = 120) -> None:
        """Wait until all declared nodes are ready and nothing is wrong; a status is asked for only when all processes say that they are."""
        wait(lambda: all(self.tell_ready(host) for host in self.workers), seconds)
        wait(self.is_well, seconds)

    def tell_ready(self, host: str) -> bool:
        """Whether there are nodes on a host, and the record of each says that it is ready."""
        texts = self.run(host, "sh", "-c", f"cat /run/workfleet/{self.app}/*.json", check=False).replace("}\n{", "}{").replace("}{", "}\n{")
        records = [json.loads(line) for line in texts.splitlines()]
        pids = set(self.main_processes(host).values())
        return bool(pids) and pids <= {record.get("pid") for record in records if "ready" in record}

    def is_well(self) -> bool:
        """Whether the status tells of no problem and of ready nodes only."""
        status = self.status()
        nodes = [node for host in status["hosts"].values() for node in host["nodes"]]
        return not status["problems"] and bool(nodes) and all(node["state"] == "ready" for node in nodes)


def wait(when: Callable[[], bool], seconds: float) -> None:
    """Wait until something holds. At most half of the time is spent on looking, for what is waited for needs the machine too."""
    until(when, seconds, pause=0.2)


def load_json(path: str) -> dict[str, Any]:
    """Return the content of a JSON file."""
    return dict(json.loads(Path(path).read_text()))
