"""The S3 remote against OpenStack Swift, a store that checks signatures and hashes by itself."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recorderd.config.remotes_s3 import S3Remote
from recorderd.errors import RemoteError
from recorderd.spool.index import Index
from recorderd.spool.stores import RemoteOutage, Retrying, Verifying, file_hash
from recorderd.spool.stores.s3 import S3Store
from tests.live.cut_relay import CutRelay
from tests.live.patience import at_last
from tests.live.swift import ACCESS, SECRET, STRANGER, Swift, needs_swift, swift
from tests.s3_builder import credentials_file
from tests.spool_builder import make_desk
from tests.tools_runner import recorderctl

pytestmark = needs_swift
NAME = "2026-11-21/20261121T200501Z-0123456789.rec"
PART = 5 << 20

Source = Callable[..., Path]


@pytest.fixture(scope="module")
def cloud(own_network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    with swift(tmp_path_factory.mktemp("swift")) as cloud:
        yield cloud


@pytest.fixture
def settings(cloud: Swift, tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Of a remote on a new bucket with versions."""
    given: dict[str, Any] = {
        "type": "s3",
        "name": "cloud",
        "bucket": f"bucket-{os.urandom(4).hex()}",
        "prefix": "pbx/one",
        "endpoint": cloud.url,
        "allow_http": True,
        "region": "eu-test-1",
        "timeout_s": 20.0,
        "credentials_file": credentials_file(tmp_path, ACCESS.replace("/", "-"), SECRET),
    }
    client = make_store(given).client
    client.create_bucket(Bucket=given["bucket"])
    client.put_bucket_versioning(Bucket=given["bucket"], VersioningConfiguration={"Status": "Enabled"})
    return given


def make_store(settings: dict[str, Any], **changed: Any) -> S3Store:
    return S3Store(S3Remote.model_validate(settings | changed), part=PART)


@pytest.fixture
def store(settings: dict[str, Any]) -> S3Store:
    return make_store(settings)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    def write(data: bytes) -> Path:
        path = tmp_path / "source"
        path.write_bytes(data)
        return path

    return write


def no_sleep(_seconds: float) -> None:
    pass


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1])
def test_what_is_delivered_is_there_once(store: S3Store, source: Source, size: int) -> None:
    path = source(os.urandom(size))
    for _ in range(2):
        store.put(NAME, path)
    Verifying(store).deliver(NAME, path, file_hash(path))
    assert store.open(NAME).read() == path.read_bytes()
    assert [(each.name, each.size) for each in store.list("2026-11-21/")] == [(NAME, size)]
    versions = store.versions(NAME)
    assert len(versions) == 1
    deleted = store.delete(NAME)
    assert (deleted.outcome, deleted.versions) == ("gone", versions)
    assert (store.size(NAME), store.versions(NAME), list(store.list())) == (None, (), [])


def test_what_is_replaced_is_kept_as_a_version_and_deleted_with_it(store: S3Store, source: Source) -> None:
    for data in (b"first", os.urandom(PART + 1), b"third"):
        store.put(NAME, source(data))
    assert store.open(NAME).read() == b"third"
    assert len(store.versions(NAME)) == 3
    store.client.delete_object(**store.where(NAME))
    assert store.size(NAME) is None
    assert len(store.versions(NAME)) == 3
    assert len(store.delete(NAME).versions) == 4
    assert store.versions(NAME) == ()


@pytest.mark.parametrize(("size", "event"), [(1000, "PutObject"), (PART + 9, "UploadPart")])
def test_bytes_that_change_on_the_way_are_refused(
    store: S3Store, source: Source, size: int, event: str
) -> None:
    path = source(os.urandom(size))

    def change(request: Any, **_: Any) -> None:
        data = request.body.read()
        request.body = data[:-1] + bytes([data[-1] ^ 1])

    events = store.client.meta.events
    events.register(f"before-send.s3.{event}", change)
    with pytest.raises(RemoteError, match=r"BadDigest|Mismatch"):
        store.put(NAME, path)
    assert (store.size(NAME), store.versions(NAME)) == (None, ())
    events.unregister(f"before-send.s3.{event}", change)
    Verifying(store).put(NAME, path)


