"""The control connection to a user agent: netstrings however they arrive."""

import json
import socket
from collections.abc import Iterator

import pytest

from recorderd.tools.ctrl_tcp import ControlConnection

EVENT = b'{"event":true,"type":"CALL_ESTABLISHED","id":"a:1,b"}'
RESPONSE = b'{"response":true,"ok":true}'


@pytest.fixture
def ends() -> Iterator[tuple[ControlConnection, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = ControlConnection(server.getsockname()[1])
        agent, _ = server.accept()
        with agent:
            yield connection, agent
        connection.close()


def netstring(message: bytes) -> bytes:
    return b"%d:%s," % (len(message), message)


def test_a_command_is_one_netstring(ends: tuple[ControlConnection, socket.socket]) -> None:
    connection, agent = ends
    connection.send("dial", "sip:bob@127.0.0.1")
    length, _, rest = agent.recv(4096).partition(b":")
    assert rest[-1:] == b","
    assert int(length) == len(rest) - 1
    assert json.loads(rest[:-1]) == {"command": "dial", "params": "sip:bob@127.0.0.1", "token": "dial"}


def test_messages_whole_together_and_byte_by_byte(ends: tuple[ControlConnection, socket.socket]) -> None:
    connection, agent = ends
    agent.sendall(netstring(RESPONSE) + netstring(EVENT))
    messages = connection.receive(5)
    while len(messages) < 2:
        messages += connection.receive(5)
    assert [message.get("type") for message in messages] == [None, "CALL_ESTABLISHED"]
    for byte in netstring(EVENT)[:-1]:
        agent.sendall(bytes([byte]))
        assert connection.receive(5) == []
    agent.sendall(b",")
    assert [message["id"] for message in connection.receive(5)] == ["a:1,b"]


def test_nothing_comes_when_nothing_is_said(ends: tuple[ControlConnection, socket.socket]) -> None:
    connection, agent = ends
    assert connection.receive(0.01) == []
    agent.close()
    assert connection.receive(5) == []
