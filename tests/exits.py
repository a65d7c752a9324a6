"""Print ``watching``, then ``PID TIME`` of each of these processes as it ends: ``python3 exits.py PID...``, on any Linux host.

The kernel tells the moment, whoever the parent is.
"""

from __future__ import annotations

import os
import select
import sys
import time


def main(pids: list[int]) -> None:
    """Wait for all of them."""
    poll, left = select.poll(), {}
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            sys.exit(f"{pid} has ended already")
        else:
            left[handle] = pid
            poll.register(handle, select.POLLIN)
    say("watching")
    while left:
        for handle, _ in poll.poll():
            poll.unregister(handle)
            say(f"{left.pop(handle)} {time.time()}")


def say(line: str) -> None:
    """Print a line at once: a host that goes down ends this program too."""
    print(line, flush=True)  # noqa: T201 - its output


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
