import hashlib
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recorderd.errors import SpoolCorrupt
from recorderd.spool.container import (
    HEAD_BYTES,
    MAX_ELAPSED,
    PACKET_ROW,
    ROW_BYTES,
    TAG,
    Kind,
    RecordOpener,
    RecordSealer,
    SealingRoom,
    StreamTally,
    check_end,
    end_plaintext,
    json_plaintext,
    pack_media,
    parse_json,
    runs_of,
    unpack_media,
)
from recorderd.spool.crc import crc32
from recorderd.spool.header import (
    MAX_CORE,
    Core,
    Header,
    KeySlot,
    Previous,
    build_header,
    canonical_json,
    derive_keys,
    header_length,
    new_header,
    parse_header,
)
from tests.spool_builder import window

CORE = Core("20261121T200501Z-0123456789", "pbx.example", 1_795_291_501_000_000)
SALT, DATA_KEY = bytes(32), bytes(range(32))


def some_header(core: Core = CORE, salt: bytes = SALT):
    return new_header(core, DATA_KEY, salt, [lambda key, info: KeySlot(bytes(16), 32, key + info)])


# The header


def test_a_header_reads_back():
    built, keys = some_header(Core(CORE.recording, "pbx", 1, Previous("a", 4, "ff" * 32)))
    read = parse_header(built.raw + b"what follows")
    assert read == built
    assert read.core.segment == 5
    assert read.core.previous_json == {"recording": "a", "sha256": "ff" * 32}
    assert read.commitment == keys.commitment
    assert read.slots[0].wrapped == DATA_KEY + read.wrap_info


def test_a_header_is_refused_at_every_length_but_its_own():
    raw = some_header()[0].raw
    for length in range(len(raw)):
        with pytest.raises(SpoolCorrupt):
            parse_header(raw[:length])


def test_every_flipped_bit_of_a_header_is_found():
    raw = some_header()[0].raw
    for at in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[at // 8] ^= 1 << (at % 8)
        with pytest.raises(SpoolCorrupt):
            parse_header(bytes(damaged))


def with_checksum(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_header_or_corrupt(data):
    built = some_header()[0].raw
    for candidate in (data, built[:20] + data, with_checksum(built[:16] + data)):
        with suppress(SpoolCorrupt):
            assert isinstance(parse_header(candidate), Header)


@given(
    st.one_of(
        st.binary(max_size=80),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["host", "previous", "recording", "segment", "started_us", "suite", "sha256"]
                    ),
                    inner,
                    max_size=7,
                )
            ),
            max_leaves=8,
        ).map(canonical_json),
    )
)
def test_any_core_is_read_or_corrupt(data):
    with suppress(SpoolCorrupt):
        assert Core.from_bytes(data).to_bytes() == data


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b":0", b": 0"),
        lambda text: text.replace(b'"segment":0', b'"segment":1'),
        lambda text: text.replace(b'"segment":0', b'"segment":false'),
        lambda text: text.replace(b"aes-256-gcm", b"rot13"),
        lambda text: text.replace(b'"host":"pbx.example",', b""),
        lambda text: text[:-1] + b',"z":1}',
        lambda text: text.replace(b"null", b'{"recording":"a","sha256":"b"}'),
        lambda text: b"[" * 100_000,
    ],
)
def test_a_core_has_one_spelling(change):
    assert Core.from_bytes(CORE.to_bytes()) == CORE
    with pytest.raises(SpoolCorrupt):
        Core.from_bytes(change(CORE.to_bytes()))


def test_lengths_in_a_header_are_bounded():
    with pytest.raises(ValueError, match="too long"):
        build_header(bytes(MAX_CORE + 1), SALT, bytes(32), (KeySlot(bytes(16), 32, b""),))
    with pytest.raises(ValueError, match="recipients"):
        new_header(CORE, DATA_KEY, SALT, [])
    fixed = some_header()[0].raw[:20]
    for at, value in (
        (10, b"\0\0"),
        (10, b"\x21\0"),
        (12, b"\0\0\0\0"),
        (12, b"\1\0\1\0"),
        (16, b"\1\x10\0\0"),
    ):
        with pytest.raises(SpoolCorrupt):
            header_length(fixed[:at] + value + fixed[at + len(value) :])


