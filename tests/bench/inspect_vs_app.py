"""Ask live Celery nodes about themselves in two ways and compare: our own RESP client, and the app's own Python.

    python tests/bench/inspect_vs_app.py [--nodes 20] [--rounds 5] [--json FILE]

Needs celery in this Python and a redis-server. Each figure is the median of all rounds, in seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from plugins.module_utils.workfleet.engines.celery import wire as celery_wire  # noqa: E402 - found by the line above
from tests.integration.celery_fleet import APP, Fleet  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

# The same four questions, in the way that returns as soon as all have answered; {who} and {nodes} are filled in.
BY_APP = """
import json, sys, time
from app.celery_app import celery_app
nodes = {nodes!r}
begun = time.perf_counter()
ask = celery_app.control.inspect({who}, timeout=5)
told = [ask.stats(), ask.active(), ask.reserved(), ask.active_queues()]
assert all(len(answers) == len(nodes) for answers in told), [len(answers) for answers in told]
print(time.perf_counter() - begun)
"""


def main() -> None:
    """Start the nodes, measure, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the figures to this file too")
    options = parser.parse_args()
    nodes = [f"bench.n.{number}.1@host" for number in range(1, options.nodes + 1)]
    fleet = Fleet()
    try:
        for first in range(0, len(nodes), 4):  # a few at a time: two cores start many at once no sooner
            for node in nodes[first:first + 4]:
                fleet.start(node, "--without-heartbeat", pool="solo")
            fleet.ready(*nodes[first:first + 4], seconds=60)
        time.sleep(2)
        figures = {name: measure(way, options.rounds) for name, way in ways(fleet, nodes).items()}
    finally:
        fleet.close()
    print(f"{options.nodes} nodes, {options.rounds} rounds, median seconds")  # noqa: T201 - a command
    for name, seconds in figures.items():
        print(f"  {seconds:7.3f}  {name}")  # noqa: T201
    if options.json:
        Path(options.json).write_text(json.dumps({"nodes": options.nodes, "seconds": figures}, indent=1))


def measure(way: Callable[[], float], rounds: int) -> float:
    """The median of the seconds that a way took."""
    return round(statistics.median(way() for _ in range(rounds)), 4)


def ways(fleet: Fleet, nodes: Sequence[str]) -> dict[str, Callable[[], float]]:
    """What is compared; each call returns the seconds it took."""
    def ours() -> float:
        begun = time.perf_counter()
        assert len(celery_wire.reports(fleet.url, nodes, {}, 5.0)) == len(nodes)
        return time.perf_counter() - begun

    def one_dead() -> float:
        begun = time.perf_counter()
        assert len(celery_wire.reports(fleet.url, [*nodes[1:], "dead@host"], {}, 1.0)) == len(nodes) - 1
        return time.perf_counter() - begun

    def app(who: str, inside: bool) -> Callable[[], float]:
        def way() -> float:
            begun = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", BY_APP.format(who=who, nodes=list(nodes))], cwd=APP,
                                  env=fleet.environment, check=True, capture_output=True, text=True)
            return float(done.stdout) if inside else time.perf_counter() - begun
        return way

    def command() -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "celery", "-A", "app.celery_app", "inspect", "stats", "-j"], cwd=APP,
                       env=fleet.environment, check=True, capture_output=True)
        return time.perf_counter() - begun

    return {
        "our RESP client, all four questions": ours,
        "our RESP client, one of the nodes dead, timeout 1 s": one_dead,
        "the app's Python, destination=nodes, process included": app("destination=nodes", False),
        "the app's Python, destination=nodes, questions alone": app("destination=nodes", True),
        "the app's Python, limit=number, process included": app("limit=len(nodes)", False),
        "the app's Python, limit=number, questions alone": app("limit=len(nodes)", True),
        "`celery inspect stats`, one of the four questions": command,
    }


if __name__ == "__main__":
    main()
