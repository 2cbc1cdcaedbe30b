"""The codecs beyond G.711 and Opus against decoders that are not the recorder's."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.codecs.formats import Format
from recorderd.codecs.library import LibraryCodec
from recorderd.codecs.payload import PayloadError
from recorderd.codecs.registry import CODECS, codec
from tests.coders import Bcg729, Pcm, amr_wb, by_av, by_ffmpeg, heard_by_ffmpeg, snr_db, speex_packets
from tests.speech import pcm, speech_at, white


def spoken(rate: int) -> Pcm:
    return pcm(speech_at(-26, rate))


def heard(known: Format, payloads: list[bytes]) -> Pcm:
    """All of them by one decoder of the recorder's."""
    how = codec(known)
    assert how is not None
    decoder = how.decoder()
    return np.concatenate([decoder.decode(payload) for payload in payloads])[:, 0]


def cut(coded: bytes, size: int) -> list[bytes]:
    return [coded[at : at + size] for at in range(0, len(coded) - size + 1, size)]


def aligned(wanted: Pcm, got: Pcm) -> float:
    """The signal to noise ratio where the codec's delay is taken out."""
    window = len(wanted) // 2
    return max(snr_db(wanted[:window], got[lag : lag + window]) for lag in range(400))


def test_g722(tmp_path: Path) -> None:
    said = spoken(16_000)
    coded = by_av("g722", 16_000, said, 320)
    got = heard(Format("g722", 8000), coded)
    assert np.array_equal(got, heard_by_ffmpeg(tmp_path / "it.g722", b"".join(coded), 16_000))
    assert aligned(said, got) > 20