def test_keys_depend_on_data_key_salt_and_core():
    core = CORE.to_bytes()
    keys = derive_keys(DATA_KEY, SALT, core)
    assert derive_keys(DATA_KEY, SALT, core) == keys
    for other in (
        derive_keys(bytes(32), SALT, core),
        derive_keys(DATA_KEY, b"1" * 32, core),
        derive_keys(DATA_KEY, SALT, core + b" "),
    ):
        assert other.record_key != keys.record_key
        assert other.nonce_base != keys.nonce_base
        assert other.commitment != keys.commitment
    assert len({keys.record_key, keys.commitment, DATA_KEY}) == 3


# Records


def sealed(*plaintexts: bytes, kind: Kind = Kind.EVENT):
    header, keys = some_header()
    sealer = RecordSealer(header, keys)
    return header, RecordOpener(header, keys), [sealer.seal(kind, 0, each) for each in plaintexts]


def parts(record: bytes) -> tuple[bytes, bytes]:
    return record[:HEAD_BYTES], record[HEAD_BYTES:-4]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 4095, 4096, 4097, 100_000])
def test_records_open_to_what_was_sealed(size):
    plaintexts = [bytes([number]) * size for number in range(3)]
    _, opener, records = sealed(*plaintexts)
    assert [opener.open(*parts(record)) for record in records] == plaintexts
    assert [len(record) for record in records] == [HEAD_BYTES + size + 16 + 4] * 3


def test_records_of_all_lengths_are_made_in_one_room():
    """As long as those before them, shorter, and longer than the room was."""
    header, keys = some_header()
    sealer, opener, room = RecordSealer(header, keys), RecordOpener(header, keys), SealingRoom()
    crc = header.crc
    for size in (100, 100, 17, 0, 65_536, 65_537, 200_000, 17):
        plaintext = bytes(number % 251 for number in range(size))
        record = bytes(sealer.seal_in(room, Kind.MEDIA, 0, plaintext))
        assert opener.open(*parts(record)) == plaintext
        crc = zlib.crc32(record[:-4], crc)
        assert record[-4:] == crc.to_bytes(4, "little")


class ForgetfulRoom(SealingRoom):
    """Memory that does not have what was written into it."""

    def fit(self, length: int) -> None:
        super().fit(length)
        self.opened = memoryview(bytearray(length))


def test_a_record_that_does_not_open_to_what_was_sealed_is_not_given_out():
    header, keys = some_header()
    sealer = RecordSealer(header, keys)
    with pytest.raises(ArithmeticError, match="did not open"):
        sealer.seal_in(ForgetfulRoom(), Kind.MEDIA, 0, b"what was said")
    assert sealer.records == 0


def test_equal_plaintexts_have_different_ciphertexts():
    _, _, records = sealed(b"the same", b"the same")
    assert parts(records[0])[1] != parts(records[1])[1]


def test_every_flipped_byte_of_head_and_ciphertext_fails_to_open():
    _, opener, (record,) = sealed(b"twelve bytes")
    head, ciphertext = parts(record)
    both = head + ciphertext
    for at in range(len(both)):
        damaged = bytearray(both)
        damaged[at] ^= 0x40
        with pytest.raises(SpoolCorrupt):
            opener.open(bytes(damaged[:HEAD_BYTES]), bytes(damaged[HEAD_BYTES:]))


def test_a_record_opens_at_no_other_place_and_in_no_other_file():
    _, opener, (first, second) = sealed(b"first", b"second")
    with pytest.raises(SpoolCorrupt):
        opener.open(parts(second)[0], parts(first)[1])
    other_header, other_keys = some_header(salt=b"2" * 32)
    with pytest.raises(SpoolCorrupt):
        RecordOpener(other_header, other_keys).open(*parts(first))


@pytest.mark.parametrize(("elapsed", "stored"), [(-5, 0), (0, 0), (7, 7), (1 << 40, MAX_ELAPSED)])
def test_a_clock_that_jumps_leaves_a_valid_head(elapsed, stored):
    header, keys = some_header()
    record = RecordSealer(header, keys).seal(Kind.EVENT, elapsed, b"")
    assert struct.unpack("<IIIB3x", record[:HEAD_BYTES]) == (16, 0, stored, Kind.EVENT)


def test_a_record_too_long_to_be_read_is_not_sealed():
    header, keys = some_header()
    with pytest.raises(ValueError, match="too long"):
        RecordSealer(header, keys).seal(Kind.MEDIA, 0, bytes(16 * 1024 * 1024))


