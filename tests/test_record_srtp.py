"""SRTP whose keys are in the signalling is recorded as it was said; what cannot be opened is told, never
written.
"""

from pathlib import Path

import pytest

from recorderd.service.engine_settings import Bounds, EngineSettings
from recorderd.spool.reader import Recording
from recorderd.wire.sdes import SUITES
from tests.recorder import Recorded, assert_exact, record_files, samples
from tests.simulators.compare import place_of
from tests.simulators.pbx import EPOCH_NS, PbxSimulator
from tests.simulators.script import CallScript, Impairment, Move, Refresh
from tests.simulators.srtp import Secured, crypto_line
from tests.simulators.switchboard import Switchboard
from tests.simulators.truth import CallTruth
from tests.team import record_by_team

SECOND = 1_000_000_000
BAD = Impairment(loss=0.01, reorder=0.02, duplicate=0.01, jitter_ms=8)
WRONG = "encrypted, not recordable: the packets do not authenticate with the keys of the signalling"
PBX = "10.0.0.1"


def record(
    folder: Path, secured: Secured | None, *scripts: CallScript, seed: int = 41
) -> tuple[Recorded, list[CallTruth]]:
    simulator = PbxSimulator(seed=seed)
    truths = [simulator.add(script) for script in scripts]
    capture = simulator.write(folder / "plain.pcap")
    if secured is not None:
        capture = secured.write(capture, folder / "sealed.pcap")
    return record_files(folder, [capture]), truths


def assert_complete(recorded: Recorded, truth: CallTruth) -> None:
    assert (recorded.call(truth)["outcome"], recorded.call(truth)["reason"]) == ("complete", "")
    for side in truth.tracks.values():
        assert_exact(recorded, truth, side)
        assert recorded.track(recorded.of(truth), side.side)["packets"] == side.packets


def assert_missing(recorded: Recorded, truth: CallTruth, reason: str) -> None:
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"], call["recording"]) == ("missing", reason, None)
    assert recorded.rows == []


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_is_exact(tmp_path, suite):
    recorded, [truth] = record(tmp_path, Secured(suite), CallScript(talk_s=6))
    assert_complete(recorded, truth)
    assert recorded.engine.counters["srtp_packets_failed"] == 0
    assert recorded.engine.counters["srtp_packets_opened"] == truth.caller.packets + truth.callee.packets


@pytest.mark.parametrize(
    "secured",
    [
        Secured(mki="7:4"),
        Secured("AEAD_AES_256_GCM", mki="1:1"),
        Secured(protocol="RTP/AVP"),
        Secured(session="UNENCRYPTED_SRTP"),
        Secured(session="UNENCRYPTED_SRTCP WSH=128"),
        Secured(adorned=True),
        Secured("AEAD_AES_128_GCM", adorned=True),
        Secured(
            offers=(
                "1 F8_128_HMAC_SHA1_80 inline:x",
                crypto_line("AES_256_CM_HMAC_SHA1_80", bytes(46), tag=2),
            )
        ),
    ],
)
def test_ways_of_saying_it(tmp_path, secured):
    recorded, [truth] = record(tmp_path, secured, CallScript(talk_s=5))
    assert_complete(recorded, truth)


@pytest.mark.parametrize("adorned", [False, True])
def test_a_bad_network(tmp_path, adorned):
    script = CallScript(talk_s=20, caller_network=BAD, callee_network=BAD)
    recorded, [truth] = record(tmp_path, Secured(adorned=adorned), script)
    for side in truth.tracks.values():
        assert_exact(recorded, truth, side)
        track = recorded.track(recorded.of(truth), side.side)
        assert (track["packets"], track["lost"], track["duplicates"]) == (
            side.packets, side.lost_between, side.duplicates
        )  # fmt: skip
    assert recorded.engine.counters["srtp_packets_failed"] == 0


@pytest.mark.parametrize("suite", ["AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM"])
@pytest.mark.parametrize("first_roc", [0, 5, 40])
def test_sequence_numbers_that_wrap(tmp_path, suite, first_roc):
    """And a stream whose numbers had wrapped before anybody looked."""
    secured = Secured(suite, first_seq=65400, first_roc=first_roc)
    recorded, [truth] = record(tmp_path, secured, CallScript(talk_s=6, caller_network=BAD))
    for side in truth.tracks.values():
        assert_exact(recorded, truth, side)
        assert recorded.track(recorded.of(truth), side.side)["packets"] == side.packets
    assert recorded.engine.counters["srtp_packets_failed"] == 0


