"""Events of tasks and figures of loads as pure values; the rest is proved with real workers."""

from __future__ import annotations

import base64
import json
import pickle
import time
from typing import Any

import pytest
from ansible_collections.workfleet.core.plugins.plugin_utils import eventtext

from plugins.module_utils.workfleet.decode import BadEntry, Fields
from plugins.module_utils.workfleet.engines.celery import events as celery_events
from plugins.module_utils.workfleet.engines.celery import load as celery_load
from plugins.module_utils.workfleet.engines.celery.wire import Wire
from plugins.module_utils.workfleet.engines.chicory import load as chicory_load
from plugins.module_utils.workfleet.engines.verbs.events import Event, Wish
from plugins.module_utils.workfleet.engines.verbs.traffic import Order, Outcome
from plugins.module_utils.workfleet.queues import load
from tests.patience import is_within

AT = time.mktime((2026, 11, 23, 12, 0, 0, 0, 0, -1)) + 0.25


def message(body: Any, kind: str = "application/json") -> bytes:
    text = base64.b64encode(body if isinstance(body, bytes) else json.dumps(body).encode()).decode()
    return json.dumps({"body": text, "content-type": kind, "properties": {"body_encoding": "base64"}}).encode()


def event(kind: str, **keys: Any) -> Event:
    return Event(**{"at": AT, "event": kind, "is_of_task": True, "node": "shop.reports.1.2@web1", "task": "a.b", "id": "i", **keys})


def test_a_message_holds_one_event_or_many_and_nothing_but_json_is_read() -> None:
    assert [event.told for event in celery_events.events_in(message({"type": "worker-online"}))] == [{"type": "worker-online"}]
    assert len(celery_events.events_in(message([{"type": "task-started"}, {"type": "task-failed"}]))) == 2
    pickles = message(pickle.dumps({"type": "task-sent"}), "application/x-python-serialize")
    for strange in (b"x", b"[]", b"{}", message(b"\xff"), message(["x"]), pickles):
        with pytest.raises(BadEntry):
            celery_events.events_in(strange)


@pytest.mark.parametrize(("options", "channels"), [
    ({}, ("/3.celeryev", "/3.celeryev/*")),
    ({"global_keyprefix": "p*:", "event_exchange": "ev"}, ("p\\*:/3.ev", "p\\*:/3.ev/*")),
])
def test_what_is_subscribed_to_has_the_app_s_own_names(options: dict[str, str], channels: tuple[str, str]) -> None:
    assert Wire.parse(options).event_channels(3) == channels


def test_the_name_of_a_task_is_known_from_its_first_event_and_forgotten_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = celery_events.Listener("redis://x", {})
    listener._event(Fields({"type": "task-received", "uuid": "1", "name": "a.b"}))
    assert listener._event(Fields({"type": "task-succeeded", "uuid": "1", "runtime": 2})).task == "a.b"
    assert listener._event(Fields({"type": "task-started", "uuid": "unheard of"})).task is None
    monkeypatch.setattr(celery_events, "_MOST_NAMES", 2)
    listener.know({"2": "c", "3": "d"})
    assert listener._event(Fields({"type": "task-succeeded", "uuid": "1"})).task is None


@pytest.mark.parametrize(("told", "text"), [
    ({"type": "task-failed", "exception": "E('x')"}, "E('x')"), ({"type": "task-revoked", "expired": True}, "expired"),
    ({"type": "task-revoked", "terminated": True}, "terminated"), ({"type": "task-revoked"}, "before it began"),
    ({"type": "task-received", "retries": 2, "eta": "T"}, "retry 2, not before T"), ({"type": "task-sent", "queue": "q"}, "to q"),
    ({"type": "task-succeeded", "result": "secret"}, ""),
])
def test_what_is_said_beside_the_task(told: dict[str, Any], text: str) -> None:
    assert celery_events.text(told["type"], Fields(told)) == text


@pytest.mark.parametrize(("wish", "fitting"), [
    (Wish(), {"sent", "started", "failed"}), (Wish(level="debug"), {"sent", "started", "failed", "heartbeat"}),
    (Wish(level="warning"), {"failed"}), (Wish(task="other"), set()), (Wish(task="a.b"), {"sent", "started", "failed"}),
    (Wish(beginnings=("shop.reports.",)), {"started", "failed"}), (Wish(beginnings=("shop.report.",)), set()),
    (Wish(beginnings=("shop.reports.",), queue="q"), {"sent", "started", "failed"}),
])
def test_what_fits_a_wish(wish: Wish, fitting: set[str]) -> None:
    told = [event("sent", node="gen1@client", queue="q"), event("started"), event("failed"),
            event("heartbeat", is_of_task=False, task=None)]
    assert {each.event for each in told if wish.fits(each)} == fitting


def test_an_event_is_a_line_with_the_node_as_logs_have_it() -> None:
    assert eventtext.line("shop", event("succeeded", seconds=0.1234).entry()) == (
        "12:00:00.250 web1 reports 1.2 succeeded a.b[i] 0.123 s", None)
    assert eventtext.line("shop", event("failed", text="E('a\nb\x1b[31m')").entry()) == (
        "12:00:00.250 web1 reports 1.2 failed a.b[i] E('a b\\x1b[31m')", "red")
    assert eventtext.line("other", event("offline", is_of_task=False, task=None, id=None).entry()) == (
        "12:00:00.250 shop.reports.1.2@web1 worker offline", "yellow")
    assert " ?[i]" in eventtext.line("shop", event("started", task=None).entry())[0]


