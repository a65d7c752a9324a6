"""What anybody can write to the broker ends in values or in one bad entry that is named, in bounded memory and time."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from plugins.module_utils.workfleet import decode, dump, redis_url, resp
from plugins.module_utils.workfleet.decode import BadEntry, Fields, Unread
from plugins.module_utils.workfleet.engines import pickled
from plugins.module_utils.workfleet.engines.arq import queues as arq_queues
from plugins.module_utils.workfleet.engines.celery import backlog as celery_backlog
from plugins.module_utils.workfleet.engines.celery import control as celery_control
from plugins.module_utils.workfleet.engines.celery import events as celery_events
from plugins.module_utils.workfleet.engines.celery import held as celery_held
from plugins.module_utils.workfleet.engines.celery import load as celery_load
from plugins.module_utils.workfleet.engines.celery import message as celery_message
from plugins.module_utils.workfleet.engines.celery import probe as celery_probe
from plugins.module_utils.workfleet.engines.celery import queues as celery_queues
from plugins.module_utils.workfleet.engines.celery import reap as celery_reap
from plugins.module_utils.workfleet.engines.celery import wire as celery_wire
from plugins.module_utils.workfleet.engines.chicory import load as chicory_load
from plugins.module_utils.workfleet.engines.chicory import wire as chicory_wire
from plugins.module_utils.workfleet.engines.verbs import letters, stash
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.model import Policy
from plugins.module_utils.workfleet.scaling import totals as fleet_scale
from plugins.module_utils.workfleet.scaling.policy import Run, State, shares
from runners import workfleet_health

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: A full run tries everything, another as much as is quick.
ALL = bool(os.environ.get("WORKFLEET_FULL"))
MOST_MEMORY = 64 << 20
WIRE = celery_wire.Wire()
OWN = {"celery": ["reports"]}
FIELD_NAMES = ["body", "headers", "properties", "delivery_info", "routing_key", "exchange", "content-type", "body_encoding", "task", "id",
               "ticket", "type", "uuid", "hostname", "timestamp", "exception", "runtime", "processed", "sent_at", "retries", "eta", "pid",
               "pool", "max-concurrency", "total", "active", "reserved", "scheduled", "registered", "active_queues", "stats", "name",
               "request", "state", "engine", "choice", "queue", "ids", "nodes", "high", "low", "declared", "counted", "status", "result",
               "is_running", "concurrency", "active_tasks", "tasks_failed", "tasks_processed", "priority", "error", "rusage"]


def each_event(data: bytes) -> None:
    """Read events as a listener does."""
    listener = celery_events.Listener("redis://x", {})
    for told in celery_events.events_in(data):
        json.dumps(listener._event(told).entry(), allow_nan=False)


def node(data: bytes) -> None:
    """Read a node's answers as all that ask do."""
    answers = decode.fields(decode.document(data))
    celery_wire.report(answers.told)
    celery_wire.usage_in(answers.told)
    celery_control.error_in(answers.told)
    celery_reap.Answers(answers)
    celery_control.tasks_in(answers)


DECODERS: dict[str, Callable[[bytes], object]] = {
    "a message": celery_backlog.task_name, "a message of a list": celery_queues._is_task,
    "its age": celery_message.sent_at, "what is held": lambda data: celery_held.Held.decode(b"t", data).entry(WIRE, "q"),
    "where it came from": celery_queues._origin, "a reply": celery_wire._answers, "a node": node, "an event": each_event,
    "a result": celery_probe.outcome, "a result of a load": lambda data: celery_load.judge("i", data),
    "a heartbeat": chicory_wire.parsed, "arq's heartbeat": lambda data: arq_queues.report(resp.text(data)),
    "a result of Chicory's": chicory_load.outcome, "a pickle": pickled.read, "a name in a pickle": lambda data: pickled.text_of(data, "f"),
    "a purge": lambda data: stash.leftover("a" * 32, data, OWN), "a scale": lambda data: fleet_scale.Kept.parse("k", resp.text(data)),
    "a record of a dump": dump.unfields, "a time": letters.moment, "a count": letters.number,
    "a time that is remembered": celery_queues._seconds, "a reply to the health program": lambda data: workfleet_health.answers([data]),
}
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, -1, 2**31, 2**63, 10**30, 1e300, float("nan"), float("inf")]))
TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(
    ["\x1b]0;owned\x07\x1b[2J", "\u202e", "\ud800", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "application/json", "base64",
     "taken", "dumped", "celery", "reports", "../../x", "a:b", "9" * 5000]))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(FIELD_NAMES), inner, max_size=8)), max_leaves=25)


