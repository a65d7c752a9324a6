"""Choose what to run, run it, and say what it came to; the help is below."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from . import environments, parts, reach
from .jobs import BEGUN, JUNIT, LOGS, ROOT, Job, Lanes, Result, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HELP = """\
Run the tests:   bin/test [PART...] [molecule SCENARIO...]

{parts}

  quick         lint, unit, floor and the converge of one scenario: what one runs after each change
  changed       what the change since BASE can reach (changed BASE; else what is not committed, else the last commit)
  full          all of it, the long scenarios, every fault and the benchmarks too: what the published tables are made by

Without a part: all but those marked with a star. It makes its own environment (.venv) and, as root, installs the Debian packages it
lacks. A failing job does not stop the others. What could not be run is named at the end; with CI=true that is a failure too.
Logs: build/logs. Times are printed beside the budget of tests/run/budget.toml.
"""
#: Jobs at a time: they wait for hosts and workers for a good part of their time.
WIDTH = (os.cpu_count() or 2) + 2


class Refused(Exception):
    """What was asked for makes no sense."""


class Choice:
    """What was asked for: phases of makers of jobs; those of a phase run side by side, and only the first is more than one job wide."""

    def __init__(self, words: list[str]) -> None:
        self.makers: dict[str, Callable[[], Iterable[Job]]] = {}
        self.is_usual = not words
        if words[:1] == ["changed"]:
            self.add_changed(words[1:])
        elif words == ["quick"]:
            self.makers.update({name: parts.PARTS[name].jobs for name in ("lint", "unit", "floor")}, molecule=parts.one_converge)
        elif words == ["full"]:
            shutil.rmtree(ROOT / "build" / "stop-contract", ignore_errors=True)  # what is printed was measured now
            self.makers.update({name: part.jobs for name, part in parts.PARTS.items()})
            self.makers["molecule"] = partial(map, parts.scenario, parts.scenarios(long=True))
        else:
            self.add_named(words or [name for name, part in parts.PARTS.items() if part.is_usual])

    def add_named(self, words: list[str]) -> None:
        """Take parts by their names, and the scenarios that are named behind `molecule`."""
        known, names = parts.scenarios(long=True), []
        for word in words:
            if "molecule" in self.makers and word in known:
                names.append(word)
            elif word in parts.PARTS:
                self.makers[word] = parts.PARTS[word].jobs
            else:
                raise Refused(f"there is no part '{word}'. Parts: {' '.join(parts.PARTS)} quick changed full. Scenarios: {' '.join(known)}")
        if names:
            self.makers["molecule"] = partial(map, parts.scenario, names)

    def add_changed(self, words: list[str]) -> None:
        """Take what a change can reach, and say why."""
        base, files = reach.changed_files(*words)
        say(f"changed since {base}: {len(files)} files")
        self.makers["lint"] = parts.lint
        chosen = reach.tests_of(files)
        for kind, maker in (("unit", parts.some_unit), ("integration", parts.integration), ("trust", parts.trust)):
            if found := {name: why for name, why in chosen.items() if name.startswith(f"tests/{kind}/")}:
                say("\n    ".join([f"{kind}:", *(f"{name}: {why}" for name, why in found.items())]))
                self.makers[kind] = partial(maker, *sorted(found))
        if found := parts.concerned(files):
            say("\n    ".join(["molecule:", *(f"{name}: {why}" for name, why in found.items())]))
            self.makers["molecule"] = partial(map, parts.scenario, list(found))

    @property
    def phases(self) -> Iterator[tuple[int, dict[str, Callable[[], Iterable[Job]]]]]:
        """How many at a time, and what; what measures time has the machine to itself."""
        yield WIDTH, {name: maker for name, maker in self.makers.items() if not parts.PARTS[name].is_serial}
        for name, maker in self.makers.items():
            if parts.PARTS[name].is_serial:
                yield 1, {name: maker}


class Session:
    """One run of ``bin/test``."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.left_out: list[str] = []
        self.not_here: list[str] = []
        self.results: list[Result] = []
        self.lanes: Lanes | None = None
        self.why_no_hosts: str | None = None

    def run(self) -> bool:
        """Run all phases; return whether all is well."""
        chosen = [parts.PARTS[name] for name in self.choice.makers]
        environments.packages(sorted({part.packages for part in chosen if part.packages}))
        if any(part.needs_hosts for part in chosen):
            self.why_no_hosts = environments.why_no_hosts()
        for width, makers in self.choice.phases:
            self.lanes = Lanes(width)
            self.lanes.run([partial(self.made, name, maker) for name, maker in makers.items()])
            self.results += self.lanes.results
        return self.summary()

    def made(self, name: str, maker: Callable[[], Iterable[Job]]) -> Iterator[Job]:
        """Yield the jobs of a part, or note why there are none."""
        try:
            if parts.PARTS[name].needs_hosts:
                if self.why_no_hosts:
                    raise environments.Lacking(self.why_no_hosts)
                environments.images()
            yield from maker()
        except environments.NoSuchPython as error:
            self.not_here.append(f"{name}: {error}")
        except environments.Lacking as error:
            self.left_out.append(f"{name}: {error}")
            say(f"{name}: left out, {error}")

    def summary(self) -> bool:
        """Print the table; return whether all is well."""
        lines = [f"{'':<28} {'passed':>7} {'failed':>7} {'time':>8} {'budget':>8}"]
        lines += [f"{result.job.name:<28} {result.passed:>7} {result.failed:>7} {result.seconds:>6.0f} s {result.job.budget:>6.0f} s"
                  + (" over" if result.seconds > result.job.budget > 0 else "") for result in self.results]
        whole = time.monotonic() - BEGUN
        lines.append(f"{'all':<28} {'':>7} {'':>7} {whole:>6.0f} s" + (f" {parts.BUDGET['all']:>6.0f} s" if self.choice.is_usual else ""))
        slowest = sorted((test for result in self.results for test in result.tests), reverse=True)[:5]
        lines += ["\nThe slowest tests:", *(f"  {seconds:6.1f} s  {name}" for seconds, name in slowest)] if slowest else []
        self.left_out += [f"{result.job.name}: {text}" for result in self.results if not result.job.may_skip for text in result.skipped]
        passed, failed = (sum(getattr(result, name) for result in self.results) for name in ("passed", "failed"))
        if self.left_out:
            lines += ["\nLeft out:", *(f"  {text}" for text in self.left_out)]
            if os.environ.get("CI") == "true":
                lines.append("With CI=true each of these is a failure.")
                failed += len(self.left_out)
        if self.choice.is_usual:  # what a green run has not looked at
            rest = [name for name, part in parts.PARTS.items() if not part.is_usual]
            lines.append(f"\nOnly in bin/test full: molecule {' '.join(parts.LONG)}; {'; '.join(rest)}")
        lines += ["\nNot on this machine:", *(f"  {text}" for text in self.not_here)] if self.not_here else []
        print("\n" + "\n".join([*lines, "", f"{passed} passed, {failed} failed"]), flush=True)
        return bool(passed) and not failed

    def stop(self, number: int, _: object) -> None:
        """End what runs, and remove its hosts."""
        print("bin/test: interrupted", file=sys.stderr)
        if self.lanes:
            self.lanes.stop()
            for name in list(self.lanes.running):
                subprocess.run(["molecule", "destroy", "--scenario-name", name.split()[-1]], check=False, capture_output=True)
        os._exit(128 + number)


def main() -> int:
    """Run what the words of the command line ask for."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        listing = "\n".join(f"{'  ' if part.is_usual else '* '}{name:<13} {part.text}" for name, part in parts.PARTS.items())
        print(HELP.format(parts=listing), end="")
        return 0
    os.chdir(ROOT)
    # A world-writable checkout's own configuration is ignored unless it is named.
    os.environ.update(ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), NO_COLOR="1", ANSIBLE_NOCOLOR="1", PIP_DISABLE_PIP_VERSION_CHECK="1",
                      PYTHONDONTWRITEBYTECODE="1", PATH=f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}")
    os.environ.pop("PYTHONUNBUFFERED", None)  # with it modules, which come by standard input, are read byte by byte: a third of their time
    for place in (LOGS, JUNIT, ROOT / ".cache"):
        place.mkdir(parents=True, exist_ok=True)
    try:
        session = Session(Choice(words))
    except Refused as error:
        print(f"bin/test: {error}", file=sys.stderr)
        return 2
    for word in (signal.SIGINT, signal.SIGTERM):
        signal.signal(word, session.stop)
    return 0 if session.run() else 1


if __name__ == "__main__":
    sys.exit(main())
