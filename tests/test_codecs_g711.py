"""G.711 against ffmpeg and sox, code by code."""

import subprocess

import numpy as np
import pytest

from recorderd.codecs.g711 import G711, PCMA, PCMU

ALL = bytes(range(256))


@pytest.mark.parametrize(("codec", "ffmpeg", "sox"), [(PCMU, "mulaw", "mu-law"), (PCMA, "alaw", "a-law")])
def test_every_code_is_what_others_decode(codec: G711, ffmpeg: str, sox: str) -> None:
    by_ffmpeg = subprocess.run(
        ["ffmpeg", "-v", "error", "-f", ffmpeg, "-ar", "8000", "-i", "-", "-f", "s16le", "-"],
        input=ALL,
        capture_output=True,
        check=True,
    ).stdout
    by_sox = subprocess.run(
        [
            "sox",
            "-D",
            "-t",
            "raw",
            "-e",
            sox,
            "-b",
            "8",
            "-r",
            "8000",
            "-c",
            "1",
            "-",
            "-t",
            "raw",
            "-e",
            "signed",
            "-b",
            "16",
            "-",
        ],
        input=ALL,
        capture_output=True,
        check=True,
    ).stdout
    ours = codec.decode_block(np.frombuffer(ALL, np.uint8))
    assert ours.dtype == np.int16
    assert ours.tobytes() == by_ffmpeg == by_sox


def test_a_block_of_any_shape_keeps_it() -> None:
    coded = np.random.default_rng(0).integers(0, 256, (7, 3, 20), dtype=np.uint8)
    samples = PCMA.decode_block(coded)
    assert samples.shape == coded.shape
    assert samples[3, 1, 4] == PCMA.table[coded[3, 1, 4]]


def test_the_sound_is_the_same_on_each_channel() -> None:
    decoder = PCMU.decoder(channels=2)
    samples = decoder.decode(ALL)
    assert samples.shape == (256, 2)
    assert (samples == PCMU.table[:, None]).all()
    assert (decoder.rate, decoder.channels) == (8000, 2)
    assert PCMU.decoder(8000).decode(b"").shape == (0, 1)


def test_what_is_lost_is_silent() -> None:
    hidden = PCMA.decoder().conceal(320, ALL)
    assert hidden.shape == (320, 1)
    assert not hidden.any()


def test_a_byte_is_a_tick() -> None:
    sizes = np.array([160, 0, 80, 1], np.int32)
    payload = np.zeros(241, np.uint8)
    assert PCMU.durations(payload, sizes).tolist() == [160, 0, 80, 1]
    assert PCMU.channels_of(payload, sizes).tolist() == [1, 0, 1, 1]


def test_there_is_one_rate_only() -> None:
    with pytest.raises(ValueError, match="16000"):
        PCMU.decoder(16000)


def test_the_tables_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        PCMU.table[0] = 1
