"""A small interpreter of classic BPF (the kernel's Documentation/networking/filter.rst)."""

from recorderd.capture.bpf import Instruction


def run(program: tuple[Instruction, ...], packet: bytes) -> int:
    """What a classic BPF program returns for a packet (the kernel's Documentation/networking/filter.rst)."""
    a = x = at = 0
    memory: dict[int, int] = {}
    for _ in range(len(program)):
        code, if_true, if_false, operand = program[at]
        at += 1
        if code in (0x28, 0x30, 0x40, 0x48, 0x50):  # ldh, ldb; ld, ldh, ldb by the index
            place = operand + (x if code & 0x40 else 0)
            size = {0x00: 4, 0x08: 2, 0x10: 1}[code & 0x18]
            if place + size > len(packet):
                return 0
            a = int.from_bytes(packet[place : place + size], "big")
        elif code == 0x01:
            x = operand
        elif code == 0x54:
            a &= operand
        elif code == 0x64:
            a = a << operand & 0xFFFFFFFF
        elif code == 0x04:
            a = a + operand & 0xFFFFFFFF
        elif code == 0x24:
            a = a * operand & 0xFFFFFFFF
        elif code == 0x94:
            a %= operand
        elif code == 0x74:
            a >>= operand
        elif code == 0xA4:
            a ^= operand
        elif code == 0xAC:
            a ^= x
        elif code == 0x02:
            memory[operand] = a
        elif code == 0x60:
            a = memory[operand]
        elif code == 0x61:
            x = memory[operand]
        elif code == 0x0C:
            a = a + x & 0xFFFFFFFF
        elif code == 0x07:
            x = a
        elif code == 0x87:
            a = x
        elif code == 0x05:
            at += operand
        elif code == 0x80:
            a = len(packet)
        elif code == 0x25:
            at += if_true if a > operand else if_false
        elif code == 0x15:
            at += if_true if a == operand else if_false
        elif code == 0x45:
            at += if_true if a & operand else if_false
        elif code == 0x06:
            return operand
        else:
            raise AssertionError(f"instruction {code:#x} is not one that the filters use")
    raise AssertionError("the program does not end")
