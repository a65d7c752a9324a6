"""The benchmark: the toolkit beside ``ansible -m ping`` and beside the usual idiom, on real systemd hosts.

    tests/bench/run [--rounds N] [--no-idiom] [--no-celery] [--json FILE]

Two hosts of the same image, one with 10 nodes and one with 100. Ping, ours at both sizes, a change and a look take
turns, in one order and then in the other, and a ratio is the median of the ratios of each round: so the load of the
machine is in both numbers. A run that did not do on the host what it should ends the benchmark.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench import cases
from tests.bench.machine import ROOT, Machine

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL, LARGE = 10, 100
CELERY_NODES = 20
Samples = dict[str, list[float]]


def main() -> None:
    """Measure, print a table, write the JSON; exit with 1 where a number to reach is missed."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the hosts are removed then too
    with tempfile.TemporaryDirectory(prefix="workfleet-bench-") as folder:
        small, large = (Machine(f"{options.prefix}-{size}", Path(folder), options.suite) for size in (SMALL, LARGE))
        try:
            found = measure(small, large, options)
        finally:
            if not options.keep:
                small.remove()
                large.remove()
    found["command"] = "tests/bench/run" + "".join(f" {word}" for word in sys.argv[1:])
    found["where"] = where()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=1) + "\n")
    show(table(found))
    show([f"\nJSON: {options.json}"])
    sys.exit(0 if all(target["reached"] for target in found["targets"]) else 1)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="turns of ping, no-ops, change and status (7)")
    parser.add_argument("--no-idiom", action="store_true", help="leave out the usual idiom, which takes minutes")
    parser.add_argument("--no-celery", action="store_true", help="leave out the Celery nodes")
    parser.add_argument("--suite", default="bookworm", help="Debian release of the hosts")
    parser.add_argument("--prefix", default="bench", help="beginning of the hosts' names")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json", help="where to write (build/bench.json)")
    return parser.parse_args()


def measure(small: Machine, large: Machine, options: argparse.Namespace) -> dict[str, Any]:
    """Return samples, sizes and the numbers to reach."""
    fleets = {SMALL: cases.Fleet(small, SMALL), LARGE: cases.Fleet(large, LARGE)}
    samples: Samples = {}
    for size, fleet in fleets.items():
        say(f"{size} nodes: first converge and repair")
        fleet.machine.start()
        samples[f"ours, {size}: first converge"] = [fleet.first()]
        samples[f"ours, {size}: repair"] = [fleet.repair()]
    take_turns(fleets, samples, options.rounds)
    say("memory on the host, and a change with the default rollout")
    inside = {f"{module}, {LARGE} nodes": large.inside(module, playbook, options.rounds)
              for module, playbook in (("app_release", "site"), ("worker_nodes", "site"), ("worker_info", "status"))}
    parts = [large.parts("site") for _ in range(options.rounds)]
    samples[f"ours, {LARGE}: one group changed, default rollout"] = [fleets[LARGE].change(rollout={})]
    for fleet in fleets.values():
        fleet.absent()
    if not options.no_idiom:
        for size, fleet in fleets.items():
            say(f"the idiom, {size} nodes")
            idiom = fleet.idiom(1 if size == LARGE else 3)
            samples.update({f"idiom, {size}: {case}": seconds for case, seconds in idiom.items()})
    if not options.no_celery:
        say(f"{CELERY_NODES} Celery nodes")
        small.start()
        celery = cases.celery(small, CELERY_NODES, options.rounds)
        samples[f"ours, {CELERY_NODES} Celery nodes: no-op"] = celery.pop("no_op")
        inside[f"worker_info, {CELERY_NODES} Celery nodes"] = celery
    for told in inside.values():
        del told["result"]
    return {"samples": samples, "inside": inside, "parts": parts, "targets": targets(samples, inside)}


def take_turns(fleets: dict[int, cases.Fleet], samples: Samples, rounds: int) -> None:
    """Run the short cases again and again; every second round in the other order."""
    small, large = fleets[SMALL], fleets[LARGE]
    # What is compared stands side by side: the load of a machine changes within seconds.
    turns: list[tuple[str, Callable[[], float]]] = [
        (f"ours, {LARGE}: status", large.status), ("ping", large.machine.ping),
        (f"ours, {SMALL}: no-op", small.no_op), (f"ours, {LARGE}: no-op", large.no_op),
        (f"ours, {LARGE}: one group changed", large.change), (f"ours, {SMALL}: one group changed", small.change),
    ]
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for name, run in turns if number % 2 == 0 else reversed(turns):
            samples.setdefault(name, []).append(run())


