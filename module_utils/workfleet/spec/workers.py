"""The inventory's words as values: parse, check, cross-check. Knows no files, processes or Ansible.

``parse`` finds every mistake of a declaration, not the first only, and never repeats a value that may be secret.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import engines, forms, redis_url, shown
from ..errors import WorkfleetError
from ..model import DASHBOARD, PARTS, SCHEDULER, App, Declaration, Group, Log, Policy, Rollout
from . import sandbox
from .checker import (
    ABSOLUTE,
    ENVIRONMENT_NAME,
    PATH,
    Checker,
    SpecError,
    boolean,
    log_format,
    niceness,
    parallelism,
    percentage,
    plain,
    port,
    shown_name,
    size,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}\Z")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s]+\Z")
BELOW_RUN = re.compile(r"/run(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)+\Z")
ADDRESS = re.compile(r"[A-Za-z0-9_.:-]+\Z")
URL_PREFIX = re.compile(r"/?[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*/?\Z")
USER_PASSWORD = re.compile(r"[^:,\x00-\x1f]+:[^,\x00-\x1f]+\Z")
#: What the kernel has numbers for.
MOST_TASKS, MOST_FILES = 1 << 22, forms.MOST
MANAGERS = ("systemd", "supervisor")
#: Below it each app has its run directory.
RUN_DIRECTORIES = "/run/workfleet/"
#: Neither has long tasks to wait for.
SINGLE_DRAIN_SECONDS = 10
#: Nodes of a group over all hosts; bytes of one log file.
MOST_OF_FLEET, MOST_LOG_BYTES = 100_000, 1 << 40
LIMITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "memory_max": (size, "bytes, or a number with K, M, G or T, from 1M to 1024T"),
    "cpu_quota": (percentage, "a percentage of one processor, such as 150%"),
    "tasks_max": (lambda value: whole(value, 1, MOST_TASKS), f"a whole number, 1 or more and at most {MOST_TASKS}"),
    "open_files": (lambda value: whole(value, 1, MOST_FILES), f"a whole number, 1 or more and at most {MOST_FILES}"),
    "nice": (niceness, "a whole number from -20 to 19"),
}
GROUP_KEYS = (
    "name", "engine", "app", "nodes", "queues", "concurrency", "drain_seconds", "env", "secrets", "limits", "state", "command",
    "settings", "options", "sandbox", "sandbox_without", "writable_paths", "autoscale",
)
_SINGLE_KEYS = ("app", "drain_seconds", "env", "secrets", "limits", "state", "options", "sandbox", "sandbox_without", "writable_paths")
SCHEDULER_KEYS = (*_SINGLE_KEYS, "settings", "schedule_directory")
DASHBOARD_KEYS = (*_SINGLE_KEYS, "address", "port", "basic_auth", "persistent", "url_prefix")
AUTOSCALE_KEYS = ("min", "max", "backlog_per_node", "scale_up_after_seconds", "scale_down_after_seconds", "oldest_age_seconds", "paused")
ROLLOUT_KEYS = ("order", "parallelism", "delay_seconds", "monitor_seconds", "failure_action", "drain_timeout_action", "wait_for_drain",
                "start_stagger_seconds", "ready_timeout_seconds")


def parse(raw: Mapping[str, Any]) -> Declaration:
    """Return the declaration of one app on one host.

    ``raw`` has the keys ``host`` (inventory name), ``app`` (mapping of the ``app_*`` variables without their prefix), ``manager``,
    ``run_directory``, ``groups``, ``scheduler``, ``dashboard``, ``rollout`` and ``log``; ``parts`` are those of :data:`PARTS`
    that the host is to have, all of them where none is named. What it is not to have is checked all the same.
    Raises :class:`SpecError` with every mistake found.
    """
    problems: list[str] = []
    warnings: list[str] = []
    app = parse_app(part(raw, "app", "app_name and its like", problems), problems)
    top = Checker("worker_", raw, problems)
    manager = top.choice("manager", "systemd", MANAGERS)
    given = raw.get("groups")
    parts = tuple(raw.get("parts") or PARTS)
    groups: list[Group] = []
    if not isinstance(given, (list, tuple, type(None))):
        problems.append("worker_groups: must be a list of entries")
    else:
        for number, entry in enumerate(given or ()):
            groups.append(parse_group(number, entry, app, manager, problems, warnings if "workers" in parts else []))
    check_unique(groups, problems)
    here = groups if "workers" in parts else []
    for name, parser in ((SCHEDULER, parse_scheduler), (DASHBOARD, parse_dashboard)):
        entry = part(raw, name, f"worker_{name}", problems)
        if entry:
            group = parser(entry, app, manager, problems, warnings if name in parts else [])
            groups = [*groups, group]
            here = [*here, group] if name in parts else here
    used = dict.fromkeys(group.engine for group in groups if group.state != "absent" and group.engine in engines.ALL)
    problems += dict.fromkeys(text for name in used for text in engines.named(name).url_problems(app))
    warnings += unproved(app)
    rollout = parse_rollout(part(raw, "rollout", "worker_rollout", problems), problems)
    log = parse_log(part(raw, "log", "worker_log", problems), problems)
    if not problems:
        here = [with_log_format(group, log.format, warnings) for group in here]
    run_directory = parse_run_directory(top, manager, f"/run/workfleet/{app.name}")
    if problems:
        raise SpecError(problems)
    return Declaration(
        host=str(raw.get("host", "")), app=app, manager=manager, run_directory=run_directory,
        groups=tuple(here), rollout=rollout, log=log, warnings=tuple(warnings), names=tuple(group.name for group in groups),
    )


def part(raw: Mapping[str, Any], key: str, label: str, problems: list[str]) -> Mapping[str, Any]:
    """Return a mapping within the declaration, empty where something else stands there."""
    found = raw.get(key)
    if found is None or hasattr(found, "items"):
        return found or {}
    problems.append(f"{label}: must be a mapping")
    return {}


def parse_run_directory(check: Checker, manager: str, default: str) -> str:
    """Return where run records are; systemd makes that directory, and makes it below /run only."""
    if check.raw.get("run_directory") in (None, ""):
        return default
    if manager == "systemd":
        path = check.text("run_directory", default, pattern=BELOW_RUN,
                          allowed="a path below /run, which systemd makes, of letters, digits and . _ - /")
    else:
        path = check.text("run_directory", default, pattern=ABSOLUTE, allowed=PATH)
    app = default.rpartition("/")[2]
    own = path == f"/run/{app}" or path.startswith((RUN_DIRECTORIES, f"/run/{app}/"))
    wrong = "" if "run_directory" in check.refused else forms.wrong_path(path) if own else forms.not_ones_own(path)
    if wrong:
        check.wrong("run_directory", f"{wrong}; below /run that is {default}, or a directory with the name of the app", given=path)
    return path


def parse_app(raw: Mapping[str, Any], problems: list[str]) -> App:
    """Return what the nodes share."""
    check = Checker("app_", raw, problems)
    if not raw.get("name"):
        problems.append("app_name: is required: it names everything that belongs to the app on a host")
    name = check.text("name", "", pattern=NAME, allowed="a lower-case name: a letter, then up to 30 of a-z 0-9 _ -")
    return App(
        name=name, user=check.account("user", name, root=True), group=check.account("group", name, root=True),
        root=check.directory("root", f"/opt/{name}"),
        env=check.environment("env"), secrets=check.environment("secrets"),
        broker_url=url(check, "broker_url"), result_url=url(check, "result_url"),
        broker_env=names(check, "broker_env"), result_env=names(check, "result_env"),
        broker_options=broker_options(check), has_release=bool(raw.get("has_release", True)),
    )


def url(check: Checker, key: str) -> str:
    """Return a URL, which may hold a password."""
    value = check.raw.get(key)
    if value in (None, ""):
        return ""
    try:
        if not URL.match(forms.line(value)):
            raise ValueError
    except (ValueError, TypeError):
        check.wrong(key, "must be a URL such as redis://:password@host:6379/0, in one line", secret=True)
        return ""
    if redis_url.is_meant_for_redis(str(value)):
        try:
            redis_url.parse(str(value))
        except redis_url.UrlError as error:
            check.wrong(key, str(error), secret=True)
            return ""
    return str(value)


def unproved(app: App) -> Iterator[str]:
    """Yield a sentence for each Redis whose certificate, or the name in it, its clients would not look at."""
    for variable, given in (("app_broker_url", app.broker_url), ("app_result_url", app.result_url)):
        tls = redis_url.parse(given).tls if redis_url.is_redis(given) else None
        if tls is not None and not tls.check_hostname:
            option = "ssl_check_hostname=false" if tls.cert_reqs == "required" else f"ssl_cert_reqs={tls.cert_reqs}"
            yield (f"{variable}: has {option}, by which whoever stands between may pass for the server and learn its password; "
                   "have all of it checked: ssl_cert_reqs=required, and ssl_ca_certs where the system does not know its CA")


def broker_options(check: Checker) -> Mapping[str, Any]:
    """Return how the app's transport lays things out; each engine reads its own names."""
    found = check.data("broker_options")
    for text in dict.fromkeys(text for engine in engines.ENGINES.values() for text in engine.option_problems(found)):
        check.refused.add("broker_options")
        check.problems.append(text)
    for name, value in found.items():
        # What stands between a queue's name and its priority is made of control characters where nobody says something else.
        if isinstance(value, str) and name != "sep" and (not value or shown.line(value) != value):
            check.wrong(f"broker_options.{name}", "must be a text of one line", secret=True)
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 <= value <= forms.MOST:
            check.wrong(f"broker_options.{name}", f"must be 0 or more and at most {forms.MOST}", secret=True)
    return found


