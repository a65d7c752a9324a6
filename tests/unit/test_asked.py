"""Words of a plain name are asked for by ``-e`` alone: an inventory has them for something else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import jinja2.meta
import pytest
import yaml
from ansible_collections.workfleet.core.plugins.lookup import asked

from tests import warm

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("roles/*/vars/*.yml"),
                *ROOT.glob("roles/*/defaults/*.yml")])
#: Keys of tasks whose texts are expressions without braces.
EXPRESSIONS = ("when", "that", "failed_when", "changed_when", "until")
#: What begins with these is ours or Ansible's; the rest are names that Ansible gives to every play.
OURS = ("__", "app_", "worker_", "redis_", "postgresql_", "autoscaler_", "verify_", "status_", "queues_", "ansible_")
ANSIBLES = {"groups", "group_names", "hostvars", "inventory_dir", "inventory_hostname", "item", "lookup", "now", "omit", "query",
            "role_path"}


def expressions(value: Any, key: str = "") -> Iterator[str]:
    """Yield every text of a file as a template."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from expressions(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from expressions(inner, key)
    elif isinstance(value, str):
        yield f"{{{{ {value} }}}}" if key in EXPRESSIONS and "{{" not in value else value


def names(text: str) -> set[str]:
    """Return the variables that a template reads, whatever filters it has."""
    environment = jinja2.Environment(autoescape=True)
    for known in (environment.filters, environment.tests):
        known.update(dict.fromkeys(re.findall(r"[\w.]+", text), str))
    return jinja2.meta.find_undeclared_variables(environment.parse(text))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_variable_of_a_plain_name_is_read(path: Path) -> None:
    """Such as ``version``: an inventory's own deployed another release."""
    read = {name for text in expressions(yaml.safe_load(path.read_text(encoding="utf-8"))) for name in names(text)}
    assert {name for name in read if not name.startswith(OURS) and name not in ANSIBLES} == set()


def test_every_word_that_is_known_is_read_and_every_one_that_is_read_is_known() -> None:
    read = {word for path in FILES for word in re.findall(r"__(?:app|worker)_asked\.(\w+)", path.read_text(encoding="utf-8"))}
    assert read == asked.WORDS


def test_every_word_of_the_page_of_playbooks_is_known_or_has_a_prefix() -> None:
    page = (ROOT / "docs" / "playbooks.md").read_text(encoding="utf-8")
    said = set(re.findall(r"-e '?\{?\"?(\w+)", page))
    assert {word for word in said if word not in asked.WORDS and not word.startswith(OURS)} == {"steps_json", "result_json"}


def test_what_is_asked_is_what_stands_behind_e_and_no_variable_of_a_host_or_a_play(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yml"
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory.write_text(json.dumps({"all": {"hosts": {"here": here}, "vars": dict.fromkeys(asked.WORDS, "host")}}))
    said = {"dest": str(tmp_path / "said"), "content": "{{ lookup('workfleet.core.asked') | to_json }}", "mode": "0600"}
    tasks = [{"ansible.builtin.copy": said}]
    book = tmp_path / "book.yml"
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "vars": {"force": True}, "tasks": tasks}]))
    given = {"queue": "{{ 'ma' ~ 'il' }}", "count": 5, "other": 1}
    done = warm.play(["-i", str(inventory), str(book), "-e", json.dumps(given)])
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "said").read_text()) == {"queue": "mail", "count": 5}
