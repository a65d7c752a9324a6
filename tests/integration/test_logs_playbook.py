"""``playbooks/logs.yml`` as a user runs it, on nodes under a real supervisord."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet import shown
from tests.integration.supervised import ME, MY_GROUP, REPOSITORY, Site, site
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["site"]
TALKER = [sys.executable, str(REPOSITORY / "tests" / "fakes" / "talker.py"), "calm"]
#: One group by another clock, as its environment says.
CLOCKS = {"one": {}, "two": {"TZ": "EST5EDT,M3.2.0,M11.1.0"}}
GROUPS: list[dict[str, Any]] = [{"name": name, "engine": "process", "command": TALKER, "drain_seconds": 5, "env": env}
                                for name, env in CLOCKS.items()]
LINE = re.compile(r"(\d\d:\d\d:\d\d) web1 (one|two) 1\.1 ([A-Z]+) (MainProcess: .*)")


@pytest.fixture
def talkers(site: Site) -> Iterator[Site]:
    site.work(GROUPS)
    until(lambda: all("line 8 " in "".join(site.manager.log(node.name, 99)) for node in site.manager.present()))
    yield site


def command(site: Site, folder: Path, **extra: Any) -> list[str]:
    """The command line; the inventory declares what runs."""
    app = {"app_name": "shop", "app_user": ME, "app_group": MY_GROUP, "app_root": site.root}
    worker = {"worker_manager": "supervisor", "worker_groups": GROUPS, "worker_run_directory": site.run_directory}
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps({"workers": {"hosts": {"web1": {**app, **worker, **local}}}}))
    playbook = str(REPOSITORY / "playbooks" / "logs.yml")
    return [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), playbook, "-e", json.dumps(extra)]


def environment() -> dict[str, str]:
    return {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}


def play(site: Site, folder: Path, *, expect: int = 0, **extra: Any) -> str:
    done = subprocess.run(command(site, folder, **extra), cwd=REPOSITORY, env=environment(), check=False, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_logs_of_all_nodes_are_shown_as_one_by_time(talkers: Site, tmp_path: Path) -> None:
    said = play(talkers, tmp_path, lines=6, since="10m")  # those of the other zone were five hours old
    found = LINE.findall(said)
    assert [group for _, group, _, _ in found].count("one") == [group for _, group, _, _ in found].count("two") == 6
    assert [at for at, _, _, _ in found] == sorted(at for at, _, _, _ in found)
    assert {level for _, _, level, _ in found} <= {"INFO", "WARNING", "ERROR"}


def test_errors_alone_come_with_their_tracebacks_of_one_group(talkers: Site, tmp_path: Path) -> None:
    said = play(talkers, tmp_path, level="error", worker_only="two")
    assert [words[1:] for words in LINE.findall(said)] == [("two", "ERROR", "MainProcess: task failed")]
    after = said.partition("task failed\n")[2].splitlines()
    assert after[0] == "    Traceback (most recent call last):"
    assert after[3:5] != [] and "    ValueError: no such report" in after[:6]
    assert "nothing was written that fits" in play(talkers, tmp_path, level="critical")
    later = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + 3600))
    assert "nothing was written that fits" in play(talkers, tmp_path, since=later)


def test_what_was_written_is_fetched_into_files_as_it_is_shown(talkers: Site, tmp_path: Path) -> None:
    play(talkers, tmp_path, dump_dir=str(tmp_path / "dump"))
    for node in talkers.manager.present():
        path = tmp_path / "dump" / "web1" / f"{node.name}.log"
        fetched = path.read_text().splitlines()
        assert len(fetched) > 10
        assert fetched == [shown.text(line) for line in talkers.manager.log(node.name, 10_000)][:len(fetched)]
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("extra", "said"), [
    ({"level": "loud"}, "level = 'loud': must be one of debug, info, warning, error, critical"),
    ({"since": "yesterday"}, "since = 'yesterday': must be an age such as 90s"),
    ({"lines": "many"}, "argument 'lines' is of type"),
    ({"follow": True}, "follow shows entries in a terminal until it is interrupted, and there is none"),
])
def test_what_cannot_be_meant_is_refused(talkers: Site, tmp_path: Path, extra: dict[str, Any], said: str) -> None:
    assert said in play(talkers, tmp_path, expect=2, **extra)


def test_in_a_terminal_new_lines_are_shown_as_they_come_and_once(talkers: Site, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command(talkers, tmp_path, follow=True, lines=2), cwd=REPOSITORY, env=environment(),
                               stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said = b""
    deadline = time.monotonic() + 90
    try:
        while time.monotonic() < deadline and said.count(b" INFO MainProcess: line ") < 40:
            if select.select([ours], [], [], 1)[0]:
                said += os.read(ours, 65536)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(20)
        os.close(ours)
    numbers = [int(number) for number in re.findall(r"web1 one 1\.1 INFO MainProcess: line (\d+)", said.decode())]
    assert len(numbers) > 10, said.decode()
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "each once, and none left out"