def names(check: Checker, key: str) -> tuple[str, ...] | None:
    """Return a list of environment names, or None where the engine's own are meant."""
    if check.raw.get(key) is None:
        return None
    found = check.texts(key)
    for name in found:
        if not ENVIRONMENT_NAME.match(name):
            check.wrong(key, "must hold environment names", given=name)
    return found


def parse_group(number: int, raw: Any, app: App, manager: str, problems: list[str], warnings: list[str]) -> Group:
    """Return one entry of ``worker_groups``, checked by itself and by its engine."""
    label = f"worker_groups[{number}]"
    if not hasattr(raw, "items"):
        problems.append(f"{label}: must be a mapping with at least a name")
        return Group(name="", engine=engines.DEFAULT)
    if raw.get("name"):
        label += f" ({shown_name(raw['name'])})"
    check = Checker(label, raw, problems)
    check.unknown(GROUP_KEYS)
    if not raw.get("name"):
        problems.append(f"{label}: name: is required")
    group = Group(
        name=check.text("name", "", pattern=NAME, allowed="a name for units: a letter, then up to 30 of a-z 0-9 _ -"),
        engine=check.choice("engine", engines.DEFAULT, engines.ENGINES),
        nodes=check.whole("nodes", 1, 0, forms.MOST_NODES),
        queues=check.texts("queues", "a list of queue names"),
        concurrency=check.whole("concurrency", None, 1, forms.MOST_CONCURRENCY),
        drain_seconds=check.whole("drain_seconds", 300, 1, forms.MOST_SECONDS),
        command=check.texts("command", "a list: the program and its arguments", each=plain),
        settings=check.data("settings"),
        **shared_keys(check, manager),
    )
    if group.name in (SCHEDULER, DASHBOARD):
        check.wrong("name", f"belongs to worker_{group.name}; take another", given=group.name)
    if raw.get("autoscale") not in (None, "", {}):
        group = replace(group, autoscale=parse_autoscale(group, app, check))
    for queue in group.queues:
        if "," in queue:
            check.wrong("queues", "must be names without a comma", given=queue)
    if "engine" not in check.refused:
        judge(group, app, check, warnings)
    for single_one in engines.SINGLES.values():
        if group.state != "absent" and single_one.is_started_by(group):
            judge_second(group, single_one.what, check, warnings)
    return group


