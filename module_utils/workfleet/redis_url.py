"""Redis URLs, read and written: the one place that takes them apart, on the control node, on hosts and in the runner of arq.

Standard library alone and nothing of the package, for a runner has it beside itself. No message repeats any part of a URL but its
scheme: the password may be in any part of one that is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PORT = 6379
SOCKETS = ("unix", "redis+socket", "socket")
SCHEMES = ("redis", "rediss", *SOCKETS)
#: Redis too, but not by an address of its own.
_SENTINEL = ("sentinel", "redis+sentinel", "rediss+sentinel")
_CERT_REQS = ("none", "optional", "required")
_ENCODE = "in a user or password the characters / ? # @ : % must be %-encoded, as the filter workfleet.core.redis_url does"
_MOST_DATABASES = 100_000
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class UrlError(ValueError):
    """What is wrong with a URL, and what to do about it; nothing of the URL itself."""


@dataclass(frozen=True)
class Tls:
    """How a ``rediss://`` server proves itself; file names are paths on the host that connects."""

    cert_reqs: str = "required"
    check_hostname: bool = True
    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None


@dataclass(frozen=True)
class Address:
    """Where a Redis is and who we are to it. ``str()`` shows no user and no password."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    db: int = 0
    path: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix://{self.path}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.db}"


def scheme(url: str) -> str:
    """Return a URL's scheme in small letters; empty where what stands there could be anything."""
    found = url.partition("://")[0] if "://" in url else ""
    return found.lower() if re.fullmatch(r"[A-Za-z][A-Za-z+]*", found) else ""


def is_redis(url: str) -> bool:
    """Whether a URL is of a Redis that can be spoken to, by its scheme."""
    return scheme(url) in SCHEMES


def is_meant_for_redis(url: str) -> bool:
    """Whether a URL is of a Redis, even where it cannot be spoken to by it."""
    return scheme(url) in (*SCHEMES, *_SENTINEL)


def parse(url: str) -> Address:
    """Read a Redis URL as kombu, celery and redis-py all read it; where they would not agree, it is refused. Raises :class:`UrlError`.

    ``redis://``, ``rediss://`` (``ssl_cert_reqs``, ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``,
    ``ssl_check_hostname``), ``unix://``, ``socket://`` and ``redis+socket://`` (``db`` or ``virtual_host``). Without
    ``ssl_cert_reqs`` a certificate is required, although kombu then silently accepts any. Options that only concern a
    client library are passed over.
    """
    _refuse_other(url)
    if re.search(r"[\s#]", url) or _ESCAPE.search(url):
        raise UrlError(f"the Redis URL holds what cannot stand in a URL (a blank, #, or a % that begins no escape); {_ENCODE}")
    given = scheme(url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, -1
    if port is not None and not 0 < port < 65536:
        raise UrlError(f"the Redis URL has no valid host or port; {_ENCODE}")
    if "@" in parts.path or "@" in parts.query:
        raise UrlError(f"the Redis URL has an @ behind its host, where its database and options are; {_ENCODE}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    user, password = (None if part is None else unquote(part) or None for part in (parts.username, parts.password))
    if options.keys() & {"username", "password"}:
        raise UrlError("the Redis URL has its user or password among its options, where not every client looks; give them before the "
                       "host: redis://user:password@host:6379/0")
    if given in SOCKETS:
        return _socket(given, unquote(parts.netloc.rpartition("@")[2] + parts.path), options, user, password)
    if "db" in options or "virtual_host" in options:
        raise UrlError("the Redis URL names its database by an option, with which kombu does not start; give it behind the host: redis://host:6379/3")
    if given == "redis" and any(name.startswith("ssl_") for name in options):
        raise UrlError("the Redis URL has ssl_ options and begins with redis://, by which some clients speak TLS and others do not; "
                       "begin it with rediss://, or leave them out")
    return Address(
        host=unquote(host or "localhost"), port=port or DEFAULT_PORT, username=user, password=password,
        db=_database(unquote(parts.path).strip("/")), tls=_tls(options) if given == "rediss" else None,
    )


def _refuse_other(url: str) -> None:
    """Refuse what is recognised and is no single Redis."""
    given = scheme(url)
    if given in _SENTINEL:
        raise UrlError(f"{given}:// is not supported: queues, workers and tasks are looked at over Redis itself, and Sentinel is not asked "
                       "yet where that is; give the redis:// URL of the primary")
    if given not in SCHEMES:
        raise UrlError(f"not a Redis URL: given is {f'{given}://' if given else 'no scheme'}, and queues, workers and tasks are looked at "
                       f"over Redis alone: give one of {', '.join(f'{name}://' for name in SCHEMES)}")
    if ";" in url.rpartition("@")[2] or re.search(r";[A-Za-z+]+://", url):
        raise UrlError("a Redis URL with several addresses (separated by ;) is not supported: whoever looks at queues and workers looks at "
                       "one server; give the one that all clients use")


def _socket(given: str, path: str, options: Mapping[str, str], user: str | None, password: str | None) -> Address:
    if not path.startswith("/"):
        raise UrlError(f"a {given}:// URL needs the absolute path of a socket, such as {given}:///run/redis.sock")
    database = _database(options.get("db", options.get("virtual_host", "").strip("/")))
    return Address(path=path, username=user, password=password, db=database)


def _database(given: str) -> int:
    if given and not (given.isascii() and given.isdigit() and int(given[:9]) < _MOST_DATABASES and len(given) < 9):
        raise UrlError(f"the Redis URL's database is not a number (redis://host:6379/0); {_ENCODE}")
    return int(given or 0)


def _tls(options: Mapping[str, str]) -> Tls:
    reqs = options.get("ssl_cert_reqs", "required").lower()
    reqs = reqs[len("cert_"):] if reqs.startswith("cert_") else reqs
    if reqs not in _CERT_REQS:
        raise UrlError(f"ssl_cert_reqs in the Redis URL: allowed are {', '.join(_CERT_REQS)}")
    strict = options.get("ssl_check_hostname", "true").lower() not in ("false", "0", "no")
    return Tls(
        cert_reqs=reqs, check_hostname=strict and reqs == "required", ca_certs=options.get("ssl_ca_certs"),
        certfile=options.get("ssl_certfile"), keyfile=options.get("ssl_keyfile"),
    )


def build(
    host: str, password: str = "", database: int = 0, *, user: str = "", port: int = DEFAULT_PORT, scheme: str = "redis",
    options: Mapping[str, str] | None = None,
) -> str:
    """Return the URL of a Redis, everything in it encoded. ``host`` is the absolute path of the socket for one of :data:`SOCKETS`.

    Raises :class:`UrlError` where :func:`parse` would not read back what is given.
    """
    if scheme not in SCHEMES:
        raise UrlError(f"the scheme must be one of {', '.join(SCHEMES)}")
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    more = dict(options or {})
    if scheme in SOCKETS:
        more = {**({("db" if scheme == "unix" else "virtual_host"): str(database)} if database else {}), **more}
        place = quote(host)
    else:
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not re.fullmatch(r"[A-Za-z0-9._:%-]+", bare):
            raise UrlError("the host must be a name or an address")
        place = f"{f'[{bare}]' if ':' in bare else bare}:{port}/{database}"
    url = f"{scheme}://{login}{place}{'?' if more else ''}{urlencode(more, quote_via=quote)}"
    read = parse(url)
    if (read.password or "", read.username or "", read.db) != (password, user, database):
        raise UrlError("the password must be a text that UTF-8 can hold")
    return url
