"""``bin/workfleet-health``: what it reads from the files of systemd and supervisor, and how words on nodes become one exit code."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import workers as spec
from ansible_collections.workfleet.core.plugins.plugin_utils.render import Renderer, unit_words
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.workfleet.managers.supervisor import program_words
from runners import workfleet_health as health


def made(folder: Path, manager: str, group: dict[str, Any], enabled: bool = True, incarnation: int = 1) -> list[health.Node]:
    """Write a node's unit and environment file as the toolkit does, and return what is read of them."""
    root = folder / "shop"
    declared = spec.parse({"host": "h1", "manager": manager, "run_directory": "/run/workfleet/shop", "groups": [{"name": "w", **group}],
                           "app": {"name": "shop", "root": str(root), "has_release": False, "broker_url": "redis://:p%40ss@h/1"}})
    payload = Renderer(declared).payload()
    fill = {"slot": "1", "incarnation": str(incarnation), "generation": "abc", "python": "/usr/bin/python3", "release": ""}

    def filled(text: str) -> str:
        for word, value in fill.items():
            text = text.replace(payload["tokens"][word], value)
        return text.replace("/run/workfleet/shop", f"{root}/run")

    unit = f"workfleet.shop.w.1.{incarnation}"
    for name in ("env", "run", "supervisor/programs", "units/multi-user.target.wants"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "env" / f"{unit}.env").write_text(filled(payload["groups"][0]["env_text"]))
    (root / "command.json").write_text(filled(payload["groups"][0]["values"]))
    text = filled(payload["groups"][0]["unit_text"])
    if manager == "systemd":
        (root / "units" / f"{unit}.service").write_text(text)
        if enabled:
            os.symlink("somewhere", root / "units" / "multi-user.target.wants" / f"{unit}.service")
    else:
        (root / "supervisor" / "programs" / f"{unit}.conf").write_text(f"{text}\n; Set by the manager\nautostart={str(enabled).lower()}\n")
    return health.declared("shop", str(root), str(root / "units"))


GROUPS: dict[str, dict[str, Any]] = {
    "celery": {"engine": "celery", "app": "app.celery_app", "settings": {"worker_log_format": "100% \"quoted\" \\ $HOME"}},
    "arq": {"engine": "arq", "app": "app.Settings"},
    "chicory": {"engine": "chicory", "app": "app:app"},
}


@pytest.mark.parametrize("manager", ["systemd", "supervisor"])
@pytest.mark.parametrize("engine", GROUPS)
def test_a_nodes_engine_name_and_broker_are_read_from_its_files(tmp_path: Path, manager: str, engine: str) -> None:
    (node,) = made(tmp_path, manager, GROUPS[engine])
    values = health.environment(node.env_path)
    assert health.worker(node.command, values) == (engine, "shop.w.1.1@h1")
    assert health.url_of(values, []) == "redis://:p%40ss@h/1"
    assert health.tells(node.command)
    assert node.record_path == f"{tmp_path}/shop/run/workfleet.shop.w.1.1.json"
    assert node.command == json.loads((tmp_path / "shop" / "command.json").read_text())["command"]


@pytest.mark.parametrize("manager", ["systemd", "supervisor"])
def test_what_is_not_enabled_is_not_declared(tmp_path: Path, manager: str) -> None:
    assert made(tmp_path, manager, GROUPS["celery"], enabled=False) == []


def test_another_apps_nodes_are_not_looked_at(tmp_path: Path) -> None:
    made(tmp_path, "systemd", GROUPS["celery"])
    root = tmp_path / "shop"
    assert health.declared("sho", str(root), str(root / "units")) == []


