"""Make a virtualenv with pip in it, in a tenth of the time that Python's own ``ensurepip`` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: What a Python must be able to import; Debian keeps the first in a package of its own.
NEEDED = "import ensurepip, venv"
# ``ensurepip`` starts the pip that is in its wheel to install that very wheel. Pip and setuptools are files to be put in their place, and
# their scripts are three lines. Where no wheel is found, or not all that this Python wants to have in a virtualenv, it does it itself.
_MAKE = '''
import ensurepip, glob, os, sys, sysconfig, venv, zipfile

folder, is_cleared = sys.argv[1], "--clear" in sys.argv[2:]
packages = ["pip"] if sys.version_info >= (3, 12) else ["pip", "setuptools"]
wheels = []
for place in sysconfig.get_config_var("WHEEL_PKG_DIR"), os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"):
    found = [sorted(glob.glob(os.path.join(place or "/nowhere", package + "-*-py3-none-any.whl")))[-1:] for package in packages]
    wheels = wheels or (sum(found, []) if all(found) else [])
venv.create(folder, clear=is_cleared, symlinks=True, with_pip=not wheels)
for wheel in wheels:
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(sysconfig.get_path("purelib", "posix_prefix", {"base": folder}))
for name in ("pip", "pip3", "pip3.%d" % sys.version_info[1]) if wheels else ():
    script = os.path.join(folder, "bin", name)
    with open(script, "w") as file:
        file.write("#!" + os.path.join(folder, "bin", "python") + """
import sys
from pip._internal.cli.main import main
sys.exit(main())
""")
    os.chmod(script, 0o755)
'''


def make(run: Callable[..., object], python: str, folder: str, *, clear: bool = False) -> None:
    """Make a virtualenv of ``python``; ``clear`` empties what is there. ``run`` takes a command and ``stdin``, as who is to own it."""
    run([python, "-I", "-", folder, *(["--clear"] if clear else [])], stdin=_MAKE)
