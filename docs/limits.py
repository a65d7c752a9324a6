"""How much of everything is taken: each row is tried on the code that judges an inventory, and shows the sentence that refuses more."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from plugins.module_utils.workfleet import decode, engines, forms, model
from plugins.module_utils.workfleet.engines.verbs import backlog
from plugins.module_utils.workfleet.engines.verbs import figures as engine_queues
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import files, foreign, limits
from plugins.module_utils.workfleet.managers import logfiles, supervisor
from plugins.module_utils.workfleet.nodes import lease
from plugins.module_utils.workfleet.queues import info as queues
from plugins.module_utils.workfleet.queues import load
from plugins.module_utils.workfleet.redis import config as redis_config
from plugins.module_utils.workfleet.release import archives, preflight
from plugins.module_utils.workfleet.release import spec as release_spec
from plugins.module_utils.workfleet.spec import checker
from plugins.module_utils.workfleet.spec import workers as spec

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = {"name": "a", "app": "m", "queues": ["q"]}
SOURCE = {"type": "git", "location": "https://h/x.git"}


def declared(**top: Any) -> list[str]:
    """Judge a declaration of nodes."""
    try:
        spec.parse({"host": "h1", "app": {"name": "shop", **top.pop("app", {})}, "groups": [GROUP], **top})
    except checker.SpecError as error:
        return error.problems
    return []


def group(key: str) -> Callable[[Any], list[str]]:
    """Judge a worker group with this key."""
    return lambda value: declared(groups=[{**GROUP, key: value}])


def release(key: str) -> Callable[[Any], list[str]]:
    """Judge an app with this key."""

    def judge(value: Any) -> list[str]:
        try:
            release_spec.parse({"name": "shop", "source": SOURCE, key: value}, "h1")
        except checker.SpecError as error:
            return error.problems
        return []

    return judge


def socket(directory: str) -> list[str]:
    """Judge a run directory under supervisor."""
    try:
        supervisor.socket_path(directory)
    except WorkfleetError as error:
        return [f"worker_run_directory: {error}"]
    return []


#: What, the variable, how the most is told, the most, more, and who judges it.
OFFLINE: list[tuple[str, str, str, Any, Any, Callable[[Any], list[str]]]] = [
    ("length of a name", "`app_name`, `name` of a group", "31", "a" * 31, "a" * 32, group("name")),
    ("nodes of a group on one host", "`nodes`", f"{forms.MOST_NODES:,}", forms.MOST_NODES, forms.MOST_NODES + 1, group("nodes")),
    (
        "tasks at once in a node",
        "`concurrency`",
        f"{forms.MOST_CONCURRENCY:,}",
        forms.MOST_CONCURRENCY,
        forms.MOST_CONCURRENCY + 1,
        group("concurrency"),
    ),
    (
        "time to drain, and any other in seconds",
        "`drain_seconds`, `worker_rollout`, …",
        "30 days",
        forms.MOST_SECONDS,
        forms.MOST_SECONDS + 1,
        group("drain_seconds"),
    ),
    ("length of a queue's name", "`queues`", f"{forms.LONGEST:,}", ["q" * forms.LONGEST], ["q" * (forms.LONGEST + 1)], group("queues")),
    (
        "size of one variable of the environment",
        "`app_env`, `app_secrets`, `env`, `secrets`",
        f"{checker.LONGEST_VALUE:,} characters",
        "x" * checker.LONGEST_VALUE,
        "x" * (checker.LONGEST_VALUE + 1),
        lambda value: declared(app={"env": {"A": value}}),
    ),
    (
        "size of one variable in bytes",
        "the same",
        f"{limits.MOST_WORD_BYTES:,} with its name",
        "x" * (limits.MOST_WORD_BYTES - 2),
        "x" * limits.MOST_WORD_BYTES,
        lambda value: list(limits.too_large([], {"A": value})),
    ),
    (
        "size of a node's environment",
        "the same",
        f"{files.LARGEST_ENVIRONMENT:,} bytes",
        5,
        6,
        lambda value: list(limits.too_large([], {f"A{number}": "x" * checker.LONGEST_VALUE for number in range(value)})),
    ),
    (
        "all queues of a group, options, …",
        "`queues`, `options`, `command`",
        f"{limits.MOST_WORD_BYTES:,} bytes",
        "q" * limits.MOST_WORD_BYTES,
        "q" * (limits.MOST_WORD_BYTES + 1),
        lambda value: list(limits.too_large([value], {})),
    ),
    (
        "length of a command",
        "the same",
        f"{limits.MOST_COMMAND_BYTES:,} bytes",
        256,
        257,
        lambda value: list(limits.too_large(["x" * 1024] * value, {})),
    ),
    (
        "length of a socket's path",
        "`worker_run_directory` under supervisor",
        f"{supervisor.SOCKET_BYTES}",
        "/run/workfleet/shop",
        "/run/" + "x" * 99,
        socket,
    ),
    (
        "size of a log file",
        "`worker_log.max_bytes`",
        f"{spec.MOST_LOG_BYTES:,}",
        {"max_bytes": spec.MOST_LOG_BYTES},
        {"max_bytes": spec.MOST_LOG_BYTES + 1},
        lambda value: declared(log=value),
    ),
    (
        "releases on a host",
        "`app_releases_kept`",
        f"{release_spec.MOST_RELEASES:,}",
        release_spec.MOST_RELEASES,
        release_spec.MOST_RELEASES + 1,
        release("releases_kept"),
    ),
    ("time of a step of a release", "`app_step_seconds`", "30 days", forms.MOST_SECONDS, forms.MOST_SECONDS + 1, release("step_seconds")),
    ("memory of Redis", "`redis_maxmemory`", "1 PiB", 1 << 50, (1 << 50) + 1, lambda value: redis_config.check({"redis_maxmemory": value})),
    ("tasks of a load", "`-e count`", f"{load.MOST_TASKS:,}", load.MOST_TASKS, load.MOST_TASKS + 1, lambda value: load.check(value, 0, 60)),
    (
        "time of a load",
        "`-e sample_seconds`",
        f"{load.LONGEST_SECONDS:g} s",
        load.LONGEST_SECONDS,
        load.LONGEST_SECONDS + 1,
        lambda value: load.check(1, 0, value),
    ),
]

#: What takes long, how long, what gives more, what is said.
TIMES: list[tuple[str, str, str, str]] = [
    (
        "an import of the app before a node is started, to look at its tasks",
        f"as a node's start, {limits.LEAST_IMPORT_SECONDS:g} s at least",
        "`worker_rollout.ready_timeout_seconds`",
        limits.of_import(0).is_over,
    ),
    (
        "a fetch by git, a run of pip, a release command",
        f"{limits.STEP_SECONDS:g} s",
        "`app_step_seconds`",
        limits.of_step(limits.STEP_SECONDS).is_over,
    ),
    (
        "a node's start",
        f"{model.Rollout().ready_timeout_seconds:g} s",
        "`worker_rollout.ready_timeout_seconds`",
        "is up but did not become ready within 120 s (worker_rollout.ready_timeout_seconds)",
    ),
    (
        "a drain",
        f"{model.Group('a', engines.DEFAULT).drain_seconds} s",
        "`drain_seconds`, `worker_rollout.drain_timeout_action`",
        "longer than drain_seconds, and waited for",
    ),
    (
        "another run that changes the same nodes",
        "30 s",
        "`worker_lock_seconds`",
        "is changing the nodes of shop on this host; wait for it, or end it",
    ),
    ("a canary's way", "30 s", "`verify_seconds`", "not taken from the queue within 30 s"),
    (
        "between two visits of a run to one of its hosts, of a run whose machine cannot be asked",
        f"{lease.RUN_LEASE_SECONDS} s",
        "",
        "its lease runs out … s from now, without another sign of life",
    ),
    ("programs of the system (systemctl, psql, apt)", "60 to 600 s", "", "did not end within … s"),
]

#: What is read of what others wrote, how much of it, and what becomes of the rest.
READ: list[tuple[str, str, str]] = [
    (
        "a message, a note, an answer in Redis",
        f"{decode.LARGEST >> 20} MiB, {decode.MOST_MARKS:,} marks; an answer {decode.LARGEST_ANSWER >> 20} MiB",
        "one bad entry that is named, and the rest goes on",
    ),
    ("tasks that wait, by name", f"the first {backlog.MOST:,} of each queue", "said to be cut"),
    ("keys of a database", f"{engine_queues.MOST_KEYS:,}", "said to be cut"),
    ("what happens in a queue", f"{queues.LONGEST_SAMPLE} s", "refused"),
    (
        "a source's files",
        f"{archives.MOST_MEMBERS:,} of {archives.MOST_BYTES >> 30} GiB, paths of {archives.LONGEST_PATH}",
        "refused before it is sent",
    ),
    (
        "a run record; another file on a host; names in a directory",
        f"{files.LARGEST_RECORD >> 20} MiB; {files.LARGEST_FILE >> 20} MiB; {files.MOST_NAMES:,}",
        "refused, named",
    ),
    ("what a program says", f"{foreign.KEPT_BYTES >> 10} KiB of its beginning and of its end", "its middle is left out, and said so"),
    ("log files", f"{logfiles.MOST_BYTES >> 20} MiB of a node, {logfiles.MOST_LINES:,} lines", "the end is shown"),
]

#: What else differs from machine to machine.
WORLD: list[tuple[str, str, str]] = [
    (
        "clock",
        f"hosts and control node within {preflight.CLOCKS_REFUSE:g} s",
        f"`deploy.yml` warns from {preflight.CLOCKS_WARN:g} s, refuses from {preflight.CLOCKS_REFUSE:g} s, and names the host",
    ),
    ("zone", "any, of the hosts, of each app and of the control node", "`logs.yml` has one order; what is shown is the control node's"),
    ("account", "one by name", "`validate.yml` refuses a run on this machine by a bare number, and says what to do: [in CI](ci.md)"),
    ("locale", "any", "the system's programs are read with `LC_ALL=C`; nodes have `LANG=C.UTF-8`, or what the app declares"),
    ("names of variables", "any", "words such as `version` are taken from `-e` alone: [playbooks](playbooks.md)"),
]


def page() -> str:
    """Return the page. Raises where a row does not hold."""
    lines = [
        "# Limits",
        "",
        "What has no bound in the world has one here, with the sentence that is said. A dash: nothing can be set.",
        "",
        "## Refused offline",
        "",
        "By `validate.yml`, and with it by every playbook, before any host is touched.",
        "",
        "| what | variable | taken | more is refused by |",
        "|---|---|---|---|",
    ]
    for what, variable, told, most, more, judge in OFFLINE:
        refused = judge(more)
        if judge(most) or len(refused) != 1:
            raise AssertionError(f"{what}: {judge(most)[:1]} {refused[:2]}")
        lines.append(f"| {what} | {variable} | {told} | `{short(refused[0])}` |")
    lines += ["", "## Ended when it takes longer", "", "| what | how long | what gives more | what is said |", "|---|---|---|---|"]
    lines += [f"| {what} | {long} | {variable or '-'} | `{said}` |" for what, long, variable, said in TIMES]
    lines += ["", "## Read of what others wrote", "", "| what | how much | more |", "|---|---|---|"]
    lines += [f"| {what} | {much} | {more} |" for what, much, more in READ]
    lines += ["", "## Of machines", "", "| what | taken | otherwise |", "|---|---|---|"]
    lines += [f"| {what} | {taken} | {otherwise} |" for what, taken, otherwise in WORLD]
    return "\n".join(lines)


def short(sentence: str) -> str:
    """Return a sentence without the long value that it repeats."""
    return re.sub(r"(\w)\1{20,}…?", r"\1\1\1…", sentence)
