"""What the control node knows of the autoscaler's timer: its variables, the inventory to copy, the texts to write."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jinja2
from ansible.inventory.manager import IGNORED
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import forms, shown
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.release import spec as release_spec
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import checker, sandbox
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import workers as spec
from ansible_collections.workfleet.core.plugins.plugin_utils.render import TEMPLATES, sandbox_lines, unit_path, unit_word, unit_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

STATES = ("started", "stopped", "absent")
#: An inventory is texts; who names a home directory by mistake is told so.
MOST_BYTES = 5_000_000
#: Beside a source Ansible reads these directories.
VARIABLES = ("group_vars", "host_vars")
#: Lookups whose answer is another one on another machine.
LOOKUP = re.compile(r"\b(?:lookup|query|q)\(\s*['\"](?:ansible\.builtin\.)?"
                    r"(csvfile|env|file|fileglob|first_found|ini|password|pipe|template|unvault)\b")
#: Variables whose values the host has as files: an evaluation does not ask the inventory for them, which may look them up on this machine.
SECRETS = {"secret_key": "key", "known_hosts": "known_hosts", "vault_password": "vault"}
#: The place of such a variable in a file of variables or in an INI inventory, with the deeper lines that belong to it.
DECLARED = re.compile(rf"^([ \t]*)autoscaler_(?:{'|'.join(SECRETS)})[ \t]*[:=].*(?:\n\1[ \t]+.*)*", re.MULTILINE)
#: What ``flock`` answers when somebody runs an evaluation just now.
LOCKED_STATUS = 75
#: A pause of more than a day is no autoscaling.
MOST_SECONDS = 86_400


def check(values: Mapping[str, Any]) -> list[str]:
    """Return the mistakes in the variables of the role; ``values`` has them with their prefix."""
    problems: list[str] = []
    given = checker.Checker("autoscaler_", {name.removeprefix("autoscaler_"): value for name, value in values.items()}, problems)
    given.text("name", "x", pattern=spec.NAME, allowed="a name for units: a letter, then up to 30 of a-z 0-9 _ -")
    given.account("user", "x")
    given.directory("root", "/x")
    given.choice("state", "started", STATES)
    given.whole("interval_seconds", 30, 1, MOST_SECONDS)
    given.value("dry_run", False, checker.boolean, "true or false")
    given.value("inventory", [], names, "a list of paths on this control node, such as -i takes")
    for key in ("secret_key", "known_hosts", "vault_password"):
        given.value(key, "", multiline, "a text without NUL or other control characters", secret=True)
    release_spec.python(given)
    release_spec.requirements(given)
    given.environment("pip_environment")
    return problems


def names(value: Any) -> list[str]:
    """Return a list of paths, of which there is one."""
    if not isinstance(value, list) or not value:
        raise ValueError
    return [forms.name(item) for item in value]


def multiline(value: Any) -> str:
    """Return a text that may have several lines."""
    if not isinstance(value, str) or shown.text(value) != value.replace("\r\n", "\n") or len(value) > checker.LONGEST_VALUE:
        raise ValueError
    return value


def request(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return what the host is asked for, and what people are to know of it."""
    problems = check({f"autoscaler_{key}": value for key, value in given.items()})
    if problems:
        raise checker.SpecError(problems)
    root, state = str(given["root"]), str(given.get("state") or "started")
    copy = inventory([] if state == "absent" else names(given["inventory"]))
    secrets = {name: given.get(key) for key, name in SECRETS.items()}
    private = {f"private/{name}": f"{str(text).rstrip()}\n" for name, text in secrets.items() if text}
    timer = {
        "app": given["app"], "name": given["name"], "user": given["user"], "group": given["user"], "root": root, "home": f"{root}/home",
        "sandbox": sandbox_lines("strict", sandbox.hiding("strict", [root]), [f"{root}/home"]),
        "interval_seconds": int(given.get("interval_seconds") or 30), "locked_status": LOCKED_STATUS,
        "command": command(root, copy.sources, bool(given.get("dry_run")), has_key=bool(secrets["key"])), "environment": environment(root),
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
        "files": {**copy.files, **private}, "executable": copy.programs, "public": {"ansible.cfg": texts["autoscaler/ansible.cfg.j2"]},
        "service": texts["systemd/autoscaler.service.j2"], "timer": texts["systemd/autoscaler.timer.j2"],
    }, notices(copy)