def judge_second(group: Group, what: str, check: Checker, warnings: list[str]) -> None:
    """Refuse schedulers of which there are certainly several; warn of one that no lock keeps the only one."""
    if group.nodes > 1:
        check.wrong("command", f"starts {what} in each of {group.nodes} nodes, and each sends every periodic task; declare the one "
                    "scheduler of the app with worker_scheduler", secret=True)
    else:
        warnings.append(f"{check.entry}: command: starts {what}, and nothing keeps it the only one over all hosts: each that runs "
                        "sends every periodic task; declare worker_scheduler, which a lock keeps the only one")


def shared_keys(check: Checker, manager: str, *, is_known: bool = False) -> dict[str, Any]:
    """Return the keys that worker groups, the scheduler and the dashboard have in common; of these it ``is_known`` what they do."""
    found: dict[str, Any] = {
        "app": app_of(check),
        "drain_declared": check.raw.get("drain_seconds") is not None,
        "env": check.environment("env"),
        "secrets": check.environment("secrets"),
        "limits": parse_limits(check, manager),
        "state": check.choice("state", "started", ("started", "stopped", "absent")),
        "options": check.data("options"),
        "sandbox": check.choice("sandbox", "basic", sandbox.CHOICES),
        "sandbox_without": check.texts("sandbox_without", "a list of directives of systemd's, such as RestrictNamespaces"),
        "writable_paths": check.texts("writable_paths", "a list of absolute paths"),
    }
    for path in found["writable_paths"]:
        if forms.wrong_path(path):
            check.wrong("writable_paths", f"must be absolute paths: each {forms.wrong_path(path)}", given=path)
    refuse_credentials(check, found["options"])
    if manager == "supervisor":
        refuse_sandbox(check, found["sandbox"], found["writable_paths"])
    if found["sandbox"] == "basic" and (manager == "supervisor" or is_known):
        found["sandbox"] = "service"
    return found


