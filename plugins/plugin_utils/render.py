"""Turn a declaration into what a host is sent: texts of units and environment files, and the values behind them.

Rendering has an environment of its own (not Ansible's Templar): strict about undefined names, each template compiled once,
one rendering a group. What only the host knows stands in the texts as tokens that the host fills in.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import secrets
from typing import TYPE_CHECKING, Any

import jinja2
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import engines, model
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.engines.base import Place
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.host import envfile
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.managers import systemd
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.managers.supervisor import (
    command_json,
    program_value,
    program_words,
    service_paths,
    service_values,
)
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import sandbox

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ansible_collections.workfleet.core.plugins.module_utils.workfleet.model import App, Declaration, Group

TEMPLATES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "templates")
#: The manager's own patience with a start; longer than a rollout's, which judges and tells a person.
START_MARGIN_SECONDS = 60
UNIT_LIMITS = {"memory_max": "MemoryMax", "cpu_quota": "CPUQuota", "tasks_max": "TasksMax", "open_files": "LimitNOFILE", "nice": "Nice"}


class Renderer:
    """Renders the texts of one declaration. ``overrides`` is a directory looked into before our own templates."""

    def __init__(self, declaration: Declaration, overrides: str | None = None) -> None:
        self.declaration = declaration
        folders = [overrides] if overrides else []
        self.jinja = jinja2.Environment(
            loader=jinja2.FileSystemLoader([*folders, TEMPLATES]), undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
            autoescape=False,  # noqa: S701 - units and environment files are no HTML
        )
        self.jinja.filters.update(unit_words=unit_words, unit_path=unit_path, env_lines=envfile.render,
                                  program_words=program_words, program_value=program_value)
        salt = secrets.token_hex(6)
        # Random, so that no value of a user's can hold one by accident or by intent.
        self.tokens = {word: f"@{salt}.{word}@" for word in ("slot", "incarnation", "generation", "release", "python")}

    def payload(self) -> dict[str, Any]:
        """Return the part of the request that follows from the declaration; see ``request.Request``."""
        declared = self.declaration
        app = declared.app
        return {
            "app": app.name, "user": app.user, "group": app.group, "root": app.root, "run_directory": declared.run_directory,
            "manager": declared.manager, "has_release": app.has_release, "groups": [self.group(group) for group in declared.groups],
            "tokens": self.tokens, "rollout": dataclasses.asdict(declared.rollout), "manager_texts": self.manager_texts(),
            "longest_drain": max((group.stop_seconds for group in declared.groups), default=0),
            "broker_url": app.broker_url, "result_url": app.result_url, "broker_options": dict(app.broker_options),
        }

    def group(self, group: Group) -> dict[str, Any]:
        """Return one group's texts and values."""
        app = self.declaration.app
        place = self.place(group)
        engine = engines.named(group.engine)
        values, secret_names = environment(app, group, place)
        command = engine.command(group, place)
        node = self.node(group, place, command, values)
        manager = {"systemd": "systemd/node.service.j2", "supervisor": "supervisor/node.conf.j2"}[self.declaration.manager]
        fingerprint = {
            "command": command, "environment": values, "user": app.user, "directory": place.directory,
            "limits": dict(group.limits), "sandbox": self.sandbox(group),
            "release": self.tokens["release"] if app.has_release else "",
            **({"log": "file"} if self.logs_to_file else {}),
        }
        return {
            "name": group.name, "engine": group.engine, "state": group.state, "nodes": group.nodes, "queues": list(engine.queues(group)),
            "drain_seconds": group.drain_seconds, "node_name": place.node, "notifies": engine.notifies(group),
            "answers_while_busy": engine.answers_while_busy(group), "gives_back": engine.gives_back(group),
            "overlaps": engine.overlap(group),
            "comes_last": group.name in model.SINGLES, "unit_text": self.render(manager, node),
            "env_text": self.render("env/node.env.j2", node), "env": values, "secret_names": sorted(secret_names),
            "values": json.dumps(fingerprint, sort_keys=True), "directories": list(group.directories),
        }

    def place(self, group: Group) -> Place:
        """Return where the nodes of a group run."""
        app = self.declaration.app
        release = f"{app.root}/releases/{self.tokens['release']}"
        node = f"{app.name}.{group.name}.{self.tokens['slot']}.{self.tokens['incarnation']}@{self.declaration.host}"
        return Place(
            node=node, directory=f"{release}/src" if app.has_release else app.root,
            environment=f"{release}/venv" if app.has_release else "", runners=f"{app.root}/workfleet",
        )

    def node(self, group: Group, place: Place, command: list[str], values: Mapping[str, str]) -> dict[str, Any]:
        """Return all that a template may see."""
        app, declared = self.declaration.app, self.declaration
        unit = f"workfleet.{app.name}.{group.name}.{self.tokens['slot']}.{self.tokens['incarnation']}"
        log_path = f"{app.root}/log/{unit}.log"
        engine = engines.named(group.engine)
        launch = [self.tokens["python"], "-I", f"{app.root}/workfleet/launch.py", "--unit", unit, "--generation", self.tokens["generation"],
                  "--run-directory", declared.run_directory, "--env-file", f"{app.root}/env/{unit}.env"]
        if declared.manager == "supervisor":
            for key, option in (("open_files", "--open-files"), ("nice", "--nice")):
                if key in group.limits:
                    launch.append(f"{option}={group.limits[key]}")
        if self.logs_to_file:
            launch += ["--log", log_path]
        return {
            "app": app.name, "group": group.name, "slot": self.tokens["slot"], "unit": unit, "generation": self.tokens["generation"],
            "engine": group.engine, "user": app.user, "user_group": app.group, "directory": place.directory, "command": command,
            "launch": [*launch, "--", *command] if all(map(sound, command)) else [*launch, "--json", command_json(command)],
            "launch_json": [*launch, "--json", command_json(command)],
            "environment": values, "notifies": engine.notifies(group), "has_children": engine.has_children(group),
            "stop_seconds": group.stop_seconds,
            "start_seconds": int(declared.rollout.ready_timeout_seconds) + START_MARGIN_SECONDS,
            "runtime_directory": os.path.relpath(declared.run_directory, "/run"),
            "unit_limits": [(key, group.limits[name]) for name, key in UNIT_LIMITS.items() if name in group.limits],
            "unit_sandbox": self.sandbox(group),
            "logs_to_file": self.logs_to_file, "log_path": log_path,
            "log_max_bytes": declared.log.max_bytes, "log_backups": declared.log.backups,
        }

    def sandbox(self, group: Group) -> list[tuple[str, str]]:
        """Return the sandbox of a node's own unit; supervisor's nodes have none but supervisord's."""
        if self.declaration.manager == "supervisor":
            return []
        paths = [*group.directories, *group.writable_paths]
        if group.sandbox == "strict":
            # The last one is there where app_shared_paths are.
            paths = [f"{self.declaration.app.root}/log", self.declaration.run_directory, *paths, f"-{self.declaration.app.root}/shared"]
        return sandbox_lines(group.sandbox, group.sandbox_without, paths)

    def manager_texts(self) -> dict[str, str]:
        """Return the texts of the manager's own services by path."""
        app, log = self.declaration.app, self.declaration.log
        present = [group for group in self.declaration.groups if group.state != "absent"]
        if self.logs_to_file and present:
            service = systemd.log_service_values(app.name, app.root, app.user, app.group, log.max_bytes, log.backups)
            return {systemd.log_service_path(app.name): self.jinja.get_template("systemd/logs.service.j2").render(
                service={**service, "sandbox": sandbox_lines("strict", sandbox.hiding("strict", [app.root]), [service["directory"]])})}
        if self.declaration.manager != "supervisor":
            return {}
        longest = max((group.stop_seconds for group in self.declaration.groups), default=0)
        service = service_values(app.name, app.root, self.declaration.run_directory, app.user, app.group, longest)
        without = {name for group in present for name in group.sandbox_without}
        service["sandbox"] = sandbox_lines(sandbox.common([group.sandbox for group in present]), without)
        return {path: self.jinja.get_template(f"supervisor/{name}").render(service=service)
                for name, path in service_paths(app.name, app.root).items()}

    @property
    def logs_to_file(self) -> bool:
        """Whether nodes of systemd's write files; supervisor's always do, through supervisord."""
        return self.declaration.manager == "systemd" and self.declaration.log.to == "file"

    def render(self, template: str, node: Mapping[str, Any]) -> str:
        """Render one template; it sees ``node`` and nothing else. Whoever overrides it reads where it is wrong."""
        try:
            return self.jinja.get_template(template).render(node=node)
        except jinja2.TemplateError as error:
            line = f", line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
            raise WorkfleetError(f"the template {template}{line} cannot be used: {error}") from error


