import numpy as np
import pytest
from opuslib_next import Encoder

from recorderd.codecs.formats import STATIC, Format
from recorderd.codecs.g711 import PCMU
from recorderd.codecs.registry import codec
from recorderd.media.assembly import LanePackets, TrackAudio
from recorderd.media.lane import Lane

START = 1_790_000_000_000_000
RNG = np.random.default_rng(5)


def lane_of(payloads, seq, timestamps, arrivals, payload_type=0, formats=STATIC, window=50):
    """A lane fed in records of ``window`` packets."""
    packets = LanePackets(Lane(formats))
    for at in range(0, len(payloads), window):
        part = slice(at, at + window)
        packets.add(
            np.array(seq[part], np.int64),
            np.array(timestamps[part], np.int64).astype(np.uint32),
            np.array(arrivals[part], np.int64),
            np.full(len(payloads[part]), payload_type, np.uint8),
            np.array([len(p) for p in payloads[part]], np.int32),
            b"".join(payloads[part]),
        )
    return packets


def g711(count, seed=0):
    return [np.random.default_rng(seed + i).integers(0, 256, 160, np.uint8).tobytes() for i in range(count)]


def sound(track, rate=8000, start_us=START, channels=1):
    return np.concatenate(list(track.blocks(start_us, rate, channels)))


def test_packets_that_follow_one_another_give_exactly_their_samples():
    payloads, n = g711(300), np.arange(300)
    track = TrackAudio([lane_of(payloads, n, 160 * n, START + 20_000 * n + RNG.integers(0, 15_000, 300))])
    expected = PCMU.decode_block(np.frombuffer(b"".join(payloads), np.uint8))
    span = track.span_us()
    assert span is not None
    assert np.array_equal(sound(track, start_us=span[0])[:, 0], expected)
    assert track.rate() == 8000


def test_a_track_starts_where_it_started():
    payloads, n = g711(100), np.arange(100)
    track = TrackAudio([lane_of(payloads, n, 160 * n, START + 250_000 + 20_000 * n)])
    got = sound(track)[:, 0]
    assert not got[:2000].any()
    assert np.array_equal(got[2000:], PCMU.decode_block(np.frombuffer(b"".join(payloads), np.uint8)))


def test_lost_packets_are_silent_and_nothing_else_moves():
    payloads, n = g711(200), np.arange(200)
    keep = [i for i in range(200) if i not in (0, 60, 61, 150)]
    track = TrackAudio(
        [lane_of([payloads[i] for i in keep], n[keep], 160 * n[keep], START + 20_000 * n[keep])]
    )
    expected = PCMU.decode_block(np.frombuffer(b"".join(payloads), np.uint8)).copy()
    for i in (0, 60, 61, 150):
        expected[160 * i : 160 * i + 160] = 0
    assert np.array_equal(sound(track)[:, 0], expected)


def test_a_late_packet_stored_in_a_later_record_is_in_its_place():
    payloads, n = g711(150), np.arange(150)
    order = [*range(20), *range(21, 120), 20, *range(120, 150)]
    packets = LanePackets(Lane(STATIC))
    for part in (order[:99], sorted(order[99:])):
        packets.add(
            np.array(part, np.int64), (160 * n[part]).astype(np.uint32),
            START + 20_000 * np.array([120 if i == 20 else i for i in part]),
            np.zeros(len(part), np.uint8), np.full(len(part), 160, np.int32),
            b"".join(payloads[i] for i in part),
        )  # fmt: skip
    expected = PCMU.decode_block(np.frombuffer(b"".join(payloads), np.uint8))
    assert np.array_equal(sound(TrackAudio([packets]))[:, 0], expected)


def test_silence_suppression_keeps_its_length():
    payloads, n = g711(100), np.arange(100)
    ticks = n + np.where(n >= 50, 150, 0)
    got = sound(TrackAudio([lane_of(payloads, n, 160 * ticks, START + 20_000 * ticks)]))[:, 0]
    assert len(got) == 250 * 160
    assert not got[50 * 160 : 200 * 160].any()
    assert np.array_equal(
        got[200 * 160 :], PCMU.decode_block(np.frombuffer(b"".join(payloads[50:]), np.uint8))
    )


