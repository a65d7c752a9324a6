"""The forms that values of the inventory must have beyond their types, and how large numbers may be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from . import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

#: So many nodes of a group on one host, and tasks at once in a node.
MOST_NODES = 1000
MOST_CONCURRENCY = 10_000
#: 30 days: no drain, pause or evaluation takes longer.
MOST_SECONDS = 30 * 86_400
#: Of whatever else is counted.
MOST = 1_000_000_000
#: Of a text that stands in a unit, a command line or a name.
LONGEST = 4096
#: Of a value that a message repeats.
SHOWN = 200

#: What each secret of a shipped vault.example.yml says; a test sees that it does.
PLACEHOLDER = re.compile(r"placeholder|change-?me", re.IGNORECASE)
SECRET_KEYS = ("secrets", "password", "basic_auth")
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
MODULE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*(?::[^\W\d]\w*(?:\.[^\W\d]\w*)*)?\Z")
PROGRAM = re.compile(r"(?:/[A-Za-z0-9._+@/-]*)?[A-Za-z0-9_][A-Za-z0-9._+-]*\Z")

#: Accounts that distributions and other services have. What belongs to them would be the app's.
SYSTEM_ACCOUNTS = frozenset((
    "root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data", "backup", "list", "irc",
    "gnats", "nobody", "nogroup", "_apt", "messagebus", "polkitd", "sshd", "ntp", "chrony", "_chrony", "systemd", "postgres", "redis",
    "valkey", "mysql", "rabbitmq", "mongodb", "memcache", "nginx", "apache", "adm", "sudo", "wheel", "shadow", "disk", "kmem", "tty",
    "docker", "lxd", "libvirt", "utmp", "staff", "supervisor", "operator",
))
#: Directories that the system has to itself, with everything below them.
SYSTEM_TREES = ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "lost+found", "proc", "run", "sbin", "sys", "usr")
#: Directories below which many have one of their own.
SHARED = re.compile(
    r"/(?:[^/]+|home/[^/]+|var/[^/]+|var/(?:run|lock|spool|mail|backups)/.*|var/lib/(?:apt|dbus|dpkg|docker|containers|pam|polkit-1|"
    r"postgresql|private|python|redis|sudo|systemd|ucf|valkey)(?:/.*)?)\Z")


def line(value: Any) -> str:
    """Return a text of one line that can be shown as it is."""
    if not isinstance(value, str):
        raise TypeError
    if shown.line(value) != value or len(value) > LONGEST:
        raise ValueError
    return str(value)


def name(value: Any) -> str:
    """Return a line that is not empty and has no blank at its ends."""
    found = line(value)
    if not found or found != found.strip():
        raise ValueError
    return found


def program(value: Any) -> str:
    """Return a program by its name or its path."""
    found = line(value)
    if not PROGRAM.match(found) or {"..", "."} & set(found.split("/")):
        raise ValueError
    return found


def wrong_path(path: str) -> str:
    """Say why a path names no file or directory plainly, or nothing."""
    if shown.line(path) != path or len(path) > LONGEST:
        return "must be an absolute path of one line"
    if not path.startswith("/") or path == "/" or {"", ".", ".."} & set(path[1:].split("/")):
        return "must be an absolute path without '.', '..' or '//', and not / itself"
    return ""


def not_ones_own(path: str) -> str:
    """Say why a directory cannot be an app's own, or nothing: it will be given to the app's user, with what is in it."""
    wrong = wrong_path(path)
    if wrong:
        return wrong
    if path.split("/")[1] in SYSTEM_TREES:
        return f"belongs to the system, as all below /{path.split('/')[1]} does; take a directory of the app's own, such as /opt/shop"
    if SHARED.match(path):
        return "is no directory of the app's own: others have theirs there too, or it is the system's; take one such as /opt/shop"
    return ""


def not_ones_account(account: str) -> str:
    """Say why an account or group cannot be an app's, or nothing."""
    if account in SYSTEM_ACCOUNTS or account.startswith("systemd-"):
        return f"{account} belongs to the system or to another service, whose files the app would own; take an account of the app's own"
    return ""


def data(value: Any, depth: int = 8) -> Any:
    """Return a value of texts, finite numbers, truth values, lists and mappings; raises ValueError or TypeError."""
    if depth < 0:
        raise ValueError
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if "\0" in value or len(value) > LONGEST:
            raise ValueError
        value.encode()
        return value
    if isinstance(value, (int, float)):
        if not -(2**63) <= value < 2**63:  # which what is no number is not either
            raise ValueError
        return value
    if isinstance(value, (list, tuple)):
        return [data(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return {name(key): data(item, depth - 1) for key, item in value.items()}
    raise TypeError


# Each begins where it can only begin once, so that a long text takes no longer than it is.
_PASSWORD = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,30}://[^/\s@:]*:[^/\s@]+@")
_TOKEN = re.compile(r"https?://[^/\s@]+@")


def quoted(value: Any) -> str:
    """Return a value for a message; of what is long its beginning, and nothing of what may be a secret."""
    found = repr(value)[:SHOWN + 1]
    if _PASSWORD.search(found) or _TOKEN.search(found):
        return "a URL with a password or a token"
    return found if len(found) <= SHOWN else f"{found[:SHOWN]}…"


def placeholders(value: Any, place: str, *, secret: bool) -> Iterator[str]:
    """Yield the places of secrets in which the placeholder of a shipped example stands."""
    if isinstance(value, str):
        if secret and PLACEHOLDER.search(value):
            yield place
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from placeholders(item, f"{place}.{key}", secret=secret or key in SECRET_KEYS)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from placeholders(item, f"{place}[{number}]", secret=secret)


def has_credentials(text: Any) -> bool:
    """Whether a text holds a URL with a password, or one of the web with a user, which is a token there."""
    return isinstance(text, str) and bool(_PASSWORD.search(text) or _TOKEN.search(text))
