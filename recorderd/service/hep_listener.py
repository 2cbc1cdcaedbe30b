"""Takes in signalling by HEP, from a PBX that passes on what was encrypted on the wire.

A thread of its own listens, so that the tap waits for nobody; it looks at who sends and at nothing else. What
the packets say is read where all signalling is (:meth:`recorderd.service.engine.Engine.hear_hep`).
"""

import contextlib
import ipaddress
import logging
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from recorderd.config import Config
from recorderd.errors import CaptureError
from recorderd.wire.hep import HepStream

log = logging.getLogger(__name__)

MAX_WAITING: Final = 8192
MAX_WAITING_BYTES: Final = 16 << 20
"""What waits for the engine is bounded in packets and in bytes."""
MAX_CONNECTIONS: Final = 64
IDLE_S: Final = 3600.0
PAUSE_S: Final = 0.05
RECEIVE_BUFFER: Final = 4 << 20
BATCH: Final = 256
READ_BYTES: Final = 1 << 16

HepPacketSink = Callable[[int, bytes], bool]
"""Takes a packet and when it arrived (nanoseconds since the epoch); False where there is no room for it."""


WORKERS: Final = b"H"
"""What a packet begins with on its way to several workers, among messages of JSON: then 8 bytes of when it
arrived.
"""


class HepInbox:
    """Packets on their way from the listener's thread to the engine's."""

    def __init__(self) -> None:
        self._packets: deque[tuple[int, bytes]] = deque()
        self._put_bytes = self._taken_bytes = 0  # each written by one thread

    def put(self, arrived_ns: int, packet: bytes) -> bool:
        """Add a packet; False where too much waits."""
        waiting = self._put_bytes - self._taken_bytes
        if len(self._packets) >= MAX_WAITING or waiting + len(packet) > MAX_WAITING_BYTES:
            return False
        self._put_bytes += len(packet)
        self._packets.append((arrived_ns, packet))
        return True

    def take(self) -> list[tuple[int, bytes]]:
        """All that waits, oldest first."""
        taken = [self._packets.popleft() for _ in range(len(self._packets))]
        self._taken_bytes += sum(len(packet) for _, packet in taken)
        return taken


class HepListener:
    """Listens from when it is made until it is closed."""

    def __init__(self, listen: Iterable[str], allow: Iterable[str], sink: HepPacketSink) -> None:
        """``listen``: ``udp:ADDRESS:PORT`` or ``tcp:ADDRESS:PORT``; ``allow``: networks that may send.

        Raises CaptureError where it cannot listen.
        """
        self._networks = [ipaddress.ip_network(network) for network in allow]
        self._sink = sink
        self.counters: Counter[str] = Counter()
        """'hep_strangers', 'hep_dropped' and 'hep_connections_refused'; written by the thread alone."""
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, tuple[HepStream, float]] = {}
        self._waker, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        try:
            for address in listen:
                self._open(address)
        except OSError as error:
            self._close_all()
            raise CaptureError(f"{address}: cannot listen for HEP: {error.strerror}") from error
        self._thread = threading.Thread(target=self._run, name="hep", daemon=True)
        self._thread.start()

    def _open(self, address: str) -> None:
        kind, _, rest = address.partition(":")
        host, _, port = rest.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
        self._selector.register(listener, selectors.EVENT_READ, self._datagrams)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == "udp":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((host, int(port)))
        if kind == "tcp":
            listener.listen(MAX_CONNECTIONS)
            self._selector.modify(listener, selectors.EVENT_READ, self._accept)

    def check(self) -> None:
        """Raise CaptureError if the thread is dead."""
        if not self._thread.is_alive():
            raise CaptureError("nothing listens for HEP any more")

    def close(self) -> None:
        """Stop listening."""
        self._waker.send(b"x")
        self._thread.join()
        self._close_all()

    def _close_all(self) -> None:
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        self._waker.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select(60.0):
                if key.fileobj is self._woken:
                    return
                assert isinstance(key.fileobj, socket.socket)
                try:
                    key.data(key.fileobj)
                except OSError as error:
                    log.debug("hep: %s", error)
                    if key.fileobj in self._connections:
                        self._hang_up(key.fileobj)
                    else:
                        time.sleep(PAUSE_S)  # no descriptor left, for one: it would be tried without end
            self._hang_up_idle()

    def _allowed(self, host: str) -> bool:
        address = ipaddress.ip_address(host.partition("%")[0])
        if any(address in network for network in self._networks):
            return True
        self.counters["hep_strangers"] += 1
        return False

    def _give(self, packet: bytes) -> None:
        if not self._sink(time.time_ns(), packet):
            self.counters["hep_dropped"] += 1

    def _datagrams(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(BATCH):
                packet, sender = listener.recvfrom(READ_BYTES)
                if self._allowed(sender[0]):
                    self._give(packet)

    def _accept(self, listener: socket.socket) -> None:
        connection, sender = listener.accept()
        if not self._allowed(sender[0]):
            connection.close()
        elif len(self._connections) >= MAX_CONNECTIONS:
            self.counters["hep_connections_refused"] += 1
            connection.close()
        else:
            connection.setblocking(False)
            self._connections[connection] = HepStream(self.counters), time.monotonic()
            self._selector.register(connection, selectors.EVENT_READ, self._stream)

    def _stream(self, connection: socket.socket) -> None:
        reader, _ = self._connections[connection]
        data = connection.recv(READ_BYTES)
        if not data:
            self._hang_up(connection)
            return
        self._connections[connection] = reader, time.monotonic()
        for packet in reader.feed(data):
            self._give(packet.payload)

    def _hang_up(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._connections[connection]
        connection.close()

    def _hang_up_idle(self) -> None:
        """Peers that vanished without a word do not keep the others out."""
        if len(self._connections) < MAX_CONNECTIONS // 2:
            return
        before = time.monotonic() - IDLE_S
        for connection in [known for known, (_, heard) in self._connections.items() if heard < before]:
            self._hang_up(connection)


@contextlib.contextmanager
def listening(config: Config, sink: HepPacketSink) -> Iterator[HepListener | None]:
    """Listen for HEP for as long as the block runs, if that is configured. Raises CaptureError."""
    hep = config.capture.hep
    if not hep.listen:
        yield None
        return
    with contextlib.closing(HepListener(hep.listen, hep.allow, sink)) as listener:
        yield listener
