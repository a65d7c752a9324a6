"""The difference between a Redis as declared and as it was seen, ready to be carried out and to be told.

What the server can change live, and how it spells a value, differs from version to version, so a throw-away server of the same program is
asked (``redis_oracle``), in check mode too.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import WorkfleetError
from ..host import effects
from ..host.steps import Step, text_diff
from . import config as redis_config
from . import info as redis_info
from . import live as redis_live
from .config import Declaration, as_set, same, shown
from .live import PASSWORD
from .oracle import Oracle
from .service import File, Running, Service, taken

if TYPE_CHECKING:
    from ..redis_url import Address

_PLACES = ("dir", "dbfilename", "appendfilename", "appenddirname")
_FIRST = ("maxmemory-policy",)  # a smaller memory only under the new policy
_LAST = ("maxmemory", "bind", "port")
STILL_VALID = ("redis_password: the password before stays valid beside the declared one until a run of site.yml has replaced the nodes of "
               "all hosts and none of the old ones is left; that run, or the next, ends it")


@dataclass(frozen=True)
class Live:
    """What a running server says of itself."""

    config: dict[str, str]
    info: dict[str, str]
    address: Address
    passwords: frozenset[str] | None  # digests, of the default user; None where the server has no users

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
    also: frozenset[str] = frozenset()  # digests of the passwords that stay valid beside the declared one


def plan(declared: Declaration, what: Service, app: str, state: str, seen: Observed, *, keep_data: bool = True) -> Plan:
    """The difference between what is declared and what was seen; nothing of the host is changed."""
    made = Plan()
    if state == "absent":
        # Where our configuration is not, neither server nor data are known to be ours.
        ours = seen.texts[what.include] is not None
        _plan_absence(made, declared, what, seen, _data(what, seen) if ours and not keep_data else [], keep_data=keep_data)
        return made
    text = redis_config.render(app, {**declared.lines, **what.fixed})
    made.also = redis_live.kept(declared.password, passwords_before(what, seen))
    if made.also:
        made.warnings.append(STILL_VALID)
    _plan_software(made, what, seen)
    restart = _plan_live(made, declared, what, text, seen) if seen.live and state != "stopped" else []
    if state == "stopped" and seen.running.pid is not None:
        _refuse_loss(declared, seen, "stop")
        made.verb = "stop"
        made.steps.append(Step("stop", what.unit, "declared stopped"))
    _plan_files(made, declared, what, text, app, seen)
    _plan_service(made, declared, what, app, state, seen, restart)
    return made


def _data(what: Service, seen: Observed) -> list[str]:
    """Return what the server keeps on the disk."""
    ours, base = redis_config.read(seen.texts[what.include]), redis_config.read(seen.base)

    def value(name: str, default: str) -> str:
        told = ours.get(name) or base.get(name) or [[default]]
        return seen.live.config.get(name, default) if seen.live else told[-1][0]

    folder = value("dir", "")
    return what.data(folder, [value("dbfilename", "dump.rdb"), value("appenddirname", "appendonlydir")]) if folder else []


def _plan_absence(made: Plan, declared: Declaration, what: Service, seen: Observed, data: list[str], *, keep_data: bool) -> None:
    if seen.running.pid is not None:
        if keep_data:
            _refuse_loss(declared, seen, "stop")
        made.verb = "stop"
        made.steps.append(Step("stop", what.unit, "declared absent"))
    # Our configuration, which tells whose the data are, goes last.
    for path in [*data, *what.leftovers()]:
        found = effects.status(path)
        if found is not None or path in data:  # a server writes some when it stops
            made.remove.append(path)
        if found is not None:
            made.steps.append(Step("remove", path, "declared absent"))
            if stat.S_ISREG(found.st_mode) and path not in data:
                made.diff.append(_diff(path, effects.read(path), None))
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
    if live is None:
        raise AssertionError("only a server that answers is changed live")
    wanted = {name: as_set(lines) for name, lines in {**declared.lines, **what.fixed}.items() if name != PASSWORD}
    ours = seen.texts[what.include]
    gone = sorted(set(redis_config.read(ours)) - {*wanted, PASSWORD})
    differ = [name for name, value in wanted.items() if not same(name, value, live.config.get(name, "\0"))]
    _plan_password(made, declared, what, seen)
    if not (differ or gone or ours != text):
        return []
    restart = []
    with Oracle(str(what.binary), what.user, declared, seen.base, text) as oracle:
        for name in sorted([*differ, *gone], key=_order):
            value, now = oracle.final(name, wanted.get(name)), live.config.get(name, "")
            if same(name, value, now):
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


def passwords_before(what: Service, seen: Observed) -> frozenset[str]:
    """The digests of the passwords that clients may have: of the server that runs, or of the one that would start."""
    if seen.live is not None:
        return seen.live.passwords or frozenset()
    return redis_config.passwords(seen.base, seen.texts[what.include])


def _plan_password(made: Plan, declared: Declaration, what: Service, seen: Observed) -> None:
    """Plan that the declared password is valid, and those before it as long as clients may have them."""
    live = seen.live
    if live is None:
        raise AssertionError("only a server that answers is changed live")
    now = live.config.get(PASSWORD, "")
    goal = made.also | ({redis_config.digest(declared.password)} if declared.password else set())
    if live.passwords == goal and (made.also or now == declared.password):
        return
    if live.passwords is None and now == declared.password:
        return
    made.live[PASSWORD] = declared.password
    change = f"{PASSWORD} {shown(PASSWORD, now)} -> {shown(PASSWORD, declared.password)}"
    made.steps.append(Step("live", what.unit, f"{change}; the one before stays valid" if made.also else change))
    if seen.texts[what.include] is None or made.also:
        return
    if live.passwords is None and now:
        made.warnings.append("redis_password: this server has no users (Redis before 6), so the password before is refused from now on: "
                             "tasks that run may not store their results until their nodes are replaced")
    elif not now:
        made.warnings.append("redis_password: there was none, and Redis takes none beside one: nodes that run without are refused new "
                             "connections until they are replaced")


def plan_end(declared: Declaration, what: Service, seen: Observed, *, check: bool) -> Plan:
    """Plan that the declared password alone is valid: the end of what :func:`plan` begins, which in check mode was only foretold."""
    made = Plan()
    also = redis_live.kept(declared.password, passwords_before(what, seen))
    if not also:
        return made
    foretold = (redis_config.without_rivals(seen.base, declared, also) if check else None) or seen.base
    made.base = redis_config.without_rivals(foretold, declared)
    if seen.live is not None:
        made.live[PASSWORD] = declared.password
        made.steps.append(Step("live", what.unit, f"{PASSWORD}: the one before is no longer valid"))
    if made.base is not None:
        made.steps.append(Step("write", what.base, "the password before is no longer valid"))
        made.diff.append(_diff(what.base, foretold, made.base))
    return made


def _order(name: str) -> tuple[int, int]:
    if name in _FIRST:
        return 0, _FIRST.index(name)
    return (2, _LAST.index(name)) if name in _LAST else (1, 0)


def _plan_files(made: Plan, declared: Declaration, what: Service, text: str, app: str, seen: Observed) -> None:
    base = redis_config.without_rivals(seen.base, declared, made.also)
    if base is not None:
        made.base = base
        made.steps.append(Step("write", what.base, "both passwords are valid over a restart too" if made.also else
                               "lines of a CONFIG REWRITE would win over ours at the next start"))
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
            try_out(declared, what, app)
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


def try_out(declared: Declaration, what: Service, app: str) -> None:
    """Refuse, before the first start, a configuration that the server would not start with."""
    text = redis_config.render(app, {**declared.lines, **what.fixed})
    with Oracle(str(what.binary), what.user, declared, effects.read(what.base), text) as oracle:
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
