"""Stand between root's terminal and a program of another account, which could type into that terminal (TIOCSTI).

Standard library only, Python 3.9 or newer; ``launch.py`` uses it where it drops root's rights at a terminal. The program gets a
session of its own and, for those of its standard streams that were the terminal, a terminal of its own. What it writes there goes to
root's as bytes. Pipes and files stay as they are.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import sys
import termios
import tty
from contextlib import suppress

_CHUNK = 65536
#: How long what a program has left may hold its terminal while we take the last of what was written there.
_LINGER_SECONDS = 0.2
_SET_PDEATHSIG = 1
#: Passed on: to the program alone, or as a terminal would do, to its process group.
_TO_PROGRAM = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_TO_GROUP = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_OURS = (signal.SIGCHLD, signal.SIGWINCH, signal.SIGCONT)


def is_at_terminal() -> bool:
    """Whether this process has a terminal, be it only as ``/dev/tty``."""
    if any(os.isatty(number) for number in (0, 1, 2)):
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def fence(uid: int) -> None:
    """Return in a child, which is out of the terminal's reach; the parent stays, and ends as the child does."""
    streams = [number for number in (0, 1, 2) if os.isatty(number)]
    master = slave = -1
    if streams:
        master, slave = os.openpty()
        termios.tcsetattr(slave, termios.TCSANOW, termios.tcgetattr(streams[0]))
        resize(streams[0], master)
        os.fchown(slave, uid, -1)
    heard, woken = os.pipe()
    for number in (heard, woken):
        os.set_blocking(number, False)
    caught = [each for each in (*_TO_PROGRAM, *_TO_GROUP, *_OURS) if signal.getsignal(each) is not signal.SIG_IGN or each in _OURS]
    before = {each: signal.signal(each, lambda *_: None) for each in caught}
    signal.set_wakeup_fd(woken)
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        for each, handler in before.items():
            signal.signal(each, handler)
        os.setsid()
        if streams:
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for number in streams:
            os.dup2(slave, number)
        return
    if streams:
        os.close(slave)
    status = Relay(child, master, streams, heard).run()
    if status < 0:
        with suppress(OSError):  # SIGKILL has no other meaning that could be taken back
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status if status >= 0 else 128 - status)


def end_with_parent() -> None:
    """Have this process end when the parent is killed; to be called after a change of account, which forgets it."""
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)


def resize(source: int, target: int) -> None:
    """Give one terminal the size of another."""
    with suppress(OSError):
        fcntl.ioctl(target, termios.TIOCSWINSZ, fcntl.ioctl(source, termios.TIOCGWINSZ, bytes(8)))


class Relay:
    """The parent's side: bytes from one terminal to the other, signals to the program, until it has ended."""

    def __init__(self, child: int, master: int, streams: list[int], heard: int) -> None:
        self.child, self.master, self.streams, self.heard = child, master, streams, heard
        self.shown = next((number for number in (1, 2, 0) if number in streams), -1)
        self.reads = 0 in streams
        # Where the output goes elsewhere, as to a pager, the terminal's modes are that one's.
        self.is_interactive = 0 in streams and 1 in streams
        self.modes = termios.tcgetattr(0) if self.reads else None
        self.pending = b""

    def run(self) -> int:
        """Return the program's exit status; of a signal negative."""
        if self.master >= 0:
            os.set_blocking(self.master, False)
        self.engage()
        try:
            while True:
                status = self.turn()
                if status is not None:
                    self.drain()
                    return status
        finally:
            if self.is_interactive and self.is_foreground:
                with suppress(termios.error):
                    termios.tcsetattr(0, termios.TCSADRAIN, self.modes or [])

    @property
    def is_foreground(self) -> bool:
        """Whether the terminal's input is ours."""
        try:
            return os.tcgetpgrp(0) == os.getpgrp()
        except OSError:
            return False

    def engage(self) -> None:
        """Let the program's terminal be the one that gives keys their meaning."""
        with suppress(termios.error):
            if self.is_interactive and self.is_foreground:
                tty.setraw(0, termios.TCSANOW)
            elif self.reads:
                modes = termios.tcgetattr(self.master)
                modes[3] &= ~termios.ECHO  # the real one echoes
                termios.tcsetattr(self.master, termios.TCSANOW, modes)

    def turn(self) -> int | None:
        """Wait for something and pass it on; return the status of a program that has ended."""
        sources = [self.heard] + [self.master] * (self.master >= 0)
        if self.reads and not self.pending and self.is_foreground:
            sources.append(0)
        ready, free, _ = select.select(sources, [self.master] if self.pending else [], [])
        if free:
            self.feed()
        if 0 in ready:
            try:
                data = os.read(0, _CHUNK)
            except OSError:  # the terminal is gone
                data = b""
            self.reads = bool(data)
            self.pending += data or b"\x04"
        if self.master in ready and not self.show():
            self.master, self.pending, self.reads = -1, b"", False
        if self.heard in ready:
            return self.signals()
        return None

    def feed(self) -> None:
        """Type what fits."""
        try:
            self.pending = self.pending[os.write(self.master, self.pending[:1024]):]
        except BlockingIOError:
            pass
        except OSError:  # nobody has its terminal open any more
            self.pending = b""

    def show(self) -> bool:
        """Show what the program wrote; return whether there may be more."""
        try:
            data = os.read(self.master, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:  # nobody has its terminal open any more
            return False
        while data and self.shown >= 0:
            try:
                data = data[os.write(self.shown, data):]
            except BlockingIOError:  # another program at this terminal has made it so
                select.select([], [self.shown], [])
            except OSError:  # the terminal is gone; the program goes on, and nobody hears it
                self.shown = -1
        return True

    def drain(self) -> None:
        """Show what is left."""
        while self.master >= 0 and select.select([self.master], [], [], _LINGER_SECONDS)[0] and self.show():
            pass

    def signals(self) -> int | None:
        """Pass on what signals came; return the status of a program that has ended."""
        for number in os.read(self.heard, _CHUNK):
            with suppress(ProcessLookupError):
                if number in _TO_PROGRAM:
                    os.kill(self.child, number)
                elif number in _TO_GROUP:
                    os.killpg(self.child, number)
            if number == signal.SIGWINCH and self.streams and self.master >= 0:
                resize(self.streams[0], self.master)
            elif number == signal.SIGCONT:
                self.engage()
        pid, status = os.waitpid(self.child, os.WNOHANG)
        return (-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)) if pid else None


if __name__ == "__main__":
    sys.exit("workfleet_terminal.py is a part of launch.py")
