import json
import shutil
import struct
import zlib

import pytest

from recorderd.errors import NoSuchRecording, SpoolCorrupt, WrongKey
from recorderd.spool.container import (
    TAG,
    Kind,
    RecordSealer,
    StreamTally,
    end_plaintext,
    json_plaintext,
    pack_media,
    runs_of,
)
from recorderd.spool.header import DATA_KEY_BYTES, Core, new_header
from recorderd.spool.keys import Identity
from recorderd.spool.reader import COMPLETE, CORRUPT, RECOVERED_PREFIX, Recording
from tests.spool_builder import STARTED_US, fill, make_desk, window


@pytest.fixture
def desk(tmp_path):
    return make_desk(tmp_path)


def opened(path, desk, **more):
    with Recording.open(path, [desk.identity], **more) as recording:
        media = list(recording.media())
        return recording.status, len(media), recording.problems


def test_a_wrong_key_says_whose_key_is_wanted(desk):
    sealed = desk.record()
    with pytest.raises(WrongKey, match=desk.recipient.id.hex()):
        Recording.open(sealed.path, [Identity("x25519", bytes(32))])
    with pytest.raises(WrongKey):
        Recording.open(sealed.path, [])


def test_a_missing_file_is_no_such_recording(desk, tmp_path):
    with pytest.raises(NoSuchRecording):
        Recording.open(tmp_path / "nothing.rec", [desk.identity])


@pytest.mark.parametrize("content", [b"", b"\x89REC\r\n\x1a\n", b"RIFF" * 100])
def test_what_is_no_recording_is_corrupt_and_named(desk, tmp_path, content):
    path = tmp_path / "odd.rec"
    path.write_bytes(content)
    with pytest.raises(SpoolCorrupt, match=r"odd\.rec: header"):
        Recording.open(path, [desk.identity])


def test_a_recording_under_anothers_name_is_refused(desk, tmp_path):
    first, second = desk.record(0), desk.record(1)
    shutil.copy(second.path, first.path)
    with pytest.raises(SpoolCorrupt, match=f"holds the recording {second.recording}, not {first.recording}"):
        Recording.open(first.path, [desk.identity])
    anywhere = tmp_path / "any.rec"
    shutil.copy(second.path, anywhere)
    shutil.copy(desk.spool.slot_path(second.recording), tmp_path)
    assert opened(anywhere, desk)[0] == COMPLETE
    assert opened(anywhere, desk, expected_id=second.recording)[0] == COMPLETE
    with pytest.raises(SpoolCorrupt, match=r"any\.rec: holds"):
        Recording.open(anywhere, [desk.identity], expected_id=first.recording)


def test_a_call_in_progress_can_be_read(desk):
    writer = desk.start()
    fill(writer, 2)
    assert opened(writer.path, desk)[:2] == (RECOVERED_PREFIX, 2)
    writer.media(*window(2))
    assert opened(writer.path, desk)[:2] == (RECOVERED_PREFIX, 3)


def test_without_its_manifest_a_whole_file_is_complete_and_a_cut_one_a_prefix(desk):
    sealed = desk.record(windows=2)
    data = sealed.path.read_bytes()
    sealed.manifest_path.unlink()
    assert opened(sealed.path, desk) == (COMPLETE, 2, ())
    sealed.path.write_bytes(data[:-1])
    status, media, problems = opened(sealed.path, desk)
    assert (status, media) == (RECOVERED_PREFIX, 2)
    assert "no end record" in problems[0]


def test_with_its_manifest_a_cut_file_is_corrupt(desk):
    sealed = desk.record(windows=2)
    sealed.path.write_bytes(sealed.path.read_bytes()[:-1])
    assert opened(sealed.path, desk)[0] == CORRUPT


def test_what_a_corrupt_file_gives_out_is_authentic(desk):
    """Never anything but what was sealed, and never more: up to the damage."""
    sealed = desk.record(windows=4)
    data = sealed.path.read_bytes()
    for at in range(400, len(data), 37):
        damaged = bytearray(data)
        damaged[at] ^= 4
        sealed.path.write_bytes(damaged)
        with Recording.open(sealed.path, [desk.identity]) as recording:
            assert recording.status == CORRUPT
            for number, media in enumerate(recording.media()):
                _, rows, payload = window(number)
                assert (media.rows == rows).all()
                assert (media.payload == payload).all()


