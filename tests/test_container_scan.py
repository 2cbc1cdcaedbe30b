import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.errors import SpoolCorrupt
from recorderd.spool.container import Kind, RecordSealer
from recorderd.spool.header import Core, KeySlot, new_header
from recorderd.spool.scan import Scanner, read_header, scan_file


def build(*sizes: int, end: bool = True, salt: bytes = bytes(32)):
    """Header and records of a small file, the last an end record."""
    core = Core("20261121T200501Z-0123456789", "pbx", 0)
    header, keys = new_header(core, bytes(32), salt, [lambda key, info: KeySlot(bytes(16), 32, key)])
    sealer = RecordSealer(header, keys)
    records = [sealer.seal(Kind.MEDIA, 1000 * number, bytes(size)) for number, size in enumerate(sizes)]
    if end:
        records.append(sealer.seal(Kind.END, 1000 * len(sizes), b"{}"))
    return header, records


def reader(data: bytes):
    return lambda offset, length: data[offset : offset + length]


def scan(data: bytes) -> Scanner:
    return scan_file(reader(data), len(data))[1]


def test_a_whole_file_is_walked_to_its_end():
    header, records = build(0, 5, 70_000)
    data = header.raw + b"".join(records)
    scanner = Scanner(reader(data), len(data), read_header(reader(data)))
    found = list(scanner)
    assert [record.sequence for record in found] == [0, 1, 2, 3]
    assert [record.head + record.ciphertext for record in found] == [record[:-4] for record in records]
    assert [record.offset for record in found][1:] == [
        len(header.raw) + len(b"".join(records[:count])) for count in (1, 2, 3)
    ]
    assert (scanner.intact_bytes, scanner.records, scanner.elapsed_ms) == (len(data), 4, 3000)
    assert scanner.ended
    assert scanner.damage() is None


def test_every_truncation_leaves_the_whole_records_before_it():
    header, records = build(3, 40, 7)
    data = header.raw + b"".join(records)
    borders = [len(header.raw) + sum(map(len, records[:count])) for count in range(len(records) + 1)]
    for length in range(len(header.raw), len(data)):
        scanner = scan(data[:length])
        assert scanner.intact_bytes == max(border for border in borders if border <= length)
        assert scanner.records == borders.index(scanner.intact_bytes)
        assert not scanner.ended
        assert scanner.damage() is None  # a torn tail, as far as the file tells


def test_bytes_behind_the_end_are_damage():
    header, records = build(3)
    for more in (b"\0", records[0], b"x" * 5000):
        scanner = scan(header.raw + b"".join(records) + more)
        assert scanner.ended
        assert "behind the end" in str(scanner.damage())


def test_a_flipped_byte_before_an_intact_record_is_damage_and_no_torn_tail():
    header, records = build(30, 20, 50, 10)
    data = header.raw + b"".join(records)
    last = len(data) - len(records[-1])
    for at in range(len(header.raw), last):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        scanner = scan(bytes(damaged))
        assert scanner.intact_bytes <= at
        assert not scanner.ended
        assert scanner.damage() is not None, at


def test_a_flipped_byte_in_the_last_record_stops_before_it():
    header, records = build(30)
    data = header.raw + b"".join(records)
    for at in range(len(data) - len(records[-1]), len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        scanner = scan(bytes(damaged))
        assert (scanner.records, scanner.ended) == (1, False)


@pytest.mark.parametrize(
    "order", [[1, 0, 2, 3, 4], [0, 2, 1, 3, 4], [0, 0, 1, 2, 3, 4], [0, 2, 3, 4], [1, 2, 3, 4], [0, 1, 2, 4]]
)
def test_swapped_repeated_and_missing_records_are_found_without_a_key(order):
    header, records = build(30, 30, 30, 30)
    data = header.raw + b"".join(records[number] for number in order)
    scanner = scan(data)
    right = next(place for place, number in enumerate([*order, -1]) if place != number)
    assert scanner.records == right
    assert scanner.damage() is not None


def test_a_record_of_another_file_is_found_without_a_key():
    header, records = build(30, 30, 30)
    _, foreign = build(30, 30, 30, salt=b"1" * 32)
    scanner = scan(header.raw + records[0] + foreign[1] + records[2] + records[3])
    assert scanner.records == 1
    assert scanner.damage() is not None


def test_damage_over_several_records_and_blocks_is_no_torn_tail():
    header, records = build(5000, 5000, 5000, 5000)
    data = bytearray(header.raw + b"".join(records))
    start = len(header.raw) + 100
    data[start : start + 8192] = bytes(8192)
    assert scan(bytes(data)).damage() is not None


def test_damage_far_from_the_next_record_is_found():
    header, records = build(3_000_000, 10)
    data = bytearray(header.raw + b"".join(records))
    data[len(header.raw) + 50] ^= 1
    assert scan(bytes(data)).damage() is not None


def test_a_tail_of_zeros_or_noise_is_a_torn_tail():
    header, records = build(30, end=False)
    data = header.raw + b"".join(records)
    for tail in (bytes(100_000), b"\x01\0\0\0" * 5000, bytes(range(256)) * 100):
        scanner = scan(data + tail)
        assert scanner.intact_bytes == len(data)
        assert scanner.tail_bytes == len(tail)
        assert scanner.damage() is None


@given(st.binary(max_size=400))
def test_any_bytes_behind_a_header_are_scanned(tail):
    header, records = build(5, end=False)
    for data in (header.raw + tail, header.raw + records[0] + tail, header.raw + records[0][:20] + tail):
        scanner = scan(data)
        scanner.damage()
        assert scanner.records <= 1


def test_a_file_without_an_intact_header_is_corrupt():
    header, _ = build()
    for data in (b"", b"RIFF", header.raw[:-1], b"\0" * 4096):
        with pytest.raises(SpoolCorrupt):
            scan_file(reader(data), len(data))
