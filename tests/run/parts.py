"""The parts: what each runs, what it needs, and which files of the tree it proves."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import tomllib

from . import environments
from .jobs import ROOT, Job
from .reach import engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BUDGET: dict[str, float] = tomllib.loads((Path(__file__).parent / "budget.toml").read_text())
BIN = ROOT / ".venv" / "bin"
PYTEST = (str(BIN / "python"), "-m", "pytest", "-q")
#: Another Python, or another Ansible, changes words and calls, and no property: those are proved once, and everywhere in a full run.
ELSEWHERE = "not systemd" if os.environ.get("WORKFLEET_FULL") else "not systemd and not hypothesis"
#: Minutes each: only in a full run.
LONG = ("autoscale", "deploy", "logs", "stop-contract")
#: What a scenario proves beyond what all share; `default` and `values` prove what all share.
OWN = {
    "apart": ("*drain*", "*leave*", "*/reap*", "*purge*", "*/nodes/*", "runners/launch.py"),
    "arq": ("*/arq*", "inventories/flow/*", "runners/workfleet_arq.py"),
    "autoscale": ("*autoscal*", "*scal*"),
    "chicory": ("*/chicory*", "inventories/chicory/*", "runners/workfleet_chicory.py", "*beat*"),
    "deploy": ("playbooks/deploy.yml", "playbooks/rollback.yml", "*release*", "*/build.py", "*/source.py", "*preflight*"),
    "fleet": ("playbooks/*", "roles/worker/*", "*/plan.py", "*/nodes/*", "plugins/action/*"),
    "gnosari": ("inventories/gnosari/*",),
    "hosts": ("molecule/resources/*",),
    "logs": ("*log*",),
    "revrx": ("inventories/revrx/*", "*postgresql*", "*flower*", "*beat*"),
    "spark": ("inventories/spark/*",),
    "stop-contract": ("runners/*", "*drain*", "*leave*"),
    "supervisor": ("*supervisor*",),
    "trixie": ("roles/redis/*", "*redis*"),
    "values": ("*envfile*", "templates/*", "runners/launch.py", "*/spec.py"),
    "default": ("roles/*", "library/*", "module_utils/*", "plugins/*", "playbooks/*", "templates/*", "runners/*", "examples/reports/*"),
}


@dataclass(frozen=True)
class Part:
    """A name that can be given to ``bin/test``; ``jobs`` are made when its needs are met. What is ``serial`` measures time."""

    jobs: Callable[[], Iterator[Job]]
    text: str
    packages: str = ""
    needs_hosts: bool = False
    is_usual: bool = True
    is_serial: bool = False


def job(name: str, *argv: str, limit: float = 1800, **more: object) -> Job:
    """Return a job with its budget; ``pytest`` and ours are those of the environment."""
    return Job(name, argv, limit, BUDGET.get(name, 0), **more)  # type: ignore[arg-type]


def tests(name: str, *argv: str, limit: float = 1800, **more: object) -> Job:
    """Return a job that writes a report of its tests."""
    made = job(name, *argv, limit=limit, junit=True, **more)
    return Job(**{**vars(made), "argv": [*made.argv, f"--junitxml={made.report}"]})


def scenarios(*, long: bool) -> list[str]:
    """Return the scenarios, by their folders."""
    return sorted(file.parent.name for file in (ROOT / "molecule").glob("*/molecule.yml") if long or file.parent.name not in LONG)


@cache
def test_files(kind: str) -> dict[str, str]:
    """Return the files of unit tests that need Ansible or the engines (``newest``), or only Python (``floor``), with their texts."""
    needing = re.compile(r"ansible|jinja2|yaml|celery_app|plugins\.(modules|action|plugin_utils)")
    found = {str(file.relative_to(ROOT)): file.read_text() for file in sorted((ROOT / "tests" / "unit").glob("test_*.py"))}
    return {name: text for name, text in found.items() if bool(needing.search(text)) == (kind == "newest")}


# --- what each part runs -----------------------------------------------------------------------------------------------


def lint() -> Iterator[Job]:
    """Lint."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], check=True, cwd=ROOT, capture_output=True,
                            text=True).stdout.split("\n")
    files = [ROOT / name for name in listed if name and (ROOT / name).is_file() and not (ROOT / name).is_symlink()]
    scripts = [str(file) for file in files if re.match(rb"#!.*\b(ba)?sh\b", file.read_bytes()[:64])]
    yield job("lint ansible-lint", "ansible-lint", "--strict", "-q", "--format", "pep8")
    yield job("lint mypy", "mypy")
    yield job("lint ruff", "ruff", "check", "--output-format", "concise", ".")
    yield job("lint yamllint", "yamllint", "--strict", ".")
    yield job("lint shellcheck", "shellcheck", *scripts)
    yield job("lint validate-modules", str(BIN / "python"), "-m", "tests.run.sanity", "modules")


