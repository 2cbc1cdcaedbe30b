"""Where the files of a recording stand, and what they are called."""

import pytest

from recorderd.errors import NoSuchRecording
from recorderd.spool.layout import (
    DAMAGED_SUFFIX,
    MANIFEST_SUFFIX,
    PART_SUFFIX,
    RECORD_SUFFIX,
    SLOT_SUFFIX,
    Spool,
    is_recording_id,
    new_recording_id,
)

ID = "20261121T200501Z-0123456789"
SECOND = 1_000_000_000


def test_all_paths_begin_with_the_stem(tmp_path):
    spool = Spool(tmp_path)
    assert spool.stem(ID) == f"{tmp_path}/recordings/2026-11-21/{ID}"
    paths = {
        PART_SUFFIX: spool.part_path(ID),
        RECORD_SUFFIX: spool.record_path(ID),
        MANIFEST_SUFFIX: spool.manifest_path(ID),
        SLOT_SUFFIX: spool.slot_path(ID),
        DAMAGED_SUFFIX: spool.damaged_path(ID),
    }
    for suffix, path in paths.items():
        assert str(path) == spool.stem(ID) + suffix


@pytest.mark.parametrize(
    "text", ["", ID + "/", "../" + ID, ID.replace("2026", "20/6"), ID + "\0", ID.lower()]
)
def test_what_is_no_id_has_no_path(tmp_path, text):
    with pytest.raises(NoSuchRecording):
        Spool(tmp_path).stem(text)
    with pytest.raises(NoSuchRecording):
        Spool(tmp_path).folder(text)


def test_ids_tell_the_second_and_differ_within_it():
    seconds = range(1_795_291_501, 1_795_291_504)
    ids = [new_recording_id(second * SECOND + ns) for second in seconds for ns in (0, 1, SECOND - 1)]
    assert all(map(is_recording_id, ids))
    assert len(set(ids)) == len(ids)
    starts = [one.partition("-")[0] for one in [*ids, new_recording_id(seconds[0] * SECOND)]]
    assert starts == [
        *["20261121T200501Z"] * 3,
        *["20261121T200502Z"] * 3,
        *["20261121T200503Z"] * 3,
        "20261121T200501Z",
    ]
