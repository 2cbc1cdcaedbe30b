"""Object lock against Ceph's gateway, which locks in earnest, and forgets some of what it is told."""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from recorderd.config.remotes_s3 import S3Remote
from recorderd.spool.stores import Verifying, file_hash
from recorderd.spool.stores.s3 import S3Store
from tests.faults.ceph import ACCESS, SECRET, ceph, needs_ceph
from tests.s3_builder import credentials_file

pytestmark = needs_ceph
NAME = "2026-11-21/20261121T200501Z-0123456789.rec"
PART = 5 << 20


@pytest.fixture(scope="module")
def endpoint(thorough: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not thorough:
        pytest.skip("a whole Ceph is started with --thorough only (make test-faults)")
    with ceph(tmp_path_factory.mktemp("ceph")) as endpoint:
        yield endpoint


def make_store(endpoint: str, folder: Path, lock: dict[str, object] | None) -> S3Store:
    """On a new bucket, which can lock where that is asked for."""
    remote = S3Remote.model_validate(
        {
            "type": "s3",
            "name": "vault",
            "bucket": f"bucket-{os.urandom(4).hex()}",
            "endpoint": endpoint,
            "allow_http": True,
            "credentials_file": credentials_file(folder, ACCESS, SECRET),
            "object_lock": lock,
        }
    )
    store = S3Store(remote, part=PART)
    store.client.create_bucket(Bucket=remote.bucket, ObjectLockEnabledForBucket=lock is not None)
    return store


@pytest.mark.parametrize("mode", ["compliance", "governance"])
@pytest.mark.parametrize("size", [1000, PART + 1])
def test_a_lock_holds(endpoint: str, tmp_path: Path, mode: str, size: int) -> None:
    """Also for what was sent in parts, whose lock this gateway forgets."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(size))
    store = make_store(endpoint, tmp_path, {"mode": mode, "days": 1})
    for _ in range(2):
        store.put(NAME, path)
    Verifying(store).deliver(NAME, path, file_hash(path))
    assert len(store.versions(NAME)) == 1
    deleted = store.delete(NAME)
    assert (deleted.outcome, deleted.versions) == ("locked", store.versions(NAME))
    assert deleted.until is not None
    assert datetime.fromisoformat(deleted.until)
    assert store.open(NAME).read() == path.read_bytes()
    key = NAME.replace(".rec", ".key")
    store.put(key, path)
    assert store.delete(key).outcome == "gone"


def test_what_it_enforces_is_found_out(endpoint: str, tmp_path: Path) -> None:
    """Ceph 16 forgets conditions where there are versions, and knows no newer checksums."""
    store = make_store(endpoint, tmp_path, {"mode": "compliance", "days": 1})
    found = [(finding.what, finding.ok) for finding in store.examine()]
    assert found.count(("lock (compliance)", True)) == 2
    assert ("changed bytes", True) in found
    assert ("versions", True) in found
    assert ("deletion", False) in found
    plain = {finding.what: finding.ok for finding in make_store(endpoint, tmp_path, None).examine()}
    assert (plain["put of what is there already"], plain["versions"]) == (True, False)
