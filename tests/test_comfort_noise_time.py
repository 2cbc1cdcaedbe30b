"""Silence that a sender describes (RFC 3389) or does not send at all is no loss, and takes its time."""

import numpy as np
import pytest

from recorderd.codecs.formats import STATIC, Format
from recorderd.codecs.g711 import PCMU
from recorderd.media.assembly import LanePackets, TrackAudio
from recorderd.media.lane import Lane
from recorderd.media.sequence import Hole

START = 1_790_000_000_000_000
SPEECH, NOISE = 0, 13
TALK = 50
"""Packets of 20 ms before and after the silence."""


def conversation(silence, every, lost=(), formats=STATIC, speech=SPEECH, noise=NOISE, rate=8000):
    """Speech, ``silence`` packets' time with a word of the noise in ``every``, speech; those lost are left
    out."""
    ticks = [*range(TALK), *range(TALK, TALK + silence, every), *range(TALK + silence, 2 * TALK + silence)]
    types = [speech] * TALK + [noise] * len(range(0, silence, every)) + [speech] * TALK
    kept = [n for n in range(len(ticks)) if n not in lost]
    packets = LanePackets(Lane(formats))
    for first in range(0, len(kept), 40):
        part = kept[first : first + 40]
        time, kind = np.array([ticks[n] for n in part]), np.array([types[n] for n in part], np.uint8)
        payloads = [bytes([40]) if types[n] == noise else bytes([n % 100 + 1]) * 160 for n in part]
        packets.add(
            np.array(part),
            (rate // 50 * time + 5).astype(np.uint32),
            START + 20_000 * time,
            kind,
            np.array([len(payload) for payload in payloads], np.int32),
            b"".join(payloads),
        )
    return packets


@pytest.mark.parametrize("every", [1, 5, 500])
@pytest.mark.parametrize("silence", [10, 150, 3000])
def test_what_is_said_after_a_silence_is_where_it_was_said(silence, every):
    packets = conversation(silence, every)
    assert len(packets.lane.segments()) == 1
    span = packets.lane.span()
    assert span.end_us - span.start_us == pytest.approx(20_000 * (2 * TALK + silence), abs=1)
    got = np.concatenate(list(TrackAudio([packets]).blocks(START, 8000)))[:, 0]
    assert len(got) == 160 * (2 * TALK + silence)
    said = np.concatenate([np.full(160, n % 100 + 1, np.uint8) for n in range(TALK)])
    assert np.array_equal(got[: 160 * TALK], PCMU.decode_block(said))
    after = PCMU.decode_block(np.array([(TALK + -(-silence // every)) % 100 + 1], np.uint8))[0]
    assert (got[160 * (TALK + silence) :][:160] == after).all()


@pytest.mark.parametrize(
    ("lost", "begins", "lasts"),
    [
        ({TALK - 1}, TALK - 1, 1),  # the last word
        ({TALK + 30, TALK + 31}, TALK + 150, 2),  # the first words after it
        ({TALK + 10}, TALK + 54, 1),  # a word of the noise: as if it were what came next
    ],
)
def test_losses_beside_silence_are_as_long_as_packets_are(lost, begins, lasts):
    packets = conversation(150, 5, lost)
    (gap,) = packets.lane.gaps([Hole(min(lost), len(lost))])
    assert gap.start_us - START == pytest.approx(20_000 * begins, abs=1)
    assert gap.end_us - gap.start_us == pytest.approx(20_000 * lasts, abs=1)


def test_noise_of_a_wideband_clock():
    formats = {**STATIC, 97: Format("l16", 16_000), 98: Format("cn", 16_000)}
    packets = conversation(150, 5, formats=formats, speech=97, noise=98, rate=16_000)
    assert len(packets.lane.segments()) == 1
    span = packets.lane.span()
    assert span.end_us - span.start_us > 20_000 * (TALK + 150)


def test_nothing_but_noise():
    """A muted phone: it has a beginning, and no sound is missing from it."""
    packets = LanePackets(Lane(STATIC))
    n = np.arange(50)
    packets.add(
        n,
        (1600 * n).astype(np.uint32),
        START + 200_000 * n,
        np.full(50, 13, np.uint8),
        np.ones(50, np.int32),
        bytes([50]) * 50,
    )
    (segment,) = packets.lane.segments()
    assert segment.anchor_us == START