@pytest.mark.parametrize(("size", "said"), [
    ((0, 0, 60), "count = 0: must be from 1 to 50000"), ((50_001, 0, 60), "count = 50001"), ((1, -1, 60), "rate = -1"),
    ((1, float("nan"), 60), "rate = nan"), ((1000, 0.1, 60), "rate = 0.1: 1000 tasks would take 10000 s to send"),
    ((1, 0, 0), "sample_seconds = 0"), ((1, 0, 3601), "sample_seconds = 3601"),
])
def test_a_load_without_bounds_is_refused(size: tuple[int, float, float], said: str) -> None:
    found = load.check(*size)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_percentiles_are_values_that_were_measured() -> None:
    assert load.spread([]) is None
    assert load.spread([3.0]) == {"p50": 3.0, "p95": 3.0, "p99": 3.0, "max": 3.0}
    assert load.spread([number / 100 for number in range(100, 0, -1)]) == {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


@pytest.mark.parametrize(("stored", "outcomes"), [
    (b'{"status": "STARTED", "result": null}', []), (b'{"status": "SUCCESS", "result": 1}', [Outcome("i", True)]),
    (b'{"status": "FAILURE", "result": {"exc_type": "E", "exc_message": ["x"]}}', [Outcome("i", False, None, "E('x')")]),
    (b"\x80", [Outcome("i", None, None, "it came back, but its result is not JSON")]),
])
def test_a_stored_result_of_celery_is_judged(stored: bytes, outcomes: list[Outcome]) -> None:
    assert celery_load.judge("i", stored) == outcomes


def test_a_stored_result_of_chicory_is_judged() -> None:
    traffic = chicory_load.ChicoryTraffic(Order("events", "chicory", "redis://h", ["q"], task="t"))
    assert traffic.judge("i", b'{"state": "SUCCESS", "error": null}') == Outcome("i", True)
    assert traffic.judge("i", b'{"state": "FAILURE", "error": "x"}') == Outcome("i", False, None, "x")
    assert traffic.judge("i", b"{\"state\": \"FAILURE\", \"error\": \"Task 't' not found\"}").unknown
    assert traffic.judge("i", b"1").ok is None


class Traffic(celery_load.CeleryTraffic):
    """Sends nothing; what is looked for is given by a script of outcomes."""

    def __init__(self, order: Order, script: list[list[Outcome]]) -> None:
        super().__init__(order)
        self.script = script
        self.queues: list[str] = []

    def send(self, queue: str, count: int) -> list[str]:
        ids = [str(len(self.queues) + number) for number in range(count)]
        self.queues += [queue] * count
        self.under_way.update(dict.fromkeys(ids))
        return ids

    def look(self, seconds: float) -> list[Outcome]:
        time.sleep(seconds)
        return self.end(self.script.pop(0) if self.script else [])

    def take_back(self) -> dict[str, str]:
        return dict.fromkeys(self.under_way, "lost")


class Nobody:
    """A background that is always wanted."""

    wanted = True

    def tell(self, *items: Any) -> None:
        """Keep nothing."""


def run(script: list[list[Outcome]], **keys: Any) -> tuple[dict[str, Any], Traffic]:
    order = Order("shop", "celery", "redis://x", ["a", "b"], patience=0.3, **keys)
    traffic = Traffic(order, script)
    done = load.Load(order, traffic, Nobody())  # type: ignore[arg-type] # all that it uses
    done.begun = done.last_sent = time.monotonic()
    done.send_all()
    done.take_back()
    return done.report(), traffic


def test_the_first_word_on_a_task_tells_when_and_a_later_one_how_long_it_ran() -> None:
    told, _ = run([[Outcome("0", True), Outcome("1", False, None, "bad")], [Outcome("0", True, 0.01), Outcome("strange", True)]], count=2)
    assert (told["succeeded"], told["failed"], told["unanswered"], told["runs_told"]) == (1, 1, 0, 1)
    assert told["latency"]["run"]["max"] == 0.01
    assert told["latency"]["wait"]["max"] <= told["latency"]["total"]["max"]
    assert told["reasons"] == [{"reason": "bad", "tasks": 1}]


def test_what_does_not_come_back_is_neither_failed_nor_forgotten() -> None:
    told, traffic = run([[Outcome("0", True, 0.0), Outcome("2", None)]], count=4)
    assert (told["sent"], told["succeeded"], told["ended_untold"], told["unanswered"]) == (4, 1, 1, 2)
    assert told["reasons"] == [{"reason": "lost", "tasks": 2}]
    assert sorted(traffic.queues) == ["a", "a", "b", "b"]


def test_a_rate_is_kept() -> None:
    told, _ = run([], count=21, rate=100)
    assert told["sending_seconds"] >= 0.19 and is_within(told["sending_seconds"], 0.5)


def test_a_report_is_a_table_of_what_is_known() -> None:
    told, _ = run([[Outcome("0", True)]], count=1)
    lines = [text for text, _ in eventtext.report(told)]
    assert lines[0].startswith("1 sent in 0.00 s, 1 succeeded, 0 failed, 0 did not come back; ")
    assert lines[3].split() == ["wait", "-", "-", "-", "-"]
    assert lines[5] == "wait and run are of the 0 tasks whose worker told how long they ran"
