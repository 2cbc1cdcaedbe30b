"""CRC-32 of Ethernet, gzip and PNG (``zlib.crc32``), as the container's running checksum.

Every recorded byte goes through it. ISA-L folds with carry-less multiplication where zlib looks up tables: a
tenth of the time for the same numbers. It has wheels for the usual machines; elsewhere zlib serves.
"""

try:
    from isal.isal_zlib import crc32
except ImportError:  # a machine that ISA-L has no wheel for
    from zlib import crc32

__all__ = ["crc32"]
