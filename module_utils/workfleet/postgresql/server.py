"""One PostgreSQL on one host, Debian's cluster ``main``: look, plan, carry out.

Settings live in a file of ours in ``conf.d``; a reload is enough for most, and the server itself tells which need a
restart (``pg_settings.context``). Roles and databases are made by ``psql`` as ``postgres`` through the local socket.
Nothing is ever dropped.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import shown
from ..errors import WorkfleetError
from ..host import effects, foreign, packages, system
from ..host.steps import Step, text_diff
from . import config
from .config import Declaration

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE = "postgresql"
_STAMP = re.compile(r"^\d{4}-.*?\[\d+\] (?:FATAL|HINT):", re.MULTILINE)
_PATIENCE = 600.0
_READY = 60.0
_LOOK = """
SELECT json_build_object(
  'version', current_setting('server_version'),
  'loaded', extract(epoch FROM pg_conf_load_time()),
  'roles', (SELECT json_object_agg(r.rolname, json_build_object('login', r.rolcanlogin, 'kept', r.rolpassword)) FROM pg_authid r),
  'databases', (SELECT json_object_agg(d.datname, pg_get_userbyid(d.datdba)) FROM pg_database d),
  'settings', (SELECT json_object_agg(s.name, json_build_object('context', s.context, 'setting', s.setting,
     'shown', current_setting(s.name, true), 'pending', s.pending_restart)) FROM pg_settings s));
"""


@dataclass(frozen=True)
class Cluster:
    """Debian's cluster ``main`` of one version."""

    version: str
    port: str = "5432"
    online: bool = False
    log_file: str = ""

    @property
    def unit(self) -> str:
        return f"postgresql@{self.version}-main.service"

    @property
    def folder(self) -> str:
        return f"/etc/postgresql/{self.version}/main"

    @property
    def conf(self) -> str:
        return f"{self.folder}/conf.d/workfleet.conf"

    @property
    def hba(self) -> str:
        return f"{self.folder}/pg_hba.conf"


@dataclass
class Plan:
    """The difference, ready to be carried out and to be told."""

    steps: list[Step] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    install: bool = False
    files: dict[str, str] = field(default_factory=dict)
    verb: str | None = None  # start, restart or reload
    sql: list[str] = field(default_factory=list, repr=False)

    def write(self, path: str, before: str | None, text: str) -> None:
        """Plan a file's text."""
        self.files[path] = text
        self.steps.append(Step("write", path, "not there" if before is None else "changed"))
        self.diff.append(text_diff(path, before, text))

    def live(self, what: str, reason: str, sql: str) -> None:
        """Plan a statement."""
        self.sql.append(sql)
        self.steps.append(Step("live", what, reason))


def run(variables: Mapping[str, Any], app: str, check_mode: bool) -> tuple[Plan, dict[str, Any]]:
    """Look, plan and, unless in check mode, carry out; return the plan and what the server is then."""
    declared = config.parse(variables)
    cluster, installed = find()
    seen = look(cluster) if cluster.online else None
    made = plan(declared, app, cluster, installed, seen)
    if made.steps and not check_mode:
        apply(made, declared, cluster, installed)
        seen = look(cluster)
    return made, {"version": seen["version"] if seen else None, "port": int(cluster.port)}


# --- observe ------------------------------------------------------------------------------------------------------


def find() -> tuple[Cluster, bool]:
    """Return the newest cluster ``main``, or the one that will be, and whether it is there."""
    there = system.here()
    if os.geteuid() != 0:
        raise WorkfleetError("PostgreSQL needs root on this host: use become: true")
    if not os.path.isdir("/run/systemd/system"):
        raise WorkfleetError("PostgreSQL needs systemd on this host")
    found = []
    if os.path.exists("/usr/bin/pg_lsclusters"):
        for line in effects.run(["pg_lsclusters", "-h"], check=False).out.splitlines():
            version, name, port, state, _, _, log = line.split()[:7]
            if name == "main":
                found.append(Cluster(version, port, state.startswith("online"), log))
    if found:
        return max(found, key=lambda cluster: float(cluster.version)), True
    return Cluster(there.postgresql), False


def psql(cluster: Cluster, sql: str) -> str:
    """Run statements as ``postgres``, by standard input: none stands in a command line."""
    argv = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-p", cluster.port, "-d", "postgres"]
    done = foreign.run("postgres", argv, stdin=sql, check=False, env={"PGOPTIONS": "-c log_statement=none"})
    if done.rc != 0:
        said = shown.end(" ".join(line for line in done.err.splitlines() if not line.startswith(("LINE ", "STATEMENT"))), 1000)
        hint = "; its pg_hba.conf must let the account postgres in (local all postgres peer)" if "authentication" in said else ""
        raise WorkfleetError(f"PostgreSQL (cluster {cluster.version}/main, port {cluster.port}) refused: {said.strip()}{hint}")
    return done.out


