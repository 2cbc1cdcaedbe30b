"""RFC 4733 events, also as a real phone sent them (the captures that sip-tester ships)."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.codecs.payload import PayloadError
from recorderd.codecs.telephone_event import ToneEvent, tone_event, tone_events
from recorderd.errors import PeerError

CAPTURES = Path("/usr/share/sip-tester")


def test_the_fields_are_where_the_rfc_has_them() -> None:
    # RFC 4733 section 2.3: event, E R volume, duration.
    assert tone_event(bytes([1, 0x0A, 0x03, 0x20])) == ToneEvent(1, "1", False, 10, 800)
    assert tone_event(bytes([11, 0x80 | 63, 0xFF, 0xFF])) == ToneEvent(11, "#", True, 63, 65535)
    # The reserved bit is ignored.
    assert tone_event(bytes([15, 0x40 | 5, 0, 0])) == ToneEvent(15, "D", False, 5, 0)
    assert tone_event(bytes([16, 0x80, 0, 160])).digit == "flash"
    assert tone_event(bytes([36, 0x80, 0, 160])).digit is None


def test_several_events_in_one_payload() -> None:
    both = bytes([1, 0x8A, 0, 160]) + bytes([2, 0x0A, 0, 80]) + b"\0\0"
    assert [event.digit for event in tone_events(both)] == ["1", "2"]
    assert tone_event(both).digit == "1"


@pytest.mark.parametrize("size", [0, 1, 3])
def test_a_short_payload_is_the_peers_fault(size: int) -> None:
    with pytest.raises(PayloadError) as caught:
        tone_event(bytes(size))
    assert isinstance(caught.value, PeerError)


@given(st.binary(max_size=64))
def test_any_bytes_are_events_or_the_peers_fault(payload: bytes) -> None:
    try:
        events = tone_events(payload)
    except PayloadError:
        assert len(payload) < 4
    else:
        assert len(events) == len(payload) // 4
        assert all(0 <= event.volume < 64 for event in events)


@pytest.mark.parametrize(
    ("name", "digit"), [*((str(n), str(n)) for n in range(10)), ("star", "*"), ("pound", "#")]
)
def test_a_real_phones_digits(name: str, digit: str) -> None:
    payloads = _rtp_payloads(CAPTURES / f"dtmf_2833_{name}.pcap")
    events = [tone_event(payload) for payload in payloads]
    assert {event.digit for event in events} == {digit}
    assert [event.duration for event in events] == sorted(event.duration for event in events)
    assert events[-1].end
    assert not events[0].end


def _rtp_payloads(path: Path) -> list[bytes]:
    """The payloads of a classic little-endian Ethernet capture of RTP without extras."""
    data, at, out = path.read_bytes(), 24, []
    while at < len(data):
        caplen = int.from_bytes(data[at + 8 : at + 12], "little")
        frame = data[at + 16 : at + 16 + caplen]
        ip = frame[14:]
        udp = ip[(ip[0] & 15) * 4 :]
        out.append(udp[8 + 12 : int.from_bytes(udp[4:6], "big")])
        at += 16 + caplen
    return out
