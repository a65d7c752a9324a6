"""What each directive of our sandboxes takes from a program, tried alone on a real systemd; docs/sandbox.md tells it to users."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet.spec import sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.systemd
USER, OWN, OUTSIDE = "nobody", Path("/opt/sandbox-test"), "sandbox-test"
WRITABLE = [OWN, Path("/srv", OUTSIDE), Path("/usr/local", OUTSIDE), Path("/etc", OUTSIDE), Path("/home", OUTSIDE)]
#: Exits with 0, in 32 bits.
PROGRAM_32 = (b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, 0x8048054, 52, 0, 0, 52, 32, 1, 0, 0, 0)
              + struct.pack("<IIIIIIII", 1, 0, 0x8048000, 0x8048000, 93, 93, 5, 4096) + b"\x31\xdb\x31\xc0\x40\xcd\x80\x90\x90")
#: Each kind of work, as the body of a function that raises where it cannot be done.
WORK = {
    "subprocess": "subprocess.run(['sh', '-c', 'echo x | cat'], check=True, capture_output=True)",
    "prefork": "multiprocessing.get_context('fork').Pool(2).map(abs, [1, 2])",
    "shared memory": "from multiprocessing.shared_memory import SharedMemory; SharedMemory(create=True, size=9).unlink()",
    "C callback": "ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(abs)(-1)",
    "JIT": "mmap.mmap(-1, 4096, prot=7).close()",
    "own directory": "write('/opt/sandbox-test/log')",
    "a /tmp": "write('/tmp')",
    "network": "socket.create_server(('127.0.0.1', 0)).close(); socket.getaddrinfo('localhost', 80); socket.socketpair()",
    "niceness": "os.nice(1)",
    "processors": "os.sched_setaffinity(0, os.sched_getaffinity(0)); os.getloadavg(); open('/proc/meminfo').read()",
    "raised rights": "subprocess.run(['/opt/sandbox-test/raw', '-c', 'import socket; socket.socket(2, 3, 1)'], check=True)",
    "/usr": "write('/usr/local/sandbox-test')",
    "/etc": "write('/etc/sandbox-test')",
    "/srv": "write('/srv/sandbox-test')",
    "/home": "write('/home/sandbox-test')",
    "the /tmp of all": "open('/tmp/sandbox-test').close()",
    "devices": "open('/dev/sandbox-test').close()",
    "network interfaces": "socket.if_nameindex()",
    "other sockets": "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()",
    "user namespace": "call(272, 0x10000000)",
    "chroot in a user namespace": "call(272, 0x10000000); os.chroot('/')",
    "tracing": "trace()",
    "personality": "call(135, 0x0040000)",
    "32 bits": "subprocess.run(['/opt/sandbox-test/program32'], check=True)",
    "set-group-ID directory": "os.mkdir('/opt/sandbox-test/log/d'); os.chmod('/opt/sandbox-test/log/d', 0o2775)",
    "processes of others": "open('/proc/1/stat').close()",
    "files for others": "write('/opt/sandbox-test/log', 0o044)",
}
PROGRAM = """
import ctypes, json, mmap, multiprocessing, os, signal, socket, subprocess, sys, tempfile
libc = ctypes.CDLL(None, use_errno=True)
def call(*words):
    if libc.syscall(*words) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def write(folder, mode=0):
    path = os.path.join(folder, f"written-{os.getpid()}")
    open(path, "w").close()
    found = os.stat(path).st_mode
    os.unlink(path)
    assert found & mode == mode
def trace():
    pid = os.fork()
    if not pid:
        signal.pause()
    try:
        call(101, 16, pid, 0, 0)
    finally:
        os.kill(pid, 9)
