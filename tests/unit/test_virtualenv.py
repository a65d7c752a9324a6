"""A virtualenv is what Python's own ``venv`` makes, without the time that it takes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from plugins.module_utils.workfleet.host import effects, virtualenv

if TYPE_CHECKING:
    from pathlib import Path

NO_WHEELS = """
import ensurepip, sysconfig
told = sysconfig.get_config_var
sysconfig.get_config_var = lambda name: None if name == "WHEEL_PKG_DIR" else told(name)
ensurepip.__file__ = "/nowhere/ensurepip.py"
"""


@pytest.mark.parametrize("wheels", ["", NO_WHEELS], ids=["wheels", "no-wheels"])
def test_pip_is_there_and_can_be_removed_with_and_without_wheels_to_unpack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: str
) -> None:
    monkeypatch.setattr(virtualenv, "_MAKE", wheels + virtualenv._MAKE)
    folder = tmp_path / "venv"
    virtualenv.make(effects.run, sys.executable, str(folder))
    packages = {path.name.partition("-")[0] for path in folder.glob("lib/python*/site-packages/*.dist-info")}
    assert packages == ({"pip"} if sys.version_info >= (3, 12) else {"pip", "setuptools"})
    subprocess.run([folder / "bin" / "pip", "uninstall", "-q", "-y", "pip"], check=True)
    assert subprocess.run([folder / "bin" / "python", "-c", "import pip"], capture_output=True, check=False).returncode == 1
