"""Redis' wire protocol (RESP2) on the standard library, so that a managed host needs no packages.

``connect(url)`` gives a :class:`Client`; ``client.call("LLEN", "celery")`` one reply, ``client.pipeline([...])`` many
in one round trip. Replies are ``bytes``, ``int``, ``None`` or lists of these: nothing is decoded behind the caller's
back (:func:`text` does it on request). No message of an error ever holds a password.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from typing import TYPE_CHECKING, Any, NoReturn, Union

from . import redis_url
from .errors import WorkfleetError
from .redis_url import Address, Tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence

Argument = Union[str, bytes, int, float]  # a real union, for it is evaluated on Python 3.9
Reply = Any  # bytes | int | None | RespError | list of Reply: recursive, and callers know what their command answers

DEFAULT_TIMEOUT = 5.0
#: OpenSSL's numbers of what is wrong with a certificate, for which there is something to do.
_NOT_YET, _EXPIRED, _SELF_SIGNED, _WRONG_NAME, _WRONG_ADDRESS = 9, 10, 18, 62, 64
_UNKNOWN_CA = (_SELF_SIGNED, 19, 20, 21)
_LONGEST_LINE = 64 * 1024
_DEEPEST = 32
#: What the replies to one call may come to, in bytes and in values.
MOST_BYTES, MOST_VALUES = 256 << 20, 1_000_000
_NUMBER = re.compile(rb"-?[0-9]{1,20}")
_BATCH = 1000
_CHUNK = 64 * 1024


class RespError(WorkfleetError):
    """An error the server replied with; ``code`` is its first word (``WRONGTYPE``, ``NOAUTH``, ``ERR`` …)."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class RespConnectionError(WorkfleetError):
    """The server cannot be reached, went away, was silent for too long, or is no Redis."""


def parse_url(url: str) -> Address:
    """Read a Redis URL; raises :class:`WorkfleetError` with what is wrong with it, and nothing of the URL."""
    try:
        return redis_url.parse(url)
    except redis_url.UrlError as error:
        raise WorkfleetError(str(error)) from None


def text(reply: Reply) -> str:
    """Decode a reply for people: bytes that are no UTF-8 survive as escapes, ``None`` is the empty string."""
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "surrogateescape")
    return "" if reply is None else str(reply)


def encode(*args: Argument) -> bytes:
    """One command as Redis reads it."""
    words = [_word(arg) for arg in args]
    return b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)])


def _word(arg: Argument) -> bytes:
    if isinstance(arg, bytes):
        return arg
    if isinstance(arg, str):
        return arg.encode("utf-8", "surrogateescape")
    if isinstance(arg, (int, float)) and not isinstance(arg, bool):
        return repr(arg).encode()
    raise TypeError(f"a Redis argument is str, bytes, int or float, not {type(arg).__name__}")


def connect(url: str | Address, timeout: float = DEFAULT_TIMEOUT) -> Client:
    """Open a connection, log in and select the database; ``timeout`` (seconds) also is each call's default."""
    address = parse_url(url) if isinstance(url, str) else url
    client = Client(_open(address, timeout), address, timeout)
    try:
        client.login()
    except WorkfleetError:
        client.close()
        raise
    return client


def _open(address: Address, timeout: float) -> socket.socket:
    raw: socket.socket | None = None
    context = None if address.tls is None else _context(address, address.tls)
    try:
        if address.path is not None:
            raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            raw.settimeout(timeout)
            raw.connect(address.path)
            return raw
        raw = socket.create_connection((address.host, address.port), timeout)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return raw if context is None else context.wrap_socket(raw, server_hostname=address.host)
    except (OSError, UnicodeError, ValueError) as error:
        why = _why(error, timeout)
        if raw is not None:
            # A plain Redis waits for the end of the line that it takes the beginning of TLS for.
            if context is not None and isinstance(error, (socket.timeout, ConnectionError)):
                why += ", though the port is open: does the server speak TLS on it?"
            raw.close()
        raise RespConnectionError(f"cannot connect to {address}: {why}") from error


def _context(address: Address, tls: Tls) -> ssl.SSLContext:
    """What is looked at in the server's certificate, and what is shown to the server; nothing is connected for it."""
    import ssl  # most brokers are spoken to without it

    names = f"ssl_ca_certs={tls.ca_certs}"
    try:
        context = ssl.create_default_context(cafile=tls.ca_certs)
        context.check_hostname = tls.check_hostname
        context.verify_mode = ssl.VerifyMode[f"CERT_{tls.cert_reqs.upper()}"]
        if tls.certfile:
            names = f"ssl_certfile={tls.certfile}, ssl_keyfile={tls.keyfile}"
            context.load_cert_chain(tls.certfile, tls.keyfile, password="")  # or OpenSSL asks for one on the terminal
    except (OSError, ValueError) as error:
        why = str(getattr(error, "strerror", None) or error)
        if isinstance(error, ssl.SSLError):
            why = ("the key is not the certificate's" if error.reason == "KEY_VALUES_MISMATCH" else
                   "not what must be there in PEM form (certificates; a key, and without a passphrase)")
        raise RespConnectionError(f"cannot connect to {address}: {names}: {why}; these are paths on the host that connects") from error
    return context


