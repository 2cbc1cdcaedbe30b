"""Encoders and decoders of telephone codecs that are not the recorder's: Debian's libraries and ffmpeg."""

import ctypes
import subprocess
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Pcm = NDArray[np.int16]


def packets(pcm: Pcm, size: int) -> list[Pcm]:
    """Cut into whole packets of ``size`` samples."""
    return list(pcm[: len(pcm) // size * size].reshape(-1, size))


def by_av(encoder: str, rate: int, pcm: Pcm, size: int, **options: str) -> list[bytes]:
    """Encode by an encoder of PyAV's FFmpeg, ``size`` samples a packet."""
    context = av.CodecContext.create(encoder, "w")
    context.sample_rate, context.layout, context.format = rate, "mono", "s16"
    bit_rate = options.pop("bit_rate", None)
    if bit_rate:
        context.bit_rate = int(bit_rate)
    context.options = options
    context.open()
    out: list[bytes] = []
    for at, part in enumerate(packets(pcm, size)):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part[None]), "s16", "mono")
        frame.sample_rate, frame.pts = rate, at * size
        out += [bytes(packet) for packet in context.encode(frame)]
    return out + [bytes(packet) for packet in context.encode(None)]


def ffmpeg(arguments: Iterable[object], given: bytes) -> bytes:
    """Run Debian's ffmpeg."""
    command = ["ffmpeg", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


def by_ffmpeg(encoder: str, muxer: str, rate: int, pcm: Pcm, *options: str) -> bytes:
    """Encode by Debian's ffmpeg into a file of its own."""
    raw = ["-f", "s16le", "-ar", rate, "-ac", 1, "-i", "-"]
    return ffmpeg([*raw, "-c:a", encoder, *options, "-f", muxer, "-"], pcm.tobytes())


def heard_by_ffmpeg(path: Path, coded: bytes, rate: int, *before: str) -> Pcm:
    """Decode a file by Debian's ffmpeg."""
    path.write_bytes(coded)
    raw = ffmpeg([*before, "-i", path, "-f", "s16le", "-ar", rate, "-ac", 1, "-"], b"")
    return np.frombuffer(raw, "<i2").astype(np.int16)


def speex_packets(pcm: Pcm, rate: int, together: int = 1, quality: int = 8) -> tuple[bytes, list[bytes]]:
    """Encode by libspeex, so many frames a packet: the file, and what its packets are."""
    options = ("-cbr_quality", str(quality), "-frames_per_packet", str(together))
    file = by_ffmpeg("libspeex", "ogg", rate, pcm, *options)
    return file, [page for page in ogg_packets(file)[2:] if page]


def ogg_packets(file: bytes) -> list[bytes]:
    """The packets of an Ogg file (RFC 3533)."""
    out, at, held = [], 0, b""
    while at < len(file):
        count = file[at + 26]
        laces = file[at + 27 : at + 27 + count]
        at += 27 + count
        for lace in laces:
            held += file[at : at + lace]
            at += lace
            if lace < 255:
                out.append(held)
                held = b""
    return out


class Bcg729:
    """Belledonne's G.729 with annexes A and B."""

    def __init__(self, *, vad: bool = False) -> None:
        self._library = library = ctypes.CDLL("libbcg729.so.0")
        pointer, byte = ctypes.c_void_p, ctypes.c_uint8
        library.initBcg729EncoderChannel.restype = library.initBcg729DecoderChannel.restype = pointer
        library.initBcg729EncoderChannel.argtypes = (byte,)
        library.bcg729Encoder.argtypes = (pointer,) * 4
        library.bcg729Decoder.argtypes = (pointer, ctypes.c_char_p, byte, byte, byte, byte, pointer)
        self._encoder = library.initBcg729EncoderChannel(vad)
        self._decoder = library.initBcg729DecoderChannel()

    def encode(self, pcm: Pcm) -> list[bytes]:
        """One frame for each 80 samples: 10 bytes, 2 for silence described, none for silence not sent."""
        out, buffer, size = [], ctypes.create_string_buffer(16), ctypes.c_uint8()
        for part in packets(pcm, 80):
            given = np.ascontiguousarray(part)
            self._library.bcg729Encoder(self._encoder, given.ctypes.data, buffer, ctypes.addressof(size))
            out.append(buffer.raw[: size.value])
        return out

    def decode(self, frames: list[bytes]) -> Pcm:
        """Decode frames; an empty one was lost, or is silence that was not sent."""
        pieces = []
        for frame in frames:
            out = np.zeros(80, np.int16)
            sid = len(frame) == 2
            self._library.bcg729Decoder(
                self._decoder, frame, len(frame), not frame, sid, False, out.ctypes.data
            )
            pieces.append(out)
        return np.concatenate(pieces)


def amr_wb(pcm: Pcm, mode: int = 8, *, dtx: bool = False) -> list[bytes]:
    """Encode by VisualOn's AMR-WB: a frame for each 320 samples, as files have it (a byte of header)."""
    library = ctypes.CDLL("libvo-amrwbenc.so.0")
    library.E_IF_init.restype = ctypes.c_void_p
    library.E_IF_encode.argtypes = (
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int,
    )
    state, buffer, out = library.E_IF_init(), ctypes.create_string_buffer(100), []
    for part in packets(pcm, 320):
        given = np.ascontiguousarray(part)
        size = library.E_IF_encode(state, mode, given.ctypes.data, buffer, dtx)
        out.append(buffer.raw[:size])
    return out


def snr_db(wanted: Pcm, got: Pcm) -> float:
    """How much stronger the wanted sound is than what differs from it."""
    size = min(len(wanted), len(got))
    error = got[:size].astype(np.float64) - wanted[:size]
    return float(10 * np.log10((wanted[:size].astype(np.float64) ** 2).sum() / max((error**2).sum(), 1e-9)))