def test_a_wild_timestamp_cannot_make_a_long_file():
    payloads, n = g711(100), np.arange(100)
    wild = 160 * n + np.where(n >= 50, 2**31 - 7, 0)
    got = sound(TrackAudio([lane_of(payloads, n, wild, START + 20_000 * n)]))[:, 0]
    assert len(got) <= 100 * 160 + 8000
    random = RNG.integers(0, 2**32, 100)
    got = sound(TrackAudio([lane_of(payloads, n, random, START + 20_000 * n)]))[:, 0]
    assert len(got) <= 100 * 160 + 2 * 8000


def test_a_new_ssrc_goes_on_with_the_track():
    first, second, n = g711(50), g711(50, 1000), np.arange(50)
    track = TrackAudio(
        [
            lane_of(first, n, 160 * n, START + 20_000 * n),
            lane_of(second, n + 900, 160 * n + 77_777, START + 1_000_000 + 20_000 * n),
        ]
    )
    expected = PCMU.decode_block(np.frombuffer(b"".join(first + second), np.uint8))
    assert np.array_equal(sound(track)[:, 0], expected)


def test_an_announcement_in_the_pause_of_a_stream_is_heard():
    """A new SSRC speaks while the old one's clock runs on, and the old one comes back."""
    main, other, n = g711(100), g711(100, 1000), np.arange(100)
    ticks = n + np.where(n >= 50, 100, 0)
    track = TrackAudio(
        [
            lane_of(main, n, 160 * ticks, START + 20_000 * ticks),
            lane_of(other, n + 7000, 160 * n + 5, START + 1_000_000 + 20_000 * n),
        ]
    )
    expected = PCMU.decode_block(np.frombuffer(b"".join(main[:50] + other + main[50:]), np.uint8))
    assert np.array_equal(sound(track)[:, 0], expected)


