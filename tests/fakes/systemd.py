"""The end of a notify socket, as systemd holds it."""

from __future__ import annotations

import contextlib
import socket


class Systemd:
    """The end of a notify socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.setblocking(False)
        self.said: list[str] = []

    def hears(self, word: str) -> bool:
        """Whether it was told this by now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.said.append(self.socket.recv(4096).decode())
        return any(word in said.split("\n") for said in self.said)
