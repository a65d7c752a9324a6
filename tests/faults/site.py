"""Two worker hosts and a Redis host, with the example apps on them; all that the faults do to them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .load import PAIRS, until

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[2]
HOSTS = str(ROOT / "molecule" / "resources" / "hosts")
ANSIBLE = str(Path(sys.executable).parent / "ansible-playbook")
REDIS, WORKERS = "faults-redis", ("faults-1", "faults-2")
PASSWORD = "geheim"
LEDGER_PORT = 6390
DATABASES = {"reports": 0, "flow": 1, "events": 2, "rq": 4}
APPS = {"reports": "app.celery_app", "flow": "app.worker.WorkerSettings", "events": "app.tasks:app", "rq": "app.tasks"}
APT_REDIS = ["redis-server", "--port", str(LEDGER_PORT), "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--daemonize", "no"]


class Site:
    """The hosts with some of the example apps; ``apps`` has copies of these, which may be changed before a deploy."""

    def __init__(self, directory: Path, names: Iterable[str] = APPS) -> None:
        self.directory = directory
        self.names = list(names)
        self.env: dict[str, dict[str, str]] = {}
        self.inventory = directory / "inventory.ini"
        self.apps = directory / "apps"
        for app in self.names:
            shutil.copytree(ROOT / "examples" / app, self.apps / app, ignore=shutil.ignore_patterns("tests", "__pycache__", ".*"))

    # -- the hosts --------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Start clean hosts and bring everything on them."""
        names = (REDIS, *WORKERS)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda name: command(HOSTS, "up", name), names))
        told = command(HOSTS, "inventory", *names).splitlines()
        self.addresses = {line.split()[0]: line.split("ansible_host=")[1].split()[0] for line in told}
        redis = [line for line in told if line.startswith(REDIS)]
        self.inventory.write_text("\n".join(["[redis]", *redis, "[workers]", *(line for line in told if line not in redis)]) + "\n")
        first, *others = self.names
        self.play(first, "site")
        self.run(REDIS, "systemd-run", "--unit", "ledger", *APT_REDIS)
        for app in others:
            self.play(app, "site", "--tags", "app,worker")

    def down(self) -> None:
        """Remove the hosts."""
        command(HOSTS, "down", REDIS, *WORKERS, check=False)

    def run(self, host: str, *argv: str, check: bool = True) -> str:
        """Run a command on a host, past Ansible."""
        return command(HOSTS, "run", host, *argv, check=check)

    def url(self, app: str, host: str | None = None) -> str:
        """Return an app's broker."""
        return f"redis://:{PASSWORD}@{host or self.addresses[REDIS]}:6379/{DATABASES[app]}"

    @property
    def ledger_url(self) -> str:
        """The Redis that no fault touches."""
        return f"redis://{self.addresses[REDIS]}:{LEDGER_PORT}/0"

    # -- as a user --------------------------------------------------------------------------------------------------

    def variables(self, app: str, **changes: Any) -> dict[str, Any]:
        """Return an app's inventory; ``env`` is put into all its groups from now on, ``nodes`` sets their number."""
        env = self.env[app] = changes.pop("env", self.env.get(app, {}))
        nodes = changes.pop("nodes", 2)
        groups = [{"name": pair.name, "engine": pair.engine, "app": APPS[app], "nodes": nodes, "queues": [pair.name], "concurrency": 4,
                   "drain_seconds": 60, "env": env, **pair.keys} for pair in PAIRS if pair.app == app]
        broker = self.url(app)
        return {
            "app_name": app, "app_source": {"type": "directory", "location": str(self.apps / app)},
            "app_requirements": ["requirements.txt"], "app_broker_url": broker,
            "app_result_url": {"reports": broker, "flow": "", "rq": "", "events": f"{broker[:-1]}3"}[app],
            "app_broker_env": {"flow": ["REDIS_URL"], "reports": ["CELERY_BROKER_URL"], "events": ["CHICORY_BROKER_REDIS_URL"],
                               "rq": ["RQ_REDIS_URL"]}[app],
            "app_env": {"EXECUTIONS_URL": self.ledger_url}, "redis_bind": ["0.0.0.0"], "redis_password": PASSWORD,
            "worker_groups": groups, "worker_lock_seconds": 60,
            "worker_rollout": {"monitor_seconds": 2, "ready_timeout_seconds": 40, **changes.pop("rollout", {})}, **changes,
        }

    def command(self, app: str, playbook: str, *options: str, **changes: Any) -> list[str]:
        """Return the command line of a playbook."""
        file = self.directory / f"{uuid.uuid4().hex}.json"
        file.write_text(json.dumps(self.variables(app, **changes)))
        return [ANSIBLE, "-i", str(self.inventory), f"playbooks/{playbook}.yml", "-e", f"@{file}", *options]

    def play(self, app: str, playbook: str, *options: str, expect: int = 0, **changes: Any) -> str:
        """Run a playbook; its exit status must be ``expect``."""
        done = subprocess.run(self.command(app, playbook, *options, **changes), check=False, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == expect, f"{playbook} of {app} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def play_all(self, playbook: str, *options: str, **changes: Any) -> None:
        """Run a playbook for all apps at the same time."""
        with ThreadPoolExecutor(len(self.names)) as pool:
            list(pool.map(lambda app: self.play(app, playbook, *options, **changes), self.names))

    def play_and_kill(self, app: str, playbook: str, *options: str, after: float, **changes: Any) -> bool:
        """Kill a playbook with -9 after so many seconds; return whether it was still at work."""
        process = subprocess.Popen(self.command(app, playbook, *options, **changes), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   cwd=ROOT, start_new_session=True)
        time.sleep(after)
        was_at_work = process.poll() is None
        if was_at_work:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return was_at_work

    def status(self, app: str, **changes: Any) -> dict[str, Any]:
        """Return the status JSON."""
        path = self.directory / f"status-{app}.json"
        self.play(app, "status", "-e", f"status_json={path}", **changes)
        return dict(json.loads(path.read_text()))

    def await_ready(self, app: str, seconds: float = 120, **changes: Any) -> None:
        """Wait until an app's fleet is as declared."""

        def is_well() -> bool:
            status = self.status(app, **changes)
            states = {node["state"] for host in status["hosts"].values() for node in host["nodes"]}
            return not status["problems"] and states <= {"ready", "draining"}

        until(is_well, seconds, f"{app} is as declared")

    # -- as an adversary --------------------------------------------------------------------------------------------

    def main_pid(self, host: str, app: str, group: str) -> int:
        """Return the main process of a node of a group that is at work."""
        units = self.run(host, "systemctl", "list-units", "--plain", "--no-legend", "--state=running",
                         f"workfleet.{app}.{group}.*.service").split("\n")
        unit = units[0].split()[0]
        return int(self.run(host, "systemctl", "show", "--property=MainPID", "--value", unit))

    def reboot(self, host: str) -> None:
        """Reboot a host; its services have the time that their drain takes."""
        command(HOSTS, "reboot", host, "120")

    def cut_power(self, host: str) -> None:
        """Have a host end at once, and start it again."""
        command(HOSTS, "cut", host)

    def cut_off(self, host: str, seconds: float) -> None:
        """Let a host lose every packet from and to Redis for so long."""
        rules = ["add table inet cut"]
        for chain, port in (("output", "dport"), ("input", "sport")):
            rules += [f"add chain inet cut {chain} {{ type filter hook {chain} priority 0 ; }}",
                      f"add rule inet cut {chain} tcp {port} 6379 drop"]
        self.run(host, "sh", "-c", "; ".join(f"nft '{rule}'" for rule in rules))
        time.sleep(seconds)
        self.run(host, "nft", "delete", "table", "inet", "cut")


def command(*argv: str, check: bool = True) -> str:
    """Run a command and return what it printed; one that fails says what it said."""
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    said = (done.stdout + done.stderr)[-5000:]
    assert not check or done.returncode == 0, f"{' '.join(argv[:6])} ended with {done.returncode}: {said}"
    return done.stdout


