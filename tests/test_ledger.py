"""The ledger's files: what was acknowledged is there after any death, and nothing is signed that contradicts
what was."""

import contextlib
import errno
import hashlib
import multiprocessing
import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.errors import DiskFull, SpoolCorrupt, SpoolError
from recorderd.spool.canonical import canonical_json
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_bundles import bundle_name, number_path, pack, tile_name, unpack
from recorderd.spool.ledger_check import check_ledger
from recorderd.spool.ledger_entries import MAX_ENTRY, MAX_SUBJECT, Entry, call_subject
from recorderd.spool.ledger_history import split_notes
from recorderd.spool.merkle import leaf_hash, root
from recorderd.spool.note import unsigned
from recorderd.spool.signing import HostKey
from tests.forked import forked, told_by
from tests.test_recovery import die_at

BATCHES = (3, 1, 260, 2, 300)


def entry(number: int) -> Entry:
    return Entry("call", number, f"call-{number}", {"n": number})


def some(first: int, count: int) -> list[Entry]:
    return [entry(number) for number in range(first, first + count)]


@pytest.fixture
def key(tmp_path: Path) -> HostKey:
    return HostKey.load_or_create(tmp_path / "host.key")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


# Entries


def test_an_entry_has_one_spelling_and_is_read_again() -> None:
    one = Entry("alert", 5, "review\u0661", {"b": [1, None, True], "a": {"x": "\u00e4"}})
    data = one.to_bytes()
    assert data == canonical_json(
        {"fields": one.fields, "kind": "alert", "subject": one.subject, "time_us": 5}
    )
    assert Entry.from_bytes(data) == one
    for other in (
        data + b" ",
        data.replace(b":5", b":05"),
        data[:-1],
        b"[]",
        b"{}",
        b'{"a":1}',
        b"",
        b"\xff",
    ):
        with pytest.raises(SpoolCorrupt):
            Entry.from_bytes(other)


def test_what_a_peer_sent_is_bounded() -> None:
    deep: object = "x"
    for _ in range(100):
        deep = [deep]
    wide = {"text": "y" * 10_000, "deep": deep, "many": list(range(10_000)), "float": 1.5, "bytes": b"z"}
    got = Entry.from_bytes(Entry("call", 1, "s" * 10_000, wide).to_bytes())
    assert len(got.subject) == MAX_SUBJECT
    assert got.fields["float"] == "1.5"
    assert len(got.fields["text"]) == 2003
    assert len(got.fields["many"]) == 200
    huge = Entry("call", 1, "s", {str(n): "\U0001f600" * 2_000 for n in range(100)}).to_bytes()
    assert len(huge) <= MAX_ENTRY
    assert set(Entry.from_bytes(huge).fields) == {"left_out_sha256"}


def test_an_unknown_kind_is_refused_where_it_is_made_and_read_where_it_is_not() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        Entry("nonsense", 1, "x").to_bytes()
    later = Entry("call", 1, "x").to_bytes().replace(b'"call"', b'"later"')
    assert Entry.from_bytes(later).kind == "later"


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
            lambda inner: (
                st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
            ),
            max_leaves=12,
        ),
        max_size=6,
    )
)
def test_any_fields_make_an_entry_that_is_read_again(fields) -> None:
    data = Entry("alert", 1, "x", fields).to_bytes()
    again = Entry.from_bytes(data)
    assert again.to_bytes() == data


def test_a_call_is_told_from_another_one_with_its_call_id() -> None:
    assert call_subject("2026-11-21T20:05:01.000Z", "a@b") == "2026-11-21T20:05:01.000Z/a@b"


# Files


def test_names_are_those_of_tiled_logs() -> None:
    names = [number_path(number) for number in (0, 5, 999, 1000, 1234067)]
    assert names == ["000", "005", "999", "x001/000", "x001/x234/067"]
    assert bundle_name(1000) == "tile/entries/x001/000"
    assert bundle_name(0, 17) == "tile/entries/000.p/17"
    assert tile_name(2, 7) == "tile/2/007"


@given(st.binary(max_size=400))
def test_any_bytes_are_a_bundle_or_damage(data: bytes) -> None:
    with contextlib.suppress(SpoolCorrupt):
        assert pack(unpack(data)) == data


def test_entries_are_where_the_document_says(ledger: Ledger, key: HostKey) -> None:
    assert ledger.size == 0
    assert ledger.append([]) == range(0)
    assert ledger.append(some(0, 300)) == range(300)
    assert ledger.append(some(300, 300)) == range(300, 600)
    sizes = []
    for number in range(3):
        data = (ledger.path / bundle_name(number)).read_bytes()
        found = list(unpack(data))
        sizes.append(len(found))
        assert found == [entry(number * 256 + at).to_bytes() for at in range(len(found))]
    assert sizes == [256, 256, 88]
    assert [Entry.from_bytes(data) for data in ledger.entries(254, 258)] == some(254, 4)
    ledger.checkpoint(key)
    hashes = b"".join(leaf_hash(data) for data in ledger.entries())
    assert b"".join((ledger.path / tile_name(0, number)).read_bytes() for number in range(3)) == hashes
    mode = stat.S_IMODE((ledger.path / bundle_name(0)).stat().st_mode)
    assert not mode & 0o007


