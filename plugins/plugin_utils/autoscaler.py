"""What the control node knows of the autoscaler's timer: its variables, the inventory to copy, the texts to write."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import jinja2
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import forms, release_spec, sandbox, shown, spec
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.plugin_utils.render import TEMPLATES, sandbox_lines, unit_path, unit_word, unit_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STATES = ("started", "stopped", "absent")
#: An inventory is texts; who names a home directory by mistake is told so.
MOST_BYTES = 5_000_000
#: What ``flock`` answers when somebody runs an evaluation just now.
LOCKED_STATUS = 75
#: A pause of more than a day is no autoscaling.
MOST_SECONDS = 86_400


def check(values: Mapping[str, Any]) -> list[str]:
    """Return the mistakes in the variables of the role; ``values`` has them with their prefix."""
    problems: list[str] = []
    given = spec.Checker("autoscaler_", {name.removeprefix("autoscaler_"): value for name, value in values.items()}, problems)
    given.text("name", "x", pattern=spec.NAME, allowed="a name for units: a letter, then up to 30 of a-z 0-9 _ -")
    given.account("user", "x")
    given.directory("root", "/x")
    given.choice("state", "started", STATES)
    given.whole("interval_seconds", 30, 1, MOST_SECONDS)
    given.value("dry_run", False, spec.boolean, "true or false")
    given.value("inventory", "", forms.name, "the path of an inventory on this control node")
    for key in ("secret_key", "known_hosts", "vault_password"):
        given.value(key, "", multiline, "a text without NUL or other control characters", secret=True)
    release_spec.python(given)
    release_spec.requirements(given)
    given.environment("pip_environment")
    return problems


def multiline(value: Any) -> str:
    """Return a text that may have several lines."""
    if not isinstance(value, str) or shown.text(value) != value.replace("\r\n", "\n") or len(value) > spec.LONGEST_VALUE:
        raise ValueError
    return value


def request(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the host is asked for."""
    problems = check({f"autoscaler_{key}": value for key, value in given.items()})
    if problems:
        raise spec.SpecError(problems)
    root, state = str(given["root"]), str(given.get("state") or "started")
    files, executable = ({}, []) if state == "absent" else inventory(str(given["inventory"]))
    secrets = {"key": given.get("secret_key"), "known_hosts": given.get("known_hosts"), "vault": given.get("vault_password")}
    private = {f"private/{name}": f"{str(text).rstrip()}\n" for name, text in secrets.items() if text}
    timer = {
        "app": given["app"], "name": given["name"], "user": given["user"], "group": given["user"], "root": root, "home": f"{root}/home",
        "sandbox": sandbox_lines("strict", sandbox.hiding("strict", [root]), [f"{root}/home"]),
        "interval_seconds": int(given.get("interval_seconds") or 30), "locked_status": LOCKED_STATUS,
        "command": command(root, bool(given.get("dry_run")), has_key=bool(secrets["key"])), "environment": environment(root),
        "key": bool(secrets["key"]), "vault": bool(secrets["vault"]), "known_hosts": bool(secrets["known_hosts"]),
    }
    jinja = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False)  # noqa: S701 - units are no HTML
    jinja.filters.update(unit_words=unit_words, unit_word=unit_word, unit_path=unit_path)
    texts = {name: jinja.get_template(name).render(timer=timer)
             for name in ("autoscaler/ansible.cfg.j2", "systemd/autoscaler.service.j2", "systemd/autoscaler.timer.j2")}
    return {
        "app": given["app"], "name": given["name"], "user": given["user"], "root": root, "state": state,
        "files": {**files, **private}, "executable": executable, "public": {"ansible.cfg": texts["autoscaler/ansible.cfg.j2"]},
        "service": texts["systemd/autoscaler.service.j2"], "timer": texts["systemd/autoscaler.timer.j2"],
    }


def command(root: str, dry_run: bool, *, has_key: bool) -> list[str]:
    """Return the argv of one evaluation. The key is given again where the inventory names another, which means nothing there."""
    return [
        "/usr/bin/flock", "--nonblock", "--conflict-exit-code", str(LOCKED_STATUS), f"{root}/home/lock",
        f"{root}/current/venv/bin/ansible-playbook", "-i", f"{root}/inventory", f"{root}/current/src/playbooks/autoscale.yml",
        *(["-e", f"ansible_ssh_private_key_file={root}/private/key"] if has_key else []), *(["--check"] if dry_run else []),
    ]


def environment(root: str) -> list[str]:
    """Return the lines of the environment; ``SHELL`` would be the account's, which nobody may log in with."""
    return [f"HOME={root}/home", f"ANSIBLE_CONFIG={root}/ansible.cfg", "LANG=C.UTF-8", "SHELL=/bin/sh", "ANSIBLE_NOCOLOR=1",
            "PYTHONUNBUFFERED=1", f"PATH={root}/current/venv/bin:/usr/local/bin:/usr/bin:/bin"]


def inventory(path: str) -> tuple[dict[str, str], list[str]]:
    """Return the files of an inventory by their place below the timer's root, and which of them are programs."""
    top = path if os.path.isdir(path) else os.path.dirname(path)
    if not os.path.isdir(top):
        raise WorkfleetError(f"autoscaler_inventory: {path} is not on this control node")
    files: dict[str, str] = {}
    executable = []
    total = 0
    for source, place in sorted(walk(top)):
        total += os.path.getsize(source)
        if total > MOST_BYTES:
            raise WorkfleetError(f"autoscaler_inventory: {top} holds more than {MOST_BYTES // 10**6} MB: name the directory of the "
                                 "inventory alone")
        with open(source, encoding="utf-8", errors="surrogateescape", newline="") as file:
            files[f"inventory/{place}"] = file.read()
        if os.access(source, os.X_OK):
            executable.append(f"inventory/{place}")
    return files, executable


def walk(top: str) -> Iterator[tuple[str, str]]:
    """Yield each file below a directory with its relative path; hidden ones are no part of an inventory. Links are followed."""
    for folder, folders, names in os.walk(top, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and os.path.isfile(os.path.join(folder, name)):
                yield os.path.join(folder, name), os.path.relpath(os.path.join(folder, name), top)
