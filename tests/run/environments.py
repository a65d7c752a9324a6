"""What tests stand on: Debian packages, Pythons, virtualenvs, images of hosts. Each is made once, by whoever needs it first."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from .jobs import LOGS, ROOT, say

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What a command is in, by the parts that need it.
PACKAGES = {
    "lint": {"shellcheck": "shellcheck"},
    "integration": {"redis-server": "redis-server"},
    "hosts": {"podman": "podman", "crun": "crun", "iptables": "iptables", "ip": "iproute2", "mmdebstrap": "mmdebstrap",
              "ssh": "openssh-client", "/usr/lib/podman/netavark": "netavark", "/usr/lib/podman/aardvark-dns": "aardvark-dns"},
}
_ONE_AT_A_TIME = threading.Lock()


class Lacking(Exception):
    """What a part needs cannot be had, and why."""


class NoSuchPython(Lacking):
    """Which Pythons a machine has is its own affair."""


def packages(kinds: Sequence[str]) -> None:
    """Install what is lacking, where we may; who needs it says what could not be."""
    need = [package for kind in kinds for command, package in PACKAGES[kind].items() if not shutil.which(command)]
    if not need or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    say(f"apt-get install {' '.join(need)}")
    install = ["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *need]
    with (LOGS / "apt.log").open("wb") as log:
        for command in (install, ["apt-get", "update", "-qq"], install):
            done = subprocess.run(command, check=False, stdout=log, stderr=log, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
            if command is install and done.returncode == 0:
                return
    say((LOGS / "apt.log").read_text(errors="replace")[-2000:])


def python(lowest: int, highest: int = 99) -> str:
    """Return a Python 3 of these minor versions that really runs (a pyenv shim may be dead)."""
    names = ["python3", *(f"python3.{minor}" for minor in range(lowest, min(highest, 20) + 1))]
    for candidate in [*names, *sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python")))]:
        question = f"import sys, ensurepip; sys.exit(not {lowest} <= sys.version_info[1] <= {highest})"
        if (found := shutil.which(candidate)) and subprocess.run([found, "-c", question], check=False, capture_output=True).returncode == 0:
            return found
    raise NoSuchPython(f"no Python 3.{lowest}" + ("" if highest == lowest else " or newer"))


def virtualenv(directory: str, program: str, *requirements: str) -> Path:
    """Return the ``bin`` of a virtualenv that is made anew when its Python or what it is made from has changed."""
    place = ROOT / directory
    (ROOT / ".cache").mkdir(exist_ok=True)
    version = subprocess.run([program, "-c", "import sys; print(sys.version, sys.base_prefix)"], check=True, capture_output=True).stdout
    texts = b"".join((ROOT / name).read_bytes() for name in requirements)
    key, note = version.decode() + hashlib.sha256(texts).hexdigest(), place / "made-from"
    with (ROOT / ".cache" / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not note.exists() or note.read_text() != key:
            say(f"making {directory} ({version.decode().split()[0]})")
            shutil.rmtree(place, ignore_errors=True)
            for command in ([program, "-m", "venv", str(place)],
                            [str(place / "bin" / "pip"), "install", "--quiet", "--requirement", requirements[-1]]):
                done = subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                if done.returncode != 0:
                    raise Lacking(f"{directory}: {done.stdout[-2000:]}")
            note.write_text(key)
    return place / "bin"


def example(name: str) -> Path:
    """Return the ``bin`` for the tests of an example; one whose packages clash with ours has requirements for its tests."""
    if not (ROOT / name / "tests" / "requirements.txt").exists():
        return ROOT / ".venv" / "bin"
    return virtualenv(f".cache/{name.replace('/', '-')}", sys.executable, f"{name}/requirements.txt", f"{name}/tests/requirements.txt")


def why_no_hosts() -> str | None:
    """Say why systemd hosts cannot be had, where they cannot."""
    if os.geteuid() != 0:
        return "systemd hosts need root"
    if not shutil.which("podman") or not shutil.which("mmdebstrap"):
        return "podman or mmdebstrap cannot be installed"
    done = subprocess.run(["molecule/resources/in-namespace", "podman", "info"], check=False, cwd=ROOT, capture_output=True, text=True)
    return None if done.returncode == 0 else "podman: " + (done.stderr.strip().splitlines() or ["it does not start"])[-1]


def images() -> None:
    """Make the images of hosts first, so that no test's time is spent on it."""
    with _ONE_AT_A_TIME:
        for suite in ("bookworm", "trixie"):
            done = subprocess.run(["molecule/resources/in-namespace", "molecule/resources/host-image", suite], check=False, cwd=ROOT,
                                  capture_output=True, text=True)
            if done.returncode != 0:
                raise Lacking(f"the image of a {suite} host: {done.stderr[-2000:]}")


def own() -> None:
    """Make the environment of all that runs here; with the Python that runs this."""
    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        virtualenv(".venv", sys.executable, "requirements.txt", "requirements-dev.txt")
    except Lacking as error:
        sys.exit(f"bin/test: {error}")