# Media


@pytest.mark.parametrize("streams", [0, 1, 2, 3])
def test_media_reads_back(streams):
    base, rows, payload = window(1, streams=streams)
    media = unpack_media(pack_media(base, rows.tobytes(), payload.tobytes()))
    assert media.base_time_us == base
    assert media.rows.dtype == PACKET_ROW
    assert (media.rows == rows).all()
    assert (media.payload == payload).all()


def test_media_of_a_wrong_length_is_corrupt():
    base, rows, payload = window(1, packets=2, size=3)
    plaintext = pack_media(base, rows.tobytes(), payload.tobytes())
    for length in range(len(plaintext)):
        with pytest.raises(SpoolCorrupt):
            unpack_media(plaintext[:length])
    with pytest.raises(SpoolCorrupt):
        unpack_media(plaintext + b"\0")
    rows["size"][0] += 1
    with pytest.raises(SpoolCorrupt):
        unpack_media(pack_media(base, rows.tobytes(), payload.tobytes()))


@given(st.binary(max_size=200))
def test_any_bytes_are_media_or_corrupt(data):
    for candidate in (data, struct.pack("<QII", 0, len(data) // 16, len(data) % 16) + data):
        with suppress(SpoolCorrupt):
            media = unpack_media(candidate)
            assert int(media.rows["size"].sum()) == len(media.payload)


def test_a_row_has_sixteen_bytes():
    assert PACKET_ROW.itemsize == ROW_BYTES == 16


@given(st.binary(max_size=60))
def test_any_bytes_are_a_json_object_or_corrupt(data):
    with suppress(SpoolCorrupt):
        assert isinstance(parse_json(data), dict)


@pytest.mark.parametrize("data", [b"[]", b"1", b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_corrupt(data):
    with pytest.raises(SpoolCorrupt):
        parse_json(data)


def test_json_keeps_text_and_refuses_what_json_has_not():
    assert parse_json(json_plaintext({"from": "Jürgen 李"})) == {"from": "Jürgen 李"}
    with pytest.raises(ValueError, match="JSON"):
        json_plaintext({"level": float("nan")})


# The tally


def sealed_windows(*windows):
    """(raw rows, size of the payload, whole record) of each."""
    plaintexts = [pack_media(base, rows.tobytes(), payload.tobytes()) for base, rows, payload in windows]
    _, _, records = sealed(*plaintexts, kind=Kind.MEDIA)
    for (_, rows, payload), record in zip(windows, records, strict=True):
        yield rows.tobytes(), payload.size, record


def tally_of(*windows) -> StreamTally:
    tally = StreamTally()
    for rows, size, record in sealed_windows(*windows):
        tally.add(rows, runs_of(rows, size), record[TAG])
    return tally


def test_the_tally_counts_each_stream():
    figures = tally_of(window(0, packets=10, size=20), window(1, packets=10, size=20)).figures()
    assert [(each["stream"], each["packets"], each["payload_bytes"]) for each in figures] == [
        (0, 20, 400),
        (1, 20, 400),
    ]
    assert figures[0]["sha256"] != figures[1]["sha256"]


def swapped(values):
    """The first two of them in each other's place."""
    values = values.copy()
    values[[0, 1]] = values[[1, 0]]
    return values


def swap_payloads(first, second):
    base, rows, payload = first
    return (base, rows, swapped(payload.reshape(len(rows), -1)).reshape(-1)), second


def swap_rows(first, second):
    return (first[0], swapped(first[1]), first[2]), second


def move_records(first, second):
    return second, first


def swap_times(first, second):
    return (second[0], *first[1:]), (first[0], *second[1:])


@pytest.mark.parametrize("change", [swap_payloads, swap_rows, move_records, swap_times])
def test_what_has_its_counts_and_sizes_right_is_found_by_its_hash(change):
    """Each record sealed anew at its place, as one with the key could; the end record is the old one."""
    right = window(0), window(1)
    changed = change(*right)
    end = parse_json(end_plaintext(2, 0, tally_of(*right), {}))
    assert check_end(end, 2, tally_of(*right)) == []
    for mine, other in zip(tally_of(*right).figures(), tally_of(*changed).figures(), strict=True):
        assert (mine["packets"], mine["payload_bytes"]) == (other["packets"], other["payload_bytes"])
        assert mine["sha256"] != other["sha256"]
    assert check_end(end, 2, tally_of(*changed)) == ["the end record's streams are not those that were read"]


@given(st.binary(max_size=300), st.integers(0, 0xFFFF_FFFF))
def test_the_checksum_is_that_of_zlib(data, start):
    assert crc32(data, start) == zlib.crc32(data, start)
    assert crc32(data) == zlib.crc32(data)


def test_records_of_any_layout_may_follow_one_another():
    """The same again, another number of packets, another size, none at all."""
    layouts = [(10, 20, 2), (10, 20, 2), (9, 20, 2), (10, 33, 2), (0, 0, 2), (10, 20, 3), (10, 20, 1)]
    windows = [window(n, *layout) for n, layout in enumerate(layouts)]
    tally = tally_of(*windows)
    for stream, figure in enumerate(tally.figures()):
        mine = [(packets, size) for packets, size, streams in layouts if stream < streams]
        digest = hashlib.sha256()
        for (_, rows, _), (_, _, record) in zip(windows, sealed_windows(*windows), strict=True):
            if stream in rows["stream"]:
                digest.update(rows[rows["stream"] == stream].tobytes() + record[-20:-4])
        assert figure["packets"] == sum(packets for packets, _ in mine)
        assert figure["payload_bytes"] == sum(packets * size for packets, size in mine)
        assert figure["sha256"] == digest.hexdigest()


@pytest.mark.parametrize("packets", [1, 10, 2000])
def test_rows_that_do_not_fit_are_refused(packets):
    _, rows, payload = window(1, packets)
    assert [run.packets for run in runs_of(rows.tobytes(), payload.size)] == [packets] * 2
    for size in (payload.size - 1, payload.size + 1):
        with pytest.raises(ValueError, match="add up"):
            runs_of(rows.tobytes(), size)


@pytest.mark.parametrize("packets", [1, 10, 2000])
def test_what_is_known_of_even_rows_need_not_be_looked_for(packets):
    _, rows, payload = window(1, packets)
    raw, streams = rows.tobytes(), rows["stream"].tobytes()
    assert runs_of(raw, payload.size, (streams, 20)) == runs_of(raw, payload.size)


def test_what_is_known_wrongly_of_rows_is_refused():
    _, rows, payload = window(1)
    raw, streams = rows.tobytes(), rows["stream"].tobytes()
    for even in ((streams, 19), (streams[1:], 20), (streams[::-1], 20), (streams + b"\2", 20)):
        with pytest.raises(ValueError, match=r"sorted|add up"):
            runs_of(raw, payload.size, even)
    with pytest.raises(ValueError, match="add up"):
        runs_of(raw[:-16], payload.size, (streams, 20))


def test_rows_that_are_in_disorder_are_refused():
    _, rows, payload = window(1)
    backwards, mixed = rows[::-1].copy(), rows.copy()
    mixed["stream"][0] = 1
    longer = rows.copy()
    longer["size"][3] += 1
    for wrong in (backwards, mixed, longer):
        with pytest.raises(ValueError, match=r"sorted|add up"):
            runs_of(wrong.tobytes(), payload.size)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30) | st.just(300)), max_size=30))
