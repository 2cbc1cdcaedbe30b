"""What the registry finds, and what the static payload types are."""

import numpy as np
import pytest

from recorderd.codecs.formats import STATIC, is_audio
from recorderd.codecs.registry import CODECS, Codec, TableCodec, codec


def test_names_are_found_in_any_case() -> None:
    assert codec("PCMU") is codec("pcmu") is not None
    assert codec("opus") is codec("Opus") is not None
    assert codec("g722.1") is None
    assert codec("telephone-event") is None


def test_only_g711_is_decoded_by_table() -> None:
    assert {name for name, known in CODECS.items() if isinstance(known, TableCodec)} == {"pcmu", "pcma"}


@pytest.mark.parametrize("known", CODECS.values(), ids=list(CODECS))
def test_every_codec_keeps_the_contract(known: Codec) -> None:
    assert known.native_rate in known.rates
    for rate in (None, *known.rates):
        for channels in (None, 1, 2):
            decoder = known.decoder(rate, channels)
            assert (decoder.rate, decoder.channels) == (rate or known.native_rate, channels or 1)
            hidden = decoder.conceal(decoder.rate // 50, None)
            assert hidden.shape == (decoder.rate // 50, channels or 1)
            assert hidden.dtype == np.int16
            assert not hidden.any(), "nothing was heard before"
    with pytest.raises(ValueError, match="11025"):
        known.decoder(11025)
    nothing = np.zeros(0, np.uint8), np.zeros(0, np.int32)
    assert known.durations(*nothing).shape == (0,)
    assert known.channels_of(*nothing).shape == (0,)


def test_static_payload_types() -> None:
    # RFC 3551 table 4.
    assert {
        number: (known.name, known.clock_rate) for number, known in STATIC.items() if number in (0, 8, 9, 18)
    } == {
        0: ("pcmu", 8000),
        8: ("pcma", 8000),
        9: ("g722", 8000),
        18: ("g729", 8000),
    }
    assert STATIC[10].channels == 2
    assert 1 not in STATIC
    assert 2 not in STATIC


def test_events_are_no_audio() -> None:
    assert not is_audio("telephone-event")
    assert not is_audio("CN")
    assert is_audio("pcmu")
    assert is_audio("a-codec-of-tomorrow")
