"""Puts the certificates of a time stamp into the order that DER asks for. Pure.

They are a SET OF (RFC 5652 section 5.1), which DER sorts (X.690 section 11.6). OpenSSL, and authorities built
on it, send them as they come, and the library refuses that. The signature does not cover them.
"""

_CERTIFICATES = 0xA0


def in_order(answer: bytes) -> bytes:
    """The same ``TimeStampResp`` with its certificates sorted; what is no such thing comes back unchanged."""
    try:
        # TimeStampResp { status, ContentInfo { type, [0] { SignedData { version, ..., certificates } } } }
        return _within(answer, (1, 1, 0))
    except (IndexError, ValueError):
        return answer


def _within(value: bytes, path: tuple[int, ...]) -> bytes:
    tag, parts = value[0], _parts(_contents(value))
    if path:
        parts[path[0]] = _within(parts[path[0]], path[1:])
    else:
        parts = [_sorted(part) if part[0] == _CERTIFICATES else part for part in parts]
    return _encoded(tag, b"".join(parts))


def _sorted(value: bytes) -> bytes:
    return _encoded(value[0], b"".join(sorted(_parts(_contents(value)))))


def _header(data: bytes, at: int) -> tuple[int, int]:
    """Where the contents of the value at a place begin and end."""
    size, start = data[at + 1], at + 2
    if size & 0x80:
        if not 1 <= size & 0x7F <= 4:
            raise ValueError("not DER")
        start += size & 0x7F
        size = int.from_bytes(data[at + 2 : start], "big")
    if start + size > len(data):
        raise ValueError("cut short")
    return start, start + size


def _contents(value: bytes) -> bytes:
    start, end = _header(value, 0)
    if end != len(value):
        raise ValueError("more than one value")
    return value[start:end]


def _parts(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        end = _header(data, at)[1]
        found.append(data[at:end])
        at = end
    return found


def _encoded(tag: int, contents: bytes) -> bytes:
    size = len(contents)
    if size < 0x80:
        return bytes((tag, size)) + contents
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + contents