def command(root: str, sources: Sequence[str], dry_run: bool, *, has_key: bool) -> list[str]:
    """Return the argv of one evaluation. The key is given again where the inventory names another, which means nothing there."""
    answers = [f"autoscaler_{key}=" for key in SECRETS]
    if has_key:
        answers.append(f"ansible_ssh_private_key_file={root}/private/key")
    return [
        "/usr/bin/flock", "--nonblock", "--conflict-exit-code", str(LOCKED_STATUS), f"{root}/home/lock",
        f"{root}/current/venv/bin/ansible-playbook", *(word for place in sources for word in ("-i", f"{root}/{place}")),
        f"{root}/current/src/playbooks/autoscale.yml",
        *(word for answer in answers for word in ("-e", answer)), *(["--check"] if dry_run else []),
    ]


def environment(root: str) -> list[str]:
    """Return the lines of the environment; ``SHELL`` would be the account's, which nobody may log in with."""
    return [f"HOME={root}/home", f"ANSIBLE_CONFIG={root}/ansible.cfg", "LANG=C.UTF-8", "SHELL=/bin/sh", "ANSIBLE_NOCOLOR=1",
            "PYTHONUNBUFFERED=1", f"PATH={root}/current/venv/bin:/usr/local/bin:/usr/bin:/bin"]


@dataclass
class Copy:
    """What of an inventory the host is to have: texts by their place below the timer's root."""

    files: dict[str, str] = field(default_factory=dict)
    programs: list[str] = field(default_factory=list)
    #: The places of the sources, as ``-i`` names them.
    sources: list[str] = field(default_factory=list)
    #: Which kinds of lookups, by the files that have them, give something else there.
    lookups: dict[str, set[str]] = field(default_factory=dict)

    def add(self, path: str, place: str) -> None:
        """Take a file along."""
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            text = self.files[place] = file.read(MOST_BYTES + 1)
        if sum(map(len, self.files.values())) > MOST_BYTES:
            raise WorkfleetError(f"autoscaler_inventory: with {path} it is more than {MOST_BYTES // 10**6} MB: name the files of the "
                                 "inventory, or a directory with nothing else in it")
        if place not in self.programs and (kinds := set(LOOKUP.findall(DECLARED.sub("", text)))):
            self.lookups.setdefault(path, set()).update(kinds)


def inventory(sources: Sequence[str]) -> Copy:
    """Return what Ansible reads of an inventory: its sources, and the variables of groups and hosts beside each. Links are followed."""
    made = Copy()
    folders = list(dict.fromkeys(source if os.path.isdir(source) else os.path.dirname(source) for source in sources))
    for source in sources:
        place = f"inventory/{folders.index(source if os.path.isdir(source) else os.path.dirname(source)) + 1}"
        if os.path.isdir(source):
            for path, below in walk(source, is_source):
                if os.access(path, os.X_OK):
                    raise WorkfleetError(
                        f"autoscaler_inventory: {path} is a program, which Ansible would run on the control host too: name the sources one "
                        "by one in autoscaler_inventory, with this one among them or not; if it is none, chmod -x")
                made.add(path, f"{place}/{below}")
        elif os.path.isfile(source):
            place = f"{place}/{os.path.basename(source)}"
            if os.access(source, os.X_OK):
                made.programs.append(place)
            made.add(source, place)
        else:
            raise WorkfleetError(f"autoscaler_inventory: {source} is not on this control node")
        made.sources.append(place)
    for number, folder in enumerate(folders, 1):
        for name in VARIABLES:
            for path, below in walk(os.path.join(folder, name), is_read_for_variables):
                made.add(path, f"inventory/{number}/{name}/{below}")
    return made


def is_source(name: str) -> bool:
    """Whether Ansible reads a file or directory of this name in a directory that is a source."""
    return not IGNORED.search(name.encode(errors="surrogateescape"))


def is_read_for_variables(name: str) -> bool:
    """Whether Ansible reads a file of this name in ``group_vars``, or goes into a directory of this name there."""
    return not name.startswith(".") and not name.endswith("~") and os.path.splitext(name)[1] in ("", ".yml", ".yaml", ".json")


def walk(top: str, is_read: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Yield each file below a directory that is read, with its relative path."""
    for folder, folders, names in os.walk(top, followlinks=True):
        folders[:] = sorted(filter(is_read, folders))
        for path in sorted(os.path.join(folder, name) for name in names if is_read(name)):
            if os.path.isfile(path):
                yield path, os.path.relpath(path, top)


def notices(made: Copy) -> list[str]:
    """Return a sentence where something that is copied looks up what the control host has not, or has otherwise."""
    return [f"autoscaler_inventory: {path} looks something up on the machine that reads it ({', '.join(sorted(kinds))}), and the control "
            "host is another one: give the value itself there, a secret in a vault" for path, kinds in sorted(made.lookups.items())]
