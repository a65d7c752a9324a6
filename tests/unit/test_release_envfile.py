"""An environment file says the same to our parser, to a POSIX shell, to the launcher and to systemd."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import envfile

DUMP = "import os,sys; sys.stdout.buffer.write(b'\\0'.join(k+b'='+v for k,v in sorted(os.environb.items())))"
# The shell itself gives a meaning to these; a prefix keeps generated names away from them.
NAMES = st.from_regex(r"V_[A-Za-z0-9_]{0,12}", fullmatch=True)
AWKWARD = st.text(alphabet=st.sampled_from(list(" \t\n\r\"'\\$`#;%=!*~{}()&|<>é☃a1")), max_size=40)
VALUES = st.one_of(AWKWARD, st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
ENVIRONMENTS = st.dictionaries(NAMES, VALUES, max_size=30)
REAL = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def dumped(output: bytes) -> dict[str, str]:
    pairs = (item.decode().partition("=") for item in output.split(b"\0") if item)
    return {name: value for name, _, value in pairs if name.startswith("V_")}


@given(st.dictionaries(st.from_regex(envfile.NAME, fullmatch=True), VALUES))
def test_parser_gives_back_what_was_rendered(values: dict[str, str]) -> None:
    assert envfile.parse(envfile.render(values)) == values


@REAL
@given(ENVIRONMENTS)
def test_a_posix_shell_reads_the_same_values(tmp_path: Path, values: dict[str, str]) -> None:
    file = tmp_path / "app.env"
    file.write_bytes(envfile.render(values).encode())
    script = 'set -a; . "$0"; exec "$1" -c "$2"'
    argv = ["/bin/sh", "-c", script, str(file), sys.executable, DUMP]
    done = subprocess.run(argv, capture_output=True, check=True, env={"PATH": os.environ["PATH"]})
    assert dumped(done.stdout) == values


@REAL
@given(ENVIRONMENTS)
def test_the_launcher_reads_the_same_values(tmp_path: Path, values: dict[str, str]) -> None:
    file = tmp_path / "app.env"
    file.write_bytes(envfile.render(values).encode())
    launcher = Path(__file__).parents[2] / "runners" / "launch.py"
    argv = [sys.executable, str(launcher), "--env-file", str(file), "--", sys.executable, "-c", DUMP]
    done = subprocess.run(argv, capture_output=True, check=True)
    assert dumped(done.stdout) == values


@pytest.mark.systemd
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ENVIRONMENTS)
def test_systemd_reads_the_same_values(tmp_path: Path, values: dict[str, str]) -> None:
    file = tmp_path / "app.env"
    file.write_bytes(envfile.render(values).encode())
    unit = f"wf-env-{uuid4().hex[:8]}"
    argv = [
        "systemd-run",
        "--quiet",
        "--pipe",
        "--wait",
        f"--unit={unit}",
        f"--property=EnvironmentFile={file}",
        sys.executable,
        "-c",
        DUMP,
    ]
    done = subprocess.run(argv, capture_output=True, check=True)
    assert dumped(done.stdout) == values


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "É", "A=B", "A\n"])
def test_a_name_that_no_shell_knows_is_refused(name: str) -> None:
    with pytest.raises(WorkfleetError, match="environment name"):
        envfile.render({name: "x"})


def test_only_nul_is_refused_and_the_value_is_not_repeated() -> None:
    with pytest.raises(WorkfleetError, match="TOKEN") as caught:
        envfile.render({"TOKEN": "geheim\0"})
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("text", ["A=b", 'A="b', 'A="b" c', "export A=1", 'A="b"B="c"'])
def test_a_file_of_another_form_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(WorkfleetError, match="line 2"):
        envfile.parse("# comment\n" + text)
