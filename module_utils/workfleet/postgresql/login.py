"""Whether PostgreSQL lets an app in: the login of its wire protocol (version 3), and no more.

An app's database is its own affair, known by URLs in its environment. One that refuses the login is an error, one that does
not answer a warning, for the app may do without it. What cannot be judged from here (a socket, several hosts, a login by
certificate) passes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import socket
import ssl
import struct
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Libpq's two, and with the driver that SQLAlchemy puts behind them.
URL = re.compile(r"postgres(ql)?(\+[a-z0-9_]+)?://")
_TIMEOUT = 5.0
_SSL, _VERSION = 80877103, 196608
#: What the server asks for, in its authentication messages.
_OK, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 5, 10, 11, 12
_MOST = 1_000_000
#: Classes of SQLSTATE: who may come in, and to which database. Anything else passes by itself.
_REFUSED = ("28", "3D")


def check(environment: Mapping[str, str]) -> list[str]:
    """Log in to each database of an environment and leave; return a warning for each that cannot be used now.

    Raises :class:`WorkfleetError` where a login is refused. Both name the variable.
    """
    found = []
    for name, value in environment.items():
        if URL.match(value):
            try:
                why = login(value)
            except WorkfleetError as error:
                raise WorkfleetError(f"{name}: {error}") from error
            if why:
                found.append(f"{name}: {why}")
    return found


def login(url: str) -> str:
    """Log in and leave; return why the database cannot be used now, or nothing. The password is never repeated."""
    try:
        parts = urlsplit(url)
        is_one = "," not in parts.netloc.rpartition("@")[2]
        port = (is_one and parts.port) or 5432
    except ValueError as error:
        raise WorkfleetError("is no URL: its password has to be %-encoded") from error
    options = parse_qs(parts.query)
    if not (is_one and parts.hostname and parts.username) or "host" in options:
        return ""
    where = f"{parts.hostname}:{port}"
    try:
        with socket.create_connection((parts.hostname, port), _TIMEOUT) as plain:
            plain.settimeout(_TIMEOUT)
            code, said = Login(encrypted(plain, options.get("sslmode", [""])[0]), parts).refusal()
    except ssl.SSLError:
        return ""
    except (OSError, struct.error, ValueError, KeyError) as error:
        return f"no PostgreSQL answers at {where}: {getattr(error, 'strerror', None) or error}"
    if code.startswith(_REFUSED):
        raise WorkfleetError(f"PostgreSQL at {where} refuses user {unquote(parts.username)}: {said}")
    return f"PostgreSQL at {where} says: {said}" if said else ""


def encrypted(plain: socket.socket, mode: str) -> socket.socket:
    """Return the connection with TLS where the server has it, as ``sslmode=prefer``: no certificate is judged, no password sent."""
    if mode == "disable":
        return plain
    plain.sendall(struct.pack("!II", 8, _SSL))
    if exactly(plain, 1) != b"S":
        return plain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def exactly(connection: socket.socket, count: int) -> bytes:
    """Return that many bytes."""
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise OSError("the connection was closed")
        data += more
    return data


class Login:
    """One login, up to the server's word that it takes queries."""

    def __init__(self, connection: socket.socket, parts: SplitResult) -> None:
        self.connection = connection
        self.user = unquote(parts.username or "")
        self.password = unquote(parts.password or "")
        self.database = unquote(parts.path[1:]) or self.user
        self.nonce = base64.b64encode(os.urandom(18)).decode()

    def send(self, kind: bytes, body: bytes) -> None:
        """Send one message."""
        self.connection.sendall(kind + struct.pack("!I", len(body) + 4) + body)

    def receive(self) -> tuple[bytes, bytes]:
        """Return the next message."""
        kind, length = struct.unpack("!cI", exactly(self.connection, 5))
        if not 4 <= length <= _MOST:
            raise OSError("what answers is no PostgreSQL")
        return kind, exactly(self.connection, length - 4)

    def refusal(self) -> tuple[str, str]:
        """Return SQLSTATE and text of the server's refusal; empty where it lets us in, or asks for what is not tried here."""
        words = ("user", self.user, "database", self.database, "application_name", "workfleet", "")
        self.send(b"", struct.pack("!I", _VERSION) + b"".join(word.encode() + b"\0" for word in words))
        while True:
            kind, body = self.receive()
            if kind == b"E":
                fields = {field[:1]: field[1:].decode(errors="replace") for field in body.split(b"\0") if field}
                return fields.get(b"C", ""), fields.get(b"M", "no reason")
            if kind == b"Z" or (kind == b"R" and not self.answer(body)):
                self.send(b"X", b"")
                return "", ""

    def answer(self, body: bytes) -> bool:
        """Answer a question about who we are; return whether we could."""
        asked, rest = struct.unpack("!I", body[:4])[0], body[4:]
        if asked == _MD5:
            inner = hashlib.md5((self.password + self.user).encode()).hexdigest()  # noqa: S324 - PostgreSQL's own scheme
            self.send(b"p", b"md5" + hashlib.md5(inner.encode() + rest[:4]).hexdigest().encode() + b"\0")  # noqa: S324 - likewise
        elif asked == _SASL and b"SCRAM-SHA-256" in rest.split(b"\0") and re.fullmatch(r"[ -~]*", self.password):
            first = f"n,,n=,r={self.nonce}".encode()
            self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first)
        elif asked == _SASL_CONTINUE:
            self.send(b"p", self.proof(rest.decode()))
        else:
            return asked in (_OK, _SASL_FINAL)
        return True

    def proof(self, challenge: str) -> bytes:
        """Return the client's last message of SCRAM-SHA-256 (RFC 5802)."""
        said = dict(item.split("=", 1) for item in challenge.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(said["s"]), int(said["i"]))
        key = hmac.new(salted, b"Client Key", "sha256").digest()
        final = f"c=biws,r={said['r']}"
        whole = f"n=,r={self.nonce},{challenge},{final}".encode()
        signature = hmac.new(hashlib.sha256(key).digest(), whole, "sha256").digest()
        proof = base64.b64encode(bytes(left ^ right for left, right in zip(key, signature))).decode()
        return f"{final},p={proof}".encode()