@example([(0, 256), (0, 256), (3, 256)])
@example([(0, 1), (0, 257)])
def test_the_tally_agrees_with_a_simple_one(packets):
    packets.sort()
    rows = np.zeros(len(packets), PACKET_ROW)
    rows["stream"] = [stream for stream, _ in packets]
    rows["size"] = [size for _, size in packets]
    payload = bytes(range(256))[: rows["size"].sum() % 256].ljust(int(rows["size"].sum()), b"x")
    figures = {
        each["stream"]: each for each in tally_of((0, rows, np.frombuffer(payload, np.uint8))).figures()
    }
    assert set(figures) == {stream for stream, _ in packets}
    for stream, figure in figures.items():
        sizes = [size for each, size in packets if each == stream]
        assert (figure["packets"], figure["payload_bytes"]) == (len(sizes), sum(sizes))


def test_the_end_record_is_compared_with_what_was_read():
    tally = tally_of(window(0))
    end = parse_json(end_plaintext(3, 0, tally, {"from": "1001"}))
    assert check_end(end, 3, tally) == []
    assert check_end(end, 2, tally)
    assert check_end(end, 3, tally_of(window(1)))
    assert check_end({**end, "summary": None}, 3, tally)
    assert len(check_end({}, 3, tally)) == 3