def opus_packets(count, channels=1):
    encoder = Encoder(48_000, channels, "voip")
    t = np.arange(960 * count) / 48_000
    tone = (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
    pcm = np.repeat(tone[:, None], channels, axis=1)
    return [encoder.encode(pcm[960 * i : 960 * i + 960].tobytes(), 960) for i in range(count)]


OPUS = {111: Format("opus", 48_000, 2)}


def test_opus_is_what_libopus_makes_of_the_same_packets():
    payloads, n = opus_packets(100), np.arange(100)
    track = TrackAudio([lane_of(payloads, n, 960 * n, START + 20_000 * n, 111, OPUS)])
    how = codec("opus")
    assert how is not None
    decoder = how.decoder(48_000, 1)
    expected = np.concatenate([decoder.decode(p) for p in payloads])
    assert track.rate() == 48_000
    assert not track.stereo()
    assert np.array_equal(sound(track, 48_000), expected)


def test_opus_stereo_is_seen_in_the_packets():
    payloads, n = opus_packets(20, 2), np.arange(20)
    track = TrackAudio([lane_of(payloads, n, 960 * n, START + 20_000 * n, 111, OPUS)])
    assert track.stereo()
    assert sound(track, 48_000, channels=2).shape == (20 * 960, 2)


def test_lost_opus_is_concealed_in_full_length():
    payloads, n = opus_packets(100), np.arange(100)
    keep = [i for i in range(100) if i not in (40, 41, 42)]
    got = sound(
        TrackAudio(
            [
                lane_of(
                    [payloads[i] for i in keep], n[keep], 960 * n[keep], START + 20_000 * n[keep], 111, OPUS
                )
            ]
        ),
        48_000,
    )
    assert len(got) == 96_000
    assert np.abs(got[40 * 960 : 41 * 960].astype(int)).max() > 1000


def test_damaged_opus_is_concealed():
    payloads, n = opus_packets(50), np.arange(50)
    payloads[20] = b"\xff\xff\xff"
    got = sound(TrackAudio([lane_of(payloads, n, 960 * n, START + 20_000 * n, 111, OPUS)]), 48_000)
    assert len(got) == 48_000


def test_events_and_unknown_formats_are_never_sound():
    n = np.arange(50)
    events = lane_of(
        [bytes(4)] * 50, n, 160 * n, START + 20_000 * n, 101, {101: Format("telephone-event", 8000)}
    )
    assert TrackAudio([events]).span_us() is None
    assert list(TrackAudio([events]).blocks(START, 8000)) == []
    unknown = lane_of([bytes(33)] * 50, n, 160 * n, START + 20_000 * n, 99, {})
    assert TrackAudio([unknown]).formats() == []
    assert not any(block.any() for block in TrackAudio([unknown]).blocks(START, 8000))


@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
def test_a_change_of_codec_keeps_time(rate):
    ulaw, opus, n = g711(50), opus_packets(50), np.arange(50)
    track = TrackAudio(
        [
            lane_of(ulaw, n, 160 * n, START + 20_000 * n),
            lane_of(opus, n, 960 * n, START + 1_000_000 + 20_000 * n, 111, OPUS),
        ]
    )
    assert track.rate() == 48_000
    assert len(sound(track, rate)) == 2 * rate


def mixed(packets):
    """A lane of (payload type, timestamp, payload) that come when their timestamps say, at 8 kHz."""
    lane = LanePackets(Lane({**STATIC, 96: Format("g729", 8000), 97: Format("evs", 16_000)}))
    kinds, ticks, payloads = zip(*packets, strict=True)
    ticks = np.array(ticks, np.int64)
    lane.add(
        np.arange(len(ticks)),
        ticks.astype(np.uint32),
        START + ticks * 125,
        np.array(kinds, np.uint8),
        np.array([len(payload) for payload in payloads], np.int32),
        b"".join(payloads),
    )
    return TrackAudio([lane])


def level(samples):
    return 20 * np.log10(samples.astype(float).std() / 32768)


def test_comfort_noise_sounds_from_its_packet_to_the_next():
    """RFC 3389: the level holds until another packet tells a new one, or speech goes on."""
    spoken = g711(20)
    before = [(0, 160 * n, payload) for n, payload in enumerate(spoken[:10])]
    quiet = [(13, 1600, bytes([50])), (13, 1600 + 8000, bytes([70]))]
    after = [(0, 1600 + 24_000 + 160 * n, payload) for n, payload in enumerate(spoken[10:])]
    track = mixed([*before, *quiet, *after])
    got = sound(track)[:, 0]
    assert len(got) == 1600 + 24_000 + 1600
    assert abs(level(got[1600:9600]) + 50) < 0.5
    assert abs(level(got[9600:25_600]) + 70) < 0.5
    expected = PCMU.decode_block(np.frombuffer(b"".join(spoken), np.uint8))
    assert np.array_equal(np.concatenate([got[:1600], got[25_600:]]), expected)
    assert track.rate() == 8000
    assert np.array_equal(got, sound(track)[:, 0]), "every export is the same"


def test_noise_after_the_last_word_of_a_silent_sender_is_bounded():
    track = mixed([(0, 0, bytes(160)), (13, 160, bytes([50])), (0, 8000 * 200, bytes(160))])
    got = sound(track)[:, 0]
    assert len(got) == 8000 * 200 + 160
    assert abs(level(got[8000 * 40 : 8000 * 60]) + 50) < 0.5
    assert not got[8000 * 61 : 8000 * 200].any()


def test_silence_described_in_g729_is_noise_until_speech_goes_on():
    random = np.random.default_rng(7)
    talk = [random.bytes(20) for _ in range(20)]
    packets = [(96, 160 * n, payload) for n, payload in enumerate(talk[:10])]
    packets.append((96, 1600, bytes(10) + bytes([0, 40])))  # a frame of speech, then one of silence
    packets += [(96, 16_000 + 160 * n, payload) for n, payload in enumerate(talk[10:])]
    got = sound(mixed(packets))[:, 0]
    assert len(got) == 16_000 + 1600
    assert -90 < level(got[2000:9000]) < -20
    assert level(got[2000:9000]) == pytest.approx(level(got[9000:15_900]), abs=0.5)


def test_an_unknown_codec_is_silent_and_keeps_its_time():
    track = mixed([(0, 0, g711(1)[0]), (97, 160, b"?" * 60), (97, 320, b"?" * 60), (0, 480, g711(1)[0])])
    got = sound(track)[:, 0]
    assert len(got) == 640
    assert got[:160].any()
    assert not got[160:480].any()
    assert [known.name for known in track.undecodable()] == ["evs"]
