"""The stand-in's command: ``gnosari worker start``, a wrapper that waits for Celery and passes no signal on to it."""

from __future__ import annotations

import argparse
import subprocess
import sys


def main() -> None:
    """Run a worker as a child; options that are not known are passed over, as Gnosari passes over them."""
    parser = argparse.ArgumentParser(prog="gnosari")
    parser.add_argument("command", choices=["worker"])
    parser.add_argument("action", choices=["start"])
    parser.add_argument("-c", "--concurrency", default="1")
    parser.add_argument("-q", "--queue", default="gnosari_queue")
    parser.add_argument("-l", "--loglevel", default="info")
    given, _ = parser.parse_known_args()
    celery = ["celery", "-A", "gnosari.queue.app.celery_app", "worker"]
    options = ["--concurrency", given.concurrency, "--queues", given.queue, "--loglevel", given.loglevel]
    sys.exit(subprocess.run([*celery, *options]).returncode)