def app_of(check: Checker) -> str:
    """Return where a group's app is, in the form of its engine."""
    engine = engines.ENGINES.get(str(check.raw.get("engine", engines.DEFAULT)))
    if engine is None or engine.app_pattern is None:
        return check.text("app", "")
    return check.text("app", "", pattern=engine.app_pattern, allowed=engine.app_words)


def refuse_credentials(check: Checker, options: Mapping[str, Any]) -> None:
    """Refuse what every user of the host could read in the list of processes; none of it is repeated."""
    command = check.raw.get("command")
    for key, words in (("command", command if isinstance(command, (list, tuple)) else ()), ("options", options.values())):
        if any(forms.has_credentials(word) for word in words):
            check.wrong(key, "holds a URL with a password or a token, and every user of the host can read a command line; put it into "
                        "secrets, or app_secrets, and have the program read it from its environment", secret=True)


def refuse_sandbox(check: Checker, level: str, writable_paths: Iterable[str]) -> None:
    """Refuse what supervisor does not keep: its nodes share the sandbox of their supervisord, which leaves files alone."""
    for key, given in (("sandbox", level if level == "strict" else None), ("writable_paths", list(writable_paths))):
        if given and key not in check.refused:
            check.wrong(key, "cannot be kept by supervisor, whose nodes share one sandbox that leaves files alone; use worker_manager: "
                        "systemd or drop it", given=given)


def parse_autoscale(group: Group, app: App, check: Checker) -> Policy | None:
    """Return the policy of a group; one whose queues or broker nobody can look at is refused."""
    raw = check.mapping("autoscale")
    inner = Checker(f"{check.entry}: autoscale", raw, check.problems)
    inner.unknown(AUTOSCALE_KEYS)
    for key in ("max", "backlog_per_node"):
        if raw and raw.get(key) is None:
            check.problems.append(f"{inner.entry}: {key}: is required")
    least, most = inner.whole("min", 1, 0, MOST_OF_FLEET), inner.whole("max", None, 1, MOST_OF_FLEET)
    if most is not None and least > most:
        inner.wrong("min", f"must not be above max, which is {most}", given=least)
    policy = Policy(
        min=least, max=most or 1, backlog_per_node=inner.whole("backlog_per_node", 1, 1),
        scale_up_after_seconds=inner.seconds("scale_up_after_seconds", Policy.scale_up_after_seconds),
        scale_down_after_seconds=inner.seconds("scale_down_after_seconds", Policy.scale_down_after_seconds),
        oldest_age_seconds=inner.seconds("oldest_age_seconds", None, zero=False),
        paused=inner.value("paused", False, boolean, "true or false"),
    )
    if "engine" not in check.refused:
        engine = engines.named(group.engine)
        if not engine.speaks:
            check.wrong("autoscale", f"engine {group.engine} has no queues whose backlog could be counted", secret=True)
        elif not group.queues and "queues" not in check.refused:
            check.wrong("autoscale", "needs the names of the queues whose backlog counts: set queues", secret=True)
        elif not app.broker_url:
            check.wrong("autoscale", "needs app_broker_url, where the backlog is", secret=True)
    return policy if raw else None


