"""The declared variables of every host, with the roles' defaults under them, as plain values."""

from __future__ import annotations

import contextlib
import copy
import difflib
import functools
import json
import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import engines, forms, model, shown
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.host import limits, system
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.managers import supervisor
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.postgresql import config as postgresql_config
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.redis import config as redis_config
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.release import spec as release_spec
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import checker
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import workers as spec
from ansible_collections.workfleet.core.plugins.plugin_utils import autoscaler, ourselves, render

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ansible.template import Templar
    from ansible_collections.workfleet.core.plugins.module_utils.workfleet.model import Policy

ROLES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "roles")
#: Which roles a host of an inventory group gets.
ROLES_OF = {"redis": ("redis",), "postgresql": ("postgresql",), "control": ("autoscaler",), **dict.fromkeys(model.PARTS, ("app", "worker"))}
REDIS_STATES = ("started", "stopped", "restarted", "reloaded", "absent")
#: Variables that are secret as a whole; of others what stands under ``secrets``, ``password`` or ``basic_auth``.
SECRETS = ("app_broker_url", "app_result_url", "app_secrets", "redis_password", "autoscaler_secret_key", "autoscaler_vault_password")
#: Names that look like ours and belong to people: nothing is said of them unless they nearly are one of ours.
NEAR = 0.88
MOST_CONNECTIONS = 10_000
#: Stands for what cannot be read.
UNREAD: Any = object()
#: Names that look like facts and are given by inventories, or by Ansible itself.
NO_FACTS = re.compile(r"ansible_(facts|host|port|user|password|connection|become\w*|ssh_\w*|python_\w*|play_\w*|limit|version)\Z")
APP_KEYS = ("name", "user", "group", "root", "env", "secrets", "broker_url", "result_url", "broker_env", "result_env", "broker_options")


@functools.cache
def defaults(role: str) -> dict[str, Any]:
    """Return a role's default variables, untemplated; the file is ours, so its templates are trusted."""
    path = os.path.join(ROLES, role, "defaults", "main.yml")
    return dict(DataLoader().load_from_file(path, trusted_as_template=True) or {})


def known() -> set[str]:
    """Return the name of every variable that our roles read."""
    return {"app_name", *(name for roles in ROLES_OF.values() for role in roles for name in defaults(role))}


def bare(value: Any) -> Any:
    """Return a value without Ansible's tags: shared code knows Python's own types only. A date becomes its text."""
    return json.loads(json.dumps(value, default=str))


def about_facts(raw: str, error: str) -> str:
    """Say what to do where a template asks for a fact, which nobody has gathered."""
    names = [name for name in re.findall(r"\bansible_\w+", raw) if not NO_FACTS.match(name) and name in error]
    names += re.findall(r"\bansible_facts\b[.\[]['\"]?(\w+)", raw) if "attribute" in error or "undefined" in error else []
    if not names:
        return ""
    return (". facts are not gathered: no host is asked before all is checked. Give the value itself, or keep facts (in ansible.cfg "
            "fact_caching = jsonfile and fact_caching_connection = DIRECTORY, then once: ansible all -m setup) and write "
            f"ansible_facts.{names[0].removeprefix('ansible_')}")


