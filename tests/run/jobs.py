"""Jobs: commands with a log and a time limit, run side by side; what each came to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
import time
import traceback
import xml.etree.ElementTree as tree
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "build" / "logs"
JUNIT = ROOT / "build" / "junit"
BEGUN = time.monotonic()
_SAID = threading.Lock()


def say(text: str) -> None:
    """Print a line with the time since the start."""
    seconds = int(time.monotonic() - BEGUN)
    with _SAID:
        print(f"[{seconds // 60:3}:{seconds % 60:02}] {text}", flush=True)


@dataclass(frozen=True)
class Job:
    """One command. With ``junit`` it writes a report of its tests, else it counts as one; a ``scenario`` has hosts of its own."""

    name: str
    argv: Sequence[str]
    limit: float
    budget: float = 0
    junit: bool = False
    scenario: str = ""
    shown: bool = False
    may_skip: bool = False
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return LOGS / f"{self.slug}.log"

    @property
    def report(self) -> Path:
        """Where the report of its tests is."""
        return JUNIT / f"{self.slug}.xml"

    @property
    def slug(self) -> str:
        """Its name, as that of a file."""
        return self.name.replace(" ", "-").replace("/", "-")


@dataclass
class Result:
    """What became of a job; ``tests`` are (seconds, name)."""

    job: Job
    passed: int = 0
    failed: int = 0
    seconds: float = 0
    skipped: list[str] = field(default_factory=list)
    tests: list[tuple[float, str]] = field(default_factory=list)


class Lanes:
    """So many jobs at a time, the longest first of those that are there."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.results: list[Result] = []
        self.waiting: list[Job] = []
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.making = 0
        self.changed = threading.Condition()
        self.is_ended = False

    def run(self, makers: Sequence[Callable[[], Iterable[Job]]]) -> None:
        """Run all jobs that these make, each maker in a thread of its own: what one stands on is made while others run."""
        self.making = len(makers)
        threads = [threading.Thread(target=self._make, args=[maker]) for maker in makers]
        threads += [threading.Thread(target=self._lane) for _ in range(self.width)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _make(self, maker: Callable[[], Iterable[Job]]) -> None:
        try:
            for job in maker():
                with self.changed:
                    self.waiting.append(job)
                    self.changed.notify_all()
        except Exception:  # our own fault is a failure too: nothing may be missing without a word
            self._broken(Job(str(maker), [], 0))
        finally:
            with self.changed:
                self.making -= 1
                self.changed.notify_all()

    def _next(self) -> Job | None:
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or not self.making or self.is_ended)
            if self.is_ended or not self.waiting:
                return None
            longest = max(self.waiting, key=lambda job: job.budget)
            self.waiting.remove(longest)
            return longest

    def _lane(self) -> None:
        while job := self._next():
            try:
                with alone(job.scenario):
                    self.results.append(self._done(job))
            except Exception:  # as above
                self._broken(job)

    def _broken(self, job: Job) -> None:
        say(f"{job.name}: broken\n{traceback.format_exc()}")
        self.results.append(Result(job, failed=1))

    def _done(self, job: Job) -> Result:
        begun = time.monotonic()
        job.report.unlink(missing_ok=True)
        say(f"{job.name} …")
        status = self._carried_out(job)
        result = count(job, status)
        result.seconds = time.monotonic() - begun
        if result.failed and not self.is_ended:
            if job.scenario:  # one that was cut short has not removed its hosts
                subprocess.run(["molecule", "destroy", "--scenario-name", job.scenario], check=False, capture_output=True)
            tail = job.log.read_text(errors="replace").splitlines()[-int(os.environ.get("TAIL", "60")):]
            say("\n    ".join([f"{job.name}: FAILED, the end of {job.log}:", *tail]))
        elif job.shown:
            say(job.log.read_text(errors="replace"))
        say(f"{job.name}: {result.passed} passed, {result.failed} failed ({result.seconds:.0f} s)")
        return result

    def _carried_out(self, job: Job) -> int:
        with job.log.open("wb") as log:
            process = subprocess.Popen(job.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT,
                                       env={**os.environ, **job.env}, start_new_session=True)
            self.running[job.name] = process
            try:
                return process.wait(job.limit)
            except subprocess.TimeoutExpired:
                log.write(f"\ngave up after {job.limit:.0f} s\n".encode())
                return end(process)
            finally:
                del self.running[job.name]

    def stop(self) -> None:
        """End what runs, and begin nothing more."""
        with self.changed:
            self.is_ended = True
            self.changed.notify_all()
        for process in list(self.running.values()):
            end(process)


def end(process: subprocess.Popen[bytes]) -> int:
    """End a job with all that it started: asked first, so that hosts are removed."""
    for word, seconds in ((signal.SIGTERM, 30), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, word)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    return process.returncode or -1


def count(job: Job, status: int) -> Result:
    """Return the numbers of a job that has ended. Without a report, or broken outside of a test, it is a failure too."""
    result = Result(job)
    if job.report.exists():
        for case in tree.parse(job.report).iter("testcase"):  # noqa: S314 - our own pytest has written it
            name = f"{case.get('classname', '')}::{case.get('name', '')}".removeprefix("tests.")
            ends = {child.tag: child for child in case}
            if "skipped" in ends:
                result.skipped.append(f"{name}: {ends['skipped'].get('message')}")
            else:
                is_bad = bool(ends.keys() & {"failure", "error"})
                result.failed += is_bad
                result.passed += not is_bad
            result.tests.append((float(case.get("time", "0")), f"{job.name}: {name}"))
    if not job.junit or job.scenario:  # the command itself
        result.passed += status == 0
    if (status != 0 and not result.failed) or (job.junit and not job.scenario and not result.tests):
        result.failed += 1
    return result


@contextlib.contextmanager
def alone(scenario: str) -> Iterator[None]:
    """Hosts are named after their scenario, so that two runs on one machine would have each other's."""
    if not scenario:
        yield
        return
    with open(f"/run/workfleet-molecule.{scenario}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
