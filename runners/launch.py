"""Start a command with exactly the environment of its file, and record what it was started with.

    launch.py --env-file FILE [options] -- COMMAND [ARGUMENT ...]

Standard library only, Python 3.9 or newer. It ends in ``exec``: the command takes over this process, its pid, its
standard streams and systemd's notify socket. A node's process gets the names of its environment file and, where the
file does not set them, HOME, USER, LOGNAME, SHELL, PATH and LANG, and nothing else that happened to be around but
what the process manager hands to every service (``KEPT``).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pwd
import re
import resource
import sys

# systemd's own words to a service; without them there is no readiness and no journal fields.
KEPT = ("NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM")
#: The kernel takes no more as an environment.
MOST_CHARACTERS = 8 << 20
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ASSIGNMENT = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"[ \t]*(?=\n|\Z)', re.DOTALL)
BLANK = re.compile(r"[ \t\n]+|#[^\n]*")
LARGEST_RECORD = 2 << 20
ESCAPE = re.compile(r'\\(["\\$`\n])')


def parse_env(text: str) -> dict[str, str]:
    """Read ``NAME="value"`` lines as a POSIX shell and systemd do: a backslash escapes only ``" \\ $ ``` and a line
    end. The same as ``envfile.parse`` of the toolkit, which is not there for a process that starts.
    """
    found = {}
    position = 0
    while position < len(text):
        match = BLANK.match(text, position)
        if match is None:
            match = ASSIGNMENT.match(text, position)
            if match is None:
                line = text.count("\n", 0, position) + 1
                raise ValueError(f'line {line} of the environment file is not of the form NAME="value"')
            found[match[1]] = ESCAPE.sub(lambda pair: pair[1].strip("\n"), match[2])
        position = match.end()
    return found


def arguments(argv: list[str]) -> argparse.Namespace:
    """Parse our own command line; all behind ``--`` is the command's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--env-file", required=True, help="file of NAME=\"value\" lines")
    parser.add_argument("--unit", help="the node's unit name; with it a run record is written")
    parser.add_argument("--generation", help="what the node is started with, as a fingerprint")
    parser.add_argument("--run-directory", help="where run records are kept")
    parser.add_argument("--user", help="drop root's rights to this account first")
    parser.add_argument("--chdir", help="working directory of the command")
    parser.add_argument("--path", help="directory put in front of PATH")
    parser.add_argument("--open-files", type=int, help="limit of open files")
    parser.add_argument("--nice", type=int, help="niceness")
    parser.add_argument("--log", help="file that the command's output is appended to")
    parser.add_argument("--json", dest="as_json", help="the command as a JSON list, for callers without sound quoting")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args(argv)
    # What came as argv goes on as the same bytes, whatever the locale; JSON is text.
    options.command = [os.fsencode(word) for word in options.command]
    if options.as_json:
        words = json.loads(options.as_json)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            parser.error("--json is no list of texts")
        options.command = [word.encode() for word in words]
    if not options.command:
        parser.error("no command after --")
    if options.unit and not (options.generation and options.run_directory):
        parser.error("--unit needs --generation and --run-directory")
    return options


def become(user: str) -> None:
    """Drop root's rights to ``user``, and what root has open: its terminal too. Where we are not root we must be that user already."""
    entry = pwd.getpwnam(user)
    if os.geteuid() == entry.pw_uid:
        return
    if os.geteuid() != 0:
        raise PermissionError(f"this runs as {user}: use sudo, or be {user}")
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import workfleet_terminal  # for those alone who are root: not for nodes

    is_fenced = workfleet_terminal.is_at_terminal()
    if is_fenced:
        workfleet_terminal.fence(entry.pw_uid)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    if is_fenced:
        workfleet_terminal.end_with_parent()
    for number in [int(name) for name in os.listdir("/proc/self/fd")]:
        if number > 2:
            with contextlib.suppress(OSError):  # that of the listing itself
                os.close(number)