def wrapped(value: Any, how: int) -> bytes:
    """A value as an entry: bare, as the body of a message, as something that is held, nested, cut."""
    text = json.dumps(value)
    message = {"body": base64.b64encode(text.encode()).decode(), "content-type": "application/json", "headers": {"ticket": "stats"},
               "properties": {"body_encoding": "base64", "delivery_info": {"routing_key": "reports"}}}
    forms = [text, json.dumps(message), json.dumps([message, "", "reports"]), json.dumps([value, "", "reports"]),
             json.dumps({**message, "headers": value}), json.dumps({**message, "properties": value}),
             "[" * (how % 200) + text, text[:how % 50],
             json.dumps({"state": "taken", "engine": "celery", "choice": value}), json.dumps({"stats": value, "active": [value]})]
    return forms[how % len(forms)].encode("utf-8", "surrogatepass")


ENTRIES = st.one_of(st.builds(wrapped, VALUES, st.integers(0, 10_000)), st.binary(max_size=100))


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """This process with no more than 64 MB on top of what it has; what makes or tells of the entries is not meant."""
    with open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(ENTRIES)
def test_no_entry_ends_in_a_traceback(entry: bytes) -> None:
    for decoder in DECODERS.values():
        with bounded(), contextlib.suppress(WorkfleetError):
            decoder(entry)


@pytest.mark.full
def test_no_thousands_of_entries_take_memory_without_bound(tmp_path: Path) -> None:
    entries: list[bytes] = []

    @settings(deadline=None, max_examples=5000, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(ENTRIES)
    def made(entry: bytes) -> None:
        entries.append(entry)

    made()
    (tmp_path / "entries").write_bytes(b"\n".join(map(base64.b64encode, entries)))
    command = "import sys; from tests.trust import test_broker; test_broker.read_all(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", command, str(tmp_path / "entries")], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    sys.stdout.write(f"{found['entries']} entries through {len(DECODERS)} decoders: {found['refused']} refusals, 0 tracebacks, "
                     f"{found['before'] / 1024:.1f} MB before, {found['peak'] / 1024:.1f} MB at most, {found['seconds']:.0f} s of CPU\n")
    assert found["entries"] >= 5000
    assert (found["peak"] - found["before"]) << 10 < MOST_MEMORY


def read_all(path: str) -> None:
    """Read each entry of a file by each decoder, in one process of bounded memory, and say what that took and came to."""
    refused = number = 0
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # what was used before is forgotten
    before = _kilobytes("VmRSS")
    with bounded(), open(path, "rb") as file:
        for line in file:
            number += 1
            for decoder in DECODERS.values():
                try:
                    decoder(base64.b64decode(line))
                except WorkfleetError:
                    refused += 1
    sys.stdout.write(json.dumps({"entries": number, "refused": refused, "before": before, "peak": _kilobytes("VmHWM"),
                                 "seconds": time.process_time()}))


