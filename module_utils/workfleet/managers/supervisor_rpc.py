"""A supervisord behind its unix socket: XML-RPC with the standard library, many calls in one request.

It runs as the app's user, so whatever the app runs may stand in for it: who listens is looked at before anything is said, and
an answer is input as anybody's, bounded in size, depth and time.
"""

from __future__ import annotations

import http.client
import os
import socket
import stat
import struct
import time
import xmlrpc.client
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union
from xml.parsers import expat

from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: For a whole request with its answer.
ANSWER_SECONDS = 30.0
#: What a thousand programs tell of themselves takes a megabyte.
ANSWER_BYTES, ANSWER_DEPTH, NUMBER_DIGITS, SAID_CHARACTERS = 4 << 20, 32, 20, 1000
# Fault codes of supervisor/xmlrpc.py.
SHUTDOWN_STATE, BAD_NAME, ALREADY_STARTED, NOT_RUNNING, STILL_RUNNING = 6, 10, 60, 70, 91

Call = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Refusal:
    """A fault that was answered in a call's place."""

    code: int
    said: str


Answer = Union[Any, Refusal]


class Down(WorkfleetError):
    """No supervisord listens on the socket (there is none, or it was left behind)."""


class Improper(WorkfleetError):
    """What was answered is not what a supervisord answers."""


class _Socket(socket.socket):
    """A connection that has an end, however slowly the other side speaks, and however much it has to say."""

    ends = 0.0
    room = ANSWER_BYTES

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        left = self.ends - time.monotonic()
        if left <= 0:
            raise socket.timeout
        self.settimeout(left)
        taken = super().recv_into(buffer, nbytes, flags)
        self.room -= taken
        if self.room < 0:
            raise Improper(f"more than {ANSWER_BYTES} bytes")
        return taken


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, doubt: Callable[[int, int], str | None]) -> None:
        super().__init__("localhost")
        self.path, self.doubt = path, doubt

    def connect(self) -> None:
        connection = _Socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock = connection
        connection.ends = time.monotonic() + ANSWER_SECONDS
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(self.path)
        pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        doubt = self.doubt(pid, uid)
        if doubt:
            raise WorkfleetError(f"on {self.path} listens {doubt}: no supervisord of ours, and nothing was said to it. End process {pid}, "
                                 "and have systemd restart the app's supervisord")


