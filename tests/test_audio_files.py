"""Files written, against what ffmpeg, sox, opusdec and the standard library read from them."""

import json
import resource
import subprocess
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from recorderd.codecs.files import AudioTrack, FileFormat, write_audio, write_tracks
from tests.speech import pcm, speech

Pcm = NDArray[np.int16]
FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
RATES = (8000, 12000, 16000, 24000, 48000)


def _blocks(samples: Pcm, size: int = 777) -> Iterator[Pcm]:
    for at in range(0, len(samples), size):
        yield samples[at : at + size]


def _noise(count: int, channels: int = 1, seed: int = 0) -> Pcm:
    return np.random.default_rng(seed).integers(-32768, 32768, (count, channels), dtype=np.int16)


def _read(path: Path, *options: str) -> bytes:
    command: list[str | Path] = ["ffmpeg", "-v", "error", "-i", path, *options, "-f", "s16le", "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def _probe(path: Path) -> dict[str, Any]:
    show = ["-show_format", "-show_streams", "-show_chapters"]
    command: list[str | Path] = ["ffprobe", "-v", "error", "-of", "json", *show, path]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def _lower(tags: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in tags.items()}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 48000])
@pytest.mark.parametrize("fmt", ["wav", "flac", "mka"])
def test_every_sample_is_kept(tmp_path: Path, fmt: FileFormat, rate: int, channels: int) -> None:
    samples, path = _noise(10_001, channels), tmp_path / f"a.{fmt}"
    write_audio(path, fmt, rate, _blocks(samples))
    assert _read(path) == samples.tobytes()
    (stream,) = _probe(path)["streams"]
    assert (int(stream["sample_rate"]), stream["channels"]) == (rate, channels)
    assert list(tmp_path.iterdir()) == [path]


def test_a_wav_is_plain_for_others(tmp_path: Path) -> None:
    samples, path = _noise(8_001, 2), tmp_path / "a.wav"
    write_audio(path, "wav", 8000, _blocks(samples))
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth(), file.getnframes()) == (
            8000,
            2,
            2,
            8001,
        )
        assert file.readframes(8001) == samples.tobytes()
    by_sox = subprocess.run(["sox", path, "-t", "raw", "-"], capture_output=True, check=True).stdout
    assert by_sox == samples.tobytes()


def test_a_flac_is_plain_for_others(tmp_path: Path) -> None:
    samples, path = _noise(8_001, 2), tmp_path / "a.flac"
    write_audio(path, "flac", 16000, _blocks(samples))
    by_sox = subprocess.run(["sox", path, "-t", "raw", "-"], capture_output=True, check=True).stdout
    assert by_sox == samples.tobytes()


@pytest.mark.parametrize("fmt", FORMATS)
def test_mono_may_come_in_flat_blocks(tmp_path: Path, fmt: FileFormat) -> None:
    samples = pcm(speech())[:8000]
    write_audio(tmp_path / "flat", fmt, 8000, _blocks(samples))
    write_audio(tmp_path / "column", fmt, 8000, _blocks(samples[:, None]))
    assert (tmp_path / "flat").read_bytes() == (tmp_path / "column").read_bytes()