def environment(app: App, group: Group, place: Place) -> tuple[dict[str, str], set[str]]:
    """Return a node's environment and the names in it that are secret.

    The broker's URLs under the engine's names, then what is declared, as in ``app.env``; PATH begins with the virtualenv.
    """
    engine = engines.named(group.engine)
    urls = engine.urls(app)
    own = engine.environment(group, place)
    if place.environment:
        own["PATH"] = f"{place.environment}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        own["VIRTUAL_ENV"] = place.environment
    declared = {**urls, **app.env, **app.secrets, **group.env, **group.secrets}
    whole = {**own, **declared}
    if "PYTHONPATH" in own and "PYTHONPATH" in declared:
        whole["PYTHONPATH"] = f"{own['PYTHONPATH']}:{declared['PYTHONPATH']}"
    plain = {name for name in group.env if name not in group.secrets}
    return dict(sorted(whole.items())), ({*urls, *app.secrets, *group.secrets} - plain)


def sandbox_lines(level: str, without: Collection[str] = (), paths: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Return the lines of a unit's sandbox, with what it is to write to all the same."""
    lines = list(sandbox.directives(level, without).items())
    writable = [unit_word(path) for path in (*paths, *sandbox.shared_places(level, without))]
    return [*lines, ("ReadWritePaths", " ".join(writable))] if lines and writable else lines


def sound(word: str) -> bool:
    """Whether systemd takes a word: it refuses a file, and cannot show a unit, with what unicode calls no characters."""
    return not any(0xFDD0 <= ord(char) <= 0xFDEF or ord(char) & 0xFFFE == 0xFFFE for char in word)


def unit_words(words: Iterable[str]) -> str:
    """Return an argv for ``ExecStart=:``, each word quoted; ``$`` is off by the colon, ``%`` is doubled."""
    return " ".join(unit_word(word) for word in words)


def unit_word(word: str) -> str:
    """Quote one word by systemd's rules (systemd.syntax(7)): C escapes in double quotes."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", escaped) + '"'


def unit_path(path: str) -> str:
    """Return a path for settings that take one path to the end of the line, where only ``%`` is special."""
    return path.replace("%", "%%")
