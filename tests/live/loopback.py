"""TCP on the loopback interface, for servers of a test's own."""

import socket

HOST = "127.0.0.1"


def free_tcp_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