def look(cluster: Cluster) -> dict[str, Any]:
    """Ask a running server for all that is compared."""
    found: dict[str, Any] = json.loads(psql(cluster, _LOOK))
    return found


# --- plan ---------------------------------------------------------------------------------------------------------


def plan(declared: Declaration, app: str, cluster: Cluster, installed: bool, seen: dict[str, Any] | None) -> Plan:
    """The difference between what is declared and what was seen; nothing of the host is changed."""
    made = Plan()
    if not installed:
        made.install = True
        made.steps.append(packages.step(PACKAGE, "not on this host"))
    before = effects.read(cluster.conf)
    refuse_foreign(cluster, config.owner(before), app)
    text = config.conf(app, declared)
    if before != text:
        if installed:
            refuse_settings(declared, cluster)
        made.write(cluster.conf, before, text)
    rules = effects.read(cluster.hba)
    wanted = config.hba(rules or "", declared)
    if (installed and rules != wanted) or (not installed and wanted):
        made.write(cluster.hba, rules, wanted)
    plan_service(made, declared, cluster, config.read(before), seen)
    if seen is None and installed:
        made.warnings.append("PostgreSQL is down: what is to be done to its users and databases can be told when it runs")
    else:
        plan_objects(made, declared, seen or {"roles": {}, "databases": {}})
    return made


def refuse_foreign(cluster: Cluster, holder: str | None, app: str) -> None:
    """Refuse a server that another app's inventory manages."""
    if holder not in (None, app):
        raise WorkfleetError(
            f"{cluster.conf} belongs to app {holder}, not to {app}. Apps can share a PostgreSQL, but one inventory manages it: take "
            f"this host out of the inventory group postgresql of {app} (drop its postgresql_* variables), and declare its users "
            f"and databases in the inventory of {holder}"
        )


def refuse_settings(declared: Declaration, cluster: Cluster) -> None:
    """Refuse what the server's own program does not take, before a running server reads it, or one is started with it."""
    program = f"/usr/lib/postgresql/{cluster.version}/bin/postgres"
    argv = [program, "-D", cluster.folder, "-C", "config_file"]
    for name, value in config.lines(declared).items():
        argv += ["-c", f"{name}={value}"]
    done = foreign.run("postgres", argv, check=False)
    if done.rc != 0:
        said = " ".join(_STAMP.sub("", done.err).split())
        unknown = re.search(r'unrecognized configuration parameter "([^"]+)"', said)
        near = difflib.get_close_matches(unknown[1], known_settings(program), 1) if unknown else []
        hint = f"; did you mean {near[0]}?" if near else ""
        raise WorkfleetError(f"postgresql_settings: PostgreSQL {cluster.version} refuses them: {said}{hint}")


def known_settings(program: str) -> list[str]:
    """Return the names of the settings that a version of PostgreSQL has."""
    told = foreign.run("postgres", [program, "--describe-config"], check=False).out
    return [line.partition("\t")[0] for line in told.splitlines()]


def plan_service(
    made: Plan, declared: Declaration, cluster: Cluster, before: Mapping[str, str], seen: Mapping[str, Any] | None
) -> None:
    """Plan what the server needs to have its files' settings."""
    if seen is None:
        made.verb = "start"
        made.steps.append(Step("start", cluster.unit, "not running"))
        return
    settings = {name.lower(): told for name, told in seen["settings"].items()}
    after = config.lines(declared)
    why = [name for name in sorted({*before, *after}) if needs_restart(before.get(name), after.get(name), settings.get(name))]
    unread = not made.files and any(_changed(path) > seen["loaded"] for path in (cluster.conf, cluster.hba))
    if why:
        made.verb = "restart"
        made.steps.append(Step("restart", cluster.unit, f"cannot be changed live: {', '.join(why)}"))
    elif made.files or unread:
        made.verb = "reload"
        made.steps.append(Step("reload", cluster.unit, "its files changed"))


