"""Opus against opusenc, opusdec and libopus itself."""

import subprocess
from pathlib import Path

import av
import numpy as np
import opuslib_next
import opuslib_next.api.decoder as libopus
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recorderd.codecs import opus_toc
from recorderd.codecs.opus import OPUS, RATES, OpusDecoder, OpusRuns
from recorderd.codecs.payload import PayloadError
from recorderd.errors import PeerError
from tests.speech import pcm, speech, white

Pcm = NDArray[np.int16]
Encoded = tuple[list[bytes], Path, int]


def _columns(packets: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    return np.frombuffer(b"".join(packets), np.uint8), np.array([len(p) for p in packets], np.int32)


def _encode(samples: Pcm, rate: int = 16000, ms: int = 20, **settings: int) -> list[bytes]:
    encoder = opuslib_next.Encoder(rate, 1, "voip")
    encoder.bitrate = 24000
    for name, value in settings.items():
        setattr(encoder, name, value)
    size = rate * ms // 1000
    starts = range(0, len(samples) - size + 1, size)
    return [encoder.encode(samples[at : at + size].tobytes(), size) for at in starts]


def _spoken(rate: int = 16000) -> Pcm:
    return pcm(speech(rate))[: 6 * rate]


@pytest.fixture(scope="module", params=["mono", "stereo"])
def encoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    """Packets of a file made by opusenc, the file, its channels."""
    channels = 2 if request.param == "stereo" else 1
    folder = tmp_path_factory.mktemp("opus")
    left = _spoken(48000)
    samples = np.stack([left, np.roll(left, 9000) // 2][:channels], axis=1)
    subprocess.run(
        [
            "opusenc",
            "--quiet",
            "--raw",
            "--raw-rate",
            "48000",
            "--raw-chan",
            str(channels),
            "-",
            folder / "a.opus",
        ],
        input=samples.tobytes(),
        check=True,
    )
    with av.open(str(folder / "a.opus")) as container:
        packets = [bytes(packet) for packet in container.demux() if packet.size]
    return packets, folder / "a.opus", channels


def test_decodes_as_opusdec_does(encoded: Encoded) -> None:
    packets, file, channels = encoded
    expected = subprocess.run(
        ["opusdec", "--quiet", "--no-dither", "--rate", "48000", file, "-"], capture_output=True, check=True
    ).stdout
    decoder = OPUS.decoder(48000, channels)
    ours = np.concatenate([decoder.decode(packet) for packet in packets])
    theirs = np.frombuffer(expected, "<i2").reshape(-1, channels)
    # OpusHead's pre-skip (RFC 7845 section 5.1), behind the header of the first page.
    skip = int.from_bytes(file.read_bytes()[28 + 10 : 28 + 12], "little")
    ours = ours[skip : skip + len(theirs)]
    assert ours.shape == theirs.shape
    # opusdec rounds from float in its own way.
    assert np.abs(ours.astype(np.int32) - theirs).max() <= 1


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
def test_gives_exactly_what_libopus_gives(encoded: Encoded, rate: int, channels: int) -> None:
    packets = encoded[0]
    reference = opuslib_next.Decoder(rate, channels)
    decoder = OPUS.decoder(rate, channels)
    for packet in packets[:100]:
        samples = decoder.decode(packet)
        assert samples.shape[1] == channels
        assert samples.tobytes() == reference.decode(packet, rate * 120 // 1000)


def test_what_was_decoded_stays_as_it_was() -> None:
    """The decoder's own buffer is never handed out."""
    packets = _encode(_spoken())
    decoder = OPUS.decoder(16000)
    kept = [decoder.decode(packet) for packet in packets[:40]]
    again = OPUS.decoder(16000)
    for packet, samples in zip(packets[:40], kept, strict=True):
        assert (again.decode(packet) == samples).all()


def test_durations_of_every_first_two_bytes() -> None:
    packets = [bytes([toc, count, 0]) for toc in range(256) for count in range(256)]
    packets += [bytes([toc]) for toc in range(256)]

    def expected(packet: bytes) -> int:
        try:
            frames = libopus.packet_get_nb_frames(packet)
        except opuslib_next.OpusError:
            return 0
        ticks = frames * libopus.packet_get_samples_per_frame(packet, 48000)
        return ticks if ticks <= 5760 else 0

    got = OPUS.durations(*_columns(packets))
    assert got.dtype == np.int32
    assert got.tolist() == [expected(packet) for packet in packets]


def test_durations_are_those_that_are_decoded() -> None:
    for ms in (10, 20, 40, 60):
        packets = _encode(_spoken(), ms=ms)[:10]
        decoder = OPUS.decoder()
        decoded = [len(decoder.decode(packet)) for packet in packets]
        assert OPUS.durations(*_columns(packets)).tolist() == decoded
        assert set(OPUS.durations(*_columns(packets)).tolist()) == {48 * ms}


def test_durations_with_nothing_in_between() -> None:
    # An empty packet, also as the last one, and a code 3 packet that ends before its count.
    packets = [b"", b"\x08", b"", b"\x0b", b"\x0b\x03", b""]
    assert OPUS.durations(*_columns(packets)).tolist() == [0, 960, 0, 0, 2880, 0]
    assert OPUS.channels_of(*_columns(packets)).tolist() == [0, 1, 0, 1, 1, 0]


def test_channels_of_every_first_byte() -> None:
    packets = [bytes([toc]) for toc in range(256)]
    expected = [libopus.packet_get_nb_channels(packet) for packet in packets]
    assert OPUS.channels_of(*_columns(packets)).tolist() == expected


def test_silence_that_was_not_sent() -> None:
    """DTX: the encoder sends single bytes, the decoder makes quiet noise of the right length of them."""
    samples = np.concatenate([_spoken()[:32000], pcm(white(-75, 48000))])
    packets = _encode(samples, dtx=1)
    quiet = [number for number, packet in enumerate(packets) if len(packet) <= 2]
    assert len(quiet) > 50
    decoder = OPUS.decoder(16000)
    decoded = [decoder.decode(packet) for packet in packets]
    assert {len(block) for block in decoded} == {320}
    assert max(np.abs(decoded[number]).max() for number in quiet[5:]) < 60


def _loudness_weighted_likeness(pairs: list[tuple[Pcm, Pcm]]) -> float:
    one = np.concatenate([a.ravel() for a, _ in pairs]).astype(np.float64)
    other = np.concatenate([b.ravel() for _, b in pairs]).astype(np.float64)
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


@pytest.mark.parametrize("ms", [20, 40, 60])
@pytest.mark.parametrize("rate", RATES)
def test_forward_error_correction_brings_lost_packets_back(rate: int, ms: int) -> None:
    packets = _encode(_spoken(), ms=ms, inband_fec=1, packet_loss_perc=20)
    whole = OPUS.decoder(rate)
    sent = [whole.decode(packet) for packet in packets]

    def likeness(with_fec: bool) -> float:
        decoder = OPUS.decoder(rate)
        pairs = []
        for number, packet in enumerate(packets[:-1]):
            if number % 6 == 5:
                hidden = decoder.conceal(len(sent[number]), packets[number + 1] if with_fec else None)
                pairs.append((sent[number], hidden))
            else:
                decoder.decode(packet)
        return _loudness_weighted_likeness(pairs)

    assert likeness(with_fec=True) > 0.8
    assert likeness(with_fec=False) < 0.75


@pytest.mark.parametrize("lost", [3, 8])  # 60 ms; more than libopus takes at once
def test_fec_serves_the_end_of_a_longer_hole(lost: int) -> None:
    packets = _encode(_spoken(), inband_fec=1, packet_loss_perc=20)
    whole = OPUS.decoder(16000)
    sent = [whole.decode(packet) for packet in packets]

    def likeness(with_fec: bool) -> float:
        pairs = []
        for first in range(20, 200, 10):
            decoder = OPUS.decoder(16000)
            for packet in packets[:first]:
                decoder.decode(packet)
            hidden = decoder.conceal(320 * lost, packets[first + lost] if with_fec else None)
            pairs.append((sent[first + lost - 1], hidden[-320:]))
        return _loudness_weighted_likeness(pairs)

    assert likeness(with_fec=True) > likeness(with_fec=False) + 0.3


@pytest.mark.parametrize(
    "samples", [0, 1, 39, 40, 41, 320, 1919, 1920, 1921, 2000, 15999, 16000, 16001, 200_000]
)
def test_a_hole_of_any_length_is_filled_exactly(samples: int) -> None:
    packets = _encode(_spoken(), inband_fec=1, packet_loss_perc=20)
    for channels in (1, 2):
        decoder = OPUS.decoder(16000, channels)
        for packet in packets[:60]:
            decoder.decode(packet)
        for following in (None, packets[61], b"", b"\x0b", b"\xff" * 9):
            hidden = decoder.conceal(samples, following)
            assert hidden.shape == (samples, channels)
            assert not hidden[16000:].any(), "after a second there is silence"


def test_concealment_carries_on_and_fades() -> None:
    decoder = OPUS.decoder(16000)
    for packet in _encode(_spoken())[:60]:
        last = decoder.decode(packet)
    hidden = decoder.conceal(8000, None).astype(np.float64)
    first, end = (hidden[:320] ** 2).mean(), (hidden[-1600:] ** 2).mean()
    assert first > 0.05 * (last.astype(np.float64) ** 2).mean()
    assert end < 0.001 * first


def test_a_malformed_packet_leaves_the_decoder_where_it_was() -> None:
    packets = _encode(_spoken())
    decoder, untroubled = OPUS.decoder(16000), OPUS.decoder(16000)
    malformed = [b"", b"\x0b", b"\x0b\x00", b"\x01\x00\x00\x00", b"\x0b\x3f" + bytes(40), b"\x02\xfc"]
    for packet in packets[:50]:
        for wrong in malformed:
            with pytest.raises(PayloadError) as caught:
                decoder.decode(wrong)
            assert isinstance(caught.value, PeerError)
        assert (decoder.decode(packet) == untroubled.decode(packet)).all()


_tormented = OPUS.decoder(8000, 2)


@settings(max_examples=1000, deadline=None)
@given(
    payload=st.binary(max_size=200), following=st.binary(max_size=50) | st.none(), hole=st.integers(0, 2000)
)
def test_any_bytes_are_samples_or_the_peers_fault(payload: bytes, following: bytes | None, hole: int) -> None:
    expected = OPUS.durations(*_columns([payload]))[0] // 6
    try:
        samples = _tormented.decode(payload)
    except PayloadError:
        pass
    else:
        assert samples.shape == (expected, 2)
    assert _tormented.conceal(hole, following).shape == (hole, 2)


@pytest.mark.parametrize(("rate", "channels"), [(44100, 1), (48000, 3), (8000, 0)])
def test_what_libopus_cannot_do_is_refused(rate: int, channels: int) -> None:
    with pytest.raises(ValueError, match="opus has no"):
        OpusDecoder(rate, channels)


def _matrix(packets: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    payload = np.zeros((len(packets), max(map(len, packets)) + 3), np.uint8)
    for row, packet in zip(payload, packets, strict=True):
        row[: len(packet)] = np.frombuffer(packet, np.uint8)
    return payload, np.array([len(packet) for packet in packets], np.int32)


def test_a_run_is_decoded_as_a_stream_of_its_own() -> None:
    packets = _encode(_spoken())[:60]
    lengths, starts = np.full(60, 160, np.int64), np.array([0, 25, 26])
    samples, malformed = OpusRuns(8000).decode(*_matrix(packets), lengths, starts)
    expected = []
    for begin, end in ((0, 25), (25, 26), (26, 60)):
        decoder = OPUS.decoder(8000)
        expected += [decoder.decode(packet)[:, 0] for packet in packets[begin:end]]
    assert (samples == np.concatenate(expected)).all()
    assert not malformed.any()


def test_a_malformed_packet_of_a_run_is_silence() -> None:
    packets = _encode(_spoken())[:20]
    packets[7] = b"\x02\xfc\x00"  # the first of two frames is longer than the packet
    lengths = np.full(20, 160, np.int64)
    samples, malformed = OpusRuns(8000).decode(*_matrix(packets), lengths, np.array([0]))
    assert np.flatnonzero(malformed).tolist() == [7]
    assert not samples[7 * 160 : 8 * 160].any()
    assert samples[8 * 160 :].any()


@pytest.mark.parametrize("ms", [10, 20, 40, 60])
def test_the_sender_says_when_nobody_speaks(ms: int) -> None:
    """The flags of SILK frames, against how loud the packets are."""
    samples = np.concatenate([_spoken()[:32000], pcm(white(-70, 48000))])
    packets = _encode(samples, ms=ms)
    payload, _ = _matrix(packets)
    quiet = opus_toc.quiet(payload[:, 0], payload[:, 1])
    speech, end = 2000 // ms, 1000 // ms
    assert quiet[:speech].mean() < 0.5
    assert quiet[-end:].all()
    decoder = OPUS.decoder(8000)
    loud = np.array([np.abs(decoder.decode(packet)).max() for packet in packets])
    assert np.median(loud[~quiet]) > 20 * np.median(loud[quiet])


def test_who_does_not_say_may_be_speaking() -> None:
    # CELT has no flag, and of packets with several frames it is not looked for.
    every = np.arange(256, dtype=np.uint8)
    quiet = opus_toc.quiet(every, np.zeros_like(every))
    assert quiet.tolist() == [toc >> 3 < 16 and toc & 3 == 0 for toc in range(256)]
    assert not opus_toc.quiet(every, np.full_like(every, 0xE0)).any()