refused = []
for name, body in json.loads(sys.argv[1]).items():
    pid = os.fork()
    if not pid:
        try:
            exec(body)
        except BaseException as error:
            print(name, repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        refused.append(name)
print(json.dumps(refused))
"""
#: What a directive takes from a program; those that are not named take nothing.
TAKES = {
    "NoNewPrivileges": {"raised rights"},
    "CapabilityBoundingSet": {"raised rights"},
    "ProtectSystem": {"/usr", "/etc", "/srv", "a /tmp"},
    "ProtectHome": {"/home"},
    "PrivateTmp": {"the /tmp of all"},
    "PrivateDevices": {"devices"},
    "RestrictAddressFamilies": {"network interfaces", "other sockets"},
    "RestrictNamespaces": {"user namespace", "chroot in a user namespace"},
    "SystemCallFilter": {"chroot in a user namespace", "tracing"},
    "SystemCallArchitectures": {"32 bits"},
    "LockPersonality": {"personality"},
    "RestrictSUIDSGID": {"set-group-ID directory"},
    "ProtectProc": {"processes of others"},
    "UMask": {"files for others"},
}
BASIC = {"raised rights", "/usr", "/etc", "other sockets", "personality", "32 bits", "set-group-ID directory"}
SERVICE = {*BASIC, "user namespace", "chroot in a user namespace", "tracing"}
#: All but that of its own /tmp, to which a program may write.
STRICT = set().union(*TAKES.values()) - {"a /tmp"}
MOST = {"basic": 5.0, "service": 3.0, "strict": 1.7}


@pytest.fixture(scope="module", autouse=True)
def _host() -> Iterator[None]:
    made = [*WRITABLE, OWN / "log"]
    for path in made:
        path.mkdir()
        shutil.chown(path, USER)
    raw, small, shared, device = OWN / "raw", OWN / "program32", Path("/tmp", OUTSIDE), Path("/dev", OUTSIDE)
    shutil.copy(os.path.realpath("/usr/bin/python3"), raw)
    os.setxattr(raw, "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))  # what Debian's ping has
    small.write_bytes(PROGRAM_32)
    small.chmod(0o755)
    shared.touch()
    os.mknod(device, 0o020666, os.makedev(1, 3))
    device.chmod(0o666)
    yield
    for path in WRITABLE:
        shutil.rmtree(path)
    shared.unlink()
    device.unlink()


def refused(directives: Mapping[str, str]) -> set[str]:
    """Return the kinds of work that a program of the app's user cannot do in a unit with these directives."""
    if directives.get("ProtectSystem") == "strict":
        directives = {**directives, "ReadWritePaths": str(OWN / "log")}
    shutil.rmtree(OWN / "log" / "d", ignore_errors=True)
    told = [word for name, value in directives.items() for word in ("-p", f"{name}={value}")]
    done = subprocess.run(["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "-p", f"User={USER}", *told,
                           "/usr/bin/python3", "-c", PROGRAM, json.dumps(WORK)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stderr)  # noqa: T201 - pytest shows it with a failure
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def impossible(_host: None) -> set[str]:
    """What this machine does not have at all, such as a kernel with 32 bits."""
    found = refused({})
    assert found <= {"other sockets", "32 bits"}
    return found


@pytest.mark.parametrize("name", [name for name in sandbox.LEVELS["strict"] if name != "SystemCallErrorNumber"])
def test_a_directive_takes_what_the_table_says_and_no_more(name: str, impossible: set[str]) -> None:
    chosen = sandbox.LEVELS["strict"]
    told = {name: chosen[name], **({"SystemCallErrorNumber": "EPERM"} if name == "SystemCallFilter" else {})}
    found = refused(told) - impossible
    # Debian 12 takes the rights to gain rights from whom system calls or devices are taken.
    implied = {"raised rights"} if "raised rights" not in TAKES.get(name, set()) else set()
    assert found - implied == TAKES.get(name, set()) - impossible


@pytest.mark.parametrize(("level", "taken"), [("basic", BASIC), ("service", SERVICE), ("strict", STRICT)])
def test_a_level_takes_what_its_directives_take_and_leaves_usual_work_alone(level: str, taken: set[str], impossible: set[str]) -> None:
    assert refused(sandbox.directives(level)) - impossible == taken - impossible


@pytest.mark.parametrize(("level", "most"), MOST.items())
def test_a_level_exposes_no_more_than_it_may(level: str, most: float, tmp_path: Path) -> None:
    unit = tmp_path / "exposed.service"
    lines = [f"{name}={value}" for name, value in sandbox.directives(level).items()]
    unit.write_text("\n".join(["[Service]", "User=daemon", "ExecStart=/bin/true", *lines, ""]))
    said = subprocess.run(["systemd-analyze", "security", "--no-pager", "--offline=true", str(unit)], capture_output=True, text=True,
                          check=True).stdout
    found = re.search(r"Overall exposure level for exposed.service: ([\d.]+)", said)
    assert found and float(found[1]) <= most, said
