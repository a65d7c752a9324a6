"""Send mails and print their results: ``python -m app.send 10 --seconds 1``; exits with 1 where one does not come back."""

from __future__ import annotations

import argparse
import sys
import time

from redis import Redis
from rq import Queue

from app import tasks


def main() -> int:
    """Send, wait, print."""
    parser = argparse.ArgumentParser(prog="python -m app.send")
    parser.add_argument("count", type=int, nargs="?", default=3, help="mails (default 3)")
    parser.add_argument("--seconds", type=float, default=0.2, help="how long one takes (default 0.2)")
    parser.add_argument("--queue", default="default", help="the queue (default default)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for all (default 60)")
    options = parser.parse_args()
    queue = Queue(options.queue, connection=Redis.from_url(tasks.BROKER))
    jobs = [queue.enqueue(tasks.send_mail, f"user-{number}", options.seconds) for number in range(options.count)]
    until = time.monotonic() + options.timeout
    while time.monotonic() < until and not all(job.is_finished or job.is_failed for job in jobs):
        time.sleep(0.1)
    for job in jobs:
        print(job.id, job.get_status().value, job.return_value())  # noqa: T201 - a command
    return 0 if all(job.is_finished for job in jobs) else 1


if __name__ == "__main__":
    sys.exit(main())
