"""``logs.yml`` under systemd: files and the journal read as one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fleet import Fleet

LINE = re.compile(r"^(\d\d:\d\d:\d\d) logs-worker (\w+) (\d+\.\d+) ([A-Z]+) (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    """The scenario's host, on which every node has just begun to write."""
    made = Fleet()
    made.play("restart")
    return made


def test_nodes_are_shown_by_time_with_systemds_words_among_them(fleet: Fleet) -> None:
    found = LINE.findall(fleet.play("logs", lines=1000, since="10m", worker_only="calm").out)
    assert {node.partition(".")[0] for _, _, node, _, _ in found} == {"1", "2"}
    assert [at for at, *_ in found] == sorted(at for at, *_ in found)
    for slot in ("1", "2"):
        mine = [text for _, _, node, _, text in found if node.startswith(f"{slot}.")]
        assert [text for text in mine if text.startswith("Started workfleet")], "from the journal"
        numbers = [int(text.split()[2]) for text in mine if text.startswith("MainProcess: line ")]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 3, "from the file"


def test_errors_come_with_their_tracebacks(fleet: Fleet) -> None:
    out = fleet.play("logs", level="error", worker_only="calm").out
    assert [level for *_, level, _ in LINE.findall(out)] == ["ERROR", "ERROR"]
    assert out.count("    ValueError: no such report") == 2


def test_the_journal_alone_is_read_the_same_way_and_fetched(fleet: Fleet, tmp_path: Path) -> None:
    fleet.play("site", worker_log={"to": "journal"}, worker_only="calm")
    out = fleet.play("logs", level="error", worker_only="calm", worker_log={"to": "journal"}).out
    assert out.count("MainProcess: task failed") == 2 and out.count("    ValueError: no such report") == 2
    fleet.play("logs", dump_dir=str(tmp_path), worker_only="calm", worker_log={"to": "journal"})
    files = sorted(tmp_path.glob("logs-worker/workfleet.talk.calm.*.log"))
    assert len(files) == 2
    assert all("line 1 x" in file.read_text() and "Traceback (most recent call last):" in file.read_text() for file in files)
    fleet.play("site", worker_only="calm")