def test_every_call_with_the_wrong_key_is_missing_and_says_so(tmp_path):
    secured = Secured(lies=frozenset({"10.1.0.1", PBX}))
    recorded, [truth] = record(tmp_path, secured, CallScript(talk_s=20))
    assert_missing(recorded, truth, WRONG)
    assert recorded.engine.counters["streams_encrypted"] == 2
    assert recorded.engine.counters["srtp_packets_opened"] == 0


def test_one_side_with_the_wrong_key(tmp_path):
    recorded, [truth] = record(tmp_path, Secured(lies=frozenset({PBX})), CallScript(talk_s=8))
    assert_exact(recorded, truth, truth.caller)
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"]) == ("partial", f"no media from callee; {WRONG}")
    assert [track["label"] for track in recorded.of(truth)["tracks"]] == ["caller"]


@pytest.mark.parametrize("by", ["caller", "callee"])
@pytest.mark.parametrize("lag_ns", [30_000_000, -700_000_000])
def test_new_keys_in_mid_call(tmp_path, by, lag_ns):
    """Also where packets with the new key come before the answer that tells of it."""
    script = CallScript(talk_s=16, happenings=(Refresh(4, by, "INVITE"), Refresh(9.5, by, "INVITE")))
    plain = PbxSimulator(seed=41)
    answered = plain.add(script).answered_ns
    rekeyed = tuple(answered + round(at * SECOND) for at in (4, 9.5))
    recorded, [truth] = record(tmp_path, Secured(rekeyed_ns=rekeyed, lag_ns=lag_ns), script)
    for side in truth.tracks.values():
        assert_exact(recorded, truth, side)
        assert recorded.track(recorded.of(truth), side.side)["packets"] == side.packets
    assert recorded.call(truth)["outcome"] == "complete"
    assert recorded.engine.counters["srtp_packets_failed"] == 0


@pytest.mark.parametrize("way", ["to SRTP", "from SRTP"])
def test_srtp_begins_or_ends_in_mid_call(tmp_path, way):
    """Nothing of it is ever taken for sound that is none: a second at most is missing, and said to be."""
    script = CallScript(talk_s=12, happenings=(Refresh(5, "caller", "INVITE"),))
    at = (PbxSimulator(seed=41).add(script).answered_ns or 0) + 5 * SECOND
    secured = Secured(since_ns=at) if way == "to SRTP" else Secured(since_ns=1, until_ns=at)
    recorded, [truth] = record(tmp_path, secured, script)
    for side in truth.tracks.values():
        track = recorded.track(recorded.of(truth), side.side)
        assert side.packets - 75 < track["packets"] <= side.packets
        heard, _ = recorded.heard(recorded.of(truth))
        got, said = samples(heard, side.side), side.samples()
        lead = round((side.start_ns / 1000 - heard.start_us) * 8000 / 1e6)
        got = got[max(lead, 0) :][: len(said)]
        differs = (got != said[: len(got)]) & (got != 0)
        assert not differs.any()
    missing = side.packets - track["packets"]
    reason = recorded.call(truth)["reason"]
    assert ("recorder lost" in reason) == (missing > 0)


def test_media_before_the_answer_has_its_key(tmp_path):
    scripts = [
        CallScript(talk_s=5, callee_media_s=-1.5, ring_s=3),
        CallScript(talk_s=5, early=frozenset({"callee"}), ring_s=4, start_s=1),
        CallScript(talk_s=5, delayed_offer=True, start_s=2),
    ]
    recorded, truths = record(tmp_path, Secured(), *scripts)
    for truth in truths:
        assert_complete(recorded, truth)