def test_a_node_without_a_process_does_not_consume_and_another_broker_than_redis_cannot_be_asked(tmp_path: Path) -> None:
    (node,) = made(tmp_path, "systemd", GROUPS["celery"])
    health.judge([node], [], {}, 1.0)
    assert (node.state, node.reason) == (False, "its process is not there")
    pid = os.getpid()
    Path(node.record_path).write_text(f'{{"pid": {pid}, "starttime": {health.start_time(pid)}, "ready": 1.0}}')
    Path(node.env_path).write_text('CELERY_BROKER_URL="amqp://h/"\n')
    health.judge([node], [], {}, 1.0)
    assert (node.state, node.reason) == (None, "the broker is amqp://, only Redis can be asked")


def test_a_pid_that_is_used_again_is_not_the_node(tmp_path: Path) -> None:
    (node,) = made(tmp_path, "systemd", GROUPS["celery"])
    Path(node.record_path).write_text(f'{{"pid": {os.getpid()}, "starttime": 1, "ready": 1.0}}')
    assert node.look() is False
    assert (node.state, node.reason) == (False, "its process is not there")


def test_a_record_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (node,) = made(tmp_path, "systemd", GROUPS["celery"])
    os.mkfifo(node.record_path)
    health.judge([node], [], {}, 1.0)
    assert node.state is False


@given(st.lists(st.text(st.sampled_from(" '\"\\%$ab;#é\t"), min_size=1), min_size=1))
def test_words_of_supervisors_and_systemds_files_are_read_as_they_were_meant(words: list[str]) -> None:
    printable = [word for word in words if "\t" not in word]
    assert health.split(program_words(printable).replace("%%", "%")) == printable
    assert health.split(shlex.join(words)) == words
    assert health.split(unit_words(printable).replace("%%", "%")) == printable


@pytest.mark.parametrize("url", ["redis://h", "redis://:p%40%2Fss%25@h:7000/3?ssl_cert_reqs=none", "rediss://u:p@[::1]:6390/1", "redis://u:a@b@h/2",
                                 "unix:///run/redis/sock?db=4", "redis+socket:///run/s.sock?virtual_host=2", "redis://h?db=3"])
def test_a_url_is_read_as_the_standard_library_reads_it(url: str) -> None:
    theirs, ours = urlsplit(url), health.URL.match(url)
    assert ours is not None
    assert (ours["scheme"], ours["host"].strip("[]") or None) == (theirs.scheme.rpartition("+")[2], theirs.hostname)
    assert (ours["path"], ours["query"] or "", ours["port"] and int(ours["port"])) == (theirs.path, theirs.query, theirs.port)
    assert health.decoded(ours["user"]) == unquote(theirs.username or "")
    assert health.decoded(ours["password"]) == unquote(theirs.password or "")


Y, N, U = True, False, None
CASES: list[tuple[dict[tuple[str, int], list[bool | None]], int]] = [
    ({}, 2), ({("w", 1): [Y]}, 0), ({("w", 1): [N]}, 2), ({("w", 1): [U]}, 3), ({("w", 1): [Y], ("w", 2): [N]}, 1),
    ({("w", 1): [N], ("w", 2): [U]}, 3), ({("w", 1): [Y], ("w", 2): [U]}, 3), ({("w", 1): [Y], ("w", 2): [N], ("v", 1): [U]}, 1),
    ({("w", 1): [N, Y]}, 0), ({("w", 1): [N], ("scheduler", 1): [Y]}, 2), ({("w", 1): [Y], ("scheduler", 1): [N]}, 1),
    ({("scheduler", 1): [Y]}, 0), ({("scheduler", 1): [N]}, 2),
]


@pytest.mark.parametrize(("states", "code"), CASES)
def test_words_on_nodes_become_one_code(states: dict[tuple[str, int], list[bool | None]], code: int) -> None:
    slots = {}
    for (group, slot), words in states.items():
        slots[group, slot] = [health.Node(f"workfleet.shop.{group}.{slot}.1", group, slot, []) for _ in words]
        for node, word in zip(slots[group, slot], words, strict=True):
            node.state = word
    assert health.verdict(slots) == code
