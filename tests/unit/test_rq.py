"""What is said about declarations of rq groups, what they become, and how what rq keeps in Redis is read."""

from __future__ import annotations

import pickle
import zlib
from typing import Any

import pytest

from plugins.module_utils.workfleet import engines, model
from plugins.module_utils.workfleet.decode import BadEntry
from plugins.module_utils.workfleet.engines.base import Place
from plugins.module_utils.workfleet.engines.rq import keys
from plugins.module_utils.workfleet.engines.rq import options as rq_options
from plugins.module_utils.workfleet.engines.rq.letters import letter
from plugins.module_utils.workfleet.engines.verbs.report import Report
from plugins.module_utils.workfleet.spec import checker
from plugins.module_utils.workfleet.spec import workers as spec

PLACE = Place(node="shop.mails.1.1@h", directory="/opt/shop/src", environment="/opt/shop/venv", runners="/opt/shop/workfleet")
VALUES: dict[str, Any] = {"flag": True, "text": "x.y", "int": 3, "choice": "DEBUG", "list": ["a.b"]}


def declared(**more: Any) -> model.Declaration:
    entry = {"name": "mails", "engine": "rq", "app": "app.tasks", **more}
    return spec.parse({"app": {"name": "shop"}, "groups": [entry]})


def test_a_group_becomes_the_runners_command_line() -> None:
    group = declared(queues=["a b"], options={"with_scheduler": False, "results_ttl": -1}).groups[0]
    assert engines.named("rq").command(group, PLACE) == [
        "/opt/shop/venv/bin/python", "/opt/shop/workfleet/workfleet_rq.py", "--node", "shop.mails.1.1@h", "--queue", "a b", "app.tasks",
        "results_ttl=-1", "with_scheduler=false"]


def test_without_queues_it_is_rqs_default() -> None:
    assert engines.named("rq").queues(declared().groups[0]) == ("default",)


def test_every_usable_option_is_taken_and_rendered() -> None:
    usable = {name: VALUES[option.kind] for name, option in rq_options.OPTIONS.items() if not option.refused}
    assert rq_options.check(usable) == []
    assert [word.partition("=")[0] for word in rq_options.render(usable)] == list(usable)


@pytest.mark.parametrize(("more", "said"), [
    ({"app": None}, "app: is required for engine rq: the dotted path of a module with job functions"),
    ({"app": "app.tasks; rm"}, "must be the dotted path of a module"),
    ({"queues": ["high", "low"]}, "queues: a node of rq consumes one queue, given are 2; declare a worker group for each"),
    ({"concurrency": 4}, "concurrency = 4: an rq worker runs one job at a time; declare nodes: 4"),
    ({"settings": {"x": 1}}, "settings: rq has no settings beside its worker's options; use options"),
    ({"options": {"burst": True}}, "options.burst: refused: a node that ends is started again at once"),
    ({"options": {"worker_class": "rq.SimpleWorker"}}, "options.worker_class: refused: the toolkit's runner has a worker class of its own"),
    ({"options": {"result_ttl": 1}}, "options.result_ttl: no such name; did you mean results_ttl?"),
    ({"options": {"logging_level": "loud"}}, "must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
])
def test_a_wrong_entry_is_refused_with_the_way_out(more: dict[str, Any], said: str) -> None:
    with pytest.raises(checker.SpecError) as raised:
        declared(**more)
    problem, = raised.value.problems
    assert problem.startswith("worker_groups[0] (mails): ")
    assert said in problem


@pytest.mark.parametrize(("more", "said"), [
    ({"command": ["rq", "worker"]}, "a stop can lose a job that was popped and not begun"),
    ({"env": {"RQ_KEY_PREFIX": "shop"}}, "the toolkit looks at keys that begin with rq: only"),
])
def test_what_will_hurt_is_warned_about(more: dict[str, Any], said: str) -> None:
    warning, = declared(**more).warnings
    assert said in warning


@pytest.mark.parametrize(("said", "runs", "report"), [
    ([b"77", b"mails", b"5", b"2", None, None, b"2026"], 0, Report(77, 1, 0, 0, 7, 2, ["mails"])),
    ([b"77", b"a,b", None, None, b"a job", None, b"2026"], 0, Report(77, 1, 1, 1, 0, 0, ["a", "b"])),
    ([b"77", b"a", None, None, None, None, b"2026"], 1, Report(77, 1, 1, 1, 0, 0, ["a"])),
    ([b"many", None, b"x", None, None, None, b"2026"], 0, Report(None, 1, 0, 0, None, 0, None)),
    ([b"77", b"a", b"1", b"1", None, b"2026", b"2026"], 0, None),
    ([b"77", b"a", b"1", b"1", None, None, None], 0, None),
    (None, None, None),
])
def test_a_worker_tells_of_itself_in_the_words_of_both_versions_and_one_that_has_ended_tells_nothing(
    said: Any, runs: Any, report: Report | None,
) -> None:
    assert keys.report(said, runs) == report


@pytest.mark.parametrize("pack", [zlib.compress, bytes])
def test_a_jobs_function_is_read_and_not_called(pack: Any) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("it was unpickled",)

    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert keys.name_of(pack(pickle.dumps(("app.tasks.fail", None, (Trap(),), {}), protocol))) == "app.tasks.fail"


@pytest.mark.parametrize("data", [None, b"", b"[]", b"\x80\x04N.", zlib.compress(b"\0" * 10_000_000), pickle.dumps(("x" * 2000,))])
def test_what_is_no_job_has_no_name(data: Any) -> None:
    assert keys.name_of(data) is None


def test_what_is_unpacked_is_bounded() -> None:
    assert len(keys.unpacked(zlib.compress(b"\0" * 50_000_000), 1000)) == 1000


@pytest.mark.parametrize("result", [None, b"", [], [[b"1-0", []]], [[b"1-0", [b"exc_string", b"AAAA"]]]])
def test_a_failed_job_whose_result_is_gone_or_none_is_listed_without_a_reason(result: Any) -> None:
    found = letter("x", [pickle.dumps(("a.b", None, (), {})), b"never", b"2"], result)
    assert (found.task_name, found.failed_at, found.tries) == ("a.b", None, 3)


def test_a_failed_job_that_is_gone_is_a_bad_entry() -> None:
    with pytest.raises(BadEntry):
        letter("x", [None, None, None], None)