def _why(error: Exception, timeout: float) -> str:
    if isinstance(error, socket.timeout):
        return f"no answer within {timeout:g} s"
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message}); {_remedy(error.verify_code)}"
    if isinstance(error, ssl.SSLError) and "CERTIFICATE" in str(error.reason):  # an alert: it is the server that refuses
        return (f"the server does not accept us by our certificate ({error.reason}): it wants one of its clients that its CA signed and "
                "that has not expired; see ssl_certfile and ssl_keyfile")
    if isinstance(error, ssl.SSLError):
        # A server that misses a certificate may close the connection before its alert is read.
        return (f"TLS failed ({error.reason or error}): does the server speak TLS on this port, and does it want a certificate of its "
                "clients (ssl_certfile)?")
    return str(getattr(error, "strerror", None) or error)


def _remedy(code: int) -> str:
    """What to do about a certificate that is not accepted."""
    if code == _EXPIRED:
        return "it has expired, or this host's clock is wrong: renew it on the server"
    if code == _NOT_YET:
        return "it is not valid yet, or this host's clock is wrong"
    if code in (_WRONG_NAME, _WRONG_ADDRESS):
        return "the URL must name the server as its certificate does (subjectAltName)"
    if code in _UNKNOWN_CA:
        return "the CA that signed it is not known here: give its file by ssl_ca_certs in the URL, or add it to the system's store"
    return "see ssl_ca_certs and ssl_cert_reqs"