def sanity() -> Iterator[Job]:
    """What Ansible checks of every collection."""
    yield job("sanity", str(BIN / "python"), "-m", "tests.run.sanity", "all")


def unit() -> Iterator[Job]:
    """Unit tests, and those of the example apps."""
    yield tests("unit", *PYTEST, "-m", "not systemd", "tests/unit")
    yield job("unit replay", str(BIN / "python"), "tests/bench/replay.py")
    for place in sorted((ROOT / "examples").glob("*/tests")):
        name = str(place.parent.relative_to(ROOT))
        program = str(environments.example(name) / "python")
        # Nothing is left in its directory: scenarios that run at the same time deploy it, and another source is another release.
        yield tests(f"unit {name}", "env", f"--chdir={name}", program, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.",
                    "--import-mode=prepend", "tests")


def integration(*files: str) -> Iterator[Job]:
    """Real Redis, real engines, real process managers on this machine."""
    environments.example("examples/flow")
    # They mostly wait, so that some files are run side by side; each has a Redis of its own.
    yield tests("integration", *PYTEST, "-n", "3", "--dist", "loadfile", "-m", "not systemd", *(files or ["tests/integration"]), limit=4800)


def trust(*files: str) -> Iterator[Job]:
    """What an app, another user, a client of the broker or the authors of code try on root, and must not get."""
    yield tests("trust", *PYTEST, "-m", "not systemd", *(files or ["tests/trust"]))


def some_unit(*files: str) -> Iterator[Job]:
    """Some files of unit tests."""
    yield tests("unit", *PYTEST, "-m", "not systemd", *files)


