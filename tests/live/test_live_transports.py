"""Wireshark reads the same messages out of TCP and WebSockets as the dissector does."""

from pathlib import Path

import pytest

from recorderd.capture.files import open_capture
from recorderd.wire.dissect import Dissector
from recorderd.wire.sip import parse_sip
from tests.live.tshark import tshark
from tests.simulators.connections import Carrier, SipOver
from tests.simulators.encapsulation import ETHERNET, Encapsulation
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript

pytestmark = pytest.mark.live

Message = tuple[str, int, int]
"""Call-ID, number and status (0 of a request)."""


def ours(capture: Path) -> list[Message]:
    dissector = Dissector(frozenset({5060}))
    found = [signal for frames in open_capture(capture) for signal in dissector.feed(frames).signalling]
    messages = [parse_sip(signal.payload) for signal in found + dissector.finish()]
    return [(message.call_id, message.cseq, message.status) for message in messages]


def theirs(capture: Path, protocol: str) -> list[Message]:
    fields = ["-T", "fields", "-e", "sip.Call-ID", "-e", "sip.CSeq.seq", "-e", "sip.Status-Code"]
    options = [
        "-E",
        "aggregator=|",
        "-o",
        "tcp.check_checksum:TRUE",
        "-o",
        "tcp.reassemble_out_of_order:TRUE",
    ]
    if protocol == "ws":
        options += ["-d", "tcp.port==5060,http"]
    found: list[Message] = []
    for line in tshark(capture, "-Y", "sip.CSeq", *fields, *options).splitlines():
        calls, numbers, statuses = (column.split("|") for column in f"{line}\t".split("\t")[:3])
        statuses = statuses if statuses != [""] else [""] * len(calls)
        found += [(c, int(n), int(s or 0)) for c, n, s in zip(calls, numbers, statuses, strict=True)]
    return found


@pytest.mark.parametrize("protocol", ["tcp", "ws"])
@pytest.mark.parametrize("segment_bytes", [50, 300, 1460])
@pytest.mark.parametrize("disorder", [False, True])
def test_the_same_messages(tmp_path: Path, protocol: SipOver, segment_bytes: int, disorder: bool) -> None:
    carrier = Carrier(protocol, Encapsulation(ETHERNET), segment_bytes=segment_bytes, disorder=disorder)
    simulator = PbxSimulator(seed=5, carrier=carrier)
    for number, version in enumerate((6, 4, 4)):
        simulator.add(CallScript(talk_s=1, start_s=number * 0.5, challenge=True, ip_version=version))
    capture = simulator.write(tmp_path / "capture.pcap")
    found = ours(capture)
    assert len(found) == 30
    assert sorted(found) == sorted(theirs(capture, protocol))