class Host:
    """One host's variables, templated when they are asked for."""

    def __init__(self, name: str, raw: Mapping[str, Any], templar: Templar) -> None:
        self.name = name
        #: What cannot be read, by the key that it is at; the rest is judged without it.
        self.unread: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        self.groups = [group for group in ROLES_OF if group in raw.get("group_names", ())]
        under: dict[str, Any] = {}
        for group in self.groups:
            for role in ROLES_OF[group]:
                under.update(defaults(role))
        self.raw = {**under, **raw}
        self.templar = templar.copy_with_new_env(available_variables=self.raw)

    @property
    def parts(self) -> list[str]:
        """Return what of an app's processes the host is to have."""
        return [part for part in model.PARTS if part in self.groups]

    @property
    def has_scheduler(self) -> bool:
        """Whether the host is to have the app's scheduler."""
        declared = self.value(f"worker_{model.SCHEDULER}") if model.SCHEDULER in self.parts else None
        return isinstance(declared, dict) and bool(declared) and declared.get("state") != "absent"

    @property
    def is_absent(self) -> bool:
        """Whether the app is to go from this host."""
        try:
            return bool(self.value("app_state") == "absent")
        except AnsibleError:  # said of the host itself
            return False

    @property
    def is_ours(self) -> bool:
        """Whether the host is this machine, and what runs there is run by who runs this: there is nobody to be kept from anything."""
        return bool(self.value("ansible_connection") == "local" and self.value("app_user") == ourselves.user())

    @property
    def is_roots(self) -> bool:
        """Whether what is done there is done as root, as far as the inventory tells."""
        is_asked = str(self.value("ansible_become")).lower() not in ("false", "no", "0")
        becomes = is_asked and self.value("ansible_become_user") in (None, "root")
        logs_in = ourselves.user() if self.value("ansible_connection") == "local" else self.value("ansible_user")
        return becomes or logs_in == "root"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is reached as the machine that this runs on."""
        return self.value("ansible_connection") == "local" or redis_config.is_loopback(str(self.value("ansible_host") or self.name))

    def value(self, name: str) -> Any:
        """Return a variable's value. What of it cannot be read is left out of it, and noted in ``unread`` with the key that it is at."""
        if name not in self.values:
            found = self.readable(name, self.raw.get(name))
            self.values[name] = None if found is UNREAD else found
        return copy.deepcopy(self.values[name])

    def readable(self, place: str, raw: Any) -> Any:
        """Return the parts of a value that can be read."""
        try:
            return bare(self.templar.template(raw))
        except AnsibleError as error:
            inner = list(raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ())
            if not inner:
                self.unread[place] = f"{place}: cannot be read: {error}{about_facts(str(raw), str(error))}"
                return UNREAD
        except (TypeError, ValueError, RecursionError):
            self.unread[place] = f"{place}: must be made of texts, numbers, lists and mappings with texts as keys"
            return UNREAD
        is_list = isinstance(raw, list)
        parts = {key: self.readable(f"{place}[{key}]" if is_list else f"{place}.{key}", item) for key, item in inner}
        kept = {key: item for key, item in parts.items() if item is not UNREAD}
        return list(kept.values()) if is_list else kept

    def follows(self, problem: str) -> bool:
        """Whether a mistake is said of something that could not be read: it would be said of what was left out."""
        for place in self.unread:
            variable, *keys = [name for name in re.split(r"[.\[\]]+", place) if name and not name.isdigit()]
            said = keys and problem.startswith(variable) and re.search(rf"\b{re.escape(keys[-1])}( =|:|\.)", problem)
            if said or (place == variable and variable in problem):
                return True
        return False

    def declaration(self) -> dict[str, Any]:
        """Return what ``spec.parse`` wants."""
        app = {key: self.value(f"app_{key}") for key in APP_KEYS}
        return {
            "host": self.name, "app": {**app, "has_release": bool(self.value("app_source"))}, "manager": self.value("worker_manager"),
            "groups": self.value("worker_groups"), "scheduler": self.value("worker_scheduler"), "dashboard": self.value("worker_dashboard"),
            "parts": self.parts, "run_directory": self.value("worker_run_directory"),
            "rollout": self.value("worker_rollout"), "log": self.value("worker_log"),
        }

    @functools.cached_property
    def _outcome(self) -> model.Declaration | checker.SpecError:
        """The declaration, or its mistakes: it is parsed once."""
        try:
            return spec.parse(self.declaration())
        except checker.SpecError as error:
            return error

    def readable_declaration(self) -> model.Declaration:
        """Return the declaration without what cannot be read; raise its mistakes."""
        if isinstance(self._outcome, checker.SpecError):
            raise self._outcome
        return self._outcome

    @property
    def declared(self) -> model.Declaration:
        """Return the sound declaration, or raise."""
        declared = self.readable_declaration()
        if self.unread:
            raise checker.SpecError(list(self.unread.values()))
        return declared


