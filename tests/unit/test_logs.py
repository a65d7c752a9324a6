"""What nodes wrote becomes entries: heads of each engine's own format, tracebacks in one piece, one order."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.workfleet.core.plugins.plugin_utils import logtext

from plugins.module_utils.workfleet import managers
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.managers import logfiles, logs, systemd
from plugins.module_utils.workfleet.managers.logs import Entry, Line, Stream, Wish
from plugins.module_utils.workfleet.model import Name

if TYPE_CHECKING:
    from pathlib import Path

UNTIL = datetime(2026, 11, 23, 12, 0, 0).timestamp()
TRACEBACK = ["Traceback (most recent call last):", '  File "x.py", line 1, in <module>', "    1 / 0", "", "ZeroDivisionError: division"]


def entries(*texts: str, until: float = UNTIL) -> list[Entry]:
    return logs.read([Stream([Line(text) for text in texts], until)])


def clock(entry: Entry) -> str:
    return datetime.fromtimestamp(entry.at or 0).strftime("%d %H:%M:%S.%f")[:-3]


#: A first line as a real worker writes it, its time and level.
HEADS = {
    "celery": ("[2026-11-23 11:30:01,250: WARNING/ForkPoolWorker-1] low on paper", "23 11:30:01.250", "warning"),
    "celery, of a task": ("[2026-11-23 11:30:01,250: ERROR/MainProcess] Task app.tasks.fail[1-2] raised", "23 11:30:01.250", "error"),
    "arq": ("11:30:01: Starting worker for 5 functions: run_flow, fail", "23 11:30:01.000", None),
    "arq, before midnight": ("23:30:01: recording health", "22 23:30:01.000", None),
    "chicory": ("2026-11-23 11:30:01,250 - workfleet.chicory - INFO - consuming default", "23 11:30:01.250", "info"),
    "a declared format": ("(4711) 2026-11-23 11:30:01,250 CRITICAL  all is lost", "23 11:30:01.250", "critical"),
    "a level first": ("FATAL:root:no more", "23 12:00:00.000", "critical"),
    "a time in another zone": (datetime.fromtimestamp(UNTIL - 60).astimezone().isoformat() + " WARN x", "23 11:59:00.000", "warning"),
    "no such day": ("2026-02-31 11:30:01 INFO x", "23 12:00:00.000", "info"),
}


@pytest.mark.parametrize(("text", "at", "level"), HEADS.values(), ids=HEADS.keys())
def test_a_line_tells_when_it_was_written_and_how_bad_it_is(text: str, at: str, level: str | None) -> None:
    entry, = entries(text)
    assert (clock(entry), entry.level, entry.text) == (at, level, text)


#: The clock of the tests.
HERE = time.tzname
#: By summer and winter time, and by a rule that is no zone of any file.
ZONES = {"EST5EDT,M3.2.0,M11.1.0": ("[2026-07-01 07:30:01,250: INFO/MainProcess] x", 7.5 + 4),
         "": ("[2026-07-01 11:30:01: INFO/MainProcess] x", 11.5),
         "<+0545>-5:45": ("[2026-07-01 07:30:01,250: INFO/MainProcess] x", 7.5 - 5.75), ":UTC": ("07:30:01: arq", 7.5)}


@pytest.mark.parametrize("zone", ZONES)
def test_a_line_was_written_by_the_clock_of_the_process_that_wrote_it(zone: str) -> None:
    text, hour = ZONES[zone]
    day = datetime(2026, 7, 1, tzinfo=timezone.utc).timestamp()
    entry, = logs.read([Stream([Line(text)], day + 12 * 3600, zone)])
    assert int(entry.at or 0) == day + hour * 3600 + 1
    assert time.tzname == HERE


def test_the_zone_is_that_of_a_nodes_environment_unless_its_process_has_set_another(tmp_path: Path) -> None:
    """As Django does, of its ``TIME_ZONE``."""
    manager, name = managers.named("supervisor", "shop", str(tmp_path), str(tmp_path / "run")), Name("shop", "a", 1, 1)
    assert manager.zone(name) is None
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / f"{name}.env").write_text('A="b"\nTZ="Asia/Kathmandu"\n')
    assert manager.zone(name) == "Asia/Kathmandu"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f"{name}.json").write_text(json.dumps({"zone": "America/Chicago"}))
    assert manager.zone(name) == "America/Chicago"


@pytest.mark.parametrize("zone", [":/etc/shadow", "../../../etc/shadow", "/dev/zero", "a" * 200, "x\ny"])
def test_no_zone_leads_to_a_file_that_is_none(zone: str) -> None:
    with logs.clock_of(zone):
        assert time.tzname == HERE


def test_a_traceback_stays_with_its_line_and_is_an_error() -> None:
    found = entries("11:30:00: 0.1s job failed", *TRACEBACK, "11:30:01: next", "print of a task")
    assert [(entry.level, len(entry.lines)) for entry in found] == [("error", 6), (None, 2)]
    found = entries("no head", *TRACEBACK, "[2026-11-23 11:30:01,250: INFO/MainProcess] on")
    assert [(entry.level, len(entry.lines)) for entry in found] == [(None, 1), ("error", 5), ("info", 1)], "of a process that crashed"


def test_lines_without_heads_are_entries_of_their_own_at_their_neighbours_time() -> None:
    found = entries("banner", "more", "[2026-11-23 11:30:01,250: INFO/MainProcess] on")
    assert [(entry.text, clock(entry)) for entry in found] == [
        ("banner", "23 11:30:01.250"), ("more", "23 11:30:01.250"), ("[2026-11-23 11:30:01,250: INFO/MainProcess] on", "23 11:30:01.250")]


def test_clocks_without_a_day_count_back_over_midnight() -> None:
    found = entries("23:59:59: a", "00:00:01: b", "23:00:00: c", "11:00:00: d")
    assert [clock(entry) for entry in found] == ["21 23:59:59.000", "22 00:00:01.000", "22 23:00:00.000", "23 11:00:00.000"]


def test_the_journals_times_count_and_systemds_words_are_no_part_of_a_workers() -> None:
    lines = [Line("[2026-11-23 11:30:01,250: ERROR/MainProcess] x", 10.0), Line("belongs to it", 10.1),
             Line("Main process exited", 10.2, "warning"), Line("alone", 10.3),
             Line("[2026-11-23 11:30:01,250: INFO/MainProcess] y", 20.0), Line("too late to belong to it", 25.0)]
    found = logs.read([Stream(lines, 30.0)])
    assert [(entry.at, entry.level, len(entry.lines)) for entry in found] == [
        (10.0, "error", 2), (10.2, "warning", 1), (10.3, None, 1), (20.0, "info", 1), (25.0, None, 1)]


def test_streams_are_merged_by_time() -> None:
    file = Stream([Line("[2026-11-23 11:30:01,250: INFO/MainProcess] x"), Line("[2026-11-23 11:30:03,250: INFO/MainProcess] y")], UNTIL)
    journal = Stream([Line("Started", UNTIL - 1798, "info")], UNTIL)
    assert [entry.text[-7:] for entry in logs.read([journal, file])] == ["cess] x", "Started", "cess] y"]


def test_what_is_wanted_is_chosen_before_it_is_counted() -> None:
    levels = ["error", "info", None, "critical", "info", "warning"]
    found = [Entry(float(number), level, [str(number)]) for number, level in enumerate(levels)]

    def chosen(**wish: Any) -> str:
        return "".join(entry.text for entry in Wish(**wish).of(found))

    assert chosen() == "012345"
    assert chosen(lines=2) == "45"
    assert chosen(level="warning") == "035"
    assert chosen(level="debug") == "01345", "a line that does not say its level is left out"
    assert chosen(level="error", lines=1) == "3"
    assert chosen(since=4.0) == "45"


SINCE = {"90s": 90, "10m": 600, "2h": 7200, "1d": 86400, "11:30": 1800, "11:30:30": 1770, "2026-11-23 11:59": 60, "2026-11-23T11:59:30": 30}


@pytest.mark.parametrize(("text", "ago"), SINCE.items())
def test_since_is_an_age_or_a_time(text: str, ago: int) -> None:
    assert logs.parse_since(text, UNTIL) == UNTIL - ago


@pytest.mark.parametrize("text", ["yesterday", "10", "25:00", "2026-13-01", "-5m"])
def test_a_since_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(WorkfleetError, match="must be an age such as 90s"):
        logs.parse_since(text, UNTIL)


def test_nothing_is_no_since() -> None:
    assert logs.parse_since("", UNTIL) is None


def test_a_file_is_read_over_its_backups_as_far_back_as_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("d\ne\n")
    (tmp_path / "log.1").write_text("b\nc\n" + "x" * 10)
    (tmp_path / "log.2").write_text("a\n")
    (tmp_path / "log.4").write_text("of another time\n")
    stream = logfiles.stream(str(path), Wish(lines=5))
    assert [line.text for line in stream.lines] == ["a", "b", "c", "x" * 10 + "d", "e"]
    assert abs(stream.until - time.time()) < 60
    (tmp_path / "log.1").write_text("y" * (1 << 20) + "\nc\n")
    assert [line.text for line in logfiles.stream(str(path), Wish(lines=5)).lines] == ["c", "d", "e"]
    assert len(logfiles.stream(str(path), Wish(lines=5, level="error")).lines) == 5, "a filter looks further"
    assert logfiles.stream(str(tmp_path / "none"), Wish()).lines == []


def test_the_journals_own_json_is_read() -> None:
    said = {"MESSAGE": "x", "__REALTIME_TIMESTAMP": "1500000", "SYSLOG_IDENTIFIER": "workfleet.a.b.1.1", "PRIORITY": "6"}
    assert systemd.journal_line(said) == Line("x", 1.5)
    assert systemd.journal_line({**said, "SYSLOG_IDENTIFIER": "systemd", "PRIORITY": "4"}) == Line("x", 1.5, "warning")
    assert systemd.journal_line({**said, "MESSAGE": list("ü\x1b".encode())}).text == "ü\x1b"
    assert systemd.journal_line({**said, "MESSAGE": None}).text == ""


SHOWN = {
    "celery": ("[2026-11-23 11:30:01,250: ERROR/ForkPoolWorker-1] boom\nTraceback", "error",
               ["11:30:01 web1 reports 2.1 ERROR ForkPoolWorker-1: boom", "    Traceback"]),
    "arq": ("11:30:01: Starting", None, ["11:30:01 web1 reports 2.1 - Starting"]),
    "chicory": ("2026-11-23 11:30:01,250 - workfleet.chicory - INFO - on", "info",
                ["11:30:01 web1 reports 2.1 INFO workfleet.chicory: on"]),
    "another format is left as it is": ("(1) INFO x", "info", ["11:30:01 web1 reports 2.1 INFO (1) INFO x"]),
    "nothing works on the terminal": ("\x1b[31mred\x1b[0m\a\r", None, ["11:30:01 web1 reports 2.1 - \\x1b[31mred\\x1b[0m\\x07\\x0d"]),
}


@pytest.mark.parametrize(("text", "level", "lines"), SHOWN.values(), ids=SHOWN.keys())
def test_an_entry_is_shown_as_time_host_node_level_and_text(text: str, level: str | None, lines: list[str]) -> None:
    entry = json.loads(json.dumps({"unit": "workfleet.shop.reports.2.1", "at": UNTIL - 1799, "level": level, "text": text}))
    assert [line for line, _ in logtext.lines("web1", entry)] == lines
