"""The client side of baresip's control module ``ctrl_tcp``: JSON in netstrings over TCP.

Protocol: https://github.com/baresip/baresip/wiki/Using-Baresip:-ctrl_tcp (commands are answered with
``{"response": true}``, events arrive unasked with ``{"event": true, "type": ...}``).
"""

import json
import socket
from collections.abc import Iterator
from typing import Any

_LONGEST_LENGTH = 9  # digits of a netstring's length


class ControlConnection:
    """A connection to one running baresip; messages that arrive are kept in order until taken."""

    def __init__(self, port: int, timeout: float = 1.0) -> None:
        """Connect to ``127.0.0.1:port``; raises OSError while nothing listens there."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._received = b""

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, command: str, params: str = "") -> None:
        """Send one command, such as ``dial`` with the URI to call."""
        message = json.dumps({"command": command, "params": params, "token": command}).encode()
        self._socket.sendall(b"%d:%s," % (len(message), message))

    def receive(self, timeout: float) -> list[dict[str, Any]]:
        """Messages that arrive within ``timeout`` seconds; returns as soon as there is one, or none at the
        end of the time or of the connection."""
        messages = list(self._complete())
        if messages:
            return messages
        self._socket.settimeout(max(timeout, 0.001))
        try:
            self._received += self._socket.recv(65536)
        except TimeoutError:
            return []
        except OSError:
            return []
        return list(self._complete())

    def _complete(self) -> Iterator[dict[str, Any]]:
        while b":" in self._received[: _LONGEST_LENGTH + 1]:
            length, _, rest = self._received.partition(b":")
            size = int(length)
            if len(rest) < size + 1:
                return
            self._received = rest[size + 1 :]
            message = json.loads(rest[:size])
            if isinstance(message, dict):
                yield message
