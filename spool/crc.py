"""CRC-32 of Ethernet, gzip and PNG (``zlib.crc32``), as the container's running checksum.

Every recorded byte goes through it. zlib-ng folds with carry-less multiplication where zlib looks up tables:
a thirtieth of the time for the same numbers. It has wheels for the usual machines; elsewhere zlib serves.
"""

try:
    # Not ISA-L, which is as fast: it leaves the upper halves of the vector registers in use, and on AMD's
    # Zen 4 all SHA-256 after it takes a third longer.
    from zlib_ng.zlib_ng import crc32
except ImportError:  # a machine that it has no wheel for
    from zlib import crc32

__all__ = ["crc32"]
