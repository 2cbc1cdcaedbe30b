"""Sends a live load at the pace of real phones, and says how late it ever was.

A process of its own, of real-time priority on the last processor, run in the sending namespace: ``LOAD
INTERFACE REPORT``. When everything is prepared it prints one line, the CLOCK_MONOTONIC nanoseconds of tick 0.
"""

import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.live.load import BYTES, PERIOD, TICK_NS, Load, payloads, speech
from tests.bench.live.transmit import Transmitter, wire
from tests.simulators.encapsulation import Encapsulation, Flow

_RTP = 14 + 20 + 8  # where RTP begins, behind Ethernet, IPv4 and UDP
_HEADER = 12
FRAME = _RTP + _HEADER + BYTES
_PCMU = 0
_PRIORITY = 50
_SOON_NS = 500_000_000


class Slot:
    """The streams that send on the same tick of each period, in the order in which they begin."""

    def __init__(self, load: Load, number: int, pool: NDArray[np.void]) -> None:
        self._load, self._pool = load, pool
        self._streams = np.flatnonzero(load.slot == number)
        self._first = load.first_tick[self._streams]
        rows = self._rows = _template(load, self._streams)
        self._marker = rows[:, _RTP + 1]
        self._seq = rows[:, _RTP + 2 : _RTP + 4].view(">u2")[:, 0]
        self._timestamp = rows[:, _RTP + 4 : _RTP + 8].view(">u4")[:, 0]
        self._payload = rows[:, _RTP + _HEADER :].view(f"V{BYTES}")[:, 0]
        self._first_seq = load.first_seq[self._streams].astype(np.int64)
        self._first_timestamp = load.first_timestamp[self._streams].astype(np.int64)

    def frames(self, tick: int) -> NDArray[np.uint8]:
        """The packets of a tick, of the streams that have begun and not ended; valid until the next call."""
        start = int(np.searchsorted(self._first, tick - PERIOD * self._load.packets, side="right"))
        end = int(np.searchsorted(self._first, tick, side="right"))
        active = slice(start, end)
        number = (tick - self._first[active]) // PERIOD
        self._marker[active] = _PCMU | (number == 0).astype(np.uint8) << 7
        self._seq[active] = self._first_seq[active] + number & 0xFFFF
        self._timestamp[active] = self._first_timestamp[active] + number * BYTES & 0xFFFFFFFF
        self._payload[active] = self._pool[self._load.payload_at(self._streams[active], number)]
        return self._rows[active]


def _template(load: Load, streams: NDArray[np.int64]) -> NDArray[np.uint8]:
    """All that stays the same of each stream's packets. Without UDP checksum, as RFC 768 allows."""
    rows = np.zeros((len(streams), FRAME), np.uint8)
    for row, stream in zip(rows, streams.tolist(), strict=True):
        header = b"\x80\0\0\0\0\0\0\0" + int(load.ssrc[stream]).to_bytes(4, "big")
        frame = Flow(*load.media(stream), Encapsulation()).frame(header + bytes(BYTES))
        row[:] = np.frombuffer(frame, np.uint8)
    rows[:, _RTP - 2 : _RTP] = 0
    return rows


def signals(load: Load) -> list[tuple[int, bytes]]:
    """Every SIP message as (tick, frame), in order of time."""
    messages = [message for call in range(load.calls) for message in load.signalling(call)]
    return sorted(
        (m.time_ns // TICK_NS, Flow(m.source, m.destination, Encapsulation()).frame(m.payload))
        for m in messages
    )


class Pace:
    """Keeps to the clock, and keeps account of it."""

    def __init__(self, begin_ns: int, ticks: int) -> None:
        self._begin_ns = begin_ns
        self.late_ns = np.zeros(ticks, np.int64)

    def wait(self, tick: int) -> None:
        """Until the time of a tick; not at all when that is over."""
        ahead = self._begin_ns + tick * TICK_NS - time.monotonic_ns()
        if ahead > 0:
            time.sleep(ahead / 1e9)

    def done(self, tick: int) -> None:
        """The packets of a tick have left: how late is told from its time to now."""
        self.late_ns[tick] = time.monotonic_ns() - self._begin_ns - tick * TICK_NS


def send(load: Load, interface: str) -> dict[str, Any]:
    """Send it all; the report."""
    pool = payloads(speech())
    slots = [Slot(load, number, pool) for number in range(PERIOD)]
    waiting = signals(load)[::-1]
    signalling, media = wire(interface), Transmitter(interface, FRAME)
    gc.collect()
    gc.disable()  # a collection would be a pause
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    begin_ns = time.monotonic_ns() + _SOON_NS
    print(begin_ns, flush=True)
    pace = Pace(begin_ns, load.ends)
    packets = messages = 0
    steady = (round(load.steady_from_s * 1000), round((load.steady_from_s + load.seconds) * 1000))
    cpu_s = []
    for tick in range(load.ends):
        pace.wait(tick)
        while waiting and waiting[-1][0] <= tick:
            signalling.send(waiting.pop()[1])
            messages += 1
        frames = slots[tick % PERIOD].frames(tick)
        media.send(frames)
        packets += len(frames)
        pace.done(tick)
        if tick in steady:
            used = resource.getrusage(resource.RUSAGE_SELF)
            cpu_s.append(used.ru_utime + used.ru_stime)
    signalling.close()
    late_ms = pace.late_ns / 1e6
    return {
        "packets": packets,
        "messages": messages,
        "late_ms_max": round(float(late_ms.max()), 3),
        "late_ms_p99": round(float(np.percentile(late_ms, 99)), 3),
        "cpu_share": round((cpu_s[1] - cpu_s[0]) / load.seconds, 4),
    }


def main(arguments: list[str]) -> int:
    load, interface, report = arguments
    Path(report).write_text(json.dumps(send(Load.from_json(load), interface)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
