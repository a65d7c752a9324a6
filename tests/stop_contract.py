"""The stop contract, measured: 8 running and 20 waiting tasks, then the worker is told to go; what became of them.

Shared by ``tests/integration/test_stop_contract.py`` and the scenario ``stop-contract``. Each writes its rows to
``build/stop-contract/<where>.jsonl``; ``python -m tests.stop_contract`` prints the table of all that are there.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugins.module_utils.workfleet import engines, resp
from tests import patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "build" / "stop-contract"
RUNNING, WAITING = 8, 20
DRAIN_SECONDS = 120
#: A stop lasts as long as its last task and this: 1 to 4 s, and 19 s have been seen of ten celery nodes that end at once on a
#: machine with 25 others to serve. The timeout comes after 135.
STOP_SECONDS = 45.0
#: How long a waiting task runs, and one that is running when its worker is told to go from then on.
TASK_SECONDS = 1.5
#: How long a task runs that is to be cut short by a kill.
CUT_SECONDS = 6.0
#: What each engine needs so that a test need not wait for an hour until a message of a dead worker is somebody else's.
TRANSPORT = {"visibility_timeout": 25, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
SOON: dict[str, dict[str, dict[str, Any]]] = {
    "celery": {"settings": {"broker_transport_options": TRANSPORT}, "options": {"prefetch_multiplier": 1}},
    "arq": {"options": {"job_timeout": 15}},
    "chicory": {},
    "rq": {"options": {"job_monitoring_interval": 1, "maintenance_interval": 1}},
}
EXECUTIONS = "executions"


@dataclass(frozen=True)
class Pair:
    """An engine in one way of running tasks. ``late``: a message is acknowledged when its task has ended.

    ``lost`` is how many of the 8 running tasks a kill takes with it: those that were acknowledged before they began.
    """

    name: str
    example: str
    late: bool
    keys: Mapping[str, Any]
    engine: str = "celery"
    app: str = "app.celery_app"
    nodes: int = 1
    lost: int = 0
    #: Seconds until the broker has given up what a killed worker had.
    settles: float = 5

    @property
    def killed(self) -> dict[str, Any]:
        """The worker group of a kill: what a dead worker held comes back soon."""
        group = dict(self.group)
        for name, values in SOON[self.engine].items():
            group[name] = {**group.get(name, {}), **values}
        return group

    @property
    def group(self) -> dict[str, Any]:
        """The worker group: 8 tasks at once, however many nodes that takes."""
        keys = {"concurrency": RUNNING, **self.keys} if self.nodes == 1 else self.keys
        return {"name": self.name, "engine": self.engine, "app": self.app, "nodes": self.nodes, "queues": [self.name],
                "drain_seconds": DRAIN_SECONDS, **keys}


PAIRS = (
    Pair("prefork", "reports", False, {"options": {"pool": "prefork"}}, lost=RUNNING),
    Pair("prefork-late", "reports", True, {"options": {"pool": "prefork"}, "settings": {"task_acks_late": True}}),
    Pair("threads", "reports", False, {"options": {"pool": "threads"}}, lost=RUNNING),
    Pair("solo", "reports", False, {"options": {"pool": "solo"}}, nodes=RUNNING),
    Pair("arq", "flow", True, {}, engine="arq", app="app.worker.WorkerSettings"),
    Pair("chicory", "events", True, {}, engine="chicory", app="app.tasks:app"),
    # A killed job without retries is not run again, and fails a minute later.
    Pair("rq", "rq", False, {}, engine="rq", app="app.tasks", nodes=RUNNING, lost=RUNNING, settles=120),
)

#: Programs that send ``[[queue, name, seconds, last], …]``, to be run in an example's environment with that as argument.
SEND = {
    "reports": """
import json, sys
from app.tasks import record
for queue, *call in json.loads(sys.argv[1]):
    record.apply_async(call, queue=queue)
""",
    "flow": """
import asyncio, json, sys
from arq import create_pool
from app.worker import REDIS
async def main():
    redis = await create_pool(REDIS)
    for queue, *call in json.loads(sys.argv[1]):
        await redis.enqueue_job("record", *call, _queue_name=queue)
        await asyncio.sleep(0.002)  # arq's order is that of milliseconds
asyncio.run(main())
""",
    "events": """
import asyncio, json, sys
from app import send, tasks
async def main():
    await tasks.app.connect()
    for queue, *call in json.loads(sys.argv[1]):
        await send.send(tasks.record, call, queue)
    await tasks.app.disconnect()
asyncio.run(main())
""",
    "rq": """