def defaults_of(host: Host) -> set[str]:
    """Return the variables that the roles of a host read."""
    return {name for group in host.groups for role in ROLES_OF[group] for name in defaults(role)}


def problems(host: Host) -> Iterator[str]:
    """Yield every mistake in what is declared for a host, each in a line that can be shown."""
    found = list(mistakes(host))
    yield from map(shown.line, (*host.unread.values(), *(text for text in found if not host.follows(text))))


def mistakes(host: Host) -> Iterator[str]:
    """Yield every mistake in what is declared for a host."""
    if host.groups and host.value("ansible_connection") == "local" and (lack := ourselves.lack()):
        yield lack  # all else would be said of a number that is no name
        return
    yield from system_problems(host)
    if host.parts:
        yield from worker_problems(host)
    if "redis" in host.groups:
        variables = {name: host.value(name) for name in defaults("redis")}
        yield from redis_config.check(variables)
        if variables["redis_state"] != "absent":
            yield from redis_config.without_password(variables)
        found: list[str] = []
        beside = checker.Checker("redis_", {key: host.value(f"redis_{key}") for key in ("state", "pip_environment")}, found)
        beside.choice("state", "started", REDIS_STATES)
        beside.environment("pip_environment")
        if not host.parts:  # else said with the rest of the app
            app = checker.Checker("app_", {key: host.value(f"app_{key}") for key in ("root", "pip_environment")}, found)
            app.directory("root", "/x")
            app.environment("pip_environment")
        yield from found
    if "control" in host.groups:
        yield from autoscaler.check({name: host.value(name) for name in defaults("autoscaler")})
        if host.value("worker_templates"):
            yield ("worker_templates: the autoscaler has no such directory, and would write other units: take this host out of the "
                   "inventory group control")
    if "postgresql" in host.groups:
        yield from postgresql_config.check({name: host.value(name) for name in defaults("postgresql")})
    if not host.is_loopback:
        for name in sorted(defaults_of(host)):
            for place in forms.placeholders(host.value(name), name, secret=name in SECRETS):
                yield (f"{place}: holds a placeholder of a vault.example.yml, which everybody knows; put the real value into the vault "
                       "(ansible-vault edit)")


def system_problems(host: Host) -> Iterator[str]:
    """Yield what a host's system is not, or lacks; where no facts are kept, the host itself is looked at before it is changed."""
    facts = host.raw.get("ansible_facts") or {}
    if not (host.groups and host.is_roots and facts.get("distribution")):
        return
    try:
        there = system.named(str(facts["distribution"]), str(facts.get("distribution_version", "")))
        if "redis" in host.groups and (lacking := redis_config.unavailable(str(host.value("redis_flavor")), there)):
            yield lacking
    except WorkfleetError as error:
        yield str(error)


def worker_problems(host: Host) -> Iterator[str]:
    """Yield the mistakes of a worker host."""
    if not host.value("app_name"):
        yield "app_name: is required: it names everything that belongs to the app on a host"
        return
    found: dict[str, None] = {}
    try:
        release = {key: host.value(f"app_{key}") for key in release_spec.KEYS if f"app_{key}" in host.raw}
        release_spec.parse(release, host.name)
    except checker.SpecError as error:
        found.update(dict.fromkeys(error.problems))
    try:
        found.update(dict.fromkeys(oversize(host.readable_declaration())))
    except checker.SpecError as error:
        found.update(dict.fromkeys(error.problems))
    found.update(dict.fromkeys(other_problems(host)))
    yield from found


