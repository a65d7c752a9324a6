"""A program that ``bin/run`` starts for root at a terminal, and what root at that terminal still has of it."""

from __future__ import annotations

import contextlib
import os
import pty
import pwd
import select
import signal
import subprocess
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runners import launch

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
PYTHON = "/usr/bin/python3"
# Types a line into whatever terminal it finds.
TYPE = """
import fcntl, os, termios
places = [0, 1, 2]
try:
    places.append(os.open("/dev/tty", os.O_RDWR))
except OSError:
    pass
for place in places:
    try:
        for letter in b"echo pwned > /tmp/nothing\\n":
            fcntl.ioctl(place, termios.TIOCSTI, bytes([letter]))
        print("typed", place)
    except OSError as error:
        print("refused", place, error.errno)
"""


class Terminal:
    """A terminal whose first process runs a command as an app's user, as root would at a shell."""

    def __init__(self, tmp_path: Path, *command: str, script: str = "", size: tuple[int, int] = (31, 97)) -> None:
        self.env = tmp_path / "app.env"
        self.env.write_text("")
        words = [PYTHON, "-IS", launch.__file__, "--user", "nobody", "--env-file", str(self.env), "--chdir", "/", "--", *command]
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            termios.tcsetwinsize(0, size) if hasattr(termios, "tcsetwinsize") else None
            if script:
                os.execv("/bin/sh", ["sh", "-c", script, "sh", *words])  # noqa: S606
            os.execv(PYTHON, words)  # noqa: S606
        self.said = b""

    def wait_for(self, text: bytes, seconds: float = 30) -> None:
        """Read until it has said something."""
        deadline = time.monotonic() + seconds
        while text not in self.said:
            assert time.monotonic() < deadline, self.said
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.said += os.read(self.master, 65536)
                except OSError:
                    break
        assert text in self.said, self.said

    def end(self) -> int:
        """Return the exit status of the first process, and all that was said before."""
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 65536):
                self.said += data
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A directory that the other account can enter."""
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    yield tmp_path


def test_an_app_cannot_type_into_the_terminal_of_root(here: Path) -> None:
    """With a shell behind it that reads what is typed: nothing comes to it."""
    terminal = Terminal(here, PYTHON, "-c", TYPE, script='"$@"; echo typed-before: $(timeout 1 cat | wc -c) .')
    terminal.wait_for(b" .\r\n")
    assert b"typed-before: 0 ." in terminal.said
    assert terminal.end() == 0


def test_an_app_whose_streams_are_no_terminal_has_none_either(here: Path) -> None:
    """``/dev/tty`` would be root's."""
    terminal = Terminal(here, PYTHON, "-c", TYPE, script=f'"$@" </dev/null >{here}/out 2>&1; echo then')
    terminal.wait_for(b"then")
    terminal.end()
    said = (here / "out").read_text()
    assert "typed" not in said
    assert "refused 0" in said and "refused 3" not in said


def test_a_program_at_a_terminal_has_one_of_its_own_of_the_same_size(here: Path) -> None:
    show = "import os; s = os.get_terminal_size(); print(s.lines, s.columns, os.ttyname(0), os.getsid(0) == os.getpid(), os.getuid())"
    terminal = Terminal(here, PYTHON, "-c", show, script='tty; "$@"; tty')
    assert terminal.end() == 0
    roots, lines, columns, name, is_leader, uid, again = terminal.said.split()
    assert (lines, columns, is_leader) == (b"31", b"97", b"True")
    assert int(uid) == pwd.getpwnam("nobody").pw_uid
    assert name.startswith(b"/dev/pts/") and name != roots == again


def test_what_is_typed_comes_to_the_program_and_so_does_control_c(here: Path) -> None:
    ask = "print('name?', flush=True); print('hello', input(), flush=True)\nimport time\ntime.sleep(60)"
    terminal = Terminal(here, PYTHON, "-c", ask)
    terminal.wait_for(b"name?")
    os.write(terminal.master, b"ann\n")
    terminal.wait_for(b"hello ann")
    os.write(terminal.master, b"\x03")
    assert terminal.end() == -signal.SIGINT
    assert b"KeyboardInterrupt" in terminal.said


@pytest.mark.parametrize(("command", "status"), [("exit 7", 7), ("kill -TERM $$", -signal.SIGTERM), ("kill -KILL $$", -signal.SIGKILL)])
def test_the_exit_status_is_that_of_the_program(here: Path, command: str, status: int) -> None:
    assert Terminal(here, "sh", "-c", command).end() == status


def test_all_that_a_program_has_written_is_shown(here: Path) -> None:
    terminal = Terminal(here, "sh", "-c", "seq 1 20000")
    assert terminal.end() == 0
    assert terminal.said.split() == [str(number).encode() for number in range(1, 20001)]


def test_a_pipe_stays_a_pipe_beside_a_terminal(here: Path) -> None:
    terminal = Terminal(here, "sh", "-c", "wc -c; test -t 1 && echo on a terminal", script='seq 1 200000 | "$@"')
    assert terminal.end() == 0
    assert terminal.said.split() == [b"1288895", b"on", b"a", b"terminal"]


def test_a_signal_to_the_command_comes_to_the_program(here: Path) -> None:
    terminal = Terminal(here, "sh", "-c", "trap 'echo told; exit 5' TERM; echo up; while :; do sleep 0.1; done")
    terminal.wait_for(b"up")
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.end() == 5
    assert b"told" in terminal.said


def test_a_program_that_bears_the_loss_of_its_terminal_goes_on_to_its_end(here: Path) -> None:
    terminal = Terminal(here, "sh", "-c", f"trap '' HUP; echo up; until test -e {here}/gone; do sleep 0.05; done; seq 1 20000; exit 5")
    terminal.wait_for(b"up")
    os.close(terminal.master)
    (here / "gone").touch()
    assert terminal.end() == 5


def test_a_program_ends_with_the_command_that_is_killed(here: Path) -> None:
    terminal = Terminal(here, "sh", "-c", "echo $$ up; exec sleep 300")
    terminal.wait_for(b"up")
    program = int(terminal.said.split()[0])
    os.kill(terminal.pid, signal.SIGKILL)
    terminal.end()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{program}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_a_terminal_the_command_becomes_the_program_with_no_descriptor_of_ours(here: Path) -> None:
    (here / "app.env").write_text("")
    reads, writes = os.pipe()
    words = [PYTHON, "-IS", launch.__file__, "--user", "nobody", "--env-file", str(here / "app.env"), "--chdir", "/", "--"]
    show = "import os; print(os.getpid(), *[number for number in range(3, 100) if os.path.exists(f'/proc/self/fd/{number}')])"
    with subprocess.Popen([*words, PYTHON, "-c", show], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[writes], text=True,
                          start_new_session=True) as program:
        said = program.communicate("")[0].split()
    os.close(reads)
    os.close(writes)
    assert said == [str(program.pid)]
