"""``ansible-playbook`` without its start: a parent that has imported Ansible forks a child for each play.

A child is as clean as a new process: nothing has been loaded, parsed or looked up in the parent but Ansible's own code, and the child's
arguments, directory, environment and files are those of the call. What is read from the environment at import must be the same then.
What each play would make anew out of the same files is made once: compiled code, and modules as they are packed for hosts. Those have
their compiled code beside them, which a host with this Python takes in place of compiling them in each call; any other does not look at it.
Tests in which a play is killed, and a handful of others, start the real command.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import dataclasses
import hashlib
import importlib.util
import io
import json
import marshal
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
#: Where Ansible keeps the modules that it has packed for hosts: below the directory of a run, and here for all runs of the same files.
PACKED = "ansiballz_cache"
KEPT = ROOT / ".cache" / "packed"
_ASKING = threading.Lock()


def play(words: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``ansible-playbook WORDS...`` with the checkout's configuration; return its status and what it said, as text."""
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **(env or {})}
    env.pop("PYTHONUNBUFFERED", None)  # with it a module, which comes by standard input, is read byte by byte
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
    from ansible import constants

    _make_once()
    (Path(constants.DEFAULT_LOCAL_TMP) / PACKED).symlink_to(_kept())
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


def _make_once() -> None:
    """Compile the collection's code, of which Ansible keeps nothing, and read Ansible's own table of names."""
    import ansible
    from ansible.executor import module_common
    from ansible.utils.collection_loader import _collection_finder as finder

    read, dump = finder._meta_yml_to_dict, module_common._CachedModule.dump
    code = {(str(path), text): compile(text, str(path), "exec", dont_inherit=True)
            for folder in (ROOT / ".collections/ansible_collections/workfleet/core/plugins").iterdir() if folder.name != "modules"
            for path in folder.rglob("*.py") for text in [path.read_bytes()]}
    own = (Path(ansible.__file__).parent / "config" / "ansible_builtin_runtime.yml").read_bytes()
    names = {own: read(own, ("ansible.builtin", "runtime.yml"))}

    def compiled(source: bytes, filename: str, **more: Any) -> Any:
        return code.get((filename, source)) or compile(source, filename, **more)

    def dump_with_code(packed: Any, path: str) -> None:
        dump(dataclasses.replace(packed, zip_data=with_code(packed.zip_data)), path)

    finder.compile, finder._meta_yml_to_dict = compiled, lambda text, content: names.get(text) or read(text, content)
    module_common._CachedModule.dump = dump_with_code


def _kept() -> Path:
    """Return the directory for modules that are packed of these files; those that nobody has used for a day go."""
    from ansible.release import __version__

    key = hashlib.sha256(f"{ROOT} {__version__} {sys.version}".encode())
    for path in sorted([*(ROOT / "library").rglob("*.py"), *(ROOT / "module_utils").rglob("*.py")]):
        key.update(f"\n{path}\n".encode() + path.read_bytes())
    place = KEPT / key.hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    os.utime(place)
    for old in KEPT.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another parent removes it too
            if old.stat().st_mtime < time.time() - 86400:
                shutil.rmtree(old, ignore_errors=True)
    return place


def with_code(packed: bytes) -> bytes:
    """Return an archive of Python files, in base64, with the compiled code beside each."""
    archive = io.BytesIO(base64.b64decode(packed))
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as files:
        for name in files.namelist():
            # The header says that its source need not be looked at.
            head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
            files.writestr(f"{name}c", head + marshal.dumps(compile(files.read(name), name, "exec", dont_inherit=True)))
    return base64.b64encode(archive.getvalue())


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
        (Path(folder) / PACKED).symlink_to(Path(constants.DEFAULT_LOCAL_TMP) / PACKED)
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