def floor() -> Iterator[Job]:
    """Shared code on Python 3.9: it never imports Ansible, so its tests need none."""
    own = environments.virtualenv(".cache/floor", environments.python(9, 9), "tests/requirements-floor.txt") / "python"
    yield job("floor compile", str(own), "-m", "compileall", "-q", "module_utils", "library", "runners",
              env={"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "floor" / "pycache")})
    yield tests("floor unit", str(own), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", ELSEWHERE, *test_files("floor"),
                may_skip=True)


def newest() -> Iterator[Job]:
    """What touches Ansible, on its newest line."""
    own = environments.virtualenv(".cache/newest", environments.python(12), "requirements.txt", "tests/requirements-newest.txt")
    modules = [f"workfleet.core.{file.stem}" for file in sorted((ROOT / "library").glob("*.py"))]
    playbooks = [str(file) for file in sorted((ROOT / "playbooks").glob("*.yml"))]
    yield job("newest syntax", str(own / "ansible-playbook"), "--inventory", "localhost,", "--syntax-check", *playbooks)
    yield job("newest doc", str(own / "ansible-doc"), "--type", "module", *modules)
    yield tests("newest unit", str(own / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", ELSEWHERE, *test_files("newest"),
                may_skip=True)


def systemd() -> Iterator[Job]:
    """Single tests that need a running systemd, inside a test host."""
    files = subprocess.run(["grep", "-rlF", "pytest.mark.systemd", "--include=test_*.py", "tests"], check=True, cwd=ROOT,
                           capture_output=True, text=True).stdout.split()
    yield tests("systemd", "molecule/resources/pytest-in-host", "-q", "-m", "systemd", *files)


def scenario(name: str) -> Job:
    """Return the job of a scenario."""
    made = tests(f"molecule {name}", "molecule", "test", "--scenario-name", name, limit=3600, scenario=name)
    return Job(**{**vars(made), "argv": made.argv[:-1], "env": {"MOLECULE_COMMAND_BORDERS": "false", "WORKFLEET_JUNIT": str(made.report)}})


def one_converge() -> Iterator[Job]:
    """A fleet on bare hosts: foretold, made, and nothing to do the second time."""
    steps = " && ".join(f"molecule {verb} --scenario-name default" for verb in ("destroy", "create", "prepare", "converge", "idempotence"))
    yield job("converge", "sh", "-c", f"{steps} && molecule destroy --scenario-name default", scenario="default",
              env={"MOLECULE_COMMAND_BORDERS": "false"})


def faults() -> Iterator[Job]:
    """Faults of whole hosts, and what became of their tasks."""
    yield tests("faults", *PYTEST, "-p", "no:cacheprovider", "--durations=0", "tests/faults", limit=5400)
    yield job("faults ledger", "cat", "build/faults/ledger.md", shown=True)


def bench() -> Iterator[Job]:
    """The benchmarks; their tables are printed."""
    python = str(BIN / "python")
    yield job("bench queues", python, "-m", "tests.bench.queues", shown=True)
    yield job("bench replay", python, "tests/bench/replay.py", shown=True)
    yield job("bench", "tests/bench/run", limit=3600, shown=True)
    yield job("bench rollouts", python, "-m", "tests.bench.rollouts", limit=3600, shown=True)


def contract() -> Iterator[Job]:
    """The table of the stop contract."""
    yield job("contract", str(BIN / "python"), "-m", "tests.stop_contract", shown=True)


def molecule() -> Iterator[Job]:
    """The scenarios of the usual run."""
    yield from map(scenario, scenarios(long=False))


PARTS = {
    "lint": Part(lint, "ruff, mypy, yamllint, ansible-lint, shellcheck, validate-modules", packages="lint"),
    "sanity": Part(sanity, "ansible-test sanity, in environments that it makes itself (PyPI)", is_usual=False),
    "unit": Part(unit, "what needs nothing but Python", packages="integration"),
    "floor": Part(floor, "shared code on Python 3.9, the oldest of managed hosts"),
    "newest": Part(newest, "what touches Ansible, on ansible-core 2.21, where there is a Python 3.12 or newer"),
    "integration": Part(integration, "real Redis, real engines, real process managers on this machine", packages="integration"),
    "trust": Part(trust, "what others try on root: SECURITY.md", packages="integration"),
    "systemd": Part(systemd, "single tests that need a running systemd, inside a test host (root and podman)", "hosts", needs_hosts=True),
    "molecule": Part(molecule, "scenarios on real systemd hosts (root and podman): those named after it, else all but the long ones",
                     "hosts", needs_hosts=True),
    "faults": Part(faults, "one fault of each kind to a fleet at work, and what became of its tasks (root and podman)", "hosts",
                   needs_hosts=True, is_usual=False, is_serial=True),
    "contract": Part(contract, "the table of the stop contract, from what integration and the scenario stop-contract have measured",
                     is_usual=False, is_serial=True),
    "bench": Part(bench, "the benchmarks (a machine that does little else; root and podman)", "hosts", needs_hosts=True, is_usual=False,
                  is_serial=True),
}


def concerned(files: Sequence[str]) -> dict[str, str]:
    """Return the scenarios that prove something of their own about these files, and by which file."""
    found: dict[str, str] = {}
    for file in files:
        if file.startswith(("tests/", "docs/")):
            continue
        names = [name for name, patterns in OWN.items() if any(fnmatch(file, pattern) for pattern in (f"molecule/{name}/*", *patterns))]
        if set(names) - {"default"} and engine(file):  # another engine's is no business of its
            names.remove("default")
        found |= {name: file for name in names if name not in found}
    return found