def test_plain_calls_beside(tmp_path):
    """What begins while there is SRTP is looked at twice, and is recorded as ever."""
    simulator = PbxSimulator(seed=43)
    scripts = [CallScript(talk_s=4, start_s=0.7 * number, caller_network=BAD) for number in range(12)]
    truths = [simulator.add(script) for script in scripts]
    plain = simulator.write(tmp_path / "plain.pcap")
    other = PbxSimulator(seed=44)
    sealed = other.add(CallScript(talk_s=8, caller_host="10.9.0.1", callee_host="10.9.0.2", caller_port=5000))
    capture = Secured().write(other.write(tmp_path / "other.pcap"), tmp_path / "sealed.pcap")
    recorded = record_files(tmp_path, [capture, plain])
    assert_complete(recorded, sealed)
    alone = tmp_path / "alone"
    alone.mkdir()
    expected = record_files(alone, [plain])
    for truth in truths:
        for side in truth.tracks.values():
            assert_exact(recorded, truth, side)
        [row, same] = [
            [
                {k: t[k] for k in ("label", "packets", "lost", "late", "duplicates")}
                for t in each.of(truth)["tracks"]
            ]
            for each in (recorded, expected)
        ]
        assert row == same


def test_best_effort_that_is_not_answered_is_plain(tmp_path):
    """RTP/AVP with keys offered, and taken without."""
    secured = Secured(protocol="RTP/AVP", silent=frozenset({PBX}), since_ns=1 << 62)
    recorded, [truth] = record(tmp_path, secured, CallScript(talk_s=5))
    assert_complete(recorded, truth)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("a=crypto:1 F8_128_HMAC_SHA1_80 inline:x", "F8_128_HMAC_SHA1_80 is not supported"),
        ("a=fingerprint:sha-256 00:11", "DTLS-SRTP"),
        ("a=zrtp-hash:1.10 fe30efd02423cb054e50efd0248742ac7a52c8f91bc2df881ae642c371ba46df", "ZRTP"),
    ],
)
def test_what_has_no_keys_in_the_signalling(tmp_path, line, why):
    simulator = PbxSimulator(seed=45)
    truth = simulator.add(CallScript(talk_s=5))
    capture = simulator.write(tmp_path / "plain.pcap")
    secured = Secured(silent=frozenset({PBX, "10.1.0.1"}), attributes=(line,))
    recorded = record_files(tmp_path, [secured.write(capture, tmp_path / "sealed.pcap")])
    assert_missing(recorded, truth, f"encrypted, not recordable: {why}")


def test_keys_are_written_nowhere(tmp_path):
    secured = Secured()
    recorded, [truth] = record(tmp_path, secured, CallScript(talk_s=3))
    secrets = [secured.secret(host, 0) for host in ("10.1.0.1", PBX)]
    lines = [crypto_line(secured.suite, secret).split("inline:")[1].encode() for secret in secrets]
    assert lines[0] in (tmp_path / "sealed.pcap").read_bytes()
    with Recording.open(
        recorded.spool.record_path(recorded.of(truth)["id"]), recorded.identities
    ) as recording:
        shown = repr(recording.events).encode()
    files = [path.read_bytes() for path in recorded.spool.path.rglob("*") if path.is_file()]
    for text in [shown, repr(vars(recorded.engine)).encode(), *files]:
        assert not any(secret in text for secret in [*secrets, *lines])


class SealedSimulator(PbxSimulator):
    """Whose calls are SRTP, each host with keys of its own."""

    secured = Secured("AES_CM_128_HMAC_SHA1_80")

    def write(self, path: Path) -> Path:
        return self.secured.write(super().write(path.with_suffix(".plain")), path)


@pytest.mark.parametrize("count", [2, 3])
def test_several_workers_open_what_others_captured(tmp_path, count):
    simulator = SealedSimulator(seed=47)
    moves = {"nat": frozenset({"caller"}), "happenings": (Move(2), Move(4, side="callee"))}
    truths = [simulator.add(CallScript(talk_s=6, start_s=0.4 * number, **moves)) for number in range(9)]
    recorded, made = record_by_team(tmp_path, simulator, count)
    for truth in truths:
        assert_complete(recorded, truth)
    assert sum(member.counters["packets_handed_over"] for member in made.members) > 500
    assert sum(engine.counters["srtp_packets_failed"] for engine in made.engines) == 0