import json, sys
from redis import Redis
from rq import Queue
from app import tasks
broker = Redis.from_url(tasks.BROKER)
for queue, *call in json.loads(sys.argv[1]):
    Queue(queue, connection=broker).enqueue(tasks.record, *call)
""",
}


@dataclass(frozen=True)
class Row:
    """What became of the tasks of one pair in one case; ``seconds`` from a node's last task to the end of its process."""

    pair: str
    manager: str
    where: str
    case: str
    acknowledges: str
    running: int
    waiting: int
    once: int
    twice: int
    lost: int
    unacknowledged: int
    seconds: float

    def faults(self) -> list[str]:
        """Say what is against the contract."""
        found = []
        if self.case == "kill":
            return self.lost_by_a_kill()
        if self.running != RUNNING:
            found.append(f"{self.running} tasks were run by nodes that had been told to go, not the {RUNNING} that ran then")
        if self.waiting != WAITING:
            found.append(f"{self.waiting} of {WAITING} waiting tasks were left to others")
        if self.once != RUNNING + WAITING:
            found.append(f"{self.once} of {RUNNING + WAITING} tasks were done once, {self.twice} more often, {self.lost} were lost")
        if self.unacknowledged:
            found.append(f"{self.unacknowledged} messages were left unacknowledged")
        if not patience.is_within(self.seconds, STOP_SECONDS):
            found.append(f"a node ended {self.seconds:.1f} s after its last task")
        return found


    def lost_by_a_kill(self) -> list[str]:
        """Say what is lost though it need not be: a kill may cost what was acknowledged before it ran, and nothing that waits.

        What a late acknowledgement keeps is done at least once: twice where the kill came between its end and that.
        """
        pair = next(pair for pair in PAIRS if pair.name == self.pair)
        found = []
        if self.lost > pair.lost:
            found.append(f"{self.lost} tasks were lost by a kill of {self.running} running ones; {pair.lost} can be")
        if self.unacknowledged:
            found.append(f"{self.unacknowledged} messages were left unacknowledged")
        return found