def oversize(declared: model.Declaration) -> Iterator[str]:
    """Yield what of a sound declaration is too large to start a process with: that shows when it is put together."""
    renderer = render.Renderer(declared)
    for group in declared.groups:
        place = renderer.place(group)
        values, _ = render.environment(declared.app, group, place)
        label = f"worker_{group.name}" if group.name in model.SINGLES else f"worker_groups ({group.name})"
        for text in limits.too_large(engines.named(group.engine).command(group, place), values):
            yield f"{label}: {text}"
    try:
        if declared.manager == "supervisor":
            supervisor.socket_path(declared.run_directory)
    except WorkfleetError as error:
        yield f"worker_run_directory: {error}"


def other_problems(host: Host) -> list[str]:
    """Return the mistakes in what no declaration holds, and in what this control node alone can tell."""
    found: list[str] = []
    app = checker.Checker("app_", {key: host.value(f"app_{key}") for key in ("state", "database_connections", "user", "group")}, found)
    app.choice("state", "present", ("present", "absent"))
    app.whole("database_connections", None, 0, MOST_CONNECTIONS)
    for key in ("user", "group"):
        if app.raw[key] == "root" and not host.is_ours:
            app.wrong(key, "root has every right on the host, and so would the app; take one of the app's own", given="root")
    worker = checker.Checker("worker_", {key: host.value(f"worker_{key}") for key in ("only", "templates", "lock_seconds")}, found)
    worker.text("only", "", allowed="names of worker groups with commas between them, one text")
    worker.whole("lock_seconds", 30, 0, forms.MOST_SECONDS)
    templates = worker.text("templates", "", allowed="the path of a directory on this control node")
    if templates and not os.path.isdir(templates):
        worker.wrong("templates", "is no directory on this control node", given=templates)
    verify = checker.Checker("verify_", {key: host.value(f"verify_{key}") for key in ("task", "seconds")}, found)
    verify.text("task", "", allowed="the name of a task")
    verify.seconds("seconds", 30.0, zero=False)
    return found


def across(hosts: Sequence[Host]) -> Iterator[tuple[str, list[str]]]:
    """Yield the mistakes that only all hosts together show, each with the names of the hosts."""
    apps: dict[str, list[tuple[Host, model.Declaration]]] = {}
    beats: dict[str, list[str]] = {}
    for host in hosts:
        with contextlib.suppress(checker.SpecError, AnsibleError):  # said of the host itself
            if host.has_scheduler:  # told apart from the rest, of which something may be wrong
                beats.setdefault(str(host.value("app_name")), []).append(host.name)
            if host.parts:
                apps.setdefault(host.declared.app.name, []).append((host, host.declared))
    for app, where in beats.items():
        if len(where) > 1:
            yield (f"worker_scheduler: the app {app} would have {len(where)} schedulers, on {', '.join(where)}, and each sends every "
                   f"periodic task; leave one host in the inventory group {model.SCHEDULER}"), where
    for members in apps.values():
        known = [name for _, declared in members for name in declared.names]
        only = {chosen(host) for host, _ in members}
        for text in dict.fromkeys(text for names in sorted(only) for text in spec.unknown_names(names, known)):
            yield text, [host.name for host, _ in members]
        yield from quarrels(members)


def chosen(host: Host) -> str:
    """Return the groups that a run is narrowed to; what cannot be read is said of the host itself."""
    with contextlib.suppress(AnsibleError):
        only = host.value("worker_only")
        return only if isinstance(only, str) else ""
    return ""


