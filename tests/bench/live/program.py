"""The eBPF program that sends prepared frames: each time it runs, the next frame of a map takes the place of
the one at hand, which then goes out of an interface (the kernel's Documentation/bpf/standardization).
"""

import struct
from typing import Final

# Instructions by their assembler names.
MOVE, MOVE_NUMBER, ADD_NUMBER = 0xBF, 0xB7, 0x07
LOAD: Final = {8: 0x79, 4: 0x61, 2: 0x69, 1: 0x71}
STORE: Final = {8: 0x7B, 4: 0x63, 2: 0x6B, 1: 0x73}
STORE_NUMBER, LOAD_MAP = 0x62, 0x18
JUMP_EQUAL_NUMBER, JUMP_GREATER = 0x15, 0x2D
CALL, EXIT = 0x85, 0x95
R0, R1, R2, R3, R6, FRAME_POINTER = 0, 1, 2, 3, 6, 10

MAP_LOOKUP, REDIRECT = 1, 23  # helpers, linux/bpf.h
XDP_DROP = 1
_KEY = -4  # on the stack
_DATA, _DATA_END = 0, 4  # of struct xdp_md


class _Assembler:
    """Collects instructions; every jump goes to the end, where the packet is dropped."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, int, int, int]] = []
        self._jumps: list[int] = []

    def do(self, code: int, to: int = 0, source: int = 0, offset: int = 0, number: int = 0) -> None:
        self._lines.append((code, to, source, offset, number))

    def drop_when(self, code: int, left: int, right: int = 0) -> None:
        self._jumps.append(len(self._lines))
        self.do(code, left, right)

    def look_up(self, map_descriptor: int) -> None:
        """R0 becomes the place of the value whose key is on the stack."""
        self.do(LOAD_MAP, R1, 1, 0, map_descriptor)  # 1: the number is a descriptor
        self.do(0)  # its upper half
        self.do(MOVE, R2, FRAME_POINTER)
        self.do(ADD_NUMBER, R2, number=_KEY)
        self.do(CALL, number=MAP_LOOKUP)
        self.drop_when(JUMP_EQUAL_NUMBER, R0)

    def code(self) -> bytes:
        end = len(self._lines)
        self.do(MOVE_NUMBER, R0, number=XDP_DROP)
        self.do(EXIT)
        for place in self._jumps:
            code, left, right, _, number = self._lines[place]
            self._lines[place] = (code, left, right, end - place - 1, number)
        return b"".join(
            struct.pack("=BBhi", code, to | source << 4, offset, number)
            for code, to, source, offset, number in self._lines
        )


def sending_program(frames: int, next_frame: int, length: int, interface: int) -> bytes:
    """The program for frames of one length.

    ``frames`` and ``next_frame`` are descriptors of array maps, of the frames and of one number, which frame
    is next; ``interface`` is the index of that to send out of.
    """
    program = _Assembler()
    program.do(MOVE, R6, R1)
    program.do(STORE_NUMBER, FRAME_POINTER, offset=_KEY, number=0)
    program.look_up(next_frame)
    program.do(LOAD[4], R1, R0)
    program.do(STORE[4], FRAME_POINTER, R1, _KEY)
    program.do(ADD_NUMBER, R1, number=1)
    program.do(STORE[4], R0, R1)
    program.look_up(frames)
    program.do(LOAD[4], R2, R6, _DATA)
    program.do(LOAD[4], R3, R6, _DATA_END)
    program.do(MOVE, R1, R2)
    program.do(ADD_NUMBER, R1, number=length)
    program.drop_when(JUMP_GREATER, R1, R3)
    at = 0
    while at < length:
        size = next(size for size in LOAD if at + size <= length)
        program.do(LOAD[size], R1, R0, at)
        program.do(STORE[size], R2, R1, at)
        at += size
    program.do(MOVE_NUMBER, R1, number=interface)
    program.do(MOVE_NUMBER, R2)
    program.do(CALL, number=REDIRECT)
    program.do(EXIT)
    return program.code()