def test_many_bundles_lie_in_folders(ledger: Ledger, key: HostKey) -> None:
    """As if a thousand were there: the first of the next folder."""
    ledger.append(some(0, 256))
    for number in range(1, 1001):
        path = ledger.path / bundle_name(number)
        path.parent.mkdir(exist_ok=True)
        os.link(ledger.path / bundle_name(0), path)
    fresh = Ledger(ledger.path)
    assert fresh.append([entry(7)]).start == 1001 * 256
    assert (ledger.path / "tile/entries/x001/001").exists()
    signed = fresh.checkpoint(key)
    assert signed.size == 1001 * 256 + 1
    hashes = [leaf_hash(data) for data in fresh.entries()]
    assert signed.root == root(hashes)
    assert fresh.tiles.root(66_000) == root(hashes[:66_000])


def test_every_size_has_its_root(ledger: Ledger, key: HostKey) -> None:
    done, hashes = 0, [leaf_hash(entry(number).to_bytes()) for number in range(sum(BATCHES))]
    for count in BATCHES:
        ledger.append(some(done, count))
        done += count
        assert ledger.checkpoint(key).root == root(hashes[:done])
    for size in range(done + 1):
        assert ledger.tiles.root(size) == root(hashes[:size])
    assert [unsigned(note).size for note in ledger.history.notes()] == [3, 4, 264, 266, 566]
    assert ledger.checkpoint(key).size == done
    assert len(list(ledger.history.notes())) == len(BATCHES)


def test_lost_tiles_are_made_again(ledger: Ledger, key: HostKey) -> None:
    ledger.append(some(0, 700))
    ledger.checkpoint(key)
    shutil.rmtree(ledger.path / "tile/0")
    (ledger.path / tile_name(1, 0)).write_bytes(b"nonsense")
    ledger.append(some(700, 5))
    assert Ledger(ledger.path).checkpoint(key).root == root(leaf_hash(data) for data in ledger.entries())


# Several processes


def _append(path: Path, first: int) -> None:
    ledger = Ledger(path)
    for number in range(20):
        ledger.append([Entry("call", number, f"{first}", {"n": each}) for each in range(7)])


