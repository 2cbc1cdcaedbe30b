"""Redundant audio (RFC 2198): what was lost once and came again is there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.media.redundancy import Block, blocks_of
from tests.recorder import record, samples
from tests.simulators import g711
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Impairment
from tests.simulators.signals import Speech


def red(*older: tuple[int, int, bytes], primary: tuple[int, bytes]) -> bytes:
    """A payload of older blocks (payload type, timestamp offset, bytes) and the primary one."""
    heads = b"".join(
        bytes([0x80 | kind]) + (earlier << 10 | len(coded)).to_bytes(3, "big")
        for kind, earlier, coded in older
    )
    return heads + bytes([primary[0]]) + b"".join(coded for *_, coded in older) + primary[1]


def test_the_blocks_of_a_payload():
    payload = red((5, 320, b"old"), (7, 160, b"newer"), primary=(0, b"now"))
    assert blocks_of(payload) == [Block(5, 320, b"old"), Block(7, 160, b"newer"), Block(0, 0, b"now")]
    assert blocks_of(b"\0") == [Block(0, 0, b"")]
    for size in range(len(payload) - 3):
        assert blocks_of(payload[:size]) is None
    assert blocks_of(b"\x80\0\0\0" * 17 + b"\0") is None


@given(st.binary(max_size=100))
def test_any_bytes_are_blocks_or_none(payload):
    blocks = blocks_of(payload)
    assert blocks is None or sum(len(block.coded) for block in blocks) + 4 * len(blocks) - 3 == len(payload)


@pytest.mark.parametrize("generations", [1, 2])
@pytest.mark.parametrize("burst", [1.0, 2.0])
def test_lost_packets_come_again(tmp_path, generations, burst):
    """Only what was lost in all its copies is missing, and told as lost; all else is exact."""
    said = Speech(91).window(np.arange(0, 160 * 420, 160), 160, 8000)
    coded = g711.encode("pcmu", said)
    frames = tuple(
        red(
            *(
                (0, 160 * back, coded[at - back].tobytes())
                for back in range(generations, 0, -1)
                if at >= back
            ),
            primary=(0, coded[at].tobytes()),
        )
        for at in range(len(coded))
    )
    simulator = PbxSimulator(seed=92)
    loss = Impairment(loss=0.1, burst=burst)
    script = CallScript(codec="red", talk_s=8, caller_coded=frames, callee_coded=frames, caller_network=loss)
    truth = simulator.add(script)
    recorded = record(tmp_path, simulator)
    lost = truth.caller.sent["lost"]
    there = ~lost
    for back in range(1, generations + 1):
        there[:-back] |= ~lost[back:]
    first, last = np.flatnonzero(~lost)[[0, -1]]
    row = recorded.of(truth)
    track = recorded.track(row, "caller")
    assert (track["codec"], track["packets"]) == ("pcmu", truth.caller.packets)
    assert track["lost"] == int(np.count_nonzero(~there[first:last]))
    assert track["lost"] < truth.caller.lost_between
    expected = g711.decode("pcmu", coded)[: len(lost)]
    got = samples(recorded.heard(row)[0], "caller")
    got = got[next(iter(np.flatnonzero(got))) - next(iter(np.flatnonzero(expected[first:].ravel()))) :]
    for at in np.flatnonzero(there[first:last]).tolist():
        assert np.array_equal(got[160 * at : 160 * at + 160], expected[first + at]), at
    assert recorded.call(truth)["outcome"] == "complete"
