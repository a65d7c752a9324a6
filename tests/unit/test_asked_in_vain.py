"""What was asked for and cannot be had is refused by the check of the inventory, before any host is touched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

pytest.importorskip("ansible")

from tests import warm

if TYPE_CHECKING:
    from pathlib import Path

SHOP = {"ansible_connection": "local", "app_name": "shop", "redis_password": "p" * 30, "app_broker_url": "redis://redis.example/0",
        "worker_groups": [{"name": "w", "app": "shop", "queues": ["w"]}]}


def play(folder: Path, groups: dict[str, list[str]], *words: str, playbook: str = "playbooks/validate.yml", status: int = 2) -> str:
    """Run a playbook on an inventory; return what it said."""
    inventory = folder / "inventory"
    inventory.mkdir(exist_ok=True)
    hosts = {group: {"hosts": dict.fromkeys(hosts, SHOP)} for group, hosts in groups.items()}
    (inventory / "hosts.json").write_text(json.dumps(hosts))
    done = warm.play(["-i", str(inventory), playbook, *words])
    assert done.returncode == status, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(("playbook", "words", "said"), [
    ("verify", ["--tags", "worker"], "--tags worker: verify.yml has no tags: leave it out"),
    ("deploy", ["--skip-tags", "app"], "--skip-tags app: deploy.yml has no tags: leave it out"),
    ("site", ["--tags", "app,wroker"], "--tags wroker: site.yml has the tags app, autoscaler, postgresql, redis, worker"),
    ("site", ["--tags", "app", "--skip-tags", "app"], "--tags app and --skip-tags app leave nothing to do"),
])
def test_a_tag_that_a_playbook_lacks_and_one_that_leaves_nothing_is_refused(
    tmp_path: Path, playbook: str, words: list[str], said: str
) -> None:
    assert said in play(tmp_path, {"workers": ["h1"]}, *words, playbook=f"playbooks/{playbook}.yml")


def test_what_molecule_skips_everywhere_need_not_be_there(tmp_path: Path) -> None:
    play(tmp_path, {"workers": ["h1"]}, "--skip-tags", "molecule-notest,notest,molecule-idempotence-notest", status=0)


@pytest.mark.parametrize("words", [["--skip-tags", "always"], ["--start-at-task", "Read the state of the nodes"]])
def test_the_check_of_the_inventory_cannot_be_left_out(tmp_path: Path, words: list[str]) -> None:
    said = play(tmp_path, {"workers": ["h1"]}, *words, playbook="playbooks/status.yml", status=4)
    assert "would leave out the check of the inventory; nothing was touched" in said


def test_a_playbook_around_ours_gives_it_a_tag(tmp_path: Path) -> None:
    around: list[dict[str, Any]] = [{"import_playbook": str(warm.ROOT / "playbooks" / "validate.yml"), "tags": "fleet"},
                                    {"hosts": "all", "gather_facts": False, "tags": "mine", "tasks": [{"ansible.builtin.debug": {}}]}]
    (tmp_path / "around.yml").write_text(json.dumps(around))
    for tag, status in (("mine", 0), ("yours", 2)):
        play(tmp_path, {"workers": ["h1"]}, "--tags", tag, playbook=str(tmp_path / "around.yml"), status=status)


def test_worker_groups_without_a_worker_host_are_refused_as_is_an_inventory_without_our_groups(tmp_path: Path) -> None:
    """``celery_workers`` in place of ``workers``: every playbook was content, and did nothing."""
    said = play(tmp_path, {"celery_workers": ["h1"], "redis": ["h1"]}, playbook="playbooks/health.yml")
    assert "worker_groups is declared, but no host is in the inventory group workers" in said and "celery_workers, redis" in said
    assert "no host is in one of the inventory groups redis, postgresql" in play(tmp_path, {"celery_workers": ["h1"]})


def test_a_host_that_is_called_as_every_machine_calls_itself_is_warned_of(tmp_path: Path) -> None:
    """Two machines that deploy themselves were both ``localhost``, and each answered for the other."""
    assert "localhost is what every machine calls itself" in play(tmp_path, {"workers": ["localhost"]}, status=0)
    said = play(tmp_path, {"workers": ["localhost"]}, "-e", "app_broker_url=redis://127.0.0.1:6379/0", status=0)
    assert "localhost is what" not in said


def test_the_page_names_the_tags_that_playbooks_have() -> None:
    def tags(value: Any) -> set[str]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        own = value.get("tags", []) if isinstance(value, dict) else []
        return {own} if isinstance(own, str) else set(own).union(*map(tags, inner))

    page = (warm.ROOT / "docs/playbooks.md").read_text(encoding="utf-8")
    for playbook in (warm.ROOT / "playbooks").rglob("*.yml"):
        found = sorted(set().union(*map(tags, yaml.safe_load(playbook.read_text(encoding="utf-8")))) - {"always"})
        assert not found or f"| `{playbook.name}` | {', '.join(f'`{tag}`' for tag in found)} |" in page, playbook
    assert not [path for path in (warm.ROOT / "roles").rglob("tasks/*.yml") if "tags:" in path.read_text(encoding="utf-8")]


def test_a_limit_that_leaves_a_playbook_no_host_is_no_success(tmp_path: Path) -> None:
    said = play(tmp_path, {"workers": ["h1"], "redis": ["r1"]}, "--limit", "r1", playbook="playbooks/verify.yml")
    assert "looked at 0 of 1 hosts, 0 of 1 nodes (--limit r1)" in said
    assert "nothing was looked at: --limit r1 leaves no host of workers" in said


def test_each_source_of_the_inventory_has_to_be_read(tmp_path: Path) -> None:
    """Half of the fleet was not seen where one of two sources was mistyped."""
    said = play(tmp_path, {"workers": ["h1"]}, "-i", str(tmp_path / "mistyped"))
    assert f"{tmp_path}/mistyped: could not be read as a part of the inventory" in said
