"""RTCP of the simulated ends (RFC 3550 section 6.4), from what really became of each other's packets."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tests.simulators.encapsulation import Address
from tests.simulators.script import SIDES, SideName, other
from tests.simulators.truth import CallTruth, TrackTruth

SECOND = 1_000_000_000
NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970


@dataclass(frozen=True)
class Reporting:
    """How the ends report. Both are ``away_ms`` from the tap.

    ``lost_behind`` is the share of the packets at the tap that the listener never got; ``had_anyway`` of
    those lost at the tap that it did get. ``apart`` puts RTCP on other ports, ``mux`` on the stream's own.
    """

    every_s: float = 5.0
    away_ms: float = 15.0
    lost_behind: float = 0.0
    had_anyway: float = 0.0
    jitter: int = 40
    mux: bool = False
    apart: int = 0
    seed: int = 1


def reports(truth: CallTruth, how: Reporting) -> Iterator[tuple[int, Address, Address, bytes]]:
    """When each report passes the tap, from where to where, and its bytes."""
    rng = np.random.default_rng(how.seed)
    got = {side: _received(truth.tracks[side], how, rng) for side in SIDES}
    first = max(track.start_ns for track in truth.tracks.values())
    last = min(int(track.sent["sent_ns"][-1]) for track in truth.tracks.values())
    seen: dict[SideName, list[tuple[int, int]]] = {"caller": [], "callee": []}
    away = round(how.away_ms * 1e6)
    for number, time_ns in enumerate(range(first + SECOND, last, round(how.every_s * SECOND))):
        for side in SIDES:
            passes = time_ns + number * 7_000_000 + (side == "callee") * 1_234_000_000
            own = truth.tracks[side]
            source, destination = own.flows[-1]
            shift = how.apart or (0 if how.mux else 1)
            sent_ns = passes - away
            ntp = _ntp(sent_ns)
            block = _block(truth.tracks[other(side)], got[other(side)], seen[other(side)], passes, how)
            packet = _sender_report(own, sent_ns, ntp, block) + _description(own)
            seen[side].append((passes, ntp >> 16 & 0xFFFFFFFF))
            yield (
                passes,
                Address(source.host, source.port + shift),
                Address(destination.host, destination.port + shift),
                packet,
            )


def _received(track: TrackTruth, how: Reporting, rng: np.random.Generator) -> np.ndarray:
    """Which of the sent packets the listener got."""
    chance = rng.random(len(track.sent))
    return np.where(track.sent["lost"], chance < how.had_anyway, chance >= how.lost_behind)


def received_by_listener(truth: CallTruth, how: Reporting) -> dict[SideName, np.ndarray]:
    """For each side, which of its packets its listener got."""
    rng = np.random.default_rng(how.seed)
    return {side: _received(truth.tracks[side], how, rng) for side in SIDES}


def _ntp(time_ns: int) -> int:
    seconds, rest = divmod(time_ns, SECOND)
    return (seconds + NTP_EPOCH << 32) + (rest << 32) // SECOND


def _sender_report(track: TrackTruth, sent_ns: int, ntp: int, block: bytes) -> bytes:
    row = track.sent[np.searchsorted(track.sent["sent_ns"], sent_ns, "right") - 1]
    since = (sent_ns - int(row["sent_ns"])) / 1e9 * track.clock_rate * (1 + track.drift_ppm * 1e-6)
    timestamp = (int(row["timestamp"]) + round(since)) & 0xFFFFFFFF
    body = struct.pack(">IQIII", int(row["ssrc"]), ntp, timestamp, 1000, 160_000) + block
    return struct.pack(">BBH", 0x80 | len(block) // 24, 200, len(body) // 4) + body


def _description(track: TrackTruth) -> bytes:
    """RFC 3550 section 6.5: a CNAME, which every compound packet has."""
    chunk = struct.pack(">IBB", track.ssrcs[0], 1, 7) + b"a@b.cde" + b"\0" * 3
    return struct.pack(">BBH", 0x81, 202, len(chunk) // 4) + chunk


def _block(
    track: TrackTruth, got: np.ndarray, seen: list[tuple[int, int]], passes: int, how: Reporting
) -> bytes:
    """What the listener of a track says of it, as it sends it to pass the tap at ``passes``."""
    sent_ns, away = passes - round(how.away_ms * 1e6), round(how.away_ms * 1e6)
    here = np.flatnonzero(got & (track.sent["seen_ns"] + away <= sent_ns))
    if not len(here):
        return b""
    first, last = int(here[0]), int(here[-1])
    lost = last - first + 1 - len(here)
    highest = int(track.sent["seq"][first]) + last - first
    arrived = [(at + away, ntp) for at, ntp in seen if at + away <= sent_ns]
    at, middle = arrived[-1] if arrived else (sent_ns, 0)
    delay = round((sent_ns - at) / 1e9 * 65536)
    ssrc = int(track.sent["ssrc"][last])
    return struct.pack(">IIIIII", ssrc, lost & 0xFFFFFF, highest, how.jitter, middle, delay)