def test_somebody_elses_packets_are_kept_out(tmp_path):
    """Sent with the addresses, ports and SSRC of the speaker, ahead of his own with the same numbers."""
    simulator = PbxSimulator(seed=48)
    truth = simulator.add(CallScript(talk_s=10))
    sealed = Secured().write(simulator.write(tmp_path / "plain.pcap"), tmp_path / "sealed.pcap")
    data, at, seen, forged = sealed.read_bytes(), 24, 0, 0
    out = [data[:24]]
    while at < len(data):
        size = 16 + int.from_bytes(data[at + 8 : at + 12], "little")
        record, seen = data[at : at + size], seen + 1
        if record[16 + 42] >> 6 == 2 and record[16 + 26 : 16 + 30] == bytes([10, 1, 0, 1]) and not seen % 5:
            out.append(record[: 16 + 54] + bytes(reversed(record[16 + 54 :])))
            forged += 1
        out.append(record)
        at += size
    sealed.write_bytes(b"".join(out))
    recorded = record_files(tmp_path, [sealed])
    assert_complete(recorded, truth)
    assert forged > 50
    assert recorded.engine.counters["srtp_packets_failed"] == forged
    assert recorded.track(recorded.of(truth), "caller")["duplicates"] == 0
    _, events = recorded.heard(recorded.of(truth))
    told = {
        event["stream"]: (event["suite"], event["failed"]) for event in events if event["event"] == "srtp"
    }
    tracks = {event["track"]: event["stream"] for event in events if event["event"] == "stream"}
    assert told[tracks["caller"]] == ("AES_CM_128_HMAC_SHA1_80", forged)
    assert told[tracks["callee"]] == ("AES_CM_128_HMAC_SHA1_80", 0)


def test_one_wrong_key_among_many_calls(tmp_path):
    simulator = PbxSimulator(seed=49)
    truths = [simulator.add(CallScript(talk_s=4, start_s=0.3 * number)) for number in range(6)]
    lies = frozenset({"10.1.0.2", "10.1.0.5"})
    sealed = Secured("AEAD_AES_128_GCM", lies=lies)
    recorded = record_files(
        tmp_path, [sealed.write(simulator.write(tmp_path / "plain.pcap"), tmp_path / "sealed.pcap")]
    )
    for number, truth in enumerate(truths):
        if number in (1, 4):
            assert recorded.call(truth)["reason"] == f"no media from caller; {WRONG}"
        else:
            assert_complete(recorded, truth)


@pytest.mark.parametrize("only", ["caller", "callee", "both"])
def test_an_sbc_that_encrypts_on_one_side(tmp_path, only):
    """SRTP outside and RTP inside are one conversation, each speaker once."""
    board = Switchboard()
    alice, bob = board.phone("1001"), board.phone("2002")
    bridged = board.bridged(alice, bob, 1.0, 9.0, same_call_id=True)
    hosts = {"caller": frozenset({alice.host}), "callee": frozenset({bob.host}), "both": frozenset[str]()}
    capture = Secured(only=hosts[only]).write(board.write(tmp_path / "plain.pcap"), tmp_path / "sealed.pcap")
    recorded = record_files(tmp_path, [capture])
    assert {(c["outcome"], c["reason"]) for c in recorded.calls} == {("complete", "")}
    assert len({c["recording"] for c in recorded.calls}) == 1
    [row] = recorded.rows
    for label, phone in (("caller", alice), ("callee", bob)):
        heard, _ = recorded.heard(row)
        said = phone.voice.said(1.6, 9.0)
        near = round((EPOCH_NS / 1000 + 1.6e6 - heard.start_us) * 8000 / 1e6)
        assert place_of(said, samples(heard, label), near=near, within=200) is not None
        assert abs(recorded.track(row, label)["packets"] - 7.4 * 50) <= 2
    assert {leg.call_id for leg in (bridged.upstream, bridged.downstream)} == set(row["call_ids"])


def test_what_waits_is_bounded(tmp_path):
    """Streams that nobody explains take the room that there is and no more."""
    simulator = PbxSimulator(seed=50)
    for number in range(6):
        simulator.add(CallScript(talk_s=6, caller_host=f"10.7.0.{number + 1}", sip_port=7000))
    truth = simulator.add(CallScript(talk_s=3, start_s=9))
    capture = Secured().write(simulator.write(tmp_path / "plain.pcap"), tmp_path / "sealed.pcap")
    recorded = record_files(tmp_path, [capture], EngineSettings(bounds=Bounds(pending_bytes=200_000)))
    assert recorded.engine.secured.table.overflow > 0
    assert len(recorded.calls) == 1
    assert recorded.call(truth)["outcome"]