class Server:
    """A supervisord behind its unix socket; refuses to speak to one that is not the app's own.

    ``doubt`` says of a process and its user why it cannot be that, or ``None``.
    """

    def __init__(self, path: str, identifier: str, doubt: Callable[[int, int], str | None] = lambda pid, uid: None) -> None:
        self.path = path
        self.identifier = identifier
        self.doubt = doubt

    def call(self, method: str, *params: Any) -> Any:
        """Make one call; a fault is an error."""
        answer = self.batch([(method, params)])[0]
        if isinstance(answer, Refusal):
            raise WorkfleetError(f"supervisord of {self.identifier} refused {method}: {answer.said}")
        return answer

    def batch(self, calls: Sequence[Call]) -> list[Answer]:
        """Make many calls in one request, in this order; a fault stands in its call's place."""
        identity: Call = ("supervisor.getIdentification", ())
        request = [{"methodName": method, "params": list(params)} for method, params in [identity, *calls]]
        identifier, *answers = self._request(request)
        if isinstance(identifier, Refusal):
            if identifier.code == SHUTDOWN_STATE:
                raise WorkfleetError(f"supervisord of {self.identifier} is shutting down: its programs finish their "
                                     "tasks; try again when it has gone")
            raise WorkfleetError(f"supervisord on {self.path} does not tell who it is: {identifier.said}")
        if identifier != self.identifier:
            raise WorkfleetError(f"on {self.path} answers the supervisord {str(identifier)[:SAID_CHARACTERS]!r}, not {self.identifier!r}: "
                                 "another app uses this run directory")
        return answers

    def improper(self, why: object) -> WorkfleetError:
        """Return the error that an answer is none of a supervisord's."""
        return WorkfleetError(f"what listens on {self.path} gave no proper answer, as no supervisord does: {why}")

    def _request(self, calls: list[dict[str, Any]]) -> list[Answer]:
        try:
            self._check_directory()
            try:
                return self._identified(calls)
            except ConnectionError as error:
                if isinstance(error, ConnectionRefusedError):
                    raise
                return self._identified(calls)  # one that went away just then, and may be back
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise Down(f"no supervisord of {self.identifier} listens on {self.path}") from error
        except PermissionError as error:
            raise WorkfleetError(f"may not speak to supervisord on {self.path}: be root or its user") from error
        except socket.timeout as error:
            raise WorkfleetError(f"supervisord on {self.path} did not answer within {ANSWER_SECONDS:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise WorkfleetError(f"supervisord on {self.path} broke off: {str(error)[:SAID_CHARACTERS] or type(error).__name__}") from error
        except Improper as error:
            raise self.improper(error) from error

    def _identified(self, calls: list[dict[str, Any]]) -> list[Answer]:
        # The identity is asked in the same request, so it is known before anything that changes only by asking alone.
        if len(calls) > 1 and any(not call["methodName"].startswith("supervisor.get") for call in calls):
            first = self._multicall(calls[:1])
            if first != [self.identifier]:
                return first
        return self._multicall(calls)

    def _check_directory(self) -> None:
        """Refuse a socket that more users than its owner can put another one in the place of."""
        mode = os.stat(os.path.dirname(self.path)).st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise WorkfleetError(f"{os.path.dirname(self.path)} can be written by more than its owner (mode {stat.S_IMODE(mode):04o}), "
                                 "so anybody may stand in for supervisord there: chmod go-w it")

    def _multicall(self, calls: list[dict[str, Any]]) -> list[Answer]:
        connection = _Connection(self.path, self.doubt)
        try:
            body = xmlrpc.client.dumps((calls,), "system.multicall").encode()
            connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml"})
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise Improper(f"status {response.status}")
            answers = decode(response.read())
        finally:
            connection.close()
        if len(answers) != len(calls):
            raise Improper(f"{len(answers)} answers to {len(calls)} calls")
        return answers


def decode(text: bytes) -> list[Answer]:
    """Return the answers in the body of a multicall's. Raises :class:`Improper`, and nothing else, whatever it holds."""
    decoder = _Decoder()
    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = decoder.start, decoder.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = decoder.data, decoder.refuse_doctype
    try:
        parser.Parse(text, True)
        told = decoder.close()
    except Improper:
        raise
    except xmlrpc.client.Fault as error:
        raise Improper(f"the whole request is refused: {str(error.faultString)[:SAID_CHARACTERS]}") from error
    except (expat.ExpatError, xmlrpc.client.Error, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise Improper(f"{type(error).__name__}: {str(error)[:SAID_CHARACTERS]}") from error
    if len(told) != 1 or not isinstance(told[0], list):
        raise Improper("it is no list of answers")
    return [_answer(value) for value in told[0]]


class _Decoder(xmlrpc.client.Unmarshaller):
    """XML-RPC without what makes little of it large: no declarations, no nesting, no endless numbers, no types but plain ones."""

    TAGS = frozenset(("methodResponse", "params", "param", "fault", "value", "array", "data", "struct", "member", "name",
                      "string", "int", "i4", "boolean"))

    def __init__(self) -> None:
        super().__init__()
        self.depth, self.length = 0, 0
        self.xml("", None)  # what comes from the parser is text already

    def start(self, tag: str, attrs: dict[str, str]) -> None:
        self.depth, self.length = self.depth + 1, 0
        if self.depth > ANSWER_DEPTH or tag not in self.TAGS:
            raise Improper(f"an element {tag[:40]!r} at depth {self.depth}")
        super().start(tag, attrs)

    def data(self, text: str) -> None:
        self.length += len(text)
        super().data(text)

    def end(self, tag: str) -> None:
        self.depth -= 1
        if tag in ("int", "i4", "boolean") and self.length > NUMBER_DIGITS:
            raise Improper("a number without end")
        super().end(tag)

    def refuse_doctype(self, *_: object) -> None:
        raise Improper("it declares a document type")


def _answer(value: Any) -> Answer:
    if isinstance(value, dict) and "faultCode" in value:
        code, said = value["faultCode"], value.get("faultString")
        if not isinstance(code, int) or not isinstance(said, str):
            raise Improper("a fault without a code and a text")
        return Refusal(code, said[:SAID_CHARACTERS])
    return value
