"""The exit codes of ``docs/playbooks.md``, measured: each playbook on inventories and command lines that leave something unlooked at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("ansible")

from tests import printed, warm

if TYPE_CHECKING:
    from pathlib import Path

PAGE = warm.ROOT / "docs" / "playbooks.md"
PLAYBOOKS = sorted(path.stem for path in (warm.ROOT / "playbooks").glob("*.yml"))
#: Of which each looks at hosts in another way; the others are those of a full run.
USUAL = {"deploy", "purge", "site", "status", "validate"}
CASES = ("no host", "unreadable file", "unreachable host", "wrong tag", "wrong option")
#: What a playbook needs to come as far as its host.
NEEDED = {"control": {"group": "w", "control": "pool_grow"}, "dead_letters": {"queue": "w"},
          "purge": {"queue": "w", "confirm": "purge shop w"}, "reset": {"confirm": "reset shop away"}, "scale": {"group": "w", "nodes": 1}}
AWAY = {"ansible_host": "127.0.0.1", "ansible_port": 1, "app_name": "shop", "app_broker_url": "redis://127.0.0.1:1/0",
        "worker_groups": [{"name": "w", "app": "shop", "queues": ["w"], "drain_seconds": 9,
                           "autoscale": {"min": 1, "max": 2, "backlog_per_node": 5}}]}


def inventory(folder: Path, *, broken: bool = False) -> str:
    """Write an inventory of one host that is out of reach, and where that is asked for beside a file that is none."""
    folder.mkdir()
    (folder / "hosts.json").write_text(json.dumps({"workers": {"hosts": {"away": AWAY}}}))
    if broken:
        (folder / "other.yml").write_text("workers:\n  hosts:\n    web2:\n   vars: {}\n")
    return str(folder)


def words(case: str, folder: Path) -> list[str]:
    """Return the command line of a case."""
    if case == "no host":
        return ["-i", str(folder / "mistyped")]
    found = ["-i", inventory(folder / "inventory", broken=case == "unreadable file")]
    return found + {"wrong tag": ["--tags", "nosuch"], "wrong option": ["-e", "worker_only=nosuch"]}.get(case, [])


def row(playbook: str, codes: list[int]) -> str:
    """Return a line of the table."""
    return f"| `{playbook}.yml` | {' | '.join(map(str, codes))} |"


def test_the_table_has_a_row_for_each_playbook() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index(f"| | {' | '.join(CASES)} |") + 2
    assert [line.split("`")[1] for line in lines[start:start + len(PLAYBOOKS)]] == [f"{name}.yml" for name in PLAYBOOKS]


@pytest.mark.parametrize("playbook", [
    pytest.param(name, marks=[] if name in USUAL else [pytest.mark.full]) for name in PLAYBOOKS])
def test_a_playbook_ends_with_the_code_that_its_row_says(playbook: str, tmp_path: Path) -> None:
    codes, said = [], {}
    for case in CASES:
        folder = tmp_path / case.replace(" ", "-")
        folder.mkdir()
        done = warm.play([*words(case, folder), f"playbooks/{playbook}.yml", "-e", json.dumps(NEEDED.get(playbook, {}))],
                         env={"ANSIBLE_SSH_RETRIES": "0"})
        codes.append(done.returncode)
        said[case] = done.stdout + done.stderr
    assert row(playbook, codes) in PAGE.read_text(encoding="utf-8").splitlines(), "\n".join([row(playbook, codes), *said.values()])
    if playbook == "site":
        printed.same("docs/playbooks.md", "wrong-tag", said["wrong tag"])
        printed.same("docs/playbooks.md", "wrong-option", said["wrong option"])
    if playbook == "status":
        printed.same("docs/playbooks.md", "looked", said["unreachable host"])
    assert all("changed=0" in text for case, text in said.items() if case != "no host")
    for case, sentence in (("no host", "no host was found in the inventory"), ("unreadable file", "other.yml: could not be read as a part"),
                           ("wrong tag", "--tags nosuch: "), ("wrong option", "worker_only: nosuch: no such worker group")):
        assert sentence in " ".join(said[case].split()), said[case]