class Exits:
    """Watches processes end; ``prefix`` runs a command where they are."""

    def __init__(self, pids: Mapping[str, int], prefix: Sequence[str] = ()) -> None:
        self.units = {pid: unit for unit, pid in pids.items()}
        with (ROOT / "tests" / "exits.py").open() as program:
            self.process = subprocess.Popen([*prefix, "python3", "-", *map(str, self.units)], stdin=program, stdout=subprocess.PIPE,
                                            text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "watching\n", "the nodes cannot be watched"

    def times(self) -> dict[str, float]:
        """Return when each unit's process ended."""
        out, _ = self.process.communicate(timeout=DRAIN_SECONDS)
        return {self.units[int(pid)]: float(at) for pid, at in (line.split() for line in out.splitlines())}


class Trial:
    """One pair in one case: its tasks, by names of their own, and what is known of them."""

    def __init__(self, pair: Pair, manager: str, where: str, case: str, url: str) -> None:
        self.pair, self.manager, self.where, self.case, self.url = pair, manager, where, case, url
        run = uuid.uuid4().hex[:8]  # a host remembers the tasks of earlier runs
        is_kill = case == "kill"
        self.calls = [[pair.name, f"{case} {pair.name} {number} {run}", CUT_SECONDS if is_kill and number < RUNNING else TASK_SECONDS,
                       number < RUNNING and not is_kill] for number in range(RUNNING + WAITING)]
        self.names = {str(call[1]) for call in self.calls}

    def executions(self) -> list[dict[str, Any]]:
        """Return the begins and ends of these tasks."""
        with resp.connect(self.url) as client:
            told = [json.loads(entry) for entry in client.call("LRANGE", EXECUTIONS, 0, -1)]
        return [entry for entry in told if entry["task"] in self.names]

    def count(self, what: str) -> int:
        """How many begins or ends there were."""
        return sum(entry["what"] == what for entry in self.executions())

    def await_running(self) -> None:
        """Wait until 8 tasks run."""
        until(lambda: self.count("begin") >= RUNNING, 120, f"{self.pair.name}: 8 tasks run")

    def await_done(self) -> None:
        """Wait until each task has been done and all is acknowledged, or for so long that something must be lost."""
        with contextlib.suppress(AssertionError):
            until(self.is_done, 120, "")
            until(lambda: not self.unacknowledged(), self.pair.settles, "")
            if self.case == "kill":
                time.sleep(5)  # for one that is done again

    def is_done(self) -> bool:
        """Whether every task has come to its end, but for those that a kill may cost."""
        lost = self.names - {entry["task"] for entry in self.executions() if entry["what"] == "end"}
        return len(lost) <= (self.pair.lost if self.case == "kill" else 0)

    def waiting(self) -> int | None:
        """How many tasks wait in the queue, as the toolkit tells it."""
        return engines.named(self.pair.engine).waiting(self.url, [self.pair.name], {}).get(self.pair.name)

    def unacknowledged(self) -> int:
        """How many messages have been taken and not acknowledged."""
        with resp.connect(self.url) as client:
            if self.pair.engine == "arq":
                return len(client.call("KEYS", "arq:in-progress:*"))
            if self.pair.engine == "chicory":
                return int(client.call("XPENDING", f"chicory:stream:{self.pair.name}", "chicory-workers")[0])
            if self.pair.engine == "rq":
                begun, popped = f"rq:wip:{self.pair.name}", f"rq:queue:{self.pair.name}:intermediate"
                return int(client.call("ZCARD", begun) + client.call("LLEN", popped))
            messages = [json.loads(message) for message in client.call("HVALS", "unacked")]
            return sum(routing_key == self.pair.name for _, _, routing_key in messages)

    def stopped(self) -> tuple[int, int]:
        """Return how many tasks wait and how many messages are unacknowledged, while no node is up."""
        return self.waiting() or 0, self.unacknowledged()

    def row(self, exits: Mapping[str, float], stopped: tuple[int, int] | None = None) -> Row:
        """Judge, when all is over.

        ``exits`` are the ends of the processes that were told to go; ``stopped`` is what :meth:`stopped` told after that,
        in place of what is seen in the end.
        """
        told = self.executions()
        waiting, unacknowledged = stopped or (None, self.unacknowledged())
        ends = Counter(entry["task"] for entry in told if entry["what"] == "end")
        begins = Counter(entry["task"] for entry in told if entry["what"] == "begin")
        times = [max(ends[task], begins[task]) for task in ends]
        last: dict[str, float] = {}
        old = {entry["task"] for entry in told if entry["at"] < exits.get(entry["node"], 0)}
        for entry in told:
            if entry["task"] in old and entry["what"] == "end" and entry["node"] in exits:
                last[entry["node"]] = max(entry["at"], last.get(entry["node"], 0))
        counted = (len(old), len(self.names - old) if waiting is None else waiting)
        if self.case == "kill":  # nobody was told to go: what ran and waited is what was sent for it
            counted = (RUNNING, WAITING)
        return Row(
            self.pair.name, self.manager, self.where, self.case, "late" if self.pair.late else "early", *counted, times.count(1),
            sum(number > 1 for number in times), len(self.names - set(ends)), unacknowledged,
            round(max((exits[node] - at for node, at in last.items()), default=float("inf")), 2),
        )


def until(holds: Callable[[], Any], seconds: float, what: str) -> None:
    """Wait until something holds; a broker that is down for a while is waited for too."""

    def answers() -> Any:
        try:
            return holds()
        except resp.RespConnectionError:
            return None
        except resp.RespError as error:
            if error.code != "LOADING":  # it has just come back
                raise
            return None

    patience.until(answers, seconds, pause=0.1, why=lambda: what)


def write(where: str, rows: Iterable[Row]) -> None:
    """Keep the rows for the table."""
    ROWS.mkdir(parents=True, exist_ok=True)
    (ROWS / f"{where}.jsonl").write_text("".join(f"{json.dumps(asdict(row))}\n" for row in rows))


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    order = [pair.name for pair in PAIRS]
    head = ("pair", "acknowledges", "manager", "case", "running", "waiting", "done once", "twice", "lost", "left unacknowledged",
            "seconds after the last task")
    lines = [head, tuple("---" for _ in head)]
    cases = ("stop", "restart", "reboot", "kill")
    for row in sorted(rows, key=lambda row: (order.index(row.pair), row.manager, row.where, cases.index(row.case))):
        lines.append((row.pair, row.acknowledges, f"{row.manager}, {row.where}", row.case, *map(str, (
            row.running, row.waiting, row.once, row.twice, row.lost, row.unacknowledged)),
            "" if row.case == "kill" else f"{row.seconds:.2f}"))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Print the table of what has been measured; 1 where there is none."""
    rows = [Row(**json.loads(line)) for path in sorted(ROWS.glob("*.jsonl")) for line in path.read_text().splitlines()]
    print(table(rows) if rows else f"nothing was measured yet: {ROWS} is empty")  # noqa: T201 - a command
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
