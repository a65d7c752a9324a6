"""What a Redis makes of a configuration, asked of its own program: no table of versions and directives."""

from __future__ import annotations

import subprocess
import tempfile
import time
from typing import Any

from .. import resp
from ..errors import WorkfleetError
from ..host import effects
from ..redis_url import Address
from . import config
from .config import Declaration

_AWAY = ("port", "tls-port", "dir", "logfile", "pidfile", "unixsocket")  # given to the throw-away server by us
_FIXED = ("immutable", "protected", "Unsupported CONFIG", "Unknown option")  # how 7 and 6.2 refuse CONFIG SET


class Oracle:
    """A throw-away server of the installed program, on a socket in a private folder, with the configuration to be.

    It refuses what the real one would refuse to start with, spells values as the real one will, knows the values of
    directives that are no longer declared, and tells which directives cannot be changed live.
    """

    def __init__(self, program: str, user: str | None, declared: Declaration, base: str | None, text: str) -> None:
        self._program = program
        self._password = declared.password or None
        self._base = config.without_rivals(base, declared) or base or ""
        self._folder = folder = tempfile.mkdtemp(prefix="wf-")
        # What the server makes is in a directory of its own: what is made here is not in the way of anybody's links.
        effects.directory(folder, mode=0o711)
        self._socket, made = f"{folder}/its/sock", f"{folder}/its"
        effects.directory(made, mode=0o700, owner=user)
        # without the real places: reading `logfile` is enough to make that file, with a wrong owner (tested)
        for name, content in (("base", self._base), ("conf", text)):
            effects.write(f"{folder}/{name}", config.without(content, _AWAY), mode=0o600, owner=user)
        argv = [
            program, f"{folder}/base", "--include", f"{folder}/conf", "--port", "0", "--dir", made, "--logfile", "",
            "--pidfile", f"{made}/pid", "--unixsocket", self._socket, "--daemonize", "no", "--supervised", "no",
            "--cluster-enabled", "no", "--replicaof", "no", "one",
        ]
        as_user: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with the server
        self._process = subprocess.Popen(  # noqa: S603 - our own
            argv, stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said, cwd=made, env={"LC_ALL": "C"}, start_new_session=True,
            **as_user)

    def __enter__(self) -> Oracle:
        deadline = time.monotonic() + 10
        while True:
            try:
                address = Address(path=self._socket, password=self._password)
                self._client = resp.connect(address)
                words = [resp.text(word) for word in self._client.call("CONFIG", "GET", "*")]
                self.config = dict(zip(words[::2], words[1::2]))
                return self
            except resp.RespConnectionError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self._process.kill()
                    self._process.wait()
                    self._said.seek(0)
                    said = self._said.read(1 << 16).decode(errors="replace")
                    self.__exit__()
                    raise WorkfleetError(f"{self._program} does not accept the configuration: {_fatal(said)}") from None
                time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._said.close()
        effects.remove(self._folder)

    def final(self, name: str, declared: str | None) -> str:
        """The value of ``name`` as the server will tell it; ``declared`` is ``None`` for "as if never declared"."""
        if name not in self.config:
            raise WorkfleetError(f"redis_settings: {name} is no directive of {self._program}, or one it does not tell")
        if name not in _AWAY:
            return self.config[name] if name != "save" or declared is None else declared
        return config.as_set(config.read(self._base).get(name, [])) if declared is None else declared

    def changes_live(self, name: str) -> bool:
        """Whether CONFIG SET takes this directive at all: tried with the value it already has."""
        try:
            self._client.call("CONFIG", "SET", name, self.config[name])
        except resp.RespError as error:
            if any(word in str(error) for word in _FIXED):
                return False
        return True


def _fatal(said: str) -> str:
    """Why a server would not start, without the line itself, which may hold a secret."""
    lines = said.strip().splitlines()
    for at, line in enumerate(lines):
        if line.startswith(">>>"):
            why = lines[at + 1] if at + 1 < len(lines) else ""
            words = line.strip("> '\"").split()
            return f"{words[0] if words else '?'}: {why}"
    return lines[-1] if lines else "it ended without a word"