@pytest.mark.parametrize(("rate", "channels"), [*((rate, 1) for rate in RATES), (48000, 2)])
def test_opus_is_the_same_sound_in_the_same_place(tmp_path: Path, rate: int, channels: int) -> None:
    spoken = pcm(speech(rate))[: 4 * rate]
    samples = np.stack([spoken, np.roll(spoken, rate)][:channels], axis=1)
    path = tmp_path / "a.opus"
    write_audio(path, "opus", rate, _blocks(samples))
    raw = subprocess.run(
        ["opusdec", "--quiet", "--rate", "48000", path, "-"], capture_output=True, check=True
    ).stdout
    got = np.frombuffer(raw, "<i2").reshape(-1, channels).astype(np.float64)
    assert len(got) == 4 * 48000
    # A codec of waveforms keeps the wave, and its place to some 40 us (Opus' two halves differ by as much).
    for channel in range(channels):
        wanted = samples[:, channel].astype(np.float64)
        likeness = {
            shift: float(np.corrcoef(wanted, np.roll(got[:, channel], shift)[:: 48000 // rate])[0, 1])
            for shift in range(-5, 6)
        }
        best = max(likeness, key=lambda shift: likeness[shift])
        assert abs(best) <= 2
        assert likeness[best] > 0.95


def test_tags_are_for_the_whole_file(tmp_path: Path) -> None:
    tags = {"title": "138****5678 → 1001", "comment": "recorded"}
    for fmt in ("flac", "opus", "mka"):
        path = tmp_path / f"a.{fmt}"
        write_audio(path, fmt, 8000, _blocks(_noise(800)), tags=tags)
        found = _probe(path)
        stored = _lower(found["format"].get("tags", {})) | _lower(found["streams"][0].get("tags", {}))
        assert {name: stored.get(name) for name in tags} == tags, fmt


@pytest.mark.parametrize("fmt", FORMATS)
def test_the_same_samples_give_the_same_bytes(tmp_path: Path, fmt: FileFormat) -> None:
    samples = _noise(20_000, 2)
    write_audio(tmp_path / "one", fmt, 8000, _blocks(samples, 160), tags={"title": "a"})
    write_audio(tmp_path / "two", fmt, 8000, _blocks(samples, 160), tags={"title": "a"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_file_without_samples_is_a_file(tmp_path: Path, fmt: FileFormat) -> None:
    path = tmp_path / f"a.{fmt}"
    write_audio(path, fmt, 8000, iter([]))
    assert not any(_read(path))
    assert _probe(path)["streams"][0]["channels"] == 1


def test_each_speaker_has_a_track(tmp_path: Path) -> None:
    path = tmp_path / "call.mka"
    caller, callee, third = _noise(80_000, seed=1), _noise(48_000, 2, seed=2), _noise(100, seed=3)
    tracks = [
        AudioTrack("caller", 8000, _blocks(caller), {"language": "eng"}),
        AudioTrack("callee", 16000, _blocks(callee, 320)),
        AudioTrack("supervisor", 48000, _blocks(third)),
    ]
    write_tracks(
        path, tracks, tags={"title": "a call"}, chapters=[(0, "start"), (1.25, "invoice"), (9.5, "thanks")]
    )
    for number, samples in enumerate([caller, callee, third]):
        assert _read(path, "-map", f"0:a:{number}") == samples.tobytes()
    found = _probe(path)
    assert [stream["tags"]["title"] for stream in found["streams"]] == ["caller", "callee", "supervisor"]
    assert found["streams"][0]["tags"]["language"] == "eng"
    assert _lower(found["format"]["tags"])["title"] == "a call"
    assert float(found["format"]["duration"]) == pytest.approx(10)
    chapters = [(float(c["start_time"]), float(c["end_time"]), c["tags"]["title"]) for c in found["chapters"]]
    assert chapters == [(0, 1.25, "start"), (1.25, 9.5, "invoice"), (9.5, 10, "thanks")]


def test_tracks_of_opus(tmp_path: Path) -> None:
    path = tmp_path / "call.mka"
    spoken = pcm(speech())[:32_000]
    write_tracks(
        path, [AudioTrack(title, 8000, _blocks(spoken)) for title in ("caller", "callee")], codec="opus"
    )
    assert [stream["codec_name"] for stream in _probe(path)["streams"]] == ["opus", "opus"]
    heard = np.frombuffer(_read(path, "-map", "0:a:1", "-ar", "8000"), "<i2").astype(np.float64)[:32_000]
    assert len(heard) > 31_900
    assert np.corrcoef(heard, spoken[: len(heard)])[0, 1] > 0.95


# Streaming


def test_samples_are_on_the_disk_before_all_are_there(tmp_path: Path) -> None:
    block = _noise(48_000, 2)
    behind = []

    def watched() -> Iterator[Pcm]:
        for number in range(40):
            written = sum(path.stat().st_size for path in tmp_path.iterdir())
            behind.append(number * block.nbytes - written)
            yield block

    write_audio(tmp_path / "a.wav", "wav", 48000, watched())
    assert max(behind) <= 2 * block.nbytes


def test_tracks_advance_together(tmp_path: Path) -> None:
    taken = [0.0, 0.0]
    apart: list[float] = []

    def watched(index: int, rate: int, size: int) -> Iterator[Pcm]:
        for _ in range(rate * 60 // size):
            taken[index] += size / rate
            apart.append(abs(taken[0] - taken[1]))
            yield np.zeros((size, 1), np.int16)

    write_tracks(
        tmp_path / "a.mka",
        [
            AudioTrack("caller", 8000, watched(0, 8000, 160)),
            AudioTrack("callee", 16000, watched(1, 16000, 16000)),
        ],
    )
    assert max(apart) <= 1.05


# What goes wrong


@contextmanager
def _file_size_limit(limit: int) -> Iterator[None]:
    """Writing beyond ``limit`` bytes of a file fails with EFBIG, as it does with ENOSPC on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [0, 10, 1000, 30_000, 40_000])
@pytest.mark.parametrize("fmt", FORMATS)
def test_a_failed_write_leaves_nothing(tmp_path: Path, fmt: FileFormat, limit: int) -> None:
    (tmp_path / "a").write_bytes(b"as it was")
    with _file_size_limit(limit), pytest.raises(OSError, match="File too large"):
        write_audio(tmp_path / "a", fmt, 48000, _blocks(_noise(500_000, 2)))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"as it was"


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_failure_at_the_very_end_is_seen(tmp_path: Path, fmt: FileFormat) -> None:
    """The last bytes are written when the file is closed; FFmpeg does not look at the result."""
    samples = _noise(8_000)
    write_audio(tmp_path / "whole", fmt, 8000, _blocks(samples))
    size = (tmp_path / "whole").stat().st_size
    for short in (1, 10, 100):
        with _file_size_limit(size - short), pytest.raises(OSError, match="File too large"):
            write_audio(tmp_path / "a", fmt, 8000, _blocks(samples))
    with _file_size_limit(size):
        write_audio(tmp_path / "a", fmt, 8000, _blocks(samples))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "whole"]


@pytest.mark.parametrize("fmt", FORMATS)
def test_samples_that_cannot_be_had_leave_nothing(tmp_path: Path, fmt: FileFormat) -> None:
    class Damaged(Exception):
        pass

    def broken() -> Iterator[Pcm]:
        yield _noise(100_000)
        raise Damaged

    with pytest.raises(Damaged):
        write_audio(tmp_path / "a", fmt, 8000, broken())
    assert not list(tmp_path.iterdir())


def test_errors_of_the_file_system_come_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_audio(tmp_path / "nowhere" / "a.wav", "wav", 8000, _blocks(_noise(10)))
    # Nobody, root included, makes files here.
    with pytest.raises(PermissionError):
        write_audio(Path("/sys/a.wav"), "wav", 8000, _blocks(_noise(10)))
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_audio(tmp_path / "folder", "wav", 8000, _blocks(_noise(10)))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
