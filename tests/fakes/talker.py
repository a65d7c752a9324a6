"""A program that writes a log as workers do: numbered lines, as fast as it can for a while; told to stop it writes for a second more."""

from __future__ import annotations

import logging
import signal
import sys
import time

stopped: list[float] = []


def main() -> None:
    """Write until a second after the stop signal, then how many lines there were."""
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(time.monotonic()))
    logging.basicConfig(format="[%(asctime)s: %(levelname)s/%(processName)s] %(message)s", level=logging.INFO)
    calm = sys.argv[1:] == ["calm"]
    logging.warning("begin of %s", "calm" if calm else "fast")
    number = 0
    while not stopped or time.monotonic() < stopped[0] + 1:
        if calm and number == 3:
            try:
                raise ValueError("no such report")
            except ValueError:
                logging.exception("task failed")
        number += 1
        logging.info("line %d %s", number, "x" * (number % 97))
        time.sleep(0.2 if calm else 0 if number < 100_000 else 0.001)
    logging.info("end after %d", number)


main()
