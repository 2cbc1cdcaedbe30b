import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.media.reception import Reception, together
from recorderd.wire.rtcp import (
    ExtendedReport,
    Goodbye,
    LossRuns,
    ReceiverReport,
    ReportBlock,
    RtcpError,
    SenderReport,
    VoipMetrics,
    parse_rtcp,
)


def packet(kind, count, body, padding=0):
    body += bytes(max(0, padding - 1)) + bytes([padding] if padding else [])
    return struct.pack(">BBH", 0x80 | 0x20 * bool(padding) | count, kind, len(body) // 4) + body


def block(ssrc=7, lost=3, highest=70_000, jitter=16, last=0xABCD0000, delay=0x8000):
    return struct.pack(">IIIIII", ssrc, 25 << 24 | lost & 0xFFFFFF, highest, jitter, last, delay)


SENDER = packet(200, 1, struct.pack(">IQIII", 9, 0xABCD_0000_1234, 160, 5, 800) + block())
RECEIVER = packet(201, 2, struct.pack(">I", 11) + block() + block(ssrc=8, lost=-2))
DESCRIPTION = packet(202, 1, struct.pack(">IBB", 9, 1, 2) + b"me\0\0\0\0")
GOODBYE = packet(203, 2, struct.pack(">II", 9, 10) + b"\x03bye")
APPLICATION = packet(204, 0, struct.pack(">I4s", 9, b"test"))
FEEDBACK = packet(205, 1, struct.pack(">IIHH", 9, 7, 1, 0))
METRICS = struct.pack(
    ">IBBBBHHHHbbBBBBBBBBHHH",
    7,
    26,
    13,
    0,
    0,
    0,
    0,
    50,
    60,
    -20,
    -60,
    30,
    16,
    90,
    127,
    42,
    41,
    0,
    0,
    60,
    80,
    120,
)
# Numbers 100 to 129: 8 received, 4 lost, then of 15 every other one, then the last 3 lost.
RUNS = struct.pack(">IHHHHHH", 7, 100, 130, 0x4008, 0x0004, 0x8000 | 0b101010101010101, 0x0003)
EXTENDED = packet(
    207,
    0,
    struct.pack(">I", 11)
    + struct.pack(">BBH", 1, 0, len(RUNS) // 4)
    + RUNS
    + struct.pack(">BBH", 99, 0, 1)
    + bytes(4)
    + struct.pack(">BBH", 7, 0, 8)
    + METRICS,
)
KNOWN_BLOCK = ReportBlock(7, 3, 70_000, 16, 0xABCD0000, 0.5)
WHOLE = SENDER + DESCRIPTION + FEEDBACK + APPLICATION + EXTENDED + GOODBYE


def test_a_compound_packet():
    sender, extended, goodbye = parse_rtcp(WHOLE)
    assert sender == SenderReport(9, 0xABCD_0000_1234, 160, 5, (KNOWN_BLOCK,))
    assert extended == ExtendedReport(
        11, (LossRuns(7, 100, 130, 4 + 7 + 3), VoipMetrics(7, 26 / 256, 13 / 256, 4.2))
    )
    assert goodbye == Goodbye((9, 10))


def test_what_doubles_make_negative():
    (report,) = parse_rtcp(RECEIVER)
    assert report == ReceiverReport(11, (KNOWN_BLOCK, KNOWN_BLOCK._replace(ssrc=8, lost=-2)))


def test_reduced_size_and_padding():
    assert parse_rtcp(FEEDBACK) == []
    assert parse_rtcp(b"") == []
    assert parse_rtcp(DESCRIPTION + packet(201, 0, struct.pack(">I", 11), padding=8)) == [
        ReceiverReport(11, ())
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        SENDER[:-1],
        SENDER + b"\x80",
        SENDER + b"\x40\xc9\0\x01" + bytes(4),
        packet(200, 2, SENDER[4:]),
        packet(201, 1, struct.pack(">I", 11)),
        packet(201, 0, b""),
        packet(203, 3, bytes(8)),
        packet(201, 0, struct.pack(">I", 11), padding=4)[:-1] + b"\xff",
        packet(201, 0, struct.pack(">I", 11), padding=4) + RECEIVER,
        packet(207, 0, struct.pack(">IBBH", 11, 1, 0, 500)),
    ],
)
def test_what_is_none(wrong):
    with pytest.raises(RtcpError):
        parse_rtcp(wrong)


@given(st.binary(max_size=300))
def test_any_bytes_give_reports_or_the_one_error(noise):
    for start in (b"", b"\x80\xc8", b"\x81\xc9\0\x07", b"\x80\xcf"):
        with suppress(RtcpError):
            parse_rtcp(start + noise)


@given(st.integers(0, len(WHOLE)), st.integers(0, 255))
def test_damage_gives_reports_or_the_one_error(at, byte):
    with suppress(RtcpError):
        parse_rtcp(WHOLE[:at] + bytes([byte]) + WHOLE[at + 1 :])


def test_the_round_trip_needs_nobodys_clock():
    reception = Reception()
    for second in range(5):
        sent = SenderReport(9, (1000 + 5 * second) << 32, 0, 0, ())
        reception.sender(sent, 5_000_000 * second, 8000)
        told = ReportBlock(9, second, 0, 80, (1000 + 5 * second) << 16 & 0xFFFFFFFF, 2.5)
        reception.receiver(11, told, 5_000_000 * second + 2_540_000, 8000, 1)
    delivery = reception.delivery
    assert delivery is not None
    assert (delivery.round_trip_ms, delivery.receiver_jitter_ms) == (40.0, 10.0)
    assert (delivery.receiver_lost, delivery.lost_behind, delivery.lost_here_alone) == (4, 3, 0)


@pytest.mark.parametrize("first", [0, 2**32 - 8000])
@pytest.mark.parametrize("ppm", [0, 80, -80])
def test_the_media_clock_by_the_wall_clock(first, ppm):
    reception = Reception()
    for second in range(0, 7201, 5):
        timestamp = (first + round(second * 8000 * (1 + ppm * 1e-6))) % 2**32
        reception.sender(SenderReport(9, (1000 + second) << 32, timestamp, 0, ()), 0, 8000)
        if second == 200:
            assert reception.drift_ppm is None
    assert reception.drift_ppm == pytest.approx(ppm, abs=0.1)


def test_who_takes_a_call_over_reports_anew_and_floods_are_bounded():
    reception = Reception()
    for reporter in range(100):
        for lost in (1, 2):
            told = ReportBlock(9, lost, 0, 0, 0, 0.0)
            reception.receiver(reporter, told, 0, 8000, 0)
    assert reception.delivery is not None
    assert reception.delivery.receiver_lost == 16
    both = together([reception.delivery, None, reception.delivery])
    assert both is not None
    assert (both.receiver_lost, both.reports) == (32, 400)
