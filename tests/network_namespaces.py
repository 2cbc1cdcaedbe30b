"""Network namespaces of a test's own, joined by veth pairs, with tcpdump looking on."""

import contextlib
import ctypes
import os
import secrets
import select
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

CLONE_NEWNET = 0x40000000


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Namespace:
    """A named network namespace; ``with namespace.entered():`` makes sockets and interfaces in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        ip("netns", "add", name)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in the namespace; sockets opened there stay in it."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net", "rb") as home, open(f"/run/netns/{self.name}", "rb") as there:
            if libc.setns(there.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                if libc.setns(home.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")

    @property
    def prefix(self) -> list[str]:
        """The words before a command that shall run in the namespace."""
        return ["ip", "netns", "exec", self.name]

    def ip(self, *words: str) -> None:
        ip("-n", self.name, *words)

    def udp(self, host: str, port: int) -> socket.socket:
        """A UDP socket bound in the namespace."""
        with self.entered():
            made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((host, port))
        return made

    def wire(self, interface: str) -> socket.socket:
        """A socket that sends whole Ethernet frames (or IP packets, on a tun) out of an interface."""
        with self.entered():
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        made.bind((interface, 0))
        return made

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


class Pair:
    """Two namespaces, ``here`` and ``there``, with the interfaces ``tap0`` and ``far0`` of a veth pair.

    ``here`` has 10.77.0.1 and fd77::1, ``there`` 10.77.0.2 and fd77::2.
    """

    def __init__(self) -> None:
        word = secrets.token_hex(4)
        self.here, self.there = Namespace(f"rt{word}h"), Namespace(f"rt{word}t")
        ip(
            "link",
            "add",
            "tap0",
            "netns",
            self.here.name,
            "type",
            "veth",
            "peer",
            "name",
            "far0",
            "netns",
            self.there.name,
        )
        for namespace, interface, number in ((self.here, "tap0", 1), (self.there, "far0", 2)):
            # Nothing is to be sent but what a test sends.
            with namespace.entered():
                Path(f"/proc/sys/net/ipv6/conf/{interface}/accept_dad").write_text("0")
                Path(f"/proc/sys/net/ipv6/conf/{interface}/router_solicitations").write_text("0")
            namespace.ip("link", "set", "lo", "up")
            namespace.ip("link", "set", interface, "up")
            namespace.ip("addr", "add", f"10.77.0.{number}/24", "dev", interface)
            namespace.ip("addr", "add", f"fd77::{number}/64", "dev", interface, "nodad")

    def remove(self) -> None:
        self.here.remove()
        self.there.remove()


class Between:
    """Three namespaces in a row: ``host`` stands between the phones in ``left`` and those in ``right``.

    The host's interface ``left0`` has 10.81.0.1 and the phones there 10.81.0.2; ``right0`` has 10.82.0.1, the
    phones 10.82.0.2. The host forwards nothing: what crosses it was taken and sent on by a program.
    """

    LEFT_HOST, LEFT_PHONES = "10.81.0.1", "10.81.0.2"
    RIGHT_HOST, RIGHT_PHONES = "10.82.0.1", "10.82.0.2"

    def __init__(self) -> None:
        word = secrets.token_hex(4)
        self.left, self.host, self.right = (Namespace(f"rt{word}{which}") for which in "lhr")
        self.host.ip("link", "set", "lo", "up")
        sides = (
            ("left0", self.left, self.LEFT_HOST, self.LEFT_PHONES),
            ("right0", self.right, self.RIGHT_HOST, self.RIGHT_PHONES),
        )
        for interface, phones, ours, theirs in sides:
            here, there = ("name", interface, "netns"), ("name", "phone0", "netns")
            ip("link", "add", *here, self.host.name, "type", "veth", "peer", *there, phones.name)
            for namespace, name, address in ((self.host, interface, ours), (phones, "phone0", theirs)):
                with namespace.entered():  # nothing is to be sent but what a test sends
                    Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
                namespace.ip("link", "set", name, "up")
                namespace.ip("addr", "add", f"{address}/24", "dev", name)
            phones.ip("link", "set", "lo", "up")
            phones.ip("route", "add", "default", "via", ours)

    def remove(self) -> None:
        for namespace in (self.left, self.host, self.right):
            namespace.remove()


class Tcpdump:
    """tcpdump in a namespace, from when it listens until it has seen ``count`` packets that it looks for."""

    def __init__(
        self,
        namespace: Namespace,
        interface: str,
        path: Path,
        count: int,
        expression: Sequence[str] = ("udp",),
    ) -> None:
        self.path = path
        # Without a snap length and a buffer its ring has room for eight packets, and it loses the others.
        command = ["tcpdump", "-n", "--immediate-mode", "--nano", "-i", interface, "-w", str(path)]
        self._process = subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                namespace.name,
                *command,
                "-s",
                "2048",
                "-B",
                "16384",
                "-Z",
                "root",
                "-c",
                str(count),
                *expression,
            ],
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        while line and b"listening on" not in line:
            line = self._process.stderr.readline()
        assert line, "tcpdump did not start"

    def finish(self, timeout: float = 10) -> Path:
        """Wait until it has seen all; the capture file."""
        try:
            self._process.wait(timeout)
        finally:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
                self._process.wait()
            assert self._process.stderr is not None
            self._process.stderr.close()
        return self.path


def ready(descriptor: int, timeout: float = 5) -> int:
    """The events of one poll, 0 after the timeout."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return dict(poll.poll(timeout * 1000)).get(descriptor, 0)


def privileged() -> bool:
    """Whether this process may make network namespaces."""
    return os.geteuid() == 0
