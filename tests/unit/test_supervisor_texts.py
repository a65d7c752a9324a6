"""What stands in supervisor's files is read back by supervisor's own reader exactly as it was meant."""

from __future__ import annotations

import configparser
import fnmatch
import json
import shlex
from pathlib import Path

import pytest

from plugins.module_utils.workfleet import managers
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.managers import logfiles, supervisor
from plugins.module_utils.workfleet.managers.base import NODE_FILES
from plugins.module_utils.workfleet.model import Name

HARD = ["", " ", "a b", "'", '"', "''", "%", "%%", "%(here)s", "%(ENV_HOME)s", "$HOME", "\\", "\\n", ";", " ; x",
        "#", " # x", "x;y", "é ü 漢", "-", "--", "=", "[x]",
        "`id`", "*", "~", "a  b", " lead", "trail ", ";first", "'; \" # %(here)s"]


def read(value: str) -> str:
    """Read an ini value as supervisor 4.3 does: inline comments, its own replacement of %(here)s, then ``%``."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(f"[program:x]\ncommand={value}\nautostart=true\n")
    return parser.get("program:x", "command").replace("%(here)s", "/here") % {"here": "/here", "ENV_HOME": "/root"}


@pytest.mark.parametrize("word", HARD)
def test_a_word_of_a_command_is_read_back_as_it_was(word: str) -> None:
    words = ["/usr/bin/python3", word, "last"]
    assert shlex.split(read(supervisor.program_words(words))) == words


@pytest.mark.parametrize("word", [*HARD,
                                  "a\nb", "\r\n", "\t", "\x01", "\x7f", "\u2028", "\udc80", "-----BEGIN\nx\n-----"])
def test_a_command_as_json_survives_everything_but_nul(word: str) -> None:
    text = supervisor.command_json([word, "x"])
    assert text.isascii() and text.isprintable() and not set("%;#'") & set(text)
    assert json.loads(shlex.split(read(supervisor.program_words(["--json", text])))[1]) == [word, "x"]


@pytest.mark.parametrize("value", ["/opt/a b/x", "/opt/50%/x", "/opt/x;y", "é"])
def test_a_value_is_read_back_as_it_was(value: str) -> None:
    assert read(supervisor.program_value(value)) == value


@pytest.mark.parametrize("value", ["a\nb", " a", "a ;b", ";a", "#a", "%(here)s/x", "a\r"])
def test_a_value_that_the_file_cannot_hold_is_refused(value: str) -> None:
    with pytest.raises(WorkfleetError, match="supervisor"):
        supervisor.program_value(value)


@pytest.mark.parametrize("word", ["a\nb", "\r", "\0"])
def test_a_word_with_a_line_end_is_refused(word: str) -> None:
    with pytest.raises(WorkfleetError, match="line end"):
        supervisor.program_words(["x", word])


@pytest.mark.parametrize("text", ["[program:x]\ncommand=y\n", "[program:x]\ncommand=y", ""])
def test_the_switch_comes_off_as_it_went_on(text: str) -> None:
    assert supervisor.unswitched(supervisor.switched(text, True)) == (text, True)
    assert supervisor.unswitched(supervisor.switched(text, False)) == (text, False)


def test_a_socket_path_that_the_kernel_cannot_hold_is_refused_with_a_way_out() -> None:
    assert supervisor.socket_path("/" + "x" * 82).endswith("/supervisor.sock")
    with pytest.raises(WorkfleetError, match=r"100 bytes.*at most 99.*shorter worker_run_directory"):
        supervisor.socket_path("/" + "x" * 83)


def test_the_end_of_a_log_is_whole_lines(tmp_path: Path) -> None:
    path = f"{tmp_path}/log"
    Path(path).write_text("".join(f"line {number}\n" for number in range(1000)))
    assert logfiles.tail(path, 2) == ["line 998", "line 999"]
    assert logfiles.tail(path, 50, most_bytes=20) == ["line 998", "line 999"]
    assert logfiles.tail(path, 0) == []
    assert logfiles.tail(f"{path}.none", 5) == []


def test_a_service_below_run_gets_its_directory_from_systemd() -> None:
    values = supervisor.service_values("foo", "/opt/foo", "/run/workfleet/foo", "u", "g", 300)
    assert values["runtime_directory"] == "workfleet/foo"
    assert values["stop_seconds"] == 330
    assert supervisor.service_values("foo", "/o", "/home/x/run", "u", "g", 1)["runtime_directory"] is None


@pytest.mark.parametrize(("line", "enabled"), [("; by hand", True), ("autorestart=false", True), ("autostart = no", False)])
def test_a_line_added_behind_the_switch_is_seen(line: str, enabled: bool) -> None:
    text = supervisor.switched("[program:x]\ncommand=y\n", True) + f"{line}\n"
    assert supervisor.unswitched(text) == (text, enabled)


@pytest.mark.parametrize("name", managers.MANAGERS)
def test_the_file_of_a_node_is_a_trace_of_its_manager(name: str, tmp_path: Path) -> None:
    path = managers.named(name, "shop", str(tmp_path), str(tmp_path / "run")).path(Name("shop", "a", 1, 1))
    assert fnmatch.fnmatch(path, NODE_FILES[name].format(root=tmp_path, node="workfleet.shop.*"))
    if path.startswith(str(tmp_path)):
        assert not managers.has_traces(name, "shop", str(tmp_path))
        Path(path).parent.mkdir(parents=True)
        Path(path).touch()
        assert managers.has_traces(name, "shop", str(tmp_path))
        assert not managers.has_traces(name, "sho", str(tmp_path))
