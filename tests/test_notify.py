"""What systemd would hear, heard on a socket of our own."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.service.notify import Notifier


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        path = str(tmp_path / "notify")
        sock.bind(path)
        sock.settimeout(2.0)
        yield sock, path


def heard(sock: socket.socket) -> list[str]:
    return sock.recv(4096).decode().splitlines()


def test_the_life_of_a_service(supervisor: tuple[socket.socket, str]) -> None:
    sock, path = supervisor
    notifier = Notifier({"NOTIFY_SOCKET": path})
    notifier.more_time(2.5)
    assert heard(sock) == ["EXTEND_TIMEOUT_USEC=2500000"]
    notifier.ready("tapping lo")
    assert heard(sock) == ["READY=1", "STATUS=tapping lo"]
    notifier.alive()
    assert heard(sock) == ["WATCHDOG=1"]
    notifier.status("3 calls")
    assert heard(sock) == ["STATUS=3 calls"]
    notifier.stopping()
    assert heard(sock) == ["STOPPING=1"]
    assert notifier.failed == 0


def test_a_status_is_one_line(supervisor: tuple[socket.socket, str]) -> None:
    sock, path = supervisor
    Notifier({"NOTIFY_SOCKET": path}).status("a\nREADY=1\r\n b")
    assert heard(sock) == ["STATUS=a READY=1 b"]


def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")  # Linux chooses an abstract name
        sock.settimeout(2.0)
        name: bytes = sock.getsockname()
        notifier = Notifier({"NOTIFY_SOCKET": "@" + name[1:].decode()})
        notifier.alive()
        assert heard(sock) == ["WATCHDOG=1"]


def test_without_systemd_nothing_happens() -> None:
    notifier = Notifier({})
    notifier.ready()
    notifier.alive()
    notifier.close()
    assert notifier.failed == 0
    assert notifier.watchdog_s is None
    assert Notifier({"NOTIFY_SOCKET": "vsock:2:1234"}).failed == 0


def test_a_supervisor_that_is_gone_or_deaf_does_not_stop_the_recorder(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    notifier.alive()
    notifier.alive()
    assert notifier.failed == 2
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "deaf"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "deaf")})
        for _ in range(10_000):
            notifier.status("x" * 1000)
        assert 0 < notifier.failed < 10_000  # the queue filled up, and nothing waited for it


def test_after_close_nothing_is_sent(supervisor: tuple[socket.socket, str]) -> None:
    sock, path = supervisor
    notifier = Notifier({"NOTIFY_SOCKET": path})
    notifier.close()
    notifier.close()
    notifier.ready()
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(1)


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "42"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "5", "WATCHDOG_PID": "me"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_may_be_meant_for_another(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environment, pid=42).watchdog_s == seconds
