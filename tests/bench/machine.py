"""A systemd host of the benchmark, its inventory, and timed runs of Ansible against it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOSTS = ROOT / "molecule" / "resources" / "hosts"
HERE = Path(__file__).resolve().parent
IDIOM = HERE / "idiom" / "site.yml"
APP = "bench"
UNITS = "/etc/systemd/system"
#: A line of Ansible's log that begins a task, or ends the last one.
BEGINS = re.compile(r"(\S+ \S+) p=.*\| (?:TASK \[(.*)\]|PLAY (RECAP)) \*+")


@dataclass(frozen=True)
class World:
    """What is on a host: processes by unit (pid and start time), and digests of files by path."""

    processes: dict[str, tuple[str, str]]
    files: dict[str, str]


class Machine:
    """One host. ``start`` makes it anew; its inventory is a directory of its own."""

    def __init__(self, name: str, directory: Path, suite: str) -> None:
        self.name = name
        self.suite = suite
        self.inventory = directory / name
        self.steps_file = directory / f"{name}.steps.json"

    def start(self) -> None:
        """Start the host, or put it back to clean."""
        subprocess.run([HOSTS, "up", self.name, self.suite], check=True, stdout=subprocess.DEVNULL)
        told = subprocess.run([HOSTS, "inventory", self.name], check=True, capture_output=True, text=True).stdout
        self.inventory.mkdir(parents=True, exist_ok=True)
        (self.inventory / "hosts").write_text(f"[workers]\n{told}")
        self.ping()

    def remove(self) -> None:
        """Remove the host."""
        subprocess.run([HOSTS, "down", self.name], check=False, stdout=subprocess.DEVNULL)

    def declare(self, variables: dict[str, Any], groups: tuple[str, ...] = ()) -> None:
        """Write the inventory's variables; ``groups`` are inventory groups that the host is in besides ``workers``."""
        for group in groups:
            (self.inventory / f"{group}.ini").write_text(f"[{group}]\n{self.name}\n")
        (self.inventory / "group_vars").mkdir(exist_ok=True)
        (self.inventory / "group_vars" / "workers.json").write_text(json.dumps(variables, indent=1))

    def run(self, *argv: str) -> str:
        """Run a command on the host, outside of what is timed."""
        return subprocess.run([HOSTS, "run", self.name, *argv], check=True, capture_output=True, text=True).stdout

    def told(self, script: str, *arguments: str) -> dict[str, Any]:
        """Return what one of our scripts for hosts prints there."""
        with (HERE / "on_host" / f"{script}.py").open() as program:
            done = subprocess.run([HOSTS, "run", self.name, "python3", "-", *arguments], stdin=program, check=True,
                                  stdout=subprocess.PIPE)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def world(self, units: str = f"workfleet.{APP}.*.service", app: str = APP) -> World:
        """Look at the host's nodes."""
        told = self.told("world", units, f"/opt/{app}/env")
        return World({unit: (pid, begun) for unit, (pid, begun) in told["processes"].items()}, told["files"])

    def ping(self) -> float:
        """Return the seconds of ``ansible -m ping``."""
        return timed(["ansible", "-i", str(self.inventory), "all", "-m", "ping"])

    def playbook(self, name: str, *extra: str, idle: bool = False) -> float:
        """Return the seconds of a playbook of ours; ``idle`` means it must have nothing to do."""
        self.steps_file.unlink(missing_ok=True)
        seconds = timed(["ansible-playbook", "-i", str(self.inventory), str(ROOT / "playbooks" / f"{name}.yml"),
                         "-e", f"steps_json={self.steps_file}", *extra])
        if idle:
            assert self.steps() == [], self.steps()
        return seconds

    def parts(self, name: str) -> dict[str, float]:
        """Return the seconds of a playbook of ours by task, as Ansible's log has them."""
        log = self.inventory.with_suffix(".log")
        log.unlink(missing_ok=True)
        at, part = time.time(), "start of ansible-playbook"
        found: dict[str, float] = defaultdict(float)
        timed(["ansible-playbook", "-i", str(self.inventory), str(ROOT / "playbooks" / f"{name}.yml")],
              ANSIBLE_LOG_PATH=str(log), ANSIBLE_DISPLAY_SKIPPED_HOSTS="true")  # else a task is named when its first host is done
        ended = time.time()
        for begins in filter(None, map(BEGINS.match, log.read_text(encoding="utf-8").splitlines())):
            now = datetime.strptime(begins[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()
            found[part] += now - at
            at, part = now, begins[2] or "end of ansible-playbook"
        found[part] += ended - at
        return found

    def idiom(self) -> float:
        """Return the seconds of the usual idiom."""
        return timed(["ansible-playbook", "-i", str(self.inventory), str(IDIOM)])

    def steps(self) -> list[dict[str, Any]]:
        """Return the steps of the last playbook."""
        steps: list[dict[str, Any]] = json.loads(self.steps_file.read_text())
        return steps

    def inside(self, module: str, playbook: str, rounds: int) -> dict[str, Any]:
        """Have Ansible leave a module's file on the host, and run that without Ansible: seconds, memory, result."""
        subprocess.run(["ansible-playbook", "-i", str(self.inventory), str(ROOT / "playbooks" / f"{playbook}.yml")],
                       check=True, capture_output=True, env={**os.environ, "ANSIBLE_KEEP_REMOTE_FILES": "1"})
        told = self.told("inside", module, str(rounds))
        self.run("rm", "-rf", "/root/.ansible/tmp")
        return told


def timed(argv: list[str], **environment: str) -> float:
    """Return the seconds that a command took; one that fails ends the benchmark with what it said."""
    begun = time.perf_counter()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                          env={**os.environ, **environment})
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed:\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}")
    return seconds