def test_processes_append_together(ledger: Ledger, key: HostKey) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append, args=(ledger.path, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        ledger.checkpoint(key)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    ledger.checkpoint(key)
    found = [Entry.from_bytes(data) for data in ledger.entries()]
    assert len(found) == 420
    for number in range(3):  # nobody's entries were mixed up or lost
        own = [(each.time_us, each.fields["n"]) for each in found if each.subject == str(number)]
        assert own == [(time, n) for time in range(20) for n in range(7)]
    verdict = check_ledger(ledger.path, key.public)
    assert verdict.ok, verdict.problems


# Deaths


DEATHS = (2, 260)


def append_and_tell(ledger: Ledger, key: HostKey, tell) -> None:
    done = 0
    for count in DEATHS:
        ledger.append(some(done, count))
        done += count
        tell(b"%d " % done)
        ledger.checkpoint(key)
        tell(b"signed%d " % done)


@pytest.mark.parametrize("moment", ["half", "after"])  # before one is after the one before
def test_killed_at_each_act_on_the_disk(tmp_path: Path, key: HostKey, moment: str) -> None:
    operation, whole = 0, False
    while not whole:
        operation += 1
        ledger = Ledger(tmp_path / str(operation))

        def run(tell, at: int = operation, ledger: Ledger = ledger) -> None:
            die_at(at, moment)
            append_and_tell(ledger, key, tell)

        told = told_by(*forked(run))
        acknowledged = max([0, *(int(word) for word in told if word.isdigit())])
        signed = max([0, *(int(word[6:]) for word in told if word.startswith(b"signed"))])
        whole = signed == sum(DEATHS)
        # As the next start does: it enters more, and signs.
        fresh = Ledger(ledger.path)
        before = fresh.size
        assert before >= acknowledged, (operation, told)
        assert fresh.append([entry(9999)]).start == before
        assert [Entry.from_bytes(data) for data in fresh.entries(0, before)] == some(0, before)
        assert fresh.checkpoint(key).size == before + 1
        verdict = check_ledger(fresh.path, key.public)
        assert verdict.ok, (operation, verdict.problems)
        assert not verdict.notes
        assert signed <= verdict.signed
        shutil.rmtree(ledger.path)
    assert operation > 40


def test_what_is_torn_is_put_aside_and_told(ledger: Ledger) -> None:
    ledger.append(some(0, 5))
    bundle = ledger.path / bundle_name(0)
    torn = pack([entry(5).to_bytes()])[:-4]
    bundle.write_bytes(bundle.read_bytes() + torn)
    fresh = Ledger(ledger.path)
    assert fresh.size == 5
    assert fresh.append([entry(6)]) == range(5, 6)
    (aside,) = ledger.path.glob("torn-5-*")
    assert aside.read_bytes() == torn
    assert aside.name.endswith(hashlib.sha256(torn).hexdigest()[:8])
    assert len(fresh.repairs) == 1
    assert [Entry.from_bytes(data) for data in fresh.entries()] == [*some(0, 5), entry(6)]


@pytest.mark.parametrize("tail", [bytes(40), b"\0\x05{}   ", b"\xff" * 70_000])
def test_zeros_and_rubbish_behind_the_end_are_torn(ledger: Ledger, tail: bytes) -> None:
    ledger.append(some(0, 5))
    bundle = ledger.path / bundle_name(0)
    bundle.write_bytes(bundle.read_bytes() + tail)
    assert Ledger(ledger.path).append(some(5, 1)) == range(5, 6)
    assert [Entry.from_bytes(data) for data in ledger.entries()] == some(0, 6)


# Disks that fail


@pytest.mark.parametrize("call", ["write", "fdatasync", "fsync", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_leaves_the_ledger_as_it_was(
    ledger: Ledger, key: HostKey, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    ledger.append(some(0, 250))
    ledger.checkpoint(key)
    real = getattr(os, call)
    for attempt in range(1, 30):
        left = [attempt]

        def refuse(*arguments, left=left, **keywords):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(number, os.strerror(number))
            return real(*arguments, **keywords)

        monkeypatch.setattr(os, call, refuse)
        failed = None
        try:
            ledger.append(some(250, 300))
        except (DiskFull, SpoolError) as error:
            failed = error
        monkeypatch.setattr(os, call, real)
        if failed is None:
            break
        assert isinstance(failed, DiskFull) == (number == errno.ENOSPC)
        assert Ledger(ledger.path).size == 250
        assert check_ledger(ledger.path, key.public).ok
    assert attempt > 1
    assert [Entry.from_bytes(data) for data in ledger.entries()] == some(0, 550)


# Nothing is signed that contradicts what was


def test_a_ledger_with_less_than_was_signed_is_refused(ledger: Ledger, key: HostKey) -> None:
    ledger.append(some(0, 10))
    ledger.checkpoint(key)
    bundle = ledger.path / bundle_name(0)
    data = bundle.read_bytes()
    bundle.write_bytes(data[:-3])
    for use in (ledger, Ledger(ledger.path)):
        with pytest.raises(SpoolCorrupt, match="missing"):
            use.append([entry(11)])
        with pytest.raises(SpoolCorrupt, match="missing"):
            use.checkpoint(key)
    assert bundle.read_bytes() == data[:-3]


def test_changed_entries_are_not_signed_over(ledger: Ledger, key: HostKey) -> None:
    ledger.append(some(0, 10))
    ledger.checkpoint(key)
    bundle = ledger.path / bundle_name(0)
    bundle.write_bytes(bundle.read_bytes().replace(b'"n":3', b'"n":4'))
    shutil.rmtree(ledger.path / "tile/0")
    ledger.append(some(10, 1))
    with pytest.raises(SpoolCorrupt, match="not those that were signed"):
        Ledger(ledger.path).checkpoint(key)


def test_a_ledger_that_is_set_back_in_use_is_not_signed(ledger: Ledger, key: HostKey) -> None:
    ledger.append(some(0, 10))
    ledger.checkpoint(key)
    shutil.copytree(ledger.path, ledger.path.with_name("copy"))
    ledger.append(some(10, 10))
    ledger.checkpoint(key)
    shutil.rmtree(ledger.path)
    ledger.path.with_name("copy").rename(ledger.path)
    with pytest.raises(SpoolCorrupt):
        ledger.append(some(20, 1))
    with pytest.raises(SpoolCorrupt):
        ledger.checkpoint(key)


def test_a_checkpoint_of_another_key_is_not_followed(ledger: Ledger, key: HostKey, tmp_path: Path) -> None:
    ledger.append(some(0, 10))
    ledger.checkpoint(HostKey.load_or_create(tmp_path / "other.key"))
    with pytest.raises(SpoolCorrupt, match="another ledger"):
        ledger.checkpoint(key)


def test_a_history_is_cut_where_its_end_was_torn(ledger: Ledger, key: HostKey) -> None:
    for number in range(30):
        ledger.append(some(number, 1))
        ledger.checkpoint(key)
    path, whole = ledger.history.path, ledger.history.path.read_bytes()
    last = len(list(split_notes(whole))[-1])
    for size in range(len(whole) - last, len(whole)):
        path.write_bytes(whole[:size])
        assert Ledger(ledger.path).checkpoint(key).size == 30
        assert path.read_bytes() == whole
