"""An AF_PACKET socket on one interface: its link type, its filter, and the state of the interface."""

import ctypes
import errno
import fcntl
import socket
import struct
from collections.abc import Callable, Sequence
from enum import Enum

from recorderd.capture.bpf import Instruction
from recorderd.errors import CaptureError
from recorderd.wire.frames import LinkType

# linux/if_packet.h, linux/sockios.h, linux/if_arp.h, linux/if.h, asm/socket.h, linux/if_ether.h
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP, PACKET_IGNORE_OUTGOING = 1, 23
PACKET_MR_PROMISC = 1
SO_ATTACH_FILTER, SO_TIMESTAMPNS = 26, 35
SIOCGIFNAME, SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFINDEX = 0x8910, 0x8913, 0x8927, 0x8933
ARPHRD_ETHER, ARPHRD_LOOPBACK = 1, 772
IFF_UP = 1
ETH_P_ALL = 3
IFREQ_BYTES = 40
MAX_NAME = 15


class Condition(Enum):
    """What has become of the interface."""

    UP = "up"
    DOWN = "down"
    """No packets come; they will when it is up again, without opening anything anew."""
    GONE = "gone"
    """It was removed, and this socket is of no more use, even if one of the same name is made."""


class PacketSocket:
    """A packet socket that is filtered but not yet bound: nothing arrives before :meth:`start`.

    Interfaces that are neither Ethernet nor loopback (tun, PPP, tunnels) have link headers of many kinds, or
    none: there the kernel is asked for packets without one, and the link type is RAW.
    """

    def __init__(
        self,
        interface: str,
        program: Callable[[LinkType], Sequence[Instruction]],
        *,
        promiscuous: bool = False,
    ) -> None:
        """Open the socket and attach the filter that ``program`` makes for the link type.

        ``promiscuous``: the interface also takes in what is not addressed to it, for as long as the socket is
        open.

        Raises:
            CaptureError: no such interface, or no privilege.
        """
        self.interface = interface
        self._socket = _open(interface, socket.SOCK_RAW)
        try:
            self._index = _interface_number(self._socket, interface)
            hardware = _hardware_type(self._socket, interface)
            self.link = LinkType.ETHERNET
            if hardware not in (ARPHRD_ETHER, ARPHRD_LOOPBACK):
                self._socket.close()
                self._socket = _open(interface, socket.SOCK_DGRAM)
                self.link = LinkType.RAW
            _attach(self._socket, program(self.link))
            if promiscuous:
                request = struct.pack("iHH8x", self._index, PACKET_MR_PROMISC, 0)
                self._socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
            if hardware == ARPHRD_LOOPBACK:
                # lo shows each packet twice, as it goes out and as it comes in.
                self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        except OSError as error:
            self._socket.close()
            raise CaptureError(f"{interface}: cannot set up capturing: {error.strerror}") from error
        except BaseException:
            self._socket.close()
            raise

    def start(self) -> None:
        """Let packets arrive. The interface may be down."""
        try:
            self._socket.bind((self.interface, ETH_P_ALL))
        except OSError as error:
            raise CaptureError(f"{self.interface}: {error.strerror}") from error

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def set_option(self, option: int, value: bytes | int) -> None:
        """Set an option of level SOL_PACKET."""
        self._socket.setsockopt(SOL_PACKET, option, value)

    def stamp_on_arrival(self) -> None:
        """Have the kernel stamp each packet once, as it comes in, and not for each socket by itself."""
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def option(self, option: int, length: int) -> bytes:
        """An option of level SOL_PACKET."""
        return self._socket.getsockopt(SOL_PACKET, option, length)

    def condition(self) -> Condition:
        """The interface's state now; clears the error that polling tells of when it went down."""
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            request = struct.pack("16si20x", b"", self._index)
            name = fcntl.ioctl(self._socket, SIOCGIFNAME, request)[:16]
            flags = struct.unpack_from(
                "H", fcntl.ioctl(self._socket, SIOCGIFFLAGS, name.ljust(IFREQ_BYTES, b"\0")), 16
            )
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ENXIO):
                return Condition.GONE
            raise
        return Condition.UP if flags[0] & IFF_UP else Condition.DOWN

    def close(self) -> None:
        """Close the socket; what it still held is lost."""
        self._socket.close()


def _open(interface: str, kind: int) -> socket.socket:
    try:
        return socket.socket(socket.AF_PACKET, kind, 0)
    except PermissionError as error:
        raise CaptureError(f"{interface}: no privilege to capture (CAP_NET_RAW)") from error
    except OSError as error:
        raise CaptureError(f"{interface}: cannot capture: {error.strerror}") from error


def _request(interface: str) -> bytes:
    name = interface.encode()
    if not name or len(name) > MAX_NAME or b"\0" in name:
        raise CaptureError(f"{interface!r}: no name of an interface")
    return name.ljust(IFREQ_BYTES, b"\0")


def _ask(packet_socket: socket.socket, interface: str, question: int) -> bytes:
    try:
        return fcntl.ioctl(packet_socket, question, _request(interface))
    except OSError as error:
        what = "no such interface" if error.errno == errno.ENODEV else error.strerror
        raise CaptureError(f"{interface}: {what}") from error


def _interface_number(packet_socket: socket.socket, interface: str) -> int:
    number: int = struct.unpack_from("i", _ask(packet_socket, interface, SIOCGIFINDEX), 16)[0]
    return number


def _hardware_type(packet_socket: socket.socket, interface: str) -> int:
    number: int = struct.unpack_from("H", _ask(packet_socket, interface, SIOCGIFHWADDR), 16)[0]
    return number


def _attach(packet_socket: socket.socket, program: Sequence[Instruction]) -> None:
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    fprog = struct.pack("HP", len(program), ctypes.addressof(buffer))
    packet_socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
