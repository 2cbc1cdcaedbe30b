"""Legal holds: by recording and by number, of several matters, for what is to come, and after a reindex."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recorderd.calls.privacy import Masks
from recorderd.errors import NoSuchRecording, SpoolError, UsageError
from recorderd.spool.holds import held_by, number_subject, place, release, restore_holds
from recorderd.spool.index import Index
from recorderd.spool.index_holds import concerns
from recorderd.spool.ledger_keeping import ledger_of
from tests.retention_builder import NOW_US, Vault, make_vault
from tests.tools_runner import recorderctl

WHY = ("a reason", "Ann", NOW_US)


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    made = make_vault(tmp_path)
    yield made
    made.index.close()


def held(vault: Vault) -> set[str]:
    return {row["id"] for row in vault.index.recordings() if row["held"]}


def enter(vault: Vault, number: int, **more: Any) -> str:
    """A recording that is new now."""
    name = f"20270101T00000{number}Z-000000000{number}"
    told = {"started_at": f"2027-01-01T00:00:0{number}.000Z", "from": "1", "to": "2", **more}
    vault.index.recording_started(name, told)
    vault.index.recording_finished(name, "sealed", told, "x", "", 1)
    return name


def test_a_recording_may_be_held_for_several_matters(vault: Vault) -> None:
    one, _ = vault.add(["short", "short"])
    assert place(vault.index, vault.ledger, [one], "a", *WHY) == [one]
    assert place(vault.index, vault.ledger, [one], "a", *WHY) == []
    assert place(vault.index, vault.ledger, [one], "b", *WHY) == [one]
    with pytest.raises(UsageError, match="held for 2 matters"):
        release(vault.index, vault.ledger, [one], None, *WHY)
    assert release(vault.index, vault.ledger, None, "a", *WHY) == [one]
    assert held(vault) == {one} == held_by(vault.ledger)
    assert release(vault.index, vault.ledger, [one], None, *WHY) == [one]
    assert release(vault.index, vault.ledger, [one], None, *WHY) == []
    assert held(vault) == set() == held_by(vault.ledger)
    kinds = [row["kind"] for row in vault.index.ledger_rows(subject=one)]
    assert kinds == ["recording", "hold", "hold", "release", "release"]


def test_all_or_none(vault: Vault) -> None:
    (one,) = vault.add(["short"])
    size = vault.ledger.size
    with pytest.raises(NoSuchRecording):
        place(vault.index, vault.ledger, [one, "20270101T000000Z-0000000000"], "a", *WHY)
    assert (held(vault), vault.ledger.size) == (set(), size)


def test_a_ledger_that_cannot_be_written_to_holds_nothing(vault: Vault) -> None:
    (one,) = vault.add(["short"])
    vault.ledger.path.rename(vault.folder / "away")
    vault.ledger.path.write_text("a file")
    with pytest.raises(SpoolError):
        place(vault.index, ledger_of(vault.desk.spool), [one], "a", *WHY)
    assert held(vault) == set()


def test_a_number_holds_what_is_yet_to_come(vault: Vault) -> None:
    place(vault.index, vault.ledger, [number_subject("+4915")], "a", *WHY)
    inside = enter(vault, 1, **{"from": "+491512345"})
    outside = enter(vault, 2, **{"from": "+331512345"})
    transferred = enter(vault, 3, participants=[{"user": "+491500000", "label": "callee-2"}])
    leg = enter(vault, 4, legs=[{"from": "1", "to": "+4915"}])
    assert held(vault) == {inside, transferred, leg}
    assert outside not in held(vault)
    release(vault.index, vault.ledger, [number_subject("+4915")], "a", *WHY)
    assert held(vault) == set()
    later = enter(vault, 5, **{"from": "+491512345"})
    assert later not in held(vault)


def test_a_number_may_be_held_and_let_go_within_a_transaction(vault: Vault) -> None:
    index, who = vault.index, {"from": "+491512345"}
    with index.batch():
        enter(vault, 1, **who)
        index.hold_placed(number_subject("+4915"), "a", "a reason", "Ann", "2027-01-01T00:00:00.000Z")
        inside = {enter(vault, 2, **who), enter(vault, 3, **who)}
        assert held(vault) == inside
        index.hold_released(number_subject("+4915"), "a", "over", "Ann", "2027-01-01T00:00:01.000Z")
        enter(vault, 4, **who)
        assert held(vault) == set()
        index.hold_placed(number_subject("+4915"), "b", "a reason", "Ann", "2027-01-01T00:00:02.000Z")
        assert held(vault) == set()
        enter(vault, 5, **who)
        index.forget_holds()
        enter(vault, 6, **who)
    assert held(vault) == set()
    assert index.holds(all_of_them=True) == []


def test_what_another_process_holds_is_held_from_the_next_transaction_on(vault: Vault) -> None:
    with vault.index.batch():
        before = enter(vault, 1, **{"from": "+491512345"})
    with Index.open(vault.desk.spool) as other:
        place(other, vault.ledger, [number_subject("+4915")], "a", *WHY)
    with vault.index.batch():
        inside = enter(vault, 2, **{"from": "+491512345"})
        again = enter(vault, 3, **{"from": "+491512345"})
    assert held(vault) == {inside, again}
    assert before not in held(vault)


def test_a_release_that_is_undone_lets_nothing_go(vault: Vault) -> None:
    place(vault.index, vault.ledger, [number_subject("+4915")], "a", *WHY)

    def released_in_vain() -> None:
        with vault.index.batch():
            vault.index.hold_released(number_subject("+4915"), "a", "over", "Ann", "2027-01-01T00:00:01.000Z")
            enter(vault, 1, **{"from": "+491512345"})
            raise KeyError

    with pytest.raises(KeyError):
        released_in_vain()
    with vault.index.batch():
        later = enter(vault, 2, **{"from": "+491512345"})
    assert held(vault) == {later}


def test_the_index_is_brought_into_line_with_the_ledger(vault: Vault) -> None:
    one, two, three = vault.add(["short"] * 3)
    place(vault.index, vault.ledger, [one, two], "a", *WHY)
    release(vault.index, vault.ledger, [two], "a", *WHY)
    place(vault.index, vault.ledger, [number_subject("+4420000002")], "b", *WHY)
    before = vault.index.holds(all_of_them=True)
    vault.index.forget_holds()
    assert held(vault) == set()
    assert restore_holds(vault.index, vault.ledger) == 2
    assert held(vault) == {one, three}
    found = vault.index.holds(all_of_them=True)
    assert [hold for hold in found if hold["recording"] != three] == before


def test_by_a_number_and_a_time(vault: Vault) -> None:
    ids = vault.add(["short"] * 12)
    found = vault.index.concerned("+442000001")
    assert found == ids[10:]
    since = vault.index.recording(ids[11])["started_at"]
    assert vault.index.concerned("+442000001", since=since) == [ids[11]]
    assert vault.index.concerned("+442000001", until=since) == [ids[10]]
    assert vault.index.concerned("nobody") == []


def test_masked_numbers_are_held_by_what_is_left_of_them(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(
        "spool: {path: spool}\nencryption: {recipients: [identity.pub]}\n"
        "privacy: {mask_numbers: {manifest: true}}\n"
    )
    masked = Masks(manifest=True).number("+4915123456789")
    one = enter(vault, 1, **{"from": masked})
    two = enter(vault, 2, **{"from": Masks(manifest=True).number("+4915777777777")})
    words = ("-c", "c.yaml", "--json", "hold", "--number", "+4915123456789", "--future", "--reason", "r")
    assert recorderctl(*words, "--matter", "m").json["held"] == [one]
    three = enter(vault, 3, **{"from": masked})
    assert held(vault) == {one, three}
    done = recorderctl(*words[:3], "hold", "--release", "--number", words[5], "--reason", "r").json
    assert one in done["released"]
    assert held(vault) == set()
    assert two not in held(vault)


def test_who_is_concerned() -> None:
    assert concerns({"from": "+49151"}, "4915")
    assert concerns({"to": None, "participants": None, "legs": [{"from": "77"}]}, "77")
    assert not concerns({"call_ids": ["+49151"], "participants": ["+49151"]}, "4915")


def test_what_is_held_is_not_evicted(vault: Vault) -> None:
    one, two = vault.add(["short", "short"])
    assert {row["id"] for row in vault.index.may_go()} == {one, two}
    place(vault.index, vault.ledger, [one], "a", *WHY)
    assert {row["id"] for row in vault.index.may_go()} == {two}
    assert not vault.index.still_may_go(one)


def test_an_index_opened_for_reading_lists_holds(vault: Vault) -> None:
    (one,) = vault.add(["short"])
    place(vault.index, vault.ledger, [one], "a", *WHY)
    with Index.read(vault.desk.spool) as index:
        assert [hold["recording"] for hold in index.holds()] == [one]
