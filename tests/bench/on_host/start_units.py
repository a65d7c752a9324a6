"""Run on a host: stop nodes, start them again with a plain ``systemctl start``, and print the seconds until all are ready.

    python3 - UNIT...

What a rollout's batch is compared with: nothing but the start-up of that many workers beside the others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

RECORDS = Path("/run/workfleet")
PATIENCE_SECONDS = 120


def ready(unit: str, since: float) -> bool:
    """Whether the process that was started since then has told that it consumes."""
    for path in RECORDS.glob(f"*/{unit}.json"):
        try:
            return float(json.loads(path.read_text()).get("ready") or 0) > since
        except ValueError:  # it is being written
            return False
    return False


def main(units: list[str]) -> None:
    """Stop, start, wait."""
    services = [f"{unit}.service" for unit in units]
    subprocess.run(["systemctl", "stop", *services], check=True)
    since, begun = time.time(), time.perf_counter()
    subprocess.run(["systemctl", "start", "--no-block", *services], check=True)
    while not all(ready(unit, since) for unit in units):
        assert time.perf_counter() - begun < PATIENCE_SECONDS, units
        time.sleep(0.05)
    json.dump({"seconds": time.perf_counter() - begun}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