@pytest.mark.parametrize("rate", [16, 24, 32, 40])
@pytest.mark.parametrize(("order", "library"), [("", "g726le"), ("aal2-", "g726")])
def test_g726_in_both_orders(tmp_path: Path, order: str, library: str, rate: int) -> None:
    said, bits = spoken(8000), str(rate // 8)
    coded = b"".join(by_av(library, 8000, said, 160, code_size=bits))
    got = heard(Format(f"{order}g726-{rate}", 8000), cut(coded, 20 * rate // 8))
    other = heard_by_ffmpeg(tmp_path / "it", coded, 8000, "-f", library, "-code_size", bits)
    assert np.array_equal(got, other[: len(got)])
    assert snr_db(said, got) > {16: 10, 24: 14, 32: 20, 40: 26}[rate]


def test_g726_begins_with_the_lowest_bits() -> None:
    """RFC 3551 section 4.5.4.2: the first code of G726-32 is in the four low bits of the first byte."""
    one, other = heard(Format("g726-32", 8000), [b"\x07"]), heard(Format("aal2-g726-32", 8000), [b"\x70"])
    assert np.array_equal(one, other)
    assert one.any()


def test_g723(tmp_path: Path) -> None:
    said = spoken(8000)
    coded = by_av("g723_1", 8000, said, 240)
    got = heard(Format("g723", 8000), [b"".join(coded[at : at + 2]) for at in range(0, len(coded), 2)])
    other = heard_by_ffmpeg(tmp_path / "it.tco", b"".join(coded), 8000, "-f", "g723_1")
    assert np.array_equal(got, other[: len(got)])
    assert aligned(said, got) > 8


def test_gsm_against_the_library_of_its_authors(tmp_path: Path) -> None:
    said = spoken(8000)
    file = by_ffmpeg("libgsm", "gsm", 8000, said)
    got = heard(Format("gsm", 8000), cut(file, 66))
    assert np.array_equal(got, heard_by_ffmpeg(tmp_path / "it.gsm", file, 8000, "-c:a", "libgsm")[: len(got)])
    assert snr_db(said, got) > 6


@pytest.mark.parametrize(("rate", "least_db"), [(8000, 60), (16_000, 12), (32_000, 12)])
def test_speex_against_libspeex(tmp_path: Path, rate: int, least_db: float) -> None:
    """In wideband libspeex turns the phase of what is below 1 kHz with a filter that FFmpeg leaves out."""
    file, coded = speex_packets(spoken(rate), rate)
    got = heard(Format("speex", rate), coded)
    other = heard_by_ffmpeg(tmp_path / "it.spx", file, rate, "-c:a", "libspeex")
    assert len(got) == len(other) == len(coded) * rate // 50
    assert snr_db(other, got) > least_db


@pytest.mark.parametrize("quality", [1, 4, 10])
@pytest.mark.parametrize("rate", [8000, 16_000, 32_000])
def test_several_speex_frames_in_a_packet(tmp_path: Path, rate: int, quality: int) -> None:
    """Only their modes tell how many there are, and they end on any bit."""
    said = spoken(rate)[: rate * 3]
    file, coded = speex_packets(said, rate, 3, quality)
    how = codec(Format("speex", rate))
    assert how is not None
    for payload in coded[:-1]:
        (ticks,) = how.durations(
            np.frombuffer(payload, np.uint8), np.array([len(payload)], np.int32)
        ).tolist()
        assert ticks == 3 * rate // 50
    other = heard_by_ffmpeg(tmp_path / "it.spx", file, rate, "-c:a", "libspeex")
    got = heard(Format("speex", rate), coded)
    assert snr_db(other, got) > (60 if rate == 8000 else 12)


@pytest.mark.parametrize(("size", "samples"), [(38, 160), (50, 240)])
def test_ilbc(tmp_path: Path, size: int, samples: int) -> None:
    """Nothing in Debian encodes it: any bits are frames, and two versions of FFmpeg hear the same."""
    coded = np.random.default_rng(size).bytes(size * 100)
    head = b"#!iLBC20\n" if size == 38 else b"#!iLBC30\n"
    got = heard(Format("ilbc", 8000, 1, "mode=30"), cut(coded, 2 * size))
    assert len(got) == 100 * samples
    assert np.array_equal(got, heard_by_ffmpeg(tmp_path / "it.lbc", head + coded, 8000))


def test_g729_against_another_library(tmp_path: Path) -> None:
    said, library = spoken(8000), Bcg729()
    frames = library.encode(said)
    payloads = [b"".join(frames[at : at + 2]) for at in range(0, len(frames), 2)]
    got = heard(Format("g729", 8000, 1, "annexb=no"), payloads)
    assert snr_db(library.decode(frames), got) > 20
    assert len(got) == len(said) // 80 * 80


@pytest.mark.parametrize("level", [-60, -50, -40])
def test_g729_noise_is_as_loud_as_another_library_makes_it(level: float) -> None:
    library = Bcg729(vad=True)
    frames = library.encode(pcm(white(level, 80 * 300)))
    other = library.decode(frames)[8000:]
    last = max(at for at, frame in enumerate(frames) if len(frame) == 2)
    assert last < 299, "the last frames are not sent"
    how = codec("g729")
    assert how is not None
    decoder = how.decoder()
    for frame in frames[: last + 1]:
        if frame:
            decoder.decode(frame)
    assert decoder.resting
    got = decoder.conceal(80_000, None)[:, 0]
    assert abs(20 * np.log10(got.std() / other.std())) < 6
    assert got[-8000:].any(), "it lasts as long as the silence does"


# -- AMR


def narrow(said: Pcm, bit_rate: int = 12_200, **options: str) -> list[bytes]:
    """Frames as files have them."""
    return by_av("libopencore_amrnb", 8000, said, 160, bit_rate=str(bit_rate), **options)


def packed(frames: list[bytes], sizes: dict[int, int], *, aligned: bool) -> bytes:
    """An RFC 4867 payload of frames as files have them, written bit by bit."""
    kinds = [frame[0] >> 3 & 15 for frame in frames]
    contents = [f"{int(at < len(frames) - 1)}{kind:04b}1" for at, kind in enumerate(kinds)]
    speech = [
        "".join(f"{byte:08b}" for byte in frame[1:])[: sizes[kind]]
        for frame, kind in zip(frames, kinds, strict=True)
    ]
    parts = ["1111", *contents, *speech]
    if aligned:
        parts = [part + "0" * (-len(part) % 8) for part in parts]
    bits = "".join(parts)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8) if bits else b""


NARROW = {0: 95, 1: 103, 2: 118, 3: 134, 4: 148, 5: 159, 6: 204, 7: 244, 8: 39, 15: 0}
WIDE = {0: 132, 1: 177, 2: 253, 3: 285, 4: 317, 5: 365, 6: 397, 7: 461, 8: 477, 9: 40, 15: 0}


@pytest.mark.parametrize("together", [1, 2, 5])
@pytest.mark.parametrize("octets", [True, False])
@pytest.mark.parametrize("bit_rate", [4750, 7950, 12_200])
def test_amr_in_both_formats(tmp_path: Path, octets: bool, together: int, bit_rate: int) -> None:
    said = spoken(8000)[:80_000]
    frames = narrow(said, bit_rate)
    frames = frames[: len(frames) // together * together]
    payloads = [
        packed(frames[at : at + together], NARROW, aligned=octets) for at in range(0, len(frames), together)
    ]
    got = heard(Format("amr", 8000, 1, f"octet-align={int(octets)}"), payloads)
    other = heard_by_ffmpeg(tmp_path / "it.amr", b"#!AMR\n" + b"".join(frames), 8000, "-c:a", "amrnb")
    assert len(got) == 160 * len(frames)
    assert snr_db(other, got) > 20  # FFmpeg's own decoder is of floating point, and this one the standard's


@pytest.mark.parametrize("octets", [True, False])
@pytest.mark.parametrize("mode", [0, 2, 8])
def test_amr_wb_in_both_formats(tmp_path: Path, octets: bool, mode: int) -> None:
    frames = amr_wb(spoken(16_000)[:160_000], mode)
    payloads = [packed([frame], WIDE, aligned=octets) for frame in frames]
    got = heard(Format("amr-wb", 16_000, 1, f"octet-align={int(octets)}" if octets else ""), payloads)
    other = heard_by_ffmpeg(tmp_path / "it.awb", b"#!AMR-WB\n" + b"".join(frames), 16_000, "-c:a", "amrwb")
    assert len(got) == 320 * len(frames)
    assert snr_db(other, got) > 10


def test_amr_told_the_wrong_format_is_read_all_the_same() -> None:
    frames = narrow(spoken(8000)[:16_000])
    for octets in (True, False):
        payloads = [packed([frame], NARROW, aligned=octets) for frame in frames]
        right, wrong = (
            heard(Format("amr", 8000, 1, f"octet-align={n}"), payloads)
            for n in (int(octets), int(not octets))
        )
        assert np.array_equal(right, wrong)


def test_amr_comfort_noise_and_frames_without_data() -> None:
    noise = pcm(white(-50, 160 * 400))
    frames = [packed([frame], NARROW, aligned=False) for frame in narrow(noise, dtx="1")]
    kinds = [payload[0] << 8 | payload[1] for payload in frames]
    kinds = [two >> 7 & 15 for two in kinds]
    assert {8, 15} <= set(kinds), "the encoder describes silence, and leaves it out"
    how = codec("amr")
    assert how is not None
    decoder = how.decoder()
    for payload in frames[: max(at for at, kind in enumerate(kinds) if kind == 8) + 1]:
        decoder.decode(payload)
    assert decoder.resting
    lasting = decoder.conceal(16_000, None)
    assert abs(20 * np.log10(lasting[8000:].std() / 32768) + 50) < 12


@pytest.mark.parametrize(
    "known",
    [
        Format("amr", 8000, 1, "octet-align=1; crc=1"),
        Format("amr", 8000, 1, "octet-align=1; robust-sorting=1"),
        Format("amr-wb", 16_000, 1, "octet-align=1;interleaving=30"),
        Format("amr-wb", 16_000, 2),
        Format("speex", 11_025),
        Format("g722", 8000, 2),
        Format("l16", 8_000_000),
        Format("g722.1", 16_000),
        Format("evs", 16_000),
        Format("g729", 0),
    ],
)
def test_what_is_refused(known: Format) -> None:
    assert codec(known) is None


@pytest.mark.parametrize(("alias", "name"), [("G729a", "g729"), ("g7231", "g723"), ("G721", "g726-32")])
def test_names_that_are_not_registered(alias: str, name: str) -> None:
    how = codec(Format(alias, 8000))
    assert how is not None
    assert how.name == name


# -- all of them


@pytest.mark.parametrize("name", ["g729", "ilbc", "amr", "amr-wb", "g723"])
def test_a_lost_packet_is_concealed(name: str) -> None:
    said = spoken(16_000 if name == "amr-wb" else 8000)
    if name == "g729":
        payloads = Bcg729().encode(said)
    elif name == "ilbc":
        payloads = cut(np.random.default_rng(1).bytes(38 * 100), 38)
    elif name == "g723":
        payloads = by_av("g723_1", 8000, said, 240)
    else:
        frames, sizes = (amr_wb(said), WIDE) if name == "amr-wb" else (narrow(said), NARROW)
        payloads = [packed([frame], sizes, aligned=False) for frame in frames]
    how = codec(name)
    assert how is not None
    decoder = how.decoder()
    before = np.concatenate([decoder.decode(payload) for payload in payloads[:60]])[-320:]
    hidden = decoder.conceal(decoder.rate // 100, payloads[61])
    assert hidden.shape == (decoder.rate // 100, 1)
    # The library of AMR-WB falls nearly silent at once.
    assert hidden.astype(float).std() > 0.05 * before.astype(float).std()
    assert not decoder.conceal(5 * decoder.rate, None)[-decoder.rate :].any(), "it ends in silence"
    assert decoder.decode(payloads[61]).any()


LIBRARY = [name for name, known in CODECS.items() if isinstance(known, LibraryCodec)]


@pytest.mark.parametrize("name", LIBRARY)
@given(payload=st.binary(min_size=0, max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_sound_or_a_payload_error(name: str, payload: bytes) -> None:
    how = CODECS[name]
    assert isinstance(how, LibraryCodec)
    (ticks,) = how.durations(np.frombuffer(payload, np.uint8), np.array([len(payload)], np.int32)).tolist()
    decoder = how.decoder(channels=2)
    try:
        samples = decoder.decode(payload)
    except PayloadError:
        return
    assert samples.shape == (ticks * how.native_rate // how.clock_rate, 2)
    assert decoder.conceal(77, None).shape == (77, 2)


def test_ffmpeg_tells_nobody_of_bad_packets(capfd: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(2)
    for name in LIBRARY:
        decoder = CODECS[name].decoder()
        for size in (1, 7, 20, 24, 33, 38, 61, 160):
            for _ in range(20):
                try:
                    decoder.decode(random.bytes(size))
                except PayloadError:
                    decoder.conceal(160, None)
    assert capfd.readouterr() == ("", "")


# -- codecs of samples


def test_dvi4_against_python() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop = pytest.importorskip("audioop", reason="gone from Python 3.13")
    said = spoken(8000)
    state, payloads = (0, 0), []
    for part in said[:80_000].reshape(-1, 160):
        head = int(state[0]).to_bytes(2, signed=True) + bytes((state[1], 0))
        coded, state = audioop.lin2adpcm(part.tobytes(), 2, state)
        payloads.append(head + coded)
    got = heard(Format("dvi4", 8000), payloads)
    other = np.frombuffer(audioop.adpcm2lin(b"".join(p[4:] for p in payloads), 2, (0, 0))[0], np.int16)
    assert np.array_equal(got, other)


def test_l16() -> None:
    said = spoken(16_000)[:320]
    assert np.array_equal(heard(Format("l16", 16_000), [said.astype(">i2").tobytes()]), said)
    two = np.stack([said, -said], axis=1)
    how = codec(Format("l16", 44_100, 2))
    assert how is not None
    payload = two.astype(">i2").tobytes() + b"\x00"
    assert np.array_equal(how.decoder(channels=2).decode(payload), two)
    assert not how.decoder().decode(payload).any(), "mono is the mean"
    counted = np.frombuffer(payload, np.uint8), np.array([len(payload)], np.int32)
    assert (how.durations(*counted).tolist(), how.channels_of(*counted).tolist()) == ([320], [2])


@pytest.mark.parametrize("level", [40, 60, 80])
def test_comfort_noise_has_the_level_that_was_sent(level: int) -> None:
    how = codec("cn")
    assert how is not None
    first, second = how.decoder(16_000), how.decoder(16_000)
    assert not first.resting
    for decoder in (first, second):
        assert decoder.decode(bytes((level, 0x7F))).shape == (0, 1)
    noise = first.conceal(16_000, None)
    assert 20 * np.log10(noise.std() / 32768) == pytest.approx(-level, abs=0.5)
    assert np.array_equal(noise, second.conceal(16_000, None)), "the same each time"