class Client:
    """One connection. Not for several threads at once; after a connection error it is closed for good."""

    def __init__(self, sock: socket.socket, address: Address, timeout: float) -> None:
        self.address = address
        self._socket: socket.socket | None = sock
        self._timeout = timeout
        self._buffer = bytearray()
        self._deadline = 0.0
        self._allowed = timeout
        self._bytes = self._values = 0
        self._heard = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; twice is fine."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def login(self) -> None:
        """Authenticate and select the address's database (done by :func:`connect`)."""
        address, commands = self.address, []
        if address.password is not None or address.username is not None:
            user = () if address.username is None else (address.username,)
            commands.append(("AUTH", *user, address.password or ""))
        if address.db:
            commands.append(("SELECT", str(address.db)))
        self.pipeline(commands)

    def call(self, *args: Argument, timeout: float | None = None) -> Reply:
        """Send one command and return its reply, or raise :class:`RespError` with what the server said.

        ``timeout`` (seconds, for the whole call) must be longer than a blocking command's own.
        """
        return self.pipeline([args], timeout=timeout)[0]

    def pipeline(
        self, commands: Iterable[Sequence[Argument]], *, timeout: float | None = None, raise_errors: bool = True
    ) -> list[Reply]:
        """Send many commands in one go and return their replies in order.

        The first error reply is raised when all replies are in; with ``raise_errors=False`` each stands in its
        command's place as a :class:`RespError`. ``timeout`` is for the whole pipeline.
        """
        todo = list(commands)
        self._begin(self._timeout if timeout is None else timeout)
        replies: list[Reply] = []
        try:
            for start in range(0, len(todo), _BATCH):
                batch = todo[start:start + _BATCH]
                self._send(b"".join(encode(*command) for command in batch))
                replies += [self._reply(text(_word(command[0])).upper()) for command in batch]
        except ConnectionError as error:
            self._fail(_why(error, self._allowed) + self._unheard())
        except OSError as error:
            self._fail(_why(error, self._allowed))
        except BaseException:
            self.close()  # replies may be left unread: the next caller would take them for its own
            raise
        if raise_errors:
            for reply in replies:
                if isinstance(reply, RespError):
                    raise reply
        return replies

    def subscribe(self, *patterns: str) -> None:
        """Have all that is published on channels of these patterns sent here; from then on only :meth:`message` is of use.

        The kernel finds a dead server within some 10 s, for a subscriber that waits says nothing that could go unanswered.
        """
        self.call("PSUBSCRIBE", *patterns)  # one command: what it answers to the first pattern holds for all
        sock = self._wait()
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)):
                if hasattr(socket, option):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def message(self, seconds: float) -> tuple[str, bytes] | None:
        """Return channel and content of the next message; ``None`` where none begins to arrive within ``seconds``."""
        until = time.monotonic() + seconds
        try:
            while self._is_readable(max(0.0, until - time.monotonic())):
                self._begin(self._timeout)
                reply = self._reply("PSUBSCRIBE")
                if isinstance(reply, list) and len(reply) == 4 and reply[0] == b"pmessage":
                    return text(reply[2]), reply[3]
        except OSError as error:
            self._fail(_why(error, self._timeout))
        return None

    def _begin(self, seconds: float) -> None:
        """Settle what the replies of a call may take: time, bytes and values."""
        self._allowed = seconds
        self._deadline = time.monotonic() + seconds
        self._bytes, self._values = MOST_BYTES, MOST_VALUES

    def _take(self, size: int, values: int) -> None:
        """Take a part of a reply from what they may come to."""
        self._bytes -= size
        self._values -= values
        if self._bytes < 0 or self._values < 0:
            self._fail(f"it answers with more than can be borne: {MOST_BYTES >> 20} MiB, or {MOST_VALUES} values, in one reply. "
                       "Something in the database is far larger than a queue's messages are")

    def _is_readable(self, seconds: float) -> bool:
        if self._socket is None:
            self._fail("it is closed")
        # TLS may hold what it has decrypted already, which the kernel does not know of.
        if self._buffer or (hasattr(self._socket, "pending") and self._socket.pending()):
            return True
        return bool(select.select([self._socket], [], [], seconds)[0])

    def _fail(self, why: str) -> NoReturn:
        self.close()
        raise RespConnectionError(f"connection to {self.address} failed: {why}")

    def _unheard(self) -> str:
        """What it may mean that a server hangs up before it has said anything."""
        if self._heard or self.address.path is not None:
            return ""
        if self.address.tls is None:
            return " before its first answer; where it speaks TLS on this port, the URL must begin with rediss://"
        return " before its first answer; it may want a certificate of its clients (ssl_certfile, ssl_keyfile)"

    def _wait(self) -> socket.socket:
        """The socket, set to wait no longer than the call's deadline allows."""
        if self._socket is None:
            self._fail("it is closed")
        left = self._deadline - time.monotonic()
        if left <= 0:
            self._fail(f"no answer within {self._allowed:g} s")
        self._socket.settimeout(left)
        return self._socket

    def _send(self, data: bytes) -> None:
        self._wait().sendall(data)

    def _fill(self) -> None:
        data = self._wait().recv(_CHUNK)
        if not data:
            self._fail(f"the server closed it{self._unheard()}")
        self._heard = True
        self._buffer += data

    def _line(self) -> bytes:
        seen = 0
        while (end := self._buffer.find(b"\r\n", seen)) < 0:
            seen = max(0, len(self._buffer) - 1)
            if seen > _LONGEST_LINE:
                self._fail("what answers there does not speak Redis' protocol")
            self._fill()
        line = bytes(self._buffer[:end])
        del self._buffer[:end + 2]
        return line

    def _number(self, line: bytes, largest: int) -> int:
        if not _NUMBER.fullmatch(line, 1) or int(line[1:]) > largest:
            self._fail("what answers there does not speak Redis' protocol")
        return int(line[1:])

    def _reply(self, command: str, depth: int = 0) -> Reply:
        line = self._line()
        kind = line[:1]
        self._take(len(line), 1)
        if kind == b"$":
            return self._bulk(self._number(line, 2**40))
        if kind == b"+":
            return line[1:]
        if kind == b":":
            return self._number(line, 2**64)
        if kind == b"-":
            return self._error(command, text(line[1:]))
        if kind != b"*" or depth >= _DEEPEST:
            self._fail("what answers there does not speak Redis' protocol")
        size = self._number(line, 2**32)
        self._take(0, max(0, size))  # at once: a list is not begun that cannot be ended
        return None if size < 0 else [self._reply(command, depth + 1) for _ in range(size)]

    def _bulk(self, size: int) -> bytes | None:
        if size < 0:
            return None
        self._take(size, 0)
        while len(self._buffer) < size + 2:
            self._fill()
        if self._buffer[size:size + 2] != b"\r\n":
            self._fail("what answers there does not speak Redis' protocol")
        data = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size + 2]
        return data

    def _error(self, command: str, said: str) -> RespError:
        code = said.split(" ", 1)[0]
        said = said.partition(", with args beginning with")[0]  # Redis repeats arguments there, a password too
        if code in ("WRONGPASS", "NOAUTH") or (command == "AUTH" and code == "ERR"):
            given = "none" if self.address.password is None else "one" if code == "NOAUTH" else "a wrong one"
            said = f"{said} (password given: {given})"
        return RespError(f"{self.address}: {command}: {said}", code)
