"""Destruction against a bucket that locks: the keys go, the object stays and says nothing any more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.errors import KeysMissing
from recorderd.spool.reader import Recording
from recorderd.spool.stores.s3 import S3Store
from tests.retention_builder import Vault, make_vault
from tests.s3_builder import s3_store
from tests.simulators.s3_server import S3Server


@pytest.fixture
def server() -> Iterator[S3Server]:
    with S3Server() as server:
        server.bucket.lock = True
        yield server


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    made = make_vault(tmp_path)
    yield made
    made.index.close()


def sent(vault: Vault, store: S3Store, ids: list[str]) -> None:
    """Each recording, with two generations of its keys."""
    older = vault.folder / "older"
    older.write_bytes(b"an older generation")
    vault.index.set_remote_identity("vault", store.probe() or store.claim())
    for name in ids:
        folder = vault.desk.spool.folder(name)
        store.put(f"{folder.name}/{name}.key", older)
        for suffix in (".rec", ".json", ".key"):
            store.put(f"{folder.name}/{name}{suffix}", folder / (name + suffix))


def test_a_bucket_with_object_lock(vault: Vault, server: S3Server, tmp_path: Path) -> None:
    short, long = vault.add(["short", "long"])
    store = s3_store(server, tmp_path, object_lock={"mode": "compliance", "days": 3650})
    sent(vault, store, [short, long])
    day = vault.desk.spool.folder(short).name
    proposal = vault.propose()
    outcome = vault.destroy(proposal, vault.approve(proposal), stores={**vault.stores, "vault": store})
    assert not outcome.left
    work = outcome.done[short]
    assert work.readable_until is None
    slots, recording = work.copies["vault", "slots"], work.copies["vault", "recording"]
    assert slots.outcome == "gone"
    assert len(slots.versions) == 2
    assert recording.outcome == "locked"
    assert recording.until is not None
    assert recording.versions == store.versions(f"{day}/{short}.rec")
    assert store.versions(f"{day}/{short}.key") == ()
    assert store.size(f"{day}/{long}.key") is not None
    kept = tmp_path / f"{short}.rec"
    with store.open(f"{day}/{short}.rec") as stream:
        kept.write_bytes(stream.read())
    with pytest.raises(KeysMissing):
        Recording.open(kept, [vault.desk.identity])


def test_who_sends_may_not_delete(vault: Vault, server: S3Server, tmp_path: Path) -> None:
    (short,) = vault.add(["short"])
    store = s3_store(server, tmp_path)
    sent(vault, store, [short])
    server.denied = {"Delete"}
    proposal = vault.propose()
    approvals = vault.approve(proposal)
    stores = {**vault.stores, "vault": store}
    outcome = vault.destroy(proposal, approvals, stores=stores)
    assert "--credentials vault=FILE" in outcome.left[short]
    assert vault.state(short) == "destroying"
    server.denied = set()
    assert list(vault.destroy(proposal, approvals, stores=stores).done) == [short]
    assert vault.state(short) == "destroyed"


def test_a_bucket_that_only_hides_versions_is_not_believed(
    vault: Vault, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short,) = vault.add(["short"])
    store = s3_store(server, tmp_path)
    sent(vault, store, [short])
    stores = {**vault.stores, "vault": store}
    proposal = vault.propose()
    delete = server.bucket.delete
    with monkeypatch.context() as patch:
        patch.setattr(server.bucket, "delete", lambda key, version: delete(key, None))
        outcome = vault.destroy(proposal, vault.approve(proposal), stores=stores)
    assert not outcome.done
    assert "still there after its deletion" in outcome.left[short]
    assert set(vault.destroy(proposal, vault.approve(proposal), stores=stores).done) == {short}
