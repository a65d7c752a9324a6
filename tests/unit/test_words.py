"""What the inventory itself says of an app: the same whatever a run is given by ``-e``, and other words for any change on any host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible import constants
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible_collections.workfleet.core.plugins.plugin_utils import inventory, words

if TYPE_CHECKING:
    from pathlib import Path

SHOP: dict[str, Any] = {
    "app_name": "shop", "app_source": {"type": "git", "location": "https://git.example.org/shop", "version": "{{ tag | default('v2') }}"},
    "app_broker_url": "redis://:geheim@redis1:6379/0", "worker_groups": [{"name": "w", "app": "shop", "queues": ["q"], "nodes": 1}],
}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))


def hosts(folder: Path, declared: dict[str, Any], **extra: Any) -> tuple[list[inventory.Host], HostVars]:
    """The hosts web1 and web2 of an inventory, as a run with these extra variables has them."""
    path = folder / "hosts.yml"
    path.write_text(yaml.safe_dump({"workers": {"hosts": {"web1": {}, "web2": {}}, "vars": declared}}))
    loader = DataLoader()
    manager = VariableManager(loader, InventoryManager(loader, [str(path)]))
    manager._extra_vars = extra
    known = HostVars(manager._inventory, manager, loader)
    return [inventory.Host(name, {**known.raw_get(name), "hostvars": known}, Templar(loader)) for name in ("web1", "web2")], known


def told(folder: Path, declared: dict[str, Any], **extra: Any) -> tuple[str, str]:
    given, known = hosts(folder, declared, **extra)
    assert words.are_given(known) == bool(extra)
    without = words.raw(known, [host.name for host in given])
    words.keep([inventory.Host(host.name, without[host.name], host.templar) for host in given], given)
    found = words.of("shop")
    return found.source, found.whole


def test_words_are_the_inventorys_own_and_no_extra_variables(tmp_path: Path) -> None:
    own = told(tmp_path, SHOP)
    assert all(own)
    assert told(tmp_path, SHOP, tag="v3", app_broker_url="redis://elsewhere/0", worker_groups=[]) == own
    # The source that such a run uses is none that the inventory gives.
    assert words.are_source("web1", {**SHOP["app_source"], "version": "v2"})
    assert not words.are_source("web1", {**SHOP["app_source"], "version": "v3"})


def test_any_change_gives_other_words_and_only_another_source_another_source(tmp_path: Path) -> None:
    source, whole = told(tmp_path, SHOP)
    changes: list[dict[str, Any]] = [
        {"app_env": {"A": "1"}}, {"app_broker_url": "redis://:geheim@redis1:6380/0"}, {"worker_rollout": {"ready_timeout_seconds": 300}}]
    for change in changes:
        other = told(tmp_path, {**SHOP, **change})
        assert other[0] == source and other[1] != whole
    other = told(tmp_path, {**SHOP, "app_source": {**SHOP["app_source"], "version": "v3"}})
    assert other[0] != source and other[1] != whole


def test_words_are_kept_where_nobody_else_reads_and_unknown_in_a_run_that_has_read_no_inventory(tmp_path: Path) -> None:
    assert words.of("shop").whole == "" and words.are_source("web1", {})
    told(tmp_path, SHOP)
    (path,) = tmp_path.glob("words-*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert "geheim" not in path.read_text() and json.loads(path.read_text())["apps"]["shop"]
    assert words.of("other").whole == ""


def test_what_cannot_be_read_is_named_by_its_key_and_hides_no_other_mistake(tmp_path: Path) -> None:
    fact = "{{ ansible_processor_vcpus }}"
    wrong = {**SHOP, "app_env": {"CPUS": fact, "GOOD": "1"}, "worker_groups": [
        {"name": "w", "app": "{{ nowhere }}", "queues": ["q"], "nodes": 1, "drian_seconds": 20, "concurrency": fact}]}
    (host, _), _ = hosts(tmp_path, wrong)
    found = list(inventory.problems(host))
    assert [text for text in found if text.startswith("worker_groups[0].app: cannot be read: 'nowhere' is undefined")]
    assert [text for text in found if "drian_seconds" in text and "drain_seconds" in text]
    for place in ("app_env.CPUS", "worker_groups[0].concurrency"):
        (text,) = (text for text in found if text.startswith(place))
        assert "facts are not gathered" in text and "ansible_facts.processor_vcpus" in text
    assert len(found) == 4, found
