"""A supervisord behind its unix socket: XML-RPC with the standard library, many calls in one request."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from typing import TYPE_CHECKING, Any, Union
from xml.parsers.expat import ExpatError

from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWER_SECONDS = 30.0
# Fault codes of supervisor/xmlrpc.py.
SHUTDOWN_STATE, BAD_NAME, ALREADY_STARTED, NOT_RUNNING, STILL_RUNNING = 6, 10, 60, 70, 91

Call = tuple[str, tuple[Any, ...]]
Answer = Union[Any, xmlrpc.client.Fault]


class Down(WorkfleetError):
    """No supervisord listens on the socket (there is none, or it was left behind)."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.connect(self.path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _Connection(self.path)


class Server:
    """A supervisord behind its unix socket; refuses to speak to one that is not the app's own."""

    def __init__(self, path: str, identifier: str) -> None:
        self.path = path
        self.identifier = identifier

    def call(self, method: str, *params: Any) -> Any:
        """Make one call; a fault is an error."""
        answer = self.batch([(method, params)])[0]
        if isinstance(answer, xmlrpc.client.Fault):
            raise WorkfleetError(f"supervisord of {self.identifier} refused {method}: {answer.faultString}")
        return answer

    def batch(self, calls: Sequence[Call]) -> list[Answer]:
        """Make many calls in one request, in this order; a fault stands in its call's place."""
        identity: Call = ("supervisor.getIdentification", ())
        request = [{"methodName": method, "params": list(params)} for method, params in [identity, *calls]]
        identifier, *answers = [_answer(answer) for answer in self._request(request)]
        if isinstance(identifier, xmlrpc.client.Fault):
            if identifier.faultCode == SHUTDOWN_STATE:
                raise WorkfleetError(f"supervisord of {self.identifier} is shutting down: its programs finish their "
                                     "tasks; try again when it has gone")
            raise WorkfleetError(f"supervisord on {self.path} does not tell who it is: {identifier.faultString}")
        if identifier != self.identifier:
            raise WorkfleetError(f"on {self.path} answers the supervisord {identifier!r}, not {self.identifier!r}: "
                                 "another app uses this run directory")
        return answers

    def _request(self, calls: list[dict[str, Any]]) -> list[Any]:
        # The identity is asked in the same request, so it is known before anything that changes only by asking alone.
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(self.path)) as proxy:
                if len(calls) > 1 and any(not call["methodName"].startswith("supervisor.get") for call in calls):
                    first: Any = proxy.system.multicall(calls[:1])
                    if first != [self.identifier]:
                        return list(first)
                answers: Any = proxy.system.multicall(calls)
                return list(answers)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise Down(f"no supervisord of {self.identifier} listens on {self.path}") from error
        except PermissionError as error:
            raise WorkfleetError(f"may not speak to supervisord on {self.path}: be root or its user") from error
        except socket.timeout as error:
            raise WorkfleetError(f"supervisord on {self.path} did not answer within {ANSWER_SECONDS:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise WorkfleetError(f"supervisord on {self.path} broke off: {error or type(error).__name__}") from error
        except xmlrpc.client.Error as error:
            raise WorkfleetError(f"supervisord on {self.path} gave no proper answer: {error}") from error
        except ExpatError as error:
            raise WorkfleetError(f"what listens on {self.path} is no supervisord: {error}") from error


def _answer(value: Any) -> Answer:
    if isinstance(value, dict) and "faultCode" in value:
        return xmlrpc.client.Fault(value["faultCode"], value["faultString"])
    return value
