"""Files of logs: cut under a fast writer without a lost line, finished after a kill, read across two files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet.managers import logfiles
from plugins.module_utils.workfleet.model import Name
from runners import workfleet_logs
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 4096
WRITER = """
import sys
for number in range(int(sys.argv[1])):
    print(number, "x" * (number % 97), flush=True)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    workfleet_logs.check(str(tmp_path))
    return tmp_path / "workfleet.shop.a.1.1.log"


@pytest.fixture
def keeper(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    program = [sys.executable, workfleet_logs.__file__, "--max-bytes=65536", "--backups=1000", str(log.parent), "shop"]
    with subprocess.Popen(program) as process:
        yield process
        process.kill()


def whole(log: Path) -> str:
    """All that was written, out of all files."""
    numbers = sorted(workfleet_logs.numbers(str(log)), reverse=True)
    return "".join(Path(f"{log}.{number}").read_text() for number in numbers) + log.read_text()


def test_a_file_is_cut_at_blocks_while_writers_append_and_no_line_is_lost_or_doubled(log: Path) -> None:
    lines = 100_000
    with log.open("ab") as file:
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(lines)], stdout=file)
    while writer.poll() is None:
        workfleet_logs.tend(str(log), 65536, 1000)
    assert len(workfleet_logs.numbers(str(log))) > 50, "the cuts were made beside the writing"
    assert {os.path.getsize(f"{log}.{number}") for number in workfleet_logs.numbers(str(log))} == {65536}
    assert [line.split(" ")[0] for line in whole(log).splitlines()] == [str(number) for number in range(lines)]


def test_the_program_goes_on_by_itself_and_after_a_kill(log: Path, keeper: subprocess.Popen[bytes]) -> None:
    with log.open("a") as file:
        file.write("".join(f"{number}\n" for number in range(30_000)))
    until(lambda: os.path.getsize(log) <= 65536)
    assert whole(log).split() == [str(number) for number in range(30_000)]


@pytest.mark.parametrize("done", ["copying", "copied", "cut"])
def test_a_kill_in_between_loses_and_doubles_nothing(log: Path, done: str) -> None:
    text = "".join(f"{number}\n" for number in range(5000))
    log.write_text(text)
    with log.open("r+b") as file:
        if done == "copying":
            Path(f"{log}.new").write_text(text[:100])
        else:
            Path(f"{log}.cut").write_text(text[:BLOCK])
        if done == "cut":
            workfleet_logs.collapse(file.fileno(), BLOCK)
    workfleet_logs.tend(str(log), BLOCK, 100)
    assert whole(log) == text
    assert sorted(path.name.rpartition(".")[2] for path in log.parent.iterdir() if path != log) == sorted(
        str(number) for number in workfleet_logs.numbers(str(log))), "nothing else is left behind"


def test_the_oldest_goes_and_without_backups_all(log: Path) -> None:
    log.write_bytes(b"a" * BLOCK + b"b" * BLOCK + b"c" * BLOCK + b"d")
    workfleet_logs.tend(str(log), BLOCK, 2)
    assert (Path(f"{log}.2").read_bytes()[:1], Path(f"{log}.1").read_bytes()[:1], log.read_bytes()) == (b"b", b"c", b"d")
    log.write_bytes(b"e" * BLOCK + b"f")
    workfleet_logs.tend(str(log), BLOCK, 0)
    assert [path.name for path in log.parent.iterdir()] == [log.name]
    assert log.read_bytes() == b"f"


def test_a_link_is_not_followed(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"x" * 3 * BLOCK)
    log.symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        workfleet_logs.tend(str(log), BLOCK, 1)
    assert os.path.getsize(other) == 3 * BLOCK


def test_the_last_lines_are_read_across_two_files(log: Path) -> None:
    assert logfiles.tail(str(log), 5) == []
    Path(f"{log}.1").write_text("one\ntwo\nthr")
    log.write_text("ee\nfour\n")
    assert logfiles.tail(str(log), 1) == ["four"]
    assert logfiles.tail(str(log), 3) == ["two", "three", "four"]
    assert logfiles.tail(str(log), 9) == ["one", "two", "three", "four"]
    assert logfiles.tail(str(log), 2, most_bytes=6) == ["four"], "a line cut in two by our own limit is none"
    assert logfiles.tail(str(log), 0) == []


def test_logs_of_older_incarnations_go_with_a_node_and_its_own_where_no_newer_is_there(tmp_path: Path) -> None:
    for name in ("a.1.1", "a.1.2", "a.1.3", "a.2.1", "ab.1.1"):
        for end in ("", ".1"):
            (tmp_path / f"workfleet.shop.{name}.log{end}").write_text("")
    path = str(tmp_path / "workfleet.shop.a.1.2.log")
    logfiles.remove(Name("shop", "a", 1, 2), path, [Name("shop", "a", 1, 3)])
    assert sorted(file.name[len("workfleet.shop."):] for file in tmp_path.iterdir() if file.name.endswith(".log")) == [
        "a.1.2.log", "a.1.3.log", "a.2.1.log", "ab.1.1.log"]
    logfiles.remove(Name("shop", "a", 1, 3), str(tmp_path / "workfleet.shop.a.1.3.log"), [])
    assert sorted(file.name[len("workfleet.shop."):] for file in tmp_path.iterdir()) == [
        "a.2.1.log", "a.2.1.log.1", "ab.1.1.log", "ab.1.1.log.1"]
