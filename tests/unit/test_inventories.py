"""Every inventory that is shipped is sound, told without any host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from plugins.module_utils.workfleet import forms
from plugins.module_utils.workfleet.postgresql import config as postgresql_config
from plugins.module_utils.workfleet.redis import config as redis_config
from tests import printed

pytest.importorskip("ansible")
ROOT = Path(__file__).resolve().parents[2]
INVENTORIES = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("inventories/**/hosts.yml"))


def validate(inventory: str, home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``validate.yml`` as somebody who has never used the toolkit."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "WORKFLEET_", "CI"))}
    return subprocess.run(
        [sys.executable, "-m", "ansible.cli.playbook", "-i", inventory, "playbooks/validate.yml", *words],
        cwd=ROOT, env={**clean, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "HOME": str(home), **environment},
        capture_output=True, text=True, timeout=60, check=False)


def examples(inventory: str) -> dict[str, str]:
    """Return the secrets of an inventory's example of a vault."""
    found = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / inventory).rglob("vault.example.yml"))
    return {name: value for secrets in found for name, value in secrets.items()}


def real(inventory: str) -> str:
    """Return extra variables with a value of one's own in place of each placeholder."""
    return json.dumps({name: value.replace("placeholder", "ab/cd+ef@g") if "://" not in value else value.replace("placeholder", "own")
                       for name, value in examples(inventory).items()})


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_a_shipped_inventory_validates_without_a_warning(inventory: str, tmp_path: Path) -> None:
    done = validate(inventory, tmp_path, "-e", real(inventory))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr


def test_a_mistake_is_told_as_the_guide_has_it(tmp_path: Path) -> None:
    inventory = "inventories/revrx/staging"
    done = validate(inventory, tmp_path, "-e", real(inventory), "-e", '{"worker_rollout": {"paralellism": 2}}')
    printed.same("docs/guide.md", "mistake", done.stdout + done.stderr)


def test_every_secret_of_a_shipped_example_is_known_as_a_placeholder() -> None:
    found = [value for inventory in INVENTORIES for value in examples(inventory).values()]
    assert len(found) > 10 and all(forms.PLACEHOLDER.search(value) for value in found)


def test_placeholders_are_refused_on_hosts_that_others_reach_and_none_of_them_is_repeated(tmp_path: Path) -> None:
    done = validate("inventories/flow", tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    for place in ("app_broker_url", "app_secrets.DATABASE_URL", "redis_password", "postgresql_users[0].password"):
        assert f"{place}: holds a placeholder of a vault.example.yml" in said
    assert not any(value in said for value in examples("inventories/flow").values())


def test_a_redis_without_a_password_is_refused_and_a_way_to_have_one_is_told(tmp_path: Path) -> None:
    done = validate("inventories/ci", tmp_path, "-e", '{"redis_password": ""}')
    assert done.returncode != 0 and redis_config.MADE_ONCE in done.stdout + done.stderr


def test_gnosari_under_supervisor_needs_to_drop_its_limits_as_its_readme_says(tmp_path: Path) -> None:
    own = ("-e", real("inventories/gnosari"), "-e", "worker_manager=supervisor")
    refused = validate("inventories/gnosari", tmp_path, *own)
    assert refused.returncode != 0 and "limits: memory_max = '1G': cannot be kept by supervisor" in refused.stdout + refused.stderr
    told = validate("inventories/gnosari", tmp_path, *own, "-e", '{"gnosari_limits": {}}')
    assert told.returncode == 0, told.stdout + told.stderr


def test_the_machine_of_a_job_can_be_another_one(tmp_path: Path) -> None:
    done = validate("inventories/ci", tmp_path, CI_HOST="192.0.2.1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_staging_and_production_share_what_they_have_in_common() -> None:
    shared = [ROOT / "inventories/revrx" / name / "group_vars/all/app.yml" for name in ("staging", "production")]
    assert {path.resolve() for path in shared} == {ROOT / "inventories/revrx/shared/app.yml"}


def test_each_of_the_five_systems_has_an_inventory_with_a_page_and_placeholders_for_its_secrets() -> None:
    for system in ("gnosari", "revrx", "spark", "flow", "chicory"):
        folder = ROOT / "inventories" / system
        assert [path for path in INVENTORIES if path.startswith(f"inventories/{system}")]
        assert f"# {system}: " in (folder / "README.md").read_text(encoding="utf-8")
        assert (ROOT / "docs" / "seeds" / f"{system}.md").exists()
        assert list(folder.rglob("vault.example.yml"))


@pytest.mark.parametrize("inventory", ["gnosari", "spark", "revrx/staging"])
def test_a_scenario_has_the_hosts_groups_and_variables_of_its_inventory(inventory: str) -> None:
    scenario = ROOT / "molecule" / inventory.partition("/")[0]
    shipped = yaml.safe_load((ROOT / "inventories" / inventory / "hosts.yml").read_text(encoding="utf-8"))
    for platform in yaml.safe_load((scenario / "molecule.yml").read_text(encoding="utf-8"))["platforms"]:
        groups = {group for group, content in shipped.items() if platform["name"] in content.get("hosts", {})}
        assert groups and groups <= set(platform["groups"])
    assert (scenario / "group_vars/all/inventory").resolve() == (ROOT / "inventories" / inventory / "group_vars/all").resolve()


def test_the_defaults_of_postgresql_are_those_that_are_checked() -> None:
    defaults = yaml.safe_load((ROOT / "roles/postgresql/defaults/main.yml").read_text(encoding="utf-8"))
    assert defaults == postgresql_config.DEFAULTS


def test_the_filter_encodes_what_urlencode_leaves_and_repeats_no_password() -> None:
    from ansible_collections.workfleet.core.plugins.filter import redis_url as plugin

    build = plugin.FilterModule().filters()["redis_url"]
    assert build("redis1", "ab/cd+ef==", "1") == "redis://:ab%2Fcd%2Bef%3D%3D@redis1:6379/1"
    assert build("redis1", port="7000", scheme="rediss", options={"ssl_ca_certs": "/etc/ca.pem"}) == (
        "rediss://redis1:7000/0?ssl_ca_certs=%2Fetc%2Fca.pem")
    for words in ((None, "hunter2"), ("", "hunter2"), ("h", "hunter2", "x"), ("h", ["hunter2"])):
        with pytest.raises(Exception, match=r"^redis_url: ") as caught:
            build(*words)
        assert "hunter2" not in str(caught.value)