def targets(samples: Samples, inside: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the numbers to reach with what was reached."""
    no_op, idiom = f"ours, {LARGE}: no-op", f"idiom, {LARGE}: no-op"
    found = [
        target(f"no-op of site.yml, {LARGE} nodes / ping", ratio(samples, no_op, "ping"), at_most=4),
        target(f"no-op of site.yml, {LARGE} nodes / {SMALL} nodes", ratio(samples, no_op, f"ours, {SMALL}: no-op"), at_most=1.15),
        target(f"one group of ten changed among {LARGE} / no-op", ratio(samples, f"ours, {LARGE}: one group changed", no_op), at_most=2),
        target(f"status.yml, {LARGE} nodes / ping", ratio(samples, f"ours, {LARGE}: status", "ping"), at_most=3),
    ]
    if idiom in samples:
        # Minutes lie between the two: each is taken in pings of its own time.
        times = ratio(samples, idiom, f"idiom, {LARGE}: ping") / ratio(samples, no_op, "ping")
        found.insert(1, target(f"no-op of the idiom / of ours, {LARGE} nodes", times, at_least=25))
    asked = f"worker_info, {CELERY_NODES} Celery nodes"
    if asked in inside:
        found.append(target(f"{asked}, inside the module, seconds", median(inside[asked]["inside"]), at_most=0.5))
    return found


def target(name: str, value: float, *, at_most: float | None = None, at_least: float | None = None) -> dict[str, Any]:
    """Return one number to reach."""
    reached = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    limit = f"<= {at_most:g}" if at_most is not None else f">= {at_least:g}"
    return {"name": name, "value": round(value, 3), "limit": limit, "reached": reached}


def ratio(samples: Samples, case: str, base: str) -> float:
    """Return the median of the ratios round by round."""
    return median([one / other for one, other in zip(samples[case], samples[base])])


def median(numbers: list[float]) -> float:
    """Return the median."""
    return statistics.median(numbers)


def table(found: dict[str, Any]) -> list[str]:
    """Return the lines for people, which are Markdown as well."""
    samples: Samples = found["samples"]
    place = found["where"]
    lines = [f"`{found['command']}`, commit {place['commit']}, {place['cores']} cores, load {place['load']}, {place['ansible']}", "",
             "| case | median | lowest | highest | runs | × ping |", "|---|--:|--:|--:|--:|--:|"]
    ping = median(samples["ping"])
    for name in sorted(samples, key=order):
        seconds = samples[name]
        middle = median(seconds)
        lines.append(f"| {name} | {middle:.2f} s | {min(seconds):.2f} | {max(seconds):.2f} | {len(seconds)} | {middle / ping:.1f} |")
    lines += ["", "| module, alone on the host | inside | whole process | peak memory | size on the wire |", "|---|--:|--:|--:|--:|"]
    for name, told in found["inside"].items():
        lines.append(f"| {name} | {median(told['inside']):.2f} s | {median(told['process']):.2f} s "
                     f"| {told['memory_bytes'] / 1e6:.0f} MB | {told['size_bytes'] / 1e3:.0f} kB |")
    lines += ["", f"| no-op of site.yml, {LARGE} nodes | median |", "|---|--:|"]
    lines += [f"| {part} | {median([one.get(part, 0.0) for one in found['parts']]):.2f} s |" for part in found["parts"][0]]
    lines += ["", "| number to reach | wanted | measured | |", "|---|--:|--:|---|"]
    lines += [f"| {one['name']} | {one['limit']} | {one['value']:.2f} | {'reached' if one['reached'] else 'missed'} |"
              for one in found["targets"]]
    return lines


def order(name: str) -> tuple[str, int, str]:
    """Sort by what is measured, then by size."""
    who, _, case = name.partition(": ")
    digits = "".join(letter for letter in who if letter.isdigit())
    return (case, int(digits or 0), who)


def where() -> dict[str, Any]:
    """Say what the figures were taken on."""
    version = subprocess.run(["ansible", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    return {"cores": os.cpu_count(), "load": f"{os.getloadavg()[2]:.1f}", "ansible": version, "python": platform.python_version(),
            "kernel": platform.release(), "commit": commit.strip() or "unknown"}


def say(text: str) -> None:
    """Tell how far we are."""
    print(f"bench: {text}", file=sys.stderr, flush=True)  # noqa: T201 - a command


def show(lines: list[str]) -> None:
    """Print the result."""
    print("\n".join(lines))  # noqa: T201 - a command


if __name__ == "__main__":
    main()
