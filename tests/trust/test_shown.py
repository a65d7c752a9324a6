"""What others write acts on no terminal, breaks no JSON, and looks like no line of ours."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.workfleet.core.plugins.plugin_utils import eventtext, logtext, queues, results, status

from plugins.module_utils.workfleet import shown
from plugins.module_utils.workfleet.engines.verbs.figures import Figures
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import effects
from runners import workfleet_health

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = {
    "clear": "a\x1b[2Jb", "title": "a\x1b]0;owned\x07b", "c1": "a\x9b31mb", "carriage return": "a\rb", "backspace": "a\b\b\bb",
    "delete": "a\x7fb",
    "bidi": "a\u202eb\u2066c\u200fd", "lines": "a\u2028b\u2029c\x85d\x0be\x0cf", "half a character": "a\ud800b\udfffc", "nul": "a\0b",
    "paste": "a\x1b[200~reboot\x1b[201~b", "program": "a\x1bP+q544e\x1b\\b",
}


def acts(text: str) -> list[str]:
    """Return what in a text is more than letters, by unicode's own tables; lines and tabs are asked for elsewhere."""
    return [f"U+{ord(char):04X}" for char in text if char not in "\n\t" and (
        unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in "\u061c\u200e\u200f"
        or unicodedata.bidirectional(char) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"))]


def unpainted(text: str, colour: str) -> str:
    """Paint nothing, so that what is left is what others wrote."""
    return text


def node(text: str) -> dict[str, Any]:
    """Return a node of which everything that is a text is hostile."""
    return {"group": text, "slot": 1, "incarnation": 1, "unit": text, "state": text, "draining_seconds": None, "current": True,
            "uptime_seconds": 1.0, "running": 0, "reserved": 0, "processed": 0, "memory_bytes": 1, "release": text, "queues": [text]}


def fleet(text: str) -> dict[str, Any]:
    """Return what a host told of its nodes."""
    queue = {"queue": text, "engine": text, "waiting": 1, "running": None, "consumers": float("nan")}
    return {"manager": text, "release": text, "nodes": [node(text)], "problems": [f"one: {text}\ntwo"], "queues": [queue],
            "scaled": {text: {"nodes": 1, "by": text, "declared": 1}}}


def test_no_character_that_acts_is_shown_and_every_other_one_is() -> None:
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        given = shown.text(char)
        assert (given != char) == bool(acts(char)), f"U+{code:04X}"
        assert not acts(given)
    assert shown.text("a\tb\nc\r\nd") == "a\tb\nc\nd"
    assert shown.line("a\tb\nc\r\nd") == "a b c d"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_text_does_not_reach_any_display(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event = {"at": 1.0, "is_of_task": True, "seconds": None, **dict.fromkeys(("node", "event", "task", "id", "text", "level"), text)}
    entry = {"text": f"{text}\n{text}", "unit": "workfleet.shop.reports.1.1", "level": None, "at": 1.0}
    figures = Figures(text, waiting=1).entry(text)
    displayed = [
        *queues.table([figures], [f"{text}\nforged"], unpainted), eventtext.line("shop", event)[0],
        *status.table(status.combine(text, {text: fleet(text), "down": {"unreachable": True, "msg": text}}), 160, unpainted),
        workfleet_health.shown(f"{text}\tforged\n"), str(WorkfleetError(f"cannot read {text}")),
    ]
    assert all(not acts(line) and "\n" not in line and "\t" not in line for line in displayed), displayed
    assert all(not acts(line) for line in (shown.text(line) for line, _ in logtext.lines("web1", entry)))

    result = {"steps": [{"action": text, "reason": "", text: [float("inf"), (text,)]}]}
    results.keep(os.getpid(), {"steps_json": str(tmp_path / "steps.json")}, result, str(tmp_path), "web1", ["web1"])
    written = json.loads((tmp_path / "steps.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert written[-1] == {"action": shown.text(text), "reason": "", shown.text(text): [None, [shown.text(text)]], "host": "web1"}

    place = str(tmp_path / "journal")
    monkeypatch.setattr(effects, "JOURNAL", place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(place)
        effects.journal(None, f"{text}\nPRIORITY=0")
        told = journal.recv(65536).decode()
    assert told.splitlines() == [f"MESSAGE={shown.line(text)} PRIORITY=0", "PRIORITY=4", "SYSLOG_IDENTIFIER=workfleet"]


def test_what_hosts_told_does_not_act_on_the_terminal_of_a_playbook(tmp_path: Path) -> None:
    text = "".join(value for name, value in HOSTILE.items() if name not in ("half a character", "lines"))
    unit = "workfleet.shop.reports.1.1"
    told = {**fleet(text), "entries": [{"unit": unit, "at": 1.0, "level": "error", "text": f"\tred {text}"},
                                       {"unit": f"../../{unit}", "at": 1.0, "level": "error", "text": text}]}
    told["queues"][0]["consumers"] = 1
    play = [{
        "hosts": "localhost", "gather_facts": False, "tasks": [
            {"ansible.builtin.set_fact": {"told": told}, "no_log": True},
            {"workfleet.core.status": {"app": text, "hosts": ["localhost"], "register": "told", "json": str(tmp_path / "status.json")}},
            {"workfleet.core.logs": {"hosts": ["localhost"], "register": "told"}},
            {"workfleet.core.logs": {"hosts": ["localhost"], "register": "told", "dump_dir": str(tmp_path / "dumped")}},
            {"workfleet.core.status": {"app": "shop", "hosts": ["localhost"], "register": "told", "strict": True}, "ignore_errors": True},
            {"workfleet.core.logs": {"hosts": ["localhost"], "register": text}, "ignore_errors": True},
        ]}]
    (tmp_path / "play.yml").write_text(json.dumps(play), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "-c", "local", "-v", str(tmp_path / "play.yml")], cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=120, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "\tred a\\x1b[2Jb" in output and "1 problem: localhost: one:" in output
    assert not acts(output)
    written = (tmp_path / "status.json").read_text(encoding="utf-8")
    assert json.loads(written)["app"] == shown.text(text) and not acts(written)
    dumped = sorted(path.relative_to(tmp_path / "dumped").as_posix() for path in (tmp_path / "dumped").rglob("*.log"))
    assert dumped == [f"localhost/.._.._{unit}.log", f"localhost/{unit}.log"]
    assert not acts((tmp_path / "dumped" / dumped[1]).read_text(encoding="utf-8"))
