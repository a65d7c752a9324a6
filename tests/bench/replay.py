#!/usr/bin/env python3
"""Replay a day of load against a policy of autoscaling, beside two others, second by second.

    python tests/bench/replay.py                     # the three generated traces, to build/replay
    python tests/bench/replay.py --out docs/images   # the pictures of docs/autoscaling.md
    python tests/bench/replay.py --trace load.csv --max 20 --backlog-per-node 8

Exits with 1 where a day takes more than 5 s of CPU.

A recorded trace is a file with a line ``second,tasks`` for each second in which tasks came. What is replayed is the very policy that
``autoscale.yml`` evaluates (``module_utils/workfleet/scaling/policy.py``); nodes, tasks and their queue are simulated.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import math
import random
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import matplotlib as mpl

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 5.0  # seconds of CPU for a day
sys.path.insert(0, str(ROOT))
mpl.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402 - the backend comes first

from plugins.module_utils.workfleet.model import Policy  # noqa: E402 - the tree is in the path now
from plugins.module_utils.workfleet.scaling.policy import Figures, State, decide  # noqa: E402

DAY = 86400
#: A node runs two tasks at once, each takes 20 s; it is ready 8 s after it was started.
SLOTS, TASK_SECONDS, START_SECONDS = 2, 20, 8
#: How long a terminated pod may go on, Kubernetes' default.
GRACE_SECONDS = 30
#: A picture shows every so many seconds.
SHOWN_SECONDS = 300


@dataclass
class Trace:
    """A day of load: tasks that come each second; when nothing ends (the service behind the tasks hangs), and when the broker is silent."""

    name: str
    title: str
    arrivals: list[int]
    stalls: list[tuple[int, int]] = field(default_factory=list)
    outages: list[tuple[int, int]] = field(default_factory=list)


class Scaler(Protocol):
    """Decides every ``interval`` seconds. ``blind`` ones take any node away, ``brutal`` ones restart all that are there."""

    name: str
    interval: int
    blind: bool
    brutal: bool

    def wanted(self, now: int, waiting: int | None, running: int, age: float) -> int:
        """Return the number of nodes; ``waiting`` is None while the broker is silent."""


class Ours:
    """The policy of this toolkit, evaluated by its timer."""

    name, interval, blind, brutal = "workfleet", 30, False, False

    def __init__(self, policy: Policy) -> None:
        self.policy, self.state = policy, State.start(policy.min)

    def wanted(self, now: int, waiting: int | None, running: int, age: float) -> int:
        """Evaluate once."""
        figures = Figures(missing="no answer") if waiting is None else Figures(waiting + running, age)
        self.state = decide(self.policy, figures, self.state, self.interval if now else 0).state
        return self.state.nodes


class KedaLike:
    """ceil(length / target) every 30 s, up at once, down to the most of the last 300 s: KEDA's Redis scaler with the HPA's defaults."""

    name, interval, blind, brutal = "KEDA-like", 30, True, False

    def __init__(self, policy: Policy) -> None:
        self.policy, self.nodes = policy, policy.min
        self.lately: deque[int] = deque(maxlen=300 // self.interval)

    def wanted(self, now: int, waiting: int | None, running: int, age: float) -> int:
        """Look at the length of the list."""
        if waiting is not None:
            self.lately.append(self.policy.clamp(math.ceil(waiting / self.policy.backlog_per_node)))
            self.nodes = max(self.lately)
        return self.nodes


class Script:
    """A script of a real system, run each minute: above 100 tasks eight processes, below 10 a restart with two.

    Taken at its best: its commands stay in the foreground, so the real one hangs at the first.
    """

    name, interval, blind, brutal = "script", 60, True, True

    def __init__(self, policy: Policy) -> None:
        self.nodes = 2 // SLOTS

    def wanted(self, now: int, waiting: int | None, running: int, age: float) -> int:
        """Look at the length of the list."""
        if waiting is not None and waiting > 100:
            self.nodes = 8 // SLOTS
        elif waiting is not None and waiting < 10:
            self.nodes = 2 // SLOTS
        return self.nodes


@dataclass
class Story:
    """What became of a day, a value a second, and the sums."""

    scaler: str
    nodes: list[int] = field(default_factory=list)
    backlog: list[int] = field(default_factory=list)
    age: list[int] = field(default_factory=list)
    changes: int = 0
    interrupted: int = 0
    done: int = 0
    seconds: float = 0.0


def replay(trace: Trace, scaler: Scaler) -> Story:
    """Live through a day."""
    began = time.process_time()
    story = Story(scaler.name)
    queue: deque[list[int]] = deque()  # [second of arrival, how many of them still wait]
    ends: list[int] = []
    waiting, nodes = 0, 0
    starting: deque[tuple[int, int]] = deque()
    nodes = ready = scaler.wanted(0, 0, 0, 0.0)
    for now, came in enumerate(trace.arrivals):
        if came:
            queue.append([now, came])
            waiting += came
        for begun, over in trace.stalls:
            if now == begun:
                ends = [end + over - begun for end in ends]
        while ends and ends[0] <= now:
            heapq.heappop(ends)
            story.done += 1
        while starting and starting[0][0] <= now:
            ready += starting.popleft()[1]
        if now and now % scaler.interval == 0:
            silent = any(begun <= now < over for begun, over in trace.outages)
            age = now - queue[0][0] if queue else 0
            wanted = scaler.wanted(now, None if silent else waiting, len(ends), age)
            # This script restarts whatever runs, each time it finds the queue short.
            restarts = scaler.brutal and not silent and waiting < 10
            if restarts and ends:
                story.interrupted += len(ends)
                queue.appendleft([now, len(ends)])
                waiting += len(ends)
                ends = []
            if wanted != nodes:
                story.changes += 1
                if wanted > nodes:
                    starting.append((now + START_SECONDS, wanted - nodes))
                else:
                    gone = take(starting, nodes - wanted)
                    if scaler.blind and ready:
                        lost = blindly(ends, now, (nodes - wanted - gone) / ready)
                        story.interrupted += lost
                        if lost:
                            queue.appendleft([now, lost])
                            waiting += lost
                    ready -= nodes - wanted - gone
                nodes = wanted
        free = ready * SLOTS - len(ends)
        stalled = next((over for begun, over in trace.stalls if begun <= now < over), now)
        while free > 0 and queue:
            taken = min(free, queue[0][1])
            for _ in range(taken):
                heapq.heappush(ends, stalled + TASK_SECONDS)
            free, waiting = free - taken, waiting - taken
            queue[0][1] -= taken
            if not queue[0][1]:
                queue.popleft()
        story.nodes.append(nodes)
        story.backlog.append(waiting + len(ends))
        story.age.append(now - queue[0][0] if queue else 0)
    story.seconds = time.process_time() - began
    return story


def take(starting: deque[tuple[int, int]], count: int) -> int:
    """Take nodes away that are not ready yet; return how many there were."""
    taken = 0
    while starting and taken < count:
        when, here = starting.pop()
        some = min(here, count - taken)
        taken += some
        if here > some:
            starting.append((when, here - some))
    return taken


def blindly(ends: list[int], now: int, share: float) -> int:
    """Kill that share of the running tasks that outlast the grace period; return how many."""
    late = sorted(end for end in ends if end > now + GRACE_SECONDS)
    lost = round(len(late) * share)
    for end in late[len(late) - lost:]:
        ends.remove(end)
    heapq.heapify(ends)
    return lost


def poisson(rate: float, chance: random.Random) -> int:
    """Return how many tasks come in a second at this rate."""
    limit, count, product = math.exp(-rate), 0, chance.random()
    while product > limit:
        count += 1
        product *= chance.random()
    return count


def generated() -> list[Trace]:
    """Return the three days of the documentation; the same each time."""
    chance = random.Random(5)
    wave = [poisson(0.03 + 0.7 * math.sin(math.pi * second / DAY) ** 4, chance) for second in range(DAY)]
    base = [poisson(0.05, chance) for _ in range(DAY)]
    for begun, count, seconds in ((3 * 3600, 400, 20), (9 * 3600, 900, 600), (15 * 3600, 150, 5), (19 * 3600, 600, 60)):
        for second in range(begun, begun + seconds):
            base[second] += count // seconds
    steady = [poisson(0.25, chance) for _ in range(DAY)]
    return [
        Trace("wave", "A day: quiet at night, busy at noon", wave),
        Trace("burst", "Four bursts: 400 tasks in 20 s, 900 in 10 min, 150 in 5 s, 600 in 1 min", base),
        Trace("stuck", "The service behind the tasks hangs from 6:00 to 6:40, the broker is silent from 14:00 to 15:00", steady,
              [(6 * 3600, 6 * 3600 + 2400)], [(14 * 3600, 15 * 3600)]),
    ]


def recorded(path: Path) -> Trace:
    """Return a trace from lines ``second,tasks``."""
    with path.open(encoding="utf-8") as file:
        rows = [(int(second), int(tasks)) for second, tasks in csv.reader(file)]
    arrivals = [0] * (max(second for second, _ in rows) + 1)
    for second, tasks in rows:
        arrivals[second] += tasks
    return Trace(path.stem, path.name, arrivals)


def draw(trace: Trace, stories: list[Story], path: Path) -> None:
    """Draw nodes, backlog and age over the hours, one below the other."""
    figure, axes = plt.subplots(3, 1, sharex=True, figsize=(9, 7), dpi=80, layout="constrained")
    figure.suptitle(trace.title, fontsize=11)
    styles = {"workfleet": ("#0b6e4f", 1.8, 3), "KEDA-like": ("#d1495b", 1.1, 2), "script": ("#8d99ae", 1.1, 1)}
    rows = (("nodes", "nodes"), ("tasks waiting or running", "backlog"), ("age of the oldest, s", "age"))
    for axis, (label, name) in zip(axes, rows, strict=True):
        for story in stories:
            colour, width, order = styles[story.scaler]
            values = getattr(story, name)
            # The most of each stretch: a short peak is not left out.
            shown = [max(values[start:start + SHOWN_SECONDS]) for start in range(0, len(values), SHOWN_SECONDS)]
            axis.plot([count * SHOWN_SECONDS / 3600 for count in range(len(shown))], shown, color=colour, linewidth=width, zorder=order,
                      label=story.scaler, drawstyle="steps-post")
        for spans, colour in ((trace.stalls, "#f4d35e"), (trace.outages, "#c9c9d9")):
            for begun, over in spans:
                axis.axvspan(begun / 3600, over / 3600, color=colour, alpha=0.45, zorder=0)
        axis.set_ylabel(label)
        if name != "nodes":
            axis.set_yscale("symlog", linthresh=10)  # a day's worst moment would hide all others
        axis.grid(visible=True, alpha=0.3)
        axis.set_ylim(bottom=0)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    axes[2].set_xlabel("hour")
    axes[2].set_xlim(0, len(trace.arrivals) / 3600)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def table(trace: Trace, stories: list[Story]) -> list[str]:
    """Return the sums as a table in Markdown."""
    lines = [f"| {trace.name} | node-hours | changes | largest backlog | oldest waiting task | older than 60 s | tasks interrupted | CPU |",
             "|---|--:|--:|--:|--:|--:|--:|--:|"]
    for story in stories:
        above = sum(age > 60 for age in story.age) / len(story.age)
        lines.append(f"| {story.scaler} | {sum(story.nodes) / 3600:.0f} | {story.changes} | {max(story.backlog)} | {max(story.age)} s | "
                     f"{above:.1%} of the time | {story.interrupted} | {story.seconds:.2f} s |")
    return lines


def main() -> None:
    """Replay, print the sums, draw the pictures."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--trace", type=Path, help="a recorded trace, lines of second,tasks")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "replay", help="where the pictures go")
    for name, default in (("min", 1), ("max", 10), ("backlog-per-node", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("scale-up-after-seconds", "scale-down-after-seconds"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Policy, name.replace("-", "_")))
    parser.add_argument("--oldest-age-seconds", type=float)
    given = parser.parse_args()
    policy = Policy(**{key: value for key, value in vars(given).items() if key not in ("trace", "out")})
    given.out.mkdir(parents=True, exist_ok=True)
    longest = 0.0
    for trace in [recorded(given.trace)] if given.trace else generated():
        stories = [replay(trace, scaler(policy)) for scaler in (Ours, KedaLike, Script)]
        draw(trace, stories, given.out / f"autoscaling-{trace.name}.png")
        sys.stdout.write("\n".join([*table(trace, stories), "", ""]))
        longest = max(longest, *(story.seconds for story in stories))
    reached = longest < LONGEST
    sys.stdout.write(f"the longest replay of a day: {longest:.2f} s of CPU, wanted < {LONGEST:g}: {'reached' if reached else 'MISSED'}\n")
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