def _kilobytes(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{name}:"))


DEEP = b"[" * 100_000 + b"]" * 100_000
LARGE = {
    "nested": DEEP, "held, nested": b"[%s,\"\",\"reports\"]" % DEEP, "lists": b"[" + b"[]," * 2_000_000 + b"1]",
    "mappings": b"[" + b",".join(b'{"a%d":1}' % number for number in range(300_000)) + b"]",
    "most of what is read": b"[" + b",".join(b'{"a%d":1}' % number for number in range(60_000)) + b"]",
    "quotes": b'"' * 4_000_000, "escapes": b'"' + b"\\\"" * 2_000_000, "one text": b'["' + b"a" * 3_900_000 + "😀".encode() + b'"]',
    "digits": b"[" + b"9" * 3_000_000 + b"]", "digits behind a point": b"[1." + b"9" * 3_000_000 + b"]", "megabytes": b" " * 9_000_000,
}


@pytest.mark.parametrize("name", LARGE)
def test_no_large_entry_takes_memory_or_time_without_bound(name: str) -> None:
    """RecursionError, and gigabytes. The measure of time is a JSON text of the same length that is only read."""
    plain = json.dumps(list(range(len(LARGE[name]) // 8))).encode()
    begun = time.process_time()
    json.loads(plain)
    allowed = 1 + 50 * (time.process_time() - begun)
    begun = time.process_time()
    for decoder in (DECODERS.values() if ALL else [DECODERS[name] for name in ("what is held", "a reply", "a purge")]):
        with bounded(), contextlib.suppress(WorkfleetError):
            decoder(LARGE[name])
    assert time.process_time() - begun < allowed * len(DECODERS)


@pytest.mark.parametrize(("text", "why"), [
    ("[" * 65, "nested more than 64 deep"), ("[NaN]", "NaN is no number"), ("[-Infinity]", "Infinity is no number"),
    ("1e999", "too large"), ("9" * 1001, "1001 digits"), ('"\\ud800"', "no JSON"), ("", "no JSON"), ("{", "no JSON")])
def test_no_json_is_read_that_others_could_not_write(text: str, why: str) -> None:
    with pytest.raises(BadEntry, match=why):
        decode.document(text.encode())


def test_no_brackets_within_a_text_count() -> None:
    told = ["[" * 1000, '"' * 50, "\\" * 51, '\\"[' * 70, {"]": "}"}]
    assert decode.document(json.dumps(told).encode()) == told


def test_no_bad_entry_goes_unsaid() -> None:
    unread = Unread()
    for number in range(3):
        with unread.entry("unacked", f"t{number}"):
            celery_held.Held.decode(b"t", b"7")
    assert unread.said() == ["key unacked: 3 entries that cannot be read were left alone, the first (t0): a number in place of a list"]


def test_no_flood_of_bad_keys_is_said_key_by_key() -> None:
    unread = Unread()
    for number in range(1000):
        unread.add(f"k{number}", "x" * 10_000, BadEntry("no"))
    assert len(unread.said()) < 30
    assert max(map(len, unread.said())) < 300
    assert unread.total == 1000


def test_no_pattern_of_a_binding_takes_more_than_its_length() -> None:
    """A regular expression of thirty wildcards did not end."""
    binding = celery_held.Binding("news", ".".join(["#"] * 60), "reports", b"", is_pattern=True)
    assert binding.leads(".".join("a" * 60))
    assert not celery_held.Binding("news", ".".join([*["#"] * 60, "b"]), "reports", b"", is_pattern=True).leads(".".join("a" * 400))


@pytest.mark.parametrize("entry", [
    {"state": "taken", "engine": "nope", "choice": {"queue": "reports"}}, {"state": "taken", "engine": "celery", "choice": 5}, "garbage",
    {"state": "dumped", "engine": "celery", "choice": {"queue": "theirs"}},
    {"state": "gone", "engine": "celery", "choice": {"queue": "reports"}},
    {"state": "taken", "engine": "celery", "choice": {"queue": "reports", "priority": "x"}}])
def test_no_note_about_another_apps_queue_is_believed(entry: Any) -> None:
    with pytest.raises(BadEntry):
        stash.leftover("a" * 32, json.dumps(entry).encode(), OWN)


@pytest.mark.parametrize("identity", ["", "a:b", "../x", "a" * 65, "x\x06\x16y"])
def test_no_name_of_a_purge_leads_to_other_keys(identity: str) -> None:
    with pytest.raises(BadEntry, match="no purge's name"):
        stash.identified(identity)


@given(st.integers(0, 100_000), st.integers(1, 50), st.integers(1, 8))
def test_no_number_in_the_broker_leads_beyond_max(nodes: int, most: int, hosts: int) -> None:
    """Each host takes its share of what it reads, and somebody may write another number between two of them."""
    names = [f"h{number}" for number in range(hosts)]
    group = fleet_scale.Group("a", "celery", ["q"], Policy(max=most, backlog_per_node=1), dict.fromkeys(names, 1))
    total = 0
    for number, name in enumerate(names):
        kept = fleet_scale.Kept(State(nodes + number, (Run(0.0, 1),), (Run(0.0, 1),)), dict.fromkeys(names, 1))
        request = fleet_scale.Request("shop", name, "", {}, [group], "r", "by")
        total += fleet_scale.told(request, group, kept, evaluated=False).here or 0
    assert total <= most
    assert sum(shares(most, names).values()) == most


@pytest.mark.parametrize(("reply", "why"), [
    (b"*2000000\r\n", "more than can be borne"), (b"$999999999\r\n", "more than can be borne"), (b"*1\r\n" * 60, "protocol"),
    (b"*600000\r\n" + b"*600000\r\n", "more than can be borne"), (b"$99999999999999999999\r\n", "protocol")])
def test_no_server_makes_us_hold_what_it_likes(reply: bytes, why: str) -> None:
    ours, theirs = socket.socketpair()
    with theirs, resp.Client(ours, redis_url.Address(), 5.0) as client:
        theirs.sendall(reply)
        with pytest.raises(resp.RespConnectionError, match=why):
            client.call("PING")


def test_no_dump_unpacks_into_more_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.dump"
    with path.open("wb") as file:
        writer = dump.Writer(file, {"id": "a" * 32, "app": "shop", "engine": "celery", "queue": "q"})
        writer.write("0", [b"\0" * 5_000_000])
        writer.close()
    dump.verify(str(path))
    monkeypatch.setattr(dump, "_LARGEST_BLOCK", 1_000_000)
    with pytest.raises(WorkfleetError, match="holds more than"):
        list(dump.blocks(str(path)))


@pytest.mark.parametrize("header", [
    [], {}, {"id": 7, "app": "shop", "engine": "celery", "queue": "q"}, {"id": "x", "app": "shop", "engine": []}])
def test_no_header_of_a_dump_ends_in_a_traceback(tmp_path: Path, header: Any) -> None:
    path = tmp_path / "x.dump"
    with path.open("wb") as file:
        dump.Writer(file, header).close()
    with pytest.raises(WorkfleetError, match="header is damaged"):
        dump.verify(str(path))


def test_no_answer_of_a_wrong_type_becomes_a_figure() -> None:
    told = celery_wire.report({"stats": {"pid": "7"}, "active": []})
    assert told.pid is None
    assert told.doubt == "what it answers cannot be read: pid: a text in place of a whole number"
    assert Fields({"a": None}).text("a", "x") == "x"
