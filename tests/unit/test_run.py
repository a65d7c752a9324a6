"""``bin/test``: what it chooses, what it counts, and that nothing that failed or was left out is called good."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("tomllib")  # the runner is for the control node's Python, as all of tests/run

from tests.run import __main__ as program
from tests.run import environments, jobs, parts, reach

GOOD = "import sys; open(sys.argv[1], 'w').write('<testsuite><testcase name=\"a\" time=\"1\"/></testsuite>')"
BAD = GOOD.replace("/></testsuite>", "><failure/></testcase></testsuite>")
SKIPPED = GOOD.replace("/></testsuite>", "><skipped message=\"no root\"/></testcase></testsuite>")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs and reports of jobs go to a directory of the test's own."""
    monkeypatch.setattr(jobs, "LOGS", tmp_path)
    monkeypatch.setattr(jobs, "JUNIT", tmp_path)


def run(*made: jobs.Job, width: int = 1) -> dict[str, tuple[int, int]]:
    lanes = jobs.Lanes(width)
    lanes.run([lambda: made])
    return {result.job.name: (result.passed, result.failed) for result in lanes.results}


def python(name: str, code: str, *, junit: bool = False, limit: float = 60, budget: float = 0) -> jobs.Job:
    job = jobs.Job(name, [], limit, budget, junit=junit)
    return jobs.Job(name, [sys.executable, "-c", code, str(job.report)], limit, budget, junit=junit)


def test_a_command_counts_as_one_and_a_report_as_its_tests() -> None:
    assert run(python("a", ""), python("b", "raise SystemExit(3)"), python("c", GOOD, junit=True), python("d", BAD, junit=True)) == {
        "a": (1, 0), "b": (0, 1), "c": (1, 0), "d": (0, 1)}


def test_tests_that_broke_outside_of_a_test_or_left_no_report_have_failed(tmp_path: Path) -> None:
    assert run(python("a", f"{GOOD}; raise SystemExit(1)", junit=True), python("b", "", junit=True)) == {"a": (1, 1), "b": (0, 1)}


def test_what_hangs_is_ended_with_all_that_it_started_and_has_failed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = f"import time; time.sleep(2); open({str(mark)!r}, 'w')"
    hangs = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert run(python("a", hangs, limit=0.5)) == {"a": (0, 1)}
    assert "gave up" in (tmp_path / "a.log").read_text()
    time.sleep(2)
    assert not mark.exists()


def test_the_longest_of_what_is_there_is_begun_first() -> None:
    assert list(run(python("short", "", budget=1), python("long", "", budget=9), python("middle", "", budget=5))) in (
        ["long", "middle", "short"], ["short", "long", "middle"])  # the first is taken as soon as it is there


@pytest.mark.parametrize(("ci", "is_well"), [("", True), ("true", False)])
def test_what_was_left_out_is_a_failure_in_ci(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ci: str, is_well: bool
) -> None:
    monkeypatch.setenv("CI", ci)
    session = program.Session(program.Choice(["lint"]))
    session.results = [jobs.Result(jobs.Job("a", [], 1), passed=1)]
    session.left_out = ["molecule: podman or mmdebstrap cannot be installed"]
    assert session.summary() is is_well
    assert "podman or mmdebstrap cannot be installed" in capsys.readouterr().out


def test_a_skipped_test_is_left_out_and_told(tmp_path: Path) -> None:
    job = python("a", SKIPPED, junit=True)
    lanes = jobs.Lanes(1)
    lanes.run([lambda: [job]])
    assert lanes.results[0].skipped == ["::a: no root"]


def test_a_fault_of_the_runner_itself_is_a_failure() -> None:
    def broken() -> list[jobs.Job]:
        raise RuntimeError

    lanes = jobs.Lanes(1)
    lanes.run([broken, lambda: [jobs.Job("no program", ["/nowhere"], 1)]])
    assert [result.failed for result in lanes.results] == [1, 1]


def test_a_part_that_is_none_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(program.Refused, match=r"there is no part 'unti'. Parts: lint sanity unit .* Scenarios: apart arq "):
        program.Choice(["unti"])
    assert set(program.Choice(["unit", "molecule", "fleet"]).makers) == {"unit", "molecule"}


def test_a_change_reaches_tests_by_imports_and_of_an_engine_those_that_speak_of_it() -> None:
    plan = reach.tests_of(["module_utils/workfleet/nodes/plan.py"])
    assert plan["tests/unit/test_plan.py"] == "test_plan ← module_utils/workfleet/nodes/plan.py"
    assert "tests/integration/test_rollout.py" in plan and "tests/unit/test_pickled.py" not in plan
    arq = reach.tests_of(["module_utils/workfleet/engines/arq/queues.py"])
    assert "tests/unit/test_arq.py" in arq and "tests/integration/test_chicory.py" not in arq
    assert "tests/unit/test_role_specs.py" in reach.tests_of(["roles/redis/tasks/main.yml"])


def test_a_change_reaches_the_scenarios_that_prove_something_of_their_own_about_it() -> None:
    assert set(parts.concerned(["module_utils/workfleet/engines/arq/queues.py"])) == {"arq"}
    assert {"fleet", "default"} <= set(parts.concerned(["module_utils/workfleet/nodes/plan.py"]))
    assert set(parts.concerned(["docs/guide.md", "tests/unit/test_plan.py"])) == set()
    assert set(parts.OWN) == set(parts.scenarios(long=True)), "each scenario says what it proves"


def test_floor_and_newest_divide_the_unit_tests_between_them() -> None:
    floor, newest = set(parts.test_files("floor")), set(parts.test_files("newest"))
    assert floor and newest and not floor & newest
    assert floor | newest == {f"tests/unit/{file.name}" for file in Path(__file__).parent.glob("test_*.py")}


def test_every_part_has_a_budget() -> None:
    names = {*(f"molecule {name}" for name in parts.scenarios(long=True)), "all", "unit", "integration", "lint ansible-lint"}
    assert names <= set(parts.BUDGET)


def test_a_python_that_is_not_here_is_named() -> None:
    with pytest.raises(environments.NoSuchPython, match=r"no Python 3\.99"):
        environments.python(99, 99)