@pytest.mark.parametrize(("size", "request_line"), [(1000, b"PUT /"), (PART + 9, b"POST /")])
def test_an_answer_that_is_lost_costs_no_second_version(
    cloud: Swift, settings: dict[str, Any], source: Source, size: int, request_line: bytes
) -> None:
    path = source(os.urandom(size))
    with CutRelay(cloud.ports["proxy"]) as relay:
        store = make_store(settings, endpoint=relay.url)
        # For parts: the one that completes.
        relay.cutting = request_line if size < PART else b"<CompleteMultipartUpload"
        Verifying(Retrying(store, sleep=no_sleep)).deliver(NAME, path, file_hash(path))
        assert relay.cuts == 1
        assert len(store.versions(NAME)) == 1


def test_a_store_that_hangs_or_is_gone_is_out_until_it_is_back(
    cloud: Swift, settings: dict[str, Any], source: Source
) -> None:
    store, patient = make_store(settings, timeout_s=1.0, connect_timeout_s=1.0), make_store(settings)
    patient.put(NAME, source(b"before"))
    assert at_last(lambda: store.size(NAME)) == len(b"before")
    proxy = cloud.programs["proxy"]
    os.kill(proxy.pid, signal.SIGSTOP)
    try:
        for act in (store.probe, lambda: store.put(NAME + ".2", source(b"x")), lambda: store.size(NAME)):
            with pytest.raises(RemoteOutage):
                act()
    finally:
        os.kill(proxy.pid, signal.SIGCONT)
    proxy.stop()
    try:
        with pytest.raises(RemoteOutage):
            store.put(NAME + ".2", source(b"x"))
    finally:
        cloud.start("proxy")
    assert patient.open(NAME).read() == b"before"
    Verifying(Retrying(patient, sleep=no_sleep)).put(NAME + ".2", source(b"x"))
    assert len(patient.versions(NAME + ".2")) == 1


def test_a_store_whose_disks_are_gone_is_out(cloud: Swift, store: S3Store, source: Source) -> None:
    store.put(NAME, source(b"before"))
    cloud.programs["object"].stop()
    try:
        with pytest.raises(RemoteOutage):
            store.put(NAME + ".2", source(b"x"))
    finally:
        cloud.start("object")
    Verifying(store).put(NAME, source(b"before"))


def test_who_may_not_use_it_is_told_that_it_is_out(settings: dict[str, Any], tmp_path: Path) -> None:
    strangers = [
        {"credentials_file": credentials_file(tmp_path, "team:nobody", SECRET)},
        {"credentials_file": credentials_file(tmp_path, STRANGER, SECRET)},
        {"bucket": "no-such-bucket"},
    ]
    for changed in strangers:
        with pytest.raises(RemoteOutage):
            make_store(settings, **changed).probe()
    wrong = {"credentials_file": credentials_file(tmp_path, ACCESS, "wrong")}
    with pytest.raises(RemoteOutage, match="SignatureDoesNotMatch"):
        make_store(settings, **wrong).probe()


def test_what_it_enforces_is_found_out(store: S3Store) -> None:
    """Swift 2.30 checks the hash in the signature, and knows neither newer checksums nor conditions."""
    found = {finding.what: finding.ok for finding in store.examine()}
    assert (found["changed bytes"], found["versions"]) == (True, True)
    assert found["deletion"] is False
    assert list(store.list()) == []


def test_recordings_are_carried_by_command_and_told_by_doctor(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    desk = make_desk(tmp_path)
    with Index.open(desk.spool) as index:
        for number in range(3):
            desk.enter(index, desk.record(number), number)
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "spool": {"path": "spool"},
                "encryption": {"recipients": ["identity.pub"], "suite": "x25519"},
                "sync": {"remotes": [settings | {"credentials_file": str(settings["credentials_file"])}]},
            }
        )
    )
    answer = recorderctl("-c", config, "sync", "--json")
    assert (answer.code, answer.json["remotes"][0]["verified"]) == (0, 3)
    store = make_store(settings)
    names = {each.name for each in store.list()}
    for path in (tmp_path / "spool").rglob("*Z-*.rec"):
        name = f"{path.parent.name}/{path.name}"
        assert name in names
        assert store.open(name).read() == path.read_bytes()
        assert len(store.versions(name)) == 1
    checks = recorderctl("-c", config, "doctor", "--json").json["checks"]
    told = [check["detail"] for check in checks if check["name"] == "remote cloud"]
    assert any(detail.startswith("changed bytes: refused") for detail in told)
    assert any(detail.startswith("deletion: allowed") for detail in told)