def needs_restart(before: str | None, after: str | None, told: Mapping[str, Any] | None) -> bool:
    """Whether the server must be restarted for a setting of ours."""
    if told is None or told["context"] != "postmaster":
        return False
    if before == after:
        return bool(told["pending"])
    return after is None or after not in (told["setting"], told["shown"])


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def plan_objects(made: Plan, declared: Declaration, seen: Mapping[str, Any]) -> None:
    """Plan roles and databases; what is there and not declared is left alone."""
    roles, databases = seen["roles"] or {}, seen["databases"] or {}
    for user in declared.users:
        there = roles.get(user.name)
        if there is None:
            why, verb = "missing", "CREATE"
        elif not config.matches(user.password, there["kept"]):
            why, verb = "its password differs", "ALTER"
        elif not there["login"]:
            why, verb = "it may not log in", "ALTER"
        else:
            continue
        kept = config.verifier(user.password)
        made.live(f"role {user.name}", why, f"{verb} ROLE \"{user.name}\" LOGIN PASSWORD '{kept}';")
    for name, owner in declared.databases.items():
        if name not in databases:
            made.live(f"database {name}", "missing", f'CREATE DATABASE "{name}" OWNER "{owner}";')
        elif databases[name] != owner:
            raise WorkfleetError(
                f"postgresql_databases: {name} is there and belongs to {databases[name]}, not to {owner}. Choose another name, or, if "
                f'it shall be this app\'s: sudo -u postgres psql -c \'ALTER DATABASE "{name}" OWNER TO "{owner}"\''
            )


# --- apply --------------------------------------------------------------------------------------------------------


def apply(made: Plan, declared: Declaration, cluster: Cluster, installed: bool) -> None:
    """Carry a plan out, in the order of its steps."""
    if made.install:
        install(cluster)
        refuse_settings(declared, cluster)
        if cluster.hba in made.files:
            made.files[cluster.hba] = config.hba(effects.read(cluster.hba) or "", declared)
    before = {path: effects.read(path) for path in made.files}
    for path, text in made.files.items():
        put(cluster, path, text)
    try:
        if made.verb:
            control(made.verb, cluster)
    except WorkfleetError as error:
        if made.verb != "restart":
            raise
        for path, former in before.items():
            put(cluster, path, former)
        control("start", cluster)
        raise WorkfleetError(f"{error}\nIts former settings are back, and it runs with them.") from error
    if made.verb == "start" and installed:  # now it can be asked
        plan_objects(made, declared, look(cluster))
    if made.verb == "reload":
        restart_pending(made, declared, cluster)
    for statement in made.sql:
        psql(cluster, statement)


def install(cluster: Cluster) -> None:
    """Install the package; its server waits for our settings."""
    units = ["postgresql.service", cluster.unit]
    effects.run(["systemctl", "mask", "--runtime", *units])
    try:
        packages.install(PACKAGE)
    finally:
        effects.run(["systemctl", "unmask", "--runtime", *units])
    if not os.path.isdir(cluster.folder):
        raise WorkfleetError(f"the package {PACKAGE} made no cluster {cluster.version}/main; make it with pg_createcluster")


def put(cluster: Cluster, path: str, text: str | None) -> None:
    """Write one of the server's files, or remove it."""
    if text is None:
        effects.remove(path)
    else:
        effects.write(path, text, mode=0o640 if path == cluster.hba else 0o644, owner="postgres", group="postgres")


def control(verb: str, cluster: Cluster) -> None:
    """Start, restart or reload, and wait until the server answers."""
    effects.run(["systemctl", "reset-failed", cluster.unit], check=False)
    done = effects.run(["systemctl", verb, cluster.unit], timeout=_PATIENCE, check=False)
    ready = ["pg_isready", "-q", "-p", cluster.port]
    deadline = time.monotonic() + _READY
    while done.rc == 0 and foreign.run("postgres", ready, check=False).rc != 0:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    else:
        if done.rc == 0:
            return
    last = ""
    log = cluster.log_file or f"/var/log/postgresql/postgresql-{cluster.version}-main.log"
    with contextlib.suppress(effects.Unreadable):
        last = effects.end(log, 4096, "postgres")[0].decode(errors="replace")
    last = "\n".join(last.splitlines()[-6:])
    raise WorkfleetError(f"{cluster.unit} did not {verb}: {done.err.strip()}\n{last}".rstrip())


def restart_pending(made: Plan, declared: Declaration, cluster: Cluster) -> None:
    """Restart where the reload of an interrupted run's file tells that it is needed."""
    settings = look(cluster)["settings"]
    why = [name for name, told in settings.items() if told["pending"] and name.lower() in config.lines(declared)]
    if why:
        made.steps.append(Step("restart", cluster.unit, f"cannot be changed live: {', '.join(why)}"))
        control("restart", cluster)