def environment(declared: dict[str, str], path: str | None) -> dict[str, str]:
    """Return the whole environment of the command."""
    entry = pwd.getpwuid(os.geteuid())
    whole = {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name, "SHELL": "/bin/sh",
             "PATH": SYSTEM_PATH, "LANG": "C.UTF-8"}
    whole.update({name: os.environ[name] for name in KEPT if name in os.environ})
    whole.update(declared)
    if path:
        whole["PATH"] = path + os.pathsep + whole["PATH"]
    return whole


def log_to(path: str) -> None:
    """Append all output to a file from now on; where that cannot be opened it goes on where it went.

    Opened as the command's own account and never through a link: systemd would open it as root.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    except OSError as error:
        print(f"launch.py: the output does not go to {path}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.pop("JOURNAL_STREAM", None)  # it names what the output is no more


def start_time(pid: int) -> int:
    """Return the start time of a process in clock ticks since boot."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rsplit(")", 1)[1].split()[19])


def starts_before(path: str) -> int:
    """Return how often this node was started before, by a record that the command may have made anything of."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), encoding="utf-8") as file:
            starts = json.loads(file.read(LARGEST_RECORD))["starts"]
        return starts if isinstance(starts, int) and 0 <= starts < 2**31 else 0
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return 0


def record(path: str, unit: str, generation: str, mark: str) -> None:
    """Write the run record of this process, which the command will be; ``starts`` goes on from the one before.

    ``mark`` is the file that tells this node, for as long as it is there, to take no new tasks.
    """
    pid = os.getpid()
    data = {"unit": unit, "pid": pid, "starttime": start_time(pid), "generation": generation, "starts": starts_before(path) + 1,
            "mark": mark}
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(data, file)
    os.replace(path + ".new", path)


def restrict(open_files: int | None, nice: int | None) -> None:
    """Set the limits of this process; what this account may not have is said, not passed over."""
    if open_files:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        may_raise = os.geteuid() == 0 or hard == resource.RLIM_INFINITY
        limit = open_files if may_raise else min(open_files, hard)
        if limit < open_files:
            print(f"launch.py: open_files is {limit}, not {open_files}: this account may not have more", file=sys.stderr)  # noqa: T201
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard) if os.geteuid() == 0 else hard))
    if nice is not None:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        except OSError as error:
            raise OSError(f"cannot have nice: {nice}: {error.strerror}; a negative one takes root's rights or LimitNICE=") from error


def main(argv: list[str]) -> None:
    """Prepare the process as told, then become the command."""
    options = arguments(argv)
    with open(options.env_file, encoding="utf-8", errors="surrogateescape", newline="") as file:
        text = file.read(MOST_CHARACTERS + 1)  # it is the app's user's, and we may be root still
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"{options.env_file} has more than {MOST_CHARACTERS} characters")
    if options.user:
        become(options.user)
    if options.log:
        log_to(options.log)
    declared = parse_env(text)
    if options.unit:
        path = os.path.join(options.run_directory, options.unit + ".json")
        mark = os.path.join(os.path.dirname(os.path.abspath(options.env_file)), f"{options.unit}.quiesced")
        record(path, options.unit, options.generation, mark)
        # SPT_NOENV: setproctitle would otherwise overwrite the environment in /proc, our fallback for the record.
        declared = {"SPT_NOENV": "1", "WORKFLEET_GENERATION": options.generation, "WORKFLEET_RECORD": path, **declared}
    restrict(options.open_files, options.nice)
    whole = environment(declared, options.path)
    if options.chdir:
        os.chdir(options.chdir)
    encoded = {name.encode(): value.encode(errors="surrogateescape") for name, value in whole.items()}
    try:
        os.execvpe(options.command[0], options.command, encoded)  # noqa: S606 - the point of this program
    except OSError as error:
        program = os.fsdecode(options.command[0])
        raise OSError(f"cannot run {program}: {error.strerror} (PATH is {whole['PATH']})") from error


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"launch.py: {error}")
