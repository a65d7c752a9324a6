"""The figures of queues, a purge and a restore of a million Celery tasks on a private Redis: ``python -m tests.bench.queues [--tasks N]``.

Each step is a process of its own, so that its memory can be told; what it did is looked at: the same bytes in the same
order before and after, and nothing between. Exits with 1 where a number to reach is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from plugins.module_utils.workfleet import resp
from plugins.module_utils.workfleet.engines.celery.wire import Wire, task_message
from tests.integration import flower_environment
from tests.integration.conftest import running

QUEUE = "reports"
STEPS = (0, 3, 6, 9)
ROOT = Path(__file__).resolve().parents[2]

#: What a child does: it prints the seconds that it took, and whatever it found out.
LOOK = """
found = queues.look("shop", [Source("celery", url, ["reports"])])
told = found["queues"][0]
"""
PURGE = """
with resp.connect(url) as client:
    run = purge.Run(client, "shop", "celery", {}, "bench", {"celery": ["reports"]})
    summary = run.write("1f" * 16, Choice("reports"), path, {})
    run.commit("1f" * 16, Choice("reports"))
told = {"records": summary.records, "bytes": summary.size}
"""
RESTORE = """
with resp.connect(url) as client:
    summary, added = purge.Run(client, "shop", "celery", {}, "bench", {"celery": ["reports"]}).restore(path)
told = {"records": added}
"""
CHILD = """
import json, resource, sys, time
from plugins.module_utils.workfleet import purge, queues, resp
from plugins.module_utils.workfleet.engines.stash import Choice
from plugins.module_utils.workfleet.engines.taskqueue import Source
url, path = sys.argv[1:]
begun, used = time.perf_counter(), time.process_time()
{what}
seconds = time.perf_counter() - begun
used = time.process_time() - used
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, told, used]))
"""


def main() -> None:
    """Fill, measure, print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.queues", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=1_000_000)
    tasks = parser.parse_args().tasks
    with tempfile.TemporaryDirectory(prefix="workfleet-bench-") as folder, running(None) as redis:
        url, path = redis.url(), f"{folder}/tasks.dump"
        with resp.connect(url, timeout=60) as client:
            size = fill(client, tasks)
            before = digest(client)
            looks = [child(LOOK, url, path) for _ in range(3)]
            said = {"queue_info": looks[0][2]["waiting"], "LLEN": client.call("LLEN", QUEUE), "Celery": celery_says(url),
                    "Flower": flower_says(url)}
            purged = child(PURGE, url, path)
            between = [key for key in client.call("KEYS", "*") if not key.startswith(b"workfleet:")]
            restored = child(RESTORE, url, path)
            same = digest(client) == before
    rates = {name: told[2]["records"] / told[0] for name, told in (("purge", purged), ("restore", restored))}
    seconds = sorted(look[0] for look in looks)[1]
    targets = [
        (f"queue_info, {tasks} tasks in four priorities, inside the module, seconds", "< 0.1", seconds, seconds < 0.1),
        ("queue_info, peak memory of the process, MB", "< 40", looks[0][1], looks[0][1] < 40),
        ("tasks that are told", str(tasks), str(said["queue_info"]), said["queue_info"] == said["Celery"] == said["Flower"] == tasks),
        ("dump and purge, tasks a second", "> 50000", rates["purge"], rates["purge"] > 50_000),
        ("dump and purge, peak memory of the process, MB", "< 100", purged[1], purged[1] < 100),
        ("verify and restore, tasks a second", "> 50000", rates["restore"], rates["restore"] > 50_000),
        ("verify and restore, peak memory of the process, MB", "< 100", restored[1], restored[1] < 100),
        ("keys left between the two, but for our own notes", "0", str(len(between)), not between),
        ("the same bytes in the same order after them", "yes", "yes" if same else "no", same),
    ]
    steps = (("look", looks[1]), ("purge", purged), ("restore", restored))
    load = Path("/proc/loadavg").read_text().split()[0]
    lines = [f"{tasks} tasks of {size / 1e6:.0f} MB; the dump has {purged[2]['bytes'] / 1e6:.0f} MB; load {load}",
             "waiting, as told by " + ", ".join(f"{who}: {count}" for who, count in said.items()),
             "seconds, and of these on the CPU: " + ", ".join(f"{what} {told[0]:.3g} ({told[3]:.3g})" for what, told in steps),
             "", "| number to reach | wanted | measured | |", "|---|--:|--:|---|"]
    lines += [f"| {name} | {wanted} | {value if isinstance(value, str) else format(value, ',.3g' if value < 1 else ',.0f')} | "
              f"{'reached' if reached else 'MISSED'} |" for name, wanted, value, reached in targets]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(0 if all(reached for *_, reached in targets) else 1)


def fill(client: resp.Client, tasks: int) -> int:
    """Send tasks of all priorities, each with an id of its own; return their bytes."""
    lists, size = dict(zip(STEPS, Wire().lists(QUEUE))), 0
    sample = task_message("app.tasks.count_primes", QUEUE, [0], {"start": 0})
    for start in range(0, tasks, 1000):
        ids = ((str(uuid.uuid4()), str(uuid.uuid4())) for _ in range(start, min(start + 1000, tasks)))
        texts = [sample.text.replace(sample.id, task).replace(sample.tag, tag) for task, tag in ids]
        size += sum(map(len, texts))
        client.pipeline([("LPUSH", lists[step], *texts[place::4]) for place, step in enumerate(STEPS) if texts[place::4]])
    return size


def digest(client: resp.Client) -> str:
    """All of the queue, byte by byte."""
    sha = hashlib.sha256()
    for key in Wire().lists(QUEUE):
        for start in range(0, client.call("LLEN", key), 5000):
            for message in client.call("LRANGE", key, start, start + 4999):
                sha.update(b"%d:" % len(message) + message)
    return sha.hexdigest()


def child(what: str, url: str, path: str) -> Any:
    """Run one step in a process; return its seconds, its peak memory in MB and what it found."""
    command = [sys.executable, "-c", CHILD.replace("{what}", what), url, path]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return json.loads(done.stdout)


def celery_says(url: str) -> int:
    """What Celery's own client counts."""
    from celery import Celery

    with Celery(broker=url).connection() as connection:
        return int(connection.default_channel.queue_declare(QUEUE, passive=True).message_count)


def flower_says(url: str) -> int:
    """What Flower's page of the broker shows."""
    code = ("import asyncio, sys\nfrom flower.utils.broker import Broker\n"
            "async def main(): print((await Broker(sys.argv[1]).queues([sys.argv[2]]))[0]['messages'])\nasyncio.run(main())")
    python = flower_environment.environment() / "bin" / "python"
    return int(subprocess.run([python, "-c", code, url, QUEUE], check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
