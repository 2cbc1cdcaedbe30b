"""Sends frames at the rate of thousands of calls: a batch is one copy and one system call.

Sent packet by packet (sendmmsg(2), or a ring of PACKET_TX_RING), a frame costs the kernel 1.8 us on its way
over a veth pair: 4,000 calls would take the sender's whole processor. Here the kernel runs an XDP program on
frames of its own ("live frames" of BPF_PROG_RUN, the kernel's Documentation/bpf/bpf_prog_run.rst), which go
over the pair in bulk, for a third of that.
"""

import ctypes
import fcntl
import mmap
import os
import platform
import socket
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.bench.live.program import sending_program

# linux/bpf.h
_MAP_CREATE, _PROG_LOAD, _PROG_RUN, _LINK_CREATE = 0, 5, 10, 28
_ARRAY, _MAPPABLE = 2, 1024
_XDP, _ATTACH_XDP, _LIVE_FRAMES = 6, 37, 2
_NATIVE = 4  # XDP_FLAGS_DRV_MODE, linux/if_link.h
_ATTRIBUTE = 128  # bytes, at least as many as any command reads
_CALL: Final = {"x86_64": 321, "aarch64": 280}  # bpf(2)

# linux/ethtool.h, linux/sockios.h
_SET_GRO, _SIOCETHTOOL = 0x2C, 0x8946

_MOST = 1024  # frames a system call
_AT_ONCE = 64  # what the pair takes over in one go; its queue has room for 256


def wire(interface: str) -> socket.socket:
    """A socket that sends whole Ethernet frames out of an interface, one by one, and receives nothing."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.bind((interface, 0))
    return made


def receive_in_bulk(interface: str) -> None:
    """Let one end of a veth pair take what the other end sends in bulk: only with GRO does it have a queue
    for that. UDP packets stay single ones all the same.
    """
    value = ctypes.create_string_buffer(struct.pack("=II", _SET_GRO, 1))
    request = struct.pack("16sQ16x", interface.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)


class Transmitter:
    """Sends frames of one length out of an interface of the namespace that the process is in."""

    def __init__(self, interface: str, length: int) -> None:
        """Raises OSError where the kernel does not do this (5.18 is needed, and root)."""
        index = socket.if_nametoindex(interface)
        frames = _bpf(_MAP_CREATE, "IIIII", _ARRAY, 4, length, _MOST, _MAPPABLE)
        following = _bpf(_MAP_CREATE, "IIIII", _ARRAY, 4, 8, 1, _MAPPABLE)
        self._program = _load(sending_program(frames, following, length, index))
        # Attached, if to no effect (the interface receives nothing): otherwise each run would first make the
        # program known to all processors, which takes 20 ms.
        self._link = _bpf(_LINK_CREATE, "IIII", self._program, index, _ATTACH_XDP, _NATIVE)
        stride = (length + 7) // 8 * 8
        self._frames = _mapped(frames, _MOST * stride).reshape(_MOST, stride)[:, :length]
        self._next = _mapped(following, 8)
        self._blank = ctypes.create_string_buffer(length)

    def send(self, rows: NDArray[np.uint8]) -> None:
        """Send frames, u8[n, length], in order; they have left when it returns. Raises OSError."""
        length = rows.shape[1]
        for start in range(0, len(rows), _MOST):
            part = rows[start : start + _MOST]
            self._frames[: len(part)] = part
            self._next[:] = 0
            blank = ctypes.addressof(self._blank)
            _bpf(
                _PROG_RUN, "IIIIQQIIIIQQIII", self._program, 0, length, 0, blank, 0, len(part), 0, 0, 0, 0, 0,
                _LIVE_FRAMES, 0, _AT_ONCE,
            )  # fmt: skip


def _load(program: bytes) -> int:
    code, license_name = ctypes.create_string_buffer(program), ctypes.create_string_buffer(b"GPL")
    places = ctypes.addressof(code), ctypes.addressof(license_name)
    return _bpf(_PROG_LOAD, "IIQQIIQ", _XDP, len(program) // 8, *places, 0, 0, 0)


def _mapped(descriptor: int, size: int) -> NDArray[np.uint8]:
    """The values of an array map, in our memory."""
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    return np.frombuffer(mmap.mmap(descriptor, pages), np.uint8)[:size]


_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, form: str, *values: int) -> int:
    """bpf(2): a command and the fields of its attribute. Raises OSError."""
    attribute = ctypes.create_string_buffer(struct.pack(f"={form}", *values), _ATTRIBUTE)
    answer: int = _libc.syscall(_CALL[platform.machine()], command, attribute, _ATTRIBUTE)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer
