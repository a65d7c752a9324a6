"""Run on a host: time a module as Ansible left it there, without Ansible around it, and look at its memory.

    python3 - MODULE ROUNDS

``process`` is the seconds of the whole process (Python's start, unpacking and imports of more than eighty files among
them), ``inside`` the seconds of the module's own ``main``, ``memory_bytes`` the peak of the process's resident memory.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

# What AnsiballZ does, with a clock around the module.
MAIN = """
import sys, time
sys.path.insert(0, ".")
from ansible.module_utils import basic
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = open("args", "rb").read(), "legacy"
from ansible_collections.workfleet.core.plugins.modules import {module} as module
begun = time.perf_counter()
try:
    module.main()
except SystemExit as end:
    assert not end.code
print(time.perf_counter() - begun, file=sys.stderr)
"""


def main(name: str, rounds: int) -> None:
    """Measure and print."""
    module = max(Path("/root/.ansible/tmp").glob(f"*/AnsiballZ_{name}.py"), key=os.path.getmtime)
    seconds, inside, result = [], [], {}
    for _ in range(rounds):
        begun = time.perf_counter()
        result = json.loads(subprocess.run([sys.executable, module], capture_output=True, check=True).stdout)
        seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    subprocess.run([sys.executable, module, "explode"], stdout=subprocess.DEVNULL, check=True)
    for _ in range(rounds):
        done = subprocess.run([sys.executable, "-c", MAIN.format(module=name)], cwd=module.parent / "debug_dir",
                              capture_output=True, text=True, check=True)
        inside.append(float(done.stderr))
    json.dump({"process": seconds, "inside": inside, "memory_bytes": peak, "size_bytes": module.stat().st_size,
               "result": result}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
