"""The launcher: what it reads, what it hands on, what it records, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import pwd
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import envfile
from plugins.module_utils.workfleet.host.processes import start_time
from runners import launch

LAUNCHER = Path(launch.__file__)
DUMP = """
import json, os, resource, sys
text = {os.fsdecode(name): os.fsdecode(value) for name, value in os.environb.items()}
print(json.dumps({"argv": sys.argv[1:], "env": text, "pid": os.getpid(), "cwd": os.getcwd(), "nice": os.nice(0),
                  "files": resource.getrlimit(resource.RLIMIT_NOFILE)}))
"""
# What Python sets in its own process before any of our lines runs.
PYTHONS_OWN = {"LC_CTYPE"}


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    path = tmp_path / "node.env"
    path.write_text('A="x"\n')
    return path


def run(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", str(LAUNCHER), *map(str, words)], capture_output=True, text=True,
                          check=False, env={"PATH": "/usr/bin:/bin"} if env is None else env)


def dumped(*words: object, env: dict[str, str] | None = None, command: list[str] | None = None) -> dict[str, Any]:
    done = run(*words, "--", *([sys.executable, "-c", DUMP] if command is None else command), env=env)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


# --- Reading ------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(['A="', "B=", '"', "\n", "\\", "\\\n", '\\"', "$", "`", "#", " ", "\t", "x", "é", "=", "\r"])


@settings(deadline=None, max_examples=500)
@given(st.lists(PIECES, max_size=14).map("".join))
@example('A="\\')
@example('A="x\\\ny"')
@example('A="1"B="2"')
@example('A B="1"')
def test_any_text_means_the_same_to_the_launcher_as_to_the_toolkit(text: str) -> None:
    expected: dict[str, str] | str
    try:
        expected = envfile.parse(text)
    except WorkfleetError as error:
        expected = str(error)
    try:
        found: dict[str, str] | str = launch.parse_env(text)
    except ValueError as error:
        found = str(error)
    assert found == expected


@pytest.mark.parametrize(("text", "value"), [
    ('A=""', ""), ('A="a b"', "a b"), ('A=" a "', " a "), ('A="a\nb"', "a\nb"), (r'A="\"\\\$\`"', '"\\$`'),
    (r'A="\n\%"', r"\n\%"), ('A="#;%"', "#;%"), ('# A="no"\n\n A="yes" \n', "yes"), ('A="1"\nA="2"', "2"),
])
def test_a_value_is_read(text: str, value: str) -> None:
    assert launch.parse_env(text) == {"A": value}


# --- Environment --------------------------------------------------------------------------------------------------


def test_a_command_gets_the_declared_names_and_the_closed_list_and_nothing_else(env_file: Path) -> None:
    me = pwd.getpwuid(os.geteuid())
    around = {"PATH": "/usr/bin", "SECRET_OF_ANOTHER": "x", "LD_PRELOAD": "", "HOME": "/nowhere", "USER": "nobody",
              "INVOCATION_ID": "42"}
    env = dumped("--env-file", env_file, env=around)["env"]
    assert {name: value for name, value in env.items() if name not in PYTHONS_OWN} == {
        "A": "x", "HOME": me.pw_dir, "USER": me.pw_name, "LOGNAME": me.pw_name, "SHELL": "/bin/sh",
        "PATH": launch.SYSTEM_PATH, "LANG": "C.UTF-8", "INVOCATION_ID": "42",
    }


@pytest.mark.parametrize("name", launch.KEPT)
def test_what_systemd_says_to_a_service_is_handed_on(name: str) -> None:
    os.environ.pop(name, None)
    assert name not in launch.environment({}, None)
    os.environ[name] = "it"
    try:
        assert launch.environment({}, None)[name] == "it"
    finally:
        del os.environ[name]


def test_a_declared_name_wins_over_the_closed_list(env_file: Path) -> None:
    env_file.write_text('HOME="/srv/x"\nPATH="/only"\nLANG="de_DE.UTF-8"\n')
    env = dumped("--env-file", env_file)["env"]
    assert (env["HOME"], env["PATH"], env["LANG"]) == ("/srv/x", "/only", "de_DE.UTF-8")


def test_a_directory_is_put_in_front_of_the_path(env_file: Path) -> None:
    assert dumped("--env-file", env_file, "--path", "/x/bin")["env"]["PATH"] == f"/x/bin:{launch.SYSTEM_PATH}"


# --- Command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--", "--json", "-x"], ["--unit", "u"], ["", " ", "é", "a\nb"], ["--"], ["@x"]])
def test_all_behind_the_two_dashes_is_the_commands_own(env_file: Path, words: list[str]) -> None:
    assert dumped("--env-file", env_file, command=[sys.executable, "-c", DUMP, *words])["argv"] == words


def test_a_command_as_json_is_the_same_command(env_file: Path) -> None:
    words = [sys.executable, "-c", DUMP, "a b", "é\n☃", ""]
    done = run("--env-file", env_file, "--json", json.dumps(words))
    assert json.loads(done.stdout)["argv"] == words[3:]


def test_bytes_that_are_no_text_go_through(env_file: Path) -> None:
    done = subprocess.run([sys.executable, "-I", LAUNCHER, "--env-file", env_file, "--", "printf", "%s", b"\xff\xe9"],
                          capture_output=True, check=True)
    assert done.stdout == b"\xff\xe9"


def test_the_working_directory_is_the_one_asked_for(env_file: Path, tmp_path: Path) -> None:
    assert dumped("--env-file", env_file, "--chdir", tmp_path)["cwd"] == str(tmp_path)


# --- Record -------------------------------------------------------------------------------------------------------


def record_words(env_file: Path, where: Path, generation: str = "g1") -> list[object]:
    return ["--env-file", env_file, "--unit", "u.1", "--generation", generation, "--run-directory", where]


def test_the_record_is_that_of_the_process_which_the_command_is(env_file: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-I", LAUNCHER, *record_words(env_file, tmp_path), "--", "sh", "-c", "read line"]
    with subprocess.Popen(list(map(str, words)), stdin=subprocess.PIPE) as process:
        path = tmp_path / "u.1.json"
        while not path.exists():
            assert process.poll() is None
        assert json.loads(path.read_text()) == {
            "unit": "u.1", "pid": process.pid, "starttime": start_time(process.pid), "generation": "g1", "starts": 1,
                "mark": str(env_file.parent / "u.1.quiesced")}
        process.communicate(b"\n")
    assert [entry.name for entry in tmp_path.glob("u.1*")] == ["u.1.json"]


def test_starts_are_counted_on_and_a_broken_record_begins_anew(env_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "u.1.json"
    for expected in (1, 2, 3):
        assert run(*record_words(env_file, tmp_path), "--", "true").returncode == 0
        assert json.loads(path.read_text())["starts"] == expected
    for broken in ("", "[]", '{"starts": "many"}', "null"):
        path.write_text(broken)
        assert run(*record_words(env_file, tmp_path), "--", "true").returncode == 0
        assert json.loads(path.read_text())["starts"] == 1


def test_a_node_knows_its_record_and_generation_and_keeps_its_environment_readable(
    env_file: Path, tmp_path: Path
) -> None:
    env = dumped(*record_words(env_file, tmp_path))["env"]
    assert (env["WORKFLEET_RECORD"], env["WORKFLEET_GENERATION"], env["SPT_NOENV"]) == (
        str(tmp_path / "u.1.json"), "g1", "1")
    assert "WORKFLEET_RECORD" not in dumped("--env-file", env_file)["env"]


# --- Limits -------------------------------------------------------------------------------------------------------


def test_limits_are_set(env_file: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    found = dumped("--env-file", env_file, "--open-files", 321, "--nice", 19)
    assert (found["files"], found["nice"]) == ([321, hard], 19)


# --- Refusals -----------------------------------------------------------------------------------------------------

REFUSALS = {
    "no such program": (["--", "nosuchprogram"], "cannot run nosuchprogram: No such file or directory (PATH is /"),
    "not executable": (["--", "/etc/passwd"], "cannot run /etc/passwd: Permission denied"),
    "no directory": (["--chdir", "/nosuch", "--", "true"], "No such file or directory: '/nosuch'"),
    "no user": (["--user", "nosuchuser", "--", "true"], "nosuchuser"),
    "no command": ([], "no command after --"),
    "no JSON list": (["--json", '"true"'], "--json is no list of texts"),
    "a JSON list of other things": (["--json", "[1]"], "--json is no list of texts"),
    "a unit without its record's place": (
        ["--unit", "u", "--", "true"], "--unit needs --generation and --run-directory"),
    "a record that cannot be written": (
        ["--unit", "u", "--generation", "g", "--run-directory", "/nosuch", "--", "true"], "/nosuch/u.json"),
}


@pytest.mark.parametrize(("words", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_is_one_sentence(env_file: Path, words: list[str], message: str) -> None:
    done = run("--env-file", env_file, *words)
    assert done.returncode != 0
    assert message in done.stderr and "launch.py: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["A=geheim", 'A="geheim', 'A="geheim\\', 'A="x" geheim', '=geheim"'])
def test_a_broken_file_is_named_by_its_line_and_its_values_are_not_told(env_file: Path, text: str) -> None:
    env_file.write_text(f"# first\n{text}")
    done = run("--env-file", env_file, "--", "true")
    assert re.match(r'launch.py: line 2 of the environment file is not of the form NAME="value"\n\Z', done.stderr)
