import sqlite3
import threading

import pytest

from recorderd.errors import SpoolError
from recorderd.service import journal as journal_module
from recorderd.service.journal import Journal
from recorderd.spool.index import Index
from tests.spool_builder import make_desk, summary

NEVER_S = 3600.0


@pytest.fixture
def spool(tmp_path):
    return make_desk(tmp_path).spool


def call(number, outcome=None) -> dict[str, object]:
    return {"call_id": f"call-{number}", "first_seen": "2026-11-21T20:05:01Z", "outcome": outcome}


def test_the_index_is_told_in_order(spool):
    with Index.open(spool) as index:
        journal = Journal(index, pytest.fail, NEVER_S)
        for number in range(10):
            journal.add("alert_added", {"kind": "review", "time_ns": number, "fields": {}})
        journal.add("recording_started", "20261121T200501Z-0123456789", summary())
        assert len(journal) == 11
        journal.settle()
        assert len(journal) == 0
        assert [alert["time_ns"] for alert in index.alerts_pending()] == list(range(10))
        journal.add("call_saved", call(1))
        journal.close()
        assert len(index.calls()) == len(index.recordings()) == 1


def test_what_is_overwritten_is_not_written(spool):
    with Index.open(spool) as index:
        journal = Journal(index, pytest.fail, NEVER_S)
        for outcome in (None, None, "complete"):
            journal.add("call_saved", call(1, outcome), key=("call", 1))
        journal.add("call_saved", call(2), key=("call", 2))
        assert len(journal) == 2
        journal.close()
        assert [row["outcome"] for row in index.calls()] == ["complete", None]


def test_what_many_calls_tell_takes_few_statements(spool):
    """Of one kind together, in the order in which it was added, and all of it: a statement has bounds."""
    many, statements = range(300), list[str]()
    ids = [f"20261121T200501Z-{number:010x}" for number in many]
    with Index.open(spool) as index:
        journal = Journal(index, pytest.fail, NEVER_S)
        for number in many:
            journal.add("call_noted", call(number))
            journal.add("recording_started", ids[number], summary(number))
        journal.settle()
        for number in many:
            path = spool.record_path(ids[number])
            journal.add("recording_finished", ids[number], "sealed", summary(number), path, "ab" * 32, number)
            journal.add("call_saved", call(number, "missing"))
            journal.add("call_saved", call(number, "complete"))
            journal.add("call_noted", call(number, "partial"))
        index.trace(statements.append)
        journal.settle()
        index.trace(None)
        journal.close()
        assert len(statements) < len(many) / 5
        assert {row["call_id"] for row in index.calls(outcome="complete")} == {f"call-{n}" for n in many}
        assert [(row["id"], row["bytes"]) for row in index.recordings()] == list(zip(ids, many, strict=True))
        assert [row["id"] for row in index.recordings(call_id="call-299@192.0.2.1")] == [ids[299]]


def test_what_is_added_together_is_told_together(spool):
    with Index.open(spool) as index:
        journal = Journal(index, pytest.fail, NEVER_S)
        with journal.together():
            journal.add("recording_started", "20261121T200501Z-0123456789", summary())
            telling = threading.Thread(target=journal.settle)
            telling.start()
            telling.join(0.2)
            assert telling.is_alive()
            journal.add("call_saved", call(1))
            with Index.read(spool) as reader:
                assert reader.recordings() == []
        telling.join()
        with Index.read(spool) as reader:
            assert len(reader.recordings()) == len(reader.calls()) == 1
        journal.close()


def test_an_index_that_another_holds_holds_up_nobody(spool):
    """What is added while the writing waits for the lock comes after it, and none is lost."""
    troubles: list[object] = []
    met = threading.Event()

    def trouble(error) -> None:
        troubles.append(error)
        met.set()

    with Index.open(spool) as index:
        index.execute("PRAGMA busy_timeout=50")
        other = sqlite3.connect(spool.index_path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        journal = Journal(index, trouble, 0.01)
        journal.add("call_saved", call(1), key=("call", 1))
        assert met.wait(20)
        journal.add("call_saved", call(1, "complete"), key=("call", 1))
        journal.add("call_saved", call(2, "missing"), key=("call", 2))
        other.execute("COMMIT")
        other.close()
        journal.close()
        assert [row["outcome"] for row in index.calls()] == ["complete", "missing"]
    assert all(isinstance(error, SpoolError) for error in troubles)


def test_an_index_that_another_holds_at_the_end_is_waited_for(spool):
    with Index.open(spool) as index:
        index.execute("PRAGMA busy_timeout=500")
        other = sqlite3.connect(spool.index_path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        # Let go at the first complaint: of the round that was to be the last one.
        journal = Journal(index, lambda error: other.rollback(), NEVER_S)
        journal.add("call_saved", call(1, "complete"))
        journal.close()
        other.close()
        assert [row["outcome"] for row in index.calls()] == ["complete"]


def test_what_the_index_never_took_is_told(spool, caplog):
    with Index.open(spool) as index:
        index.execute("PRAGMA busy_timeout=0")
        other = sqlite3.connect(spool.index_path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        journal = Journal(index, lambda error: None, NEVER_S)
        journal.add("call_saved", call(1, "complete"))
        journal.close()
        other.close()
    assert "1 entries are lost" in caplog.text


def test_what_waits_has_a_bound(spool, monkeypatch, caplog):
    monkeypatch.setattr(journal_module, "MAX_WAITING", 5)
    with Index.open(spool) as index:
        journal = Journal(index, pytest.fail, NEVER_S)
        for number in range(7):
            journal.add("call_saved", call(number))
        assert len(journal) == 5
        assert caplog.text.count("an entry is lost") == 2
        journal.close()
        assert [row["call_id"] for row in index.calls()] == [f"call-{number}" for number in range(2, 7)]


def test_what_kills_the_thread_is_told(spool):
    with Index.open(spool) as index:
        journal = Journal(index, pytest.fail, NEVER_S)
        journal.add("no_such_method")
        for act in (journal.settle, journal.check, journal.close):
            with pytest.raises(AttributeError, match="no_such_method"):
                act()
