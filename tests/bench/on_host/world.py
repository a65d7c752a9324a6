"""Run on a host: print every node's process with its start time, and a digest of every file of a node.

    python3 - PATTERN_OF_UNITS DIRECTORY_OF_ENVIRONMENT_FILES
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

COMMAND = "/bin/sleep\0infinity\0"
PATIENCE_SECONDS = 10  # a unit is active a moment before its launcher has become the command


def processes(units: str) -> dict[str, list[str]]:
    """Return pid and start time of every unit that has a process; each must be the declared command."""
    told = subprocess.run(["systemctl", "show", "--property=Id,MainPID,ExecMainStartTimestampMonotonic", "--", units],
                          capture_output=True, text=True, check=True).stdout
    found = {}
    for block in told.strip().split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines())
        if unit.get("MainPID", "0") != "0":
            until = time.monotonic() + PATIENCE_SECONDS
            while Path("/proc", unit["MainPID"], "cmdline").read_text() != COMMAND:
                assert time.monotonic() < until, unit
                time.sleep(0.1)
            found[unit["Id"][:-len(".service")]] = [unit["MainPID"], unit["ExecMainStartTimestampMonotonic"]]
    return found


def files(units: str, environments: str) -> dict[str, str]:
    """Return the digest of every unit and environment file."""
    paths = [*Path("/etc/systemd/system").glob(units), *Path(environments).glob("*.env")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


if __name__ == "__main__":
    json.dump({"processes": processes(sys.argv[1]), "files": files(sys.argv[1], sys.argv[2])}, sys.stdout)
