"""Where the CPU time of a command goes: by cause and by test, every process on the machine counted once.

    python -m tests.run.cpu bin/test integration        (root, Linux; a machine that does nothing else)

The kernel's process accounting (acct(5)) says what each process took, when it has ended; its connector for processes (a netlink
socket) says when one begins, so that its command line, its test and its container can be read while it lives. Both count what runs in
the test hosts too: their containers share this kernel. What still runs at the end is read from /proc.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

#: What a process is, by the first pattern that is found in its command line; in the order in which they are tried.
CAUSES = (
    ("Ansible: plays", r"tests\.warm|bin/ansible-playbook|-m ansible(\.cli\.playbook| playbook)"),
    ("lint", r"ansible-lint|\bmypy\b|\bruff\b|yamllint|shellcheck"),
    ("molecule", r"bin/molecule\b|bin/ansible-config"),
    ("Ansible: other programs", r"bin/ansible\b|ansible-(inventory|doc|galaxy)"),
    ("Ansible: modules", r"AnsiballZ|^\S*python[\d.]*( -\S+)*$|\.ansible/tmp"),
    ("pip, virtualenvs, wheels", r"\bpip\b|ensurepip|-m venv|-m build|pyproject_hooks|compileall|\bget-pip"),
    ("pytest", r"-m pytest|execnet|sys\.stdin\.readline"),
    ("supervisord", r"supervisord"),
    ("workers", r"celery|\barq\b|chicory|runners?/|workfleet_|launch\.py|flower|spark|gnosari"),
    ("Python in the app", r"bin/run\b|releases/\S+/bin/python|venv/bin/python|\.venv\S*/bin/python"),
    ("Redis, PostgreSQL", r"redis|valkey|postgres|psql"),
    ("apt, dpkg", r"\bapt|dpkg|mmdebstrap|debconf|/var/lib/dpkg"),
    ("podman", r"podman|conmon|crun|netavark|aardvark|iptables|\bunshare|in-namespace"),
    ("ssh, sudo", r"\bsshd?\b|sudo|sftp"),
    ("systemd in the hosts", r"systemd|systemctl|journal|dbus|/sbin/init|udev|agetty|login"),
)
_RECORD = struct.Struct("<bbHIIIIIIf8H16s")  # acct_v3
_EVENT = struct.Struct("<IIQII")  # what, cpu, timestamp, pid, tgid
_FORK, _EXEC, _EXIT = 1, 2, 0x80000000
_CN_PROC_LISTEN = 1


@dataclass
class Process:
    """What is known of a process while it lives; ``ours`` are those that the command has started, by whatever way."""

    line: str = ""
    test: str = ""
    container: str = ""
    ours: bool = False


class Watch:
    """The processes that began since the watch did."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11)  # NETLINK_CONNECTOR
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 25)  # SO_RCVBUFFORCE
        self.socket.bind((0, 1))
        self.command = 0
        payload = struct.pack("<IIIIHHI", 1, 1, 0, 0, 4, 0, _CN_PROC_LISTEN)
        self.socket.send(struct.pack("<IHHII", 16 + len(payload), 3, 0, 0, 0) + payload)
        self.alive: dict[int, Process] = {}
        self.ended: dict[int, list[Process]] = defaultdict(list)
        self.containers: dict[str, str] = {}

    def heed(self) -> None:
        """Take in what has happened."""
        while True:
            try:
                data = self.socket.recv(4096, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:  # the kernel dropped some: their processes are told by their names alone
                continue
            what, _, _, pid, group = _EVENT.unpack_from(data, 36)
            if what == _FORK:
                _, child, child_group = struct.unpack_from("<III", data, 56)
                if child == child_group:
                    self.alive[child] = self.alive.get(group) or self.look(group)
            elif what == _EXEC and pid == group:
                self.alive[pid] = self.look(pid, self.alive.get(pid))
            elif what == _EXIT and pid == group:
                self.ended[pid].append(self.alive.pop(pid, Process()))

    def look(self, pid: int, before: Process | None = None) -> Process:
        """Return what /proc says of a process; what it does not say is as it was before."""
        before = before or Process()
        line = _read(pid, "cmdline").replace("\0", " ").strip()
        test = re.search(r"(?:^|\0)PYTEST_CURRENT_TEST=([^\0]*?)(?: \(\w+\))?(?:\0|$)", _read(pid, "environ"))
        container = re.search(r"libpod-([0-9a-f]{12})", _read(pid, "cgroup"))
        return Process(line or before.line, test[1] if test else before.test, container[1] if container else before.container,
                       before.ours or pid == self.command)


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()[:20000].decode(errors="replace")
    except OSError:
        return ""


def seconds(packed: int) -> float:
    """Return the seconds of a comp_t: 13 bits of ticks, 3 bits of a power of eight."""
    return float((packed & 0x1FFF) << (3 * (packed >> 13))) / os.sysconf("SC_CLK_TCK")


def cause(line: str, comm: str) -> str:
    """Return what a process is counted as."""
    text = line or comm
    return next((name for name, pattern in CAUSES if re.search(pattern, text)), "other")


def main() -> int:
    """Run the command; print the tables, and write each process as a line of JSON where CPU_PROFILE names a file."""
    kernel = ctypes.CDLL(None, use_errno=True)
    watch = Watch()
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as accounts:
        if kernel.acct(accounts.name.encode()):
            raise OSError(ctypes.get_errno(), "acct: " + os.strerror(ctypes.get_errno()))
        begun = time.monotonic()
        try:
            command = subprocess.Popen(sys.argv[1:])
            watch.command = command.pid
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            with selectors.DefaultSelector() as ready:
                ready.register(watch.socket, selectors.EVENT_READ)
                while command.poll() is None:
                    ready.select(0.5)
                    watch.heed()
        finally:
            kernel.acct(None)
        took = time.monotonic() - begun
        watch.heed()
        report(Path(accounts.name).read_bytes(), watch, took)
    return command.returncode


def report(records: bytes, watch: Watch, took: float) -> None:
    """Print what the records say."""
    by_cause: Counter[str] = Counter()
    number: Counter[str] = Counter()
    by_test: Counter[str] = Counter()
    with open(os.environ.get("CPU_PROFILE", os.devnull), "w", encoding="utf-8") as out:
        for at in range(0, len(records), _RECORD.size):
            record = _RECORD.unpack_from(records, at)
            pid, used, comm = record[6], seconds(record[10]) + seconds(record[11]), record[-1].split(b"\0")[0].decode(errors="replace")
            known = watch.ended.get(pid)
            process = known.pop(0) if known else Process()
            if not process.ours:
                continue
            why = cause(process.line, comm)
            by_cause[why] += used  # type: ignore[assignment]
            number[why] += 1
            by_test[process.test.split("::")[0].split("[")[0] or "(no test)"] += used  # type: ignore[assignment]
            if used:
                out.write(json.dumps([round(used, 2), why, comm, process.line[:300], process.test, process.container]) + "\n")
    total = sum(by_cause.values())
    print(f"\n{total:.0f} s of CPU in {took:.0f} s\n")
    for table in (by_cause, by_test):
        for name, used in table.most_common(60):
            with contextlib.suppress(ZeroDivisionError):
                print(f"{used:8.1f} s {100 * used / total:5.1f} % {number.get(name, ''):>8} {name}")
        print()


if __name__ == "__main__":
    sys.exit(main())