def judge(group: Group, app: App, check: Checker, warnings: list[str]) -> None:
    """Have the engine say what is wrong with an entry, but for keys of which that is said already."""
    engine = engines.named(group.engine)
    kept = sandbox.problems(group.sandbox, group.sandbox_without, group.writable_paths, app.root)
    said = [text for text in (*engine.problems(group), *kept) if re.split(r"[.: ]", text)[0] not in check.refused]
    check.problems.extend(f"{check.entry}: {text}" for text in said)
    if not check.problems:
        warnings.extend(f"{check.entry}: {text}" for text in (*engine.url_warnings(group, app), *engine.warnings(group, app)))


def parse_scheduler(raw: Mapping[str, Any], app: App, manager: str, problems: list[str], warnings: list[str]) -> Group:
    """Return the group of ``worker_scheduler``. ``more``: ``schedule_directory``, and ``lock``, a key in the broker."""
    check = Checker("worker_scheduler", raw, problems)
    check.unknown(SCHEDULER_KEYS)
    directory = check.directory("schedule_directory", f"{app.root}/schedule")
    group = single(check, SCHEDULER, engines.SCHEDULER, manager, directory, settings=check.data("settings"),
                   more={"schedule_directory": directory, "lock": f"workfleet:{app.name}:scheduler"})
    judge(group, app, check, warnings)
    return group


def parse_dashboard(raw: Mapping[str, Any], app: App, manager: str, problems: list[str], warnings: list[str]) -> Group:
    """Return the group of ``worker_dashboard``. ``more``: ``address``, ``port``, ``url_prefix``, and ``directory``, where it
    keeps its state (empty where it keeps none). What ``basic_auth`` holds becomes a secret of the node's environment.
    """
    check = Checker("worker_dashboard", raw, problems)
    check.unknown(DASHBOARD_KEYS)
    keeps = check.value("persistent", True, boolean, "true or false")
    directory = f"{app.root}/dashboard" if keeps else ""
    more = {
        "address": check.text("address", "127.0.0.1", pattern=ADDRESS, allowed="an address to listen on, such as 127.0.0.1 or ::"),
        "port": check.value("port", 5555, port, "a port from 1 to 65535"),
        "url_prefix": check.text("url_prefix", "", pattern=URL_PREFIX, allowed="a path such as dashboard, of letters, digits and . _ - /"),
        "directory": directory,
    }
    group = single(check, DASHBOARD, engines.DASHBOARD, manager, directory, more=more)
    users = basic_auth(check)
    if users:
        group = replace(group, secrets={**group.secrets, engines.named(engines.DASHBOARD).auth_env: ",".join(users)})
    judge(group, app, check, warnings)
    return group


def single(check: Checker, name: str, engine: str, manager: str, directory: str, **keys: Any) -> Group:
    """Return a group of one node that may write to ``directory``."""
    return Group(name=name, engine=engine, drain_seconds=check.whole("drain_seconds", SINGLE_DRAIN_SECONDS, 1, forms.MOST_SECONDS),
                 directories=(directory,) if directory else (), **shared_keys(check, manager, is_known=True), **keys)


def basic_auth(check: Checker) -> tuple[str, ...]:
    """Return the ``user:password`` texts of ``basic_auth``, one or a list; they are never repeated in a message."""
    given = check.raw.get("basic_auth")
    found = [] if given in (None, "") else [given] if isinstance(given, str) else given
    if not isinstance(found, (list, tuple)) or not all(isinstance(item, str) and USER_PASSWORD.match(item) for item in found):
        check.wrong("basic_auth", "must be user:password or a list of such texts, none with a comma or a line end, which the dashboard "
                    "does not take", secret=True)
        return ()
    return tuple(found)


