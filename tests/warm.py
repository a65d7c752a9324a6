"""``ansible-playbook`` without its start: a parent that has imported Ansible forks a child for each play.

A child is as clean as a new process: nothing has been loaded, parsed or looked up in the parent but Ansible's own code, and the child's
arguments, directory, environment and files are those of the call. What is read from the environment at import must be the same then.
Tests in which a play is killed, and a handful of others, start the real command.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
_ASKING = threading.Lock()


def play(words: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``ansible-playbook WORDS...`` with the checkout's configuration; return its status and what it said, as text."""
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **(env or {})}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            request = json.dumps({"words": list(words), "env": env, "cwd": str(cwd)}).encode()
            with _ASKING:
                line = _parent(json.dumps(_read_at_import(env)))
                socket.send_fds(line, [len(request).to_bytes(8, "big")], [out.fileno(), err.fileno(), theirs.fileno()])
                line.sendall(request)
            theirs.close()
            status = int(ours.recv(100) or b"-1")
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(list(words), status, *(file.read().decode(errors="replace") for file in (out, err)))


def _read_at_import(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in sorted(env.items())
            if name.startswith(("ANSIBLE_", "PYTHON", "LC_", "LANG")) or name in ("PATH", "HOME")}


@cache
def _parent(read_at_import: str) -> socket.socket:
    """Start a parent, one for each set of variables that is read at import; it ends with this process."""
    ours, theirs = socket.socketpair()
    env = {**os.environ, **json.loads(read_at_import)}
    process = subprocess.Popen([sys.executable, "-m", "tests.warm", str(theirs.fileno())], pass_fds=[theirs.fileno()], cwd=ROOT, env=env,
                               stdin=subprocess.DEVNULL)
    theirs.close()
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _serve(line: socket.socket) -> None:
    import ansible.cli.playbook
    import ansible.executor.playbook_executor
    import ansible.executor.task_queue_manager
    import ansible.plugins.action.normal
    import ansible.plugins.callback.default
    import ansible.plugins.connection.local
    import ansible.plugins.connection.ssh
    import ansible.plugins.strategy.linear  # noqa: F401

    while True:
        head, files, _, _ = socket.recv_fds(line, 8, 3)
        if not head:
            return
        size, request = int.from_bytes(head, "big"), b""
        while len(request) < size:
            request += line.recv(size - len(request))
        if os.fork() == 0:
            line.close()
            _attend(json.loads(request), *files)
        for file in files:
            os.close(file)
        while _reap():
            pass


def _attend(request: dict[str, Any], out: int, err: int, answer: int) -> NoReturn:
    """Wait for the play and answer with its status: the child of a child, so that it is the parent of nothing else."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(err, 2)
        for file in (out, err, answer):
            os.close(file)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        sys.argv = ["ansible-playbook", *request["words"]]
        _play()
    _, status = os.waitpid(child, 0)
    os.write(answer, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _play() -> NoReturn:
    """Run the play. What the parent would remove when it ends is the parent's, and the directory of this run its own."""
    from ansible import constants
    from ansible.cli.playbook import main

    status: Any = 0
    with tempfile.TemporaryDirectory(prefix="ansible-local-", dir=Path(constants.DEFAULT_LOCAL_TMP).parent) as folder:
        constants.DEFAULT_LOCAL_TMP = folder
        try:
            main()
        except SystemExit as ended:
            status = ended.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


def _reap() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