def quarrels(members: Sequence[tuple[Host, model.Declaration]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the groups of an app of which hosts declare another policy: its bounds are of the whole fleet."""
    found: dict[str, dict[Policy | None, list[str]]] = {}
    for host, declared in members:
        for group in declared.groups:
            found.setdefault(group.name, {}).setdefault(group.autoscale, []).append(host.name)
    for name, policies in found.items():
        if len(policies) > 1:
            few = min(policies.values(), key=len)
            yield (f"worker_groups ({name}): autoscale: is another one than on other hosts; min and max are totals over all hosts, so give "
                   "all of them the same"), few


def placement(hosts: Sequence[Host]) -> dict[str, dict[str, dict[str, int]]]:
    """Return where the worker groups are: app → group → host, in the inventory's order → its declared nodes."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for host in hosts:
        with contextlib.suppress(checker.SpecError, AnsibleError):
            for group in host.declared.groups if "workers" in host.parts else ():
                if group.name not in (model.SCHEDULER, model.DASHBOARD) and group.state != "absent":
                    found.setdefault(host.declared.app.name, {}).setdefault(group.name, {})[host.name] = group.nodes
    return found


def declared_nodes(hosts: Sequence[Host]) -> dict[str, dict[str, int]]:
    """Return how many nodes each host is to have of each group: host → group → nodes."""
    found: dict[str, dict[str, int]] = {}
    for host in hosts:
        with contextlib.suppress(checker.SpecError, AnsibleError):
            found[host.name] = {group.name: group.nodes for group in host.declared.groups if group.state != "absent"} if host.parts else {}
    return found


def placeless(hosts: Sequence[Host]) -> Iterator[str]:
    """Yield a mistake where the inventory groups leave nothing to look at, or no host for the workers."""
    groups = ", ".join(dict.fromkeys(group for host in hosts for group in host.raw.get("group_names", ()))) or "none"
    if not any(host.groups for host in hosts):
        yield (f"no host is in one of the inventory groups {', '.join(ROLES_OF)}: there is nothing to do or to look at "
               f"(groups with hosts: {groups})")
        return
    with contextlib.suppress(AnsibleError):  # said of the host itself
        if not any("workers" in host.groups for host in hosts) and any(host.value("worker_groups") for host in hosts):
            yield ("worker_groups is declared, but no host is in the inventory group workers: no node would run, and none be looked at "
                   f"(groups with hosts: {groups})")


def lonely(hosts: Sequence[Host]) -> Iterator[str]:
    """Yield a warning for what is declared and has no host."""
    for part in (model.SCHEDULER, model.DASHBOARD):
        with contextlib.suppress(AnsibleError):
            declared = any(host.value(f"worker_{part}") for host in hosts if host.parts)
            if declared and not any(part in host.parts for host in hosts):
                yield f"worker_{part} is declared, but no host is in the inventory group {part}: it runs nowhere"


def nameless(host: Host) -> Iterator[str]:
    """Yield a warning where a host's nodes have a name on the broker that those of other machines may have too."""
    with contextlib.suppress(AnsibleError, ValueError):  # said of the host itself
        if is_loopback(host.name) and not is_loopback(urlsplit(str(host.value("app_broker_url") or "")).hostname or "localhost"):
            yield (f"{host.name} is what every machine calls itself, and its nodes' names on the broker have it: two machines that are "
                   f"deployed so silence each other. Name the host as others know it, with ansible_connection: local if it is this machine")


def is_loopback(name: str) -> bool:
    """Whether a name or an address means the machine itself, wherever it is read."""
    return name.split(".")[0] in ("localhost", "127") or name in ("ip6-localhost", "ip6-loopback", "::1")


def warnings(host: Host, names: set[str]) -> Iterator[str]:
    """Yield what will probably hurt: misspelt variables, and what the engines warn of."""
    for name in sorted(host.raw):
        if name not in names and name.split("_")[0] in ("app", "worker", "redis", "postgresql", "autoscaler"):
            near = difflib.get_close_matches(name, names, 1, NEAR)
            if near:
                yield f"nobody reads the variable {name}; did you mean {near[0]}?"
    if host.parts:
        yield from nameless(host)
        try:
            yield from host.readable_declaration().warnings
        except checker.SpecError:
            return