def test_a_damaged_key_slot_is_corruption_and_no_wrong_key(desk):
    sealed = desk.record()
    data = bytearray(sealed.path.read_bytes())
    # In the wrapped key, with a right checksum: nobody's accident.
    length = struct.unpack_from("<I", data, 12)[0]
    data[length - 10] ^= 1
    data[length - 4 : length] = struct.pack("<I", zlib.crc32(data[: length - 4]))
    sealed.path.write_bytes(data)
    with pytest.raises(SpoolCorrupt, match="damaged"):
        Recording.open(sealed.path, [desk.identity])


# Forgeries by one who has the data key, or a faulty writer: the checks behind the tags


def forge(desk, *records, name="20261121T200501Z-0123456789"):
    """A file of these (kind, plaintext) records, sealed properly."""
    core = Core(name, "pbx", STARTED_US)
    header, keys = new_header(core, bytes(DATA_KEY_BYTES), bytes(32), [desk.recipient.wrap])
    sealer = RecordSealer(header, keys)
    path = desk.spool.path / f"{name}.rec"
    path.write_bytes(header.raw + b"".join(sealer.seal(kind, 0, plaintext) for kind, plaintext in records))
    return path


def end(**changes):
    return Kind.END, json_plaintext(
        {"records": 0, "refused_packets": 0, "streams": [], "summary": {}, **changes}
    )


def media(number=0, rows=None):
    base, right, payload = window(number)
    return Kind.MEDIA, pack_media(base, (right if rows is None else rows).tobytes(), payload.tobytes())


def test_a_forged_file_that_is_right_is_complete(desk):
    assert opened(forge(desk, end()), desk) == (COMPLETE, 0, ())


@pytest.mark.parametrize(
    "records",
    [
        [end(records=1)],
        [end(streams=[{"stream": 0}])],
        [end(summary="none")],
        [(Kind.END, b"[]")],
        [(Kind.END, b"{")],
        [media(), end()],
        [media(), end(records=1)],
        [(Kind.EVENT, b"no json"), end(records=1)],
        [(Kind.MEDIA, b"short"), end(records=1)],
        [media(rows=window(0)[1][::-1]), end(records=1)],
        [end(), end()],
        [end(), media()],
    ],
)
def test_an_end_that_does_not_agree_is_corrupt(desk, records):
    with Recording.open(forge(desk, *records), [desk.identity]) as recording:
        assert recording.status == CORRUPT
        assert recording.problems


def test_records_in_each_others_place_are_corrupt(desk):
    """Sealed anew, with the true keys, before the end record that was right for their order."""
    header, keys = new_header(
        Core("20261121T200501Z-0123456789", "pbx", STARTED_US),
        bytes(DATA_KEY_BYTES),
        bytes(32),
        [desk.recipient.wrap],
    )
    sealer, tally = RecordSealer(header, keys), StreamTally()
    for number in (0, 1):
        rows = window(number)[1].tobytes()
        tally.add(rows, runs_of(rows, window(number)[2].size), sealer.seal(*media_at(number))[TAG])
    the_end = end_plaintext(2, 0, tally, {})
    path = desk.spool.path / f"{header.core.recording}.rec"
    for order, status in (((0, 1), COMPLETE), ((1, 0), CORRUPT)):
        sealer = RecordSealer(header, keys)
        records = [sealer.seal(*media_at(number)) for number in order]
        path.write_bytes(b"".join((header.raw, *records, sealer.seal(Kind.END, 0, the_end))))
        assert opened(path, desk)[0] == status


def media_at(number):
    kind, plaintext = media(number)
    return kind, 0, plaintext


def test_reserved_records_are_authenticated_and_passed_over(desk):
    path = forge(desk, (Kind.INDEX, b"of a later version"), end(records=1))
    assert opened(path, desk) == (COMPLETE, 0, ())


def test_a_manifest_of_another_file_is_told(desk):
    sealed, other = desk.record(0), desk.record(1)
    sealed.manifest_path.write_bytes(other.manifest_path.read_bytes())
    status, _, problems = opened(sealed.path, desk)
    assert status == CORRUPT
    assert "another file" in problems[0]


def test_the_events_and_the_summary_are_given_out(desk):
    writer = desk.start()
    events = [{"event": "hold", "time_us": STARTED_US + number, "text": "Grüße 李"} for number in range(3)]
    for event in events:
        writer.event(event)
    sealed = writer.seal({"tracks": [1, {"a": None}]}, public={})
    with Recording.open(sealed.path, [desk.identity]) as recording:
        assert recording.events == events
        assert recording.summary == {"tracks": [1, {"a": None}]}
        assert json.dumps(recording.streams) == "[]"
        assert recording.id == sealed.recording