def parse_limits(check: Checker, manager: str) -> dict[str, Any]:
    """Return the limits; those that only the kernel's control groups can keep are refused under supervisor."""
    raw = check.mapping("limits")
    inner = Checker(f"{check.entry}: limits", raw, check.problems)
    inner.unknown(LIMITS)
    found = {key: inner.value(key, None, sound, allowed) for key, (sound, allowed) in LIMITS.items() if raw.get(key) is not None}
    if manager == "supervisor":
        for key in ("memory_max", "cpu_quota", "tasks_max"):
            if key in found:
                inner.wrong(key, "cannot be kept by supervisor, which has no control groups; use worker_manager: systemd or drop it",
                            given=found[key])
    return found


def parse_rollout(raw: Mapping[str, Any], problems: list[str]) -> Rollout:
    """Return how nodes are replaced."""
    check = Checker("worker_rollout", raw, problems)
    check.unknown(ROLLOUT_KEYS)
    base = Rollout()
    return Rollout(
        order=check.choice("order", base.order, ("start-first", "stop-first")),
        failure_action=check.choice("failure_action", base.failure_action, ("rollback", "pause")),
        drain_timeout_action=check.choice("drain_timeout_action", base.drain_timeout_action, ("wait", "kill")),
        wait_for_drain=check.value("wait_for_drain", base.wait_for_drain, boolean, "true or false"),
        parallelism=check.value("parallelism", base.parallelism, parallelism,
                                f"a count of 1 or more and at most {forms.MOST_NODES}, or a percentage up to 100%"),
        delay_seconds=check.seconds("delay_seconds", base.delay_seconds),
        monitor_seconds=check.seconds("monitor_seconds", base.monitor_seconds),
        start_stagger_seconds=check.seconds("start_stagger_seconds", base.start_stagger_seconds),
        ready_timeout_seconds=check.seconds("ready_timeout_seconds", base.ready_timeout_seconds),
    )


def parse_log(raw: Mapping[str, Any], problems: list[str]) -> Log:
    """Return where nodes write their output."""
    check = Checker("worker_log", raw, problems)
    check.unknown(("to", "format", "max_bytes", "backups"))
    base = Log()
    return Log(
        to=check.choice("to", base.to, ("journal", "file")),
        format=check.value("format", base.format, log_format, "a format of Python's logging in one line, of what every record has, such as "
                           "%(asctime)s %(levelname)s %(message)s"),
        max_bytes=check.whole("max_bytes", base.max_bytes, 1, MOST_LOG_BYTES), backups=check.whole("backups", base.backups, 0, 1000),
    )


def with_log_format(group: Group, text: str, warnings: list[str]) -> Group:
    """Return a group whose engine writes in the format ``text``; one that cannot stays as it is, and a warning says why."""
    if not text:
        return group
    try:
        return engines.named(group.engine).with_log_format(group, text)
    except WorkfleetError as error:
        warnings.append(f"worker_log: format: is not that of {group.name}, which keeps its own: {error}")
        return group


def check_unique(groups: list[Group], problems: list[str]) -> None:
    """Refuse two entries of one name."""
    seen: dict[str, int] = {}
    for number, group in enumerate(groups):
        if group.name and group.name in seen:
            problems.append(f"worker_groups[{number}] ({group.name}): name: is used by worker_groups[{seen[group.name]}] too; "
                            "names are unique per app")
        seen.setdefault(group.name, number)


def selected(only: str | None) -> list[str] | None:
    """Return the group names that ``-e worker_only=a,b`` narrows to, or None for all; see :func:`unknown_names`."""
    if not only:
        return None
    if not isinstance(only, str):
        raise SpecError(["worker_only: must be names of worker groups with commas between them, one text"])
    return [name.strip() for name in only.split(",") if name.strip()]


def unknown_names(only: str | None, known: Iterable[str]) -> list[str]:
    """Return a sentence for each name in ``worker_only`` that no host declares."""
    names = list(dict.fromkeys(known))
    wanted = selected(only)
    if wanted == []:
        return [f"worker_only = {forms.quoted(only)}: names no worker group; known are {', '.join(names)}"]
    return [f"worker_only: {shown.line(shown_name(name))}: no such worker group; known are {', '.join(names)}"
            for name in wanted or () if name not in names]
