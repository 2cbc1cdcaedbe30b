"""The S3 store against a strict server that fails and lies: what is said to be there is there, once."""

import os
import random
import socket
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from recorderd.config.remotes_s3 import S3Remote
from recorderd.errors import RemoteError
from recorderd.spool.index import Index
from recorderd.spool.stores import MARKER, RemoteOutage, Retrying, Verifying, file_hash, open_store
from recorderd.spool.sync import LONGEST_PAUSE_S, Synchronizer
from tests.live.web_server import Authority
from tests.s3_builder import credentials_file, s3_remote, s3_store
from tests.simulators.s3_server import ACCESS, SECRET, S3Server
from tests.spool_builder import STARTED_NS, make_desk

NAME = "2026-11-21/20261121T200501Z-0123456789.rec"
PART = 5 << 20
SMALL, BIG = 1000, 2 * PART + 7


@pytest.fixture
def server():
    with S3Server() as server:
        yield server


@pytest.fixture
def source(tmp_path):
    def write(data, name="source"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def no_sleep(_seconds):
    pass


def contents(server, name=NAME):
    """The versions of an object, whatever the store's prefix is."""
    return [
        data for key in server.bucket.objects if key.endswith(name) for data in server.bucket.contents(key)
    ]


# What happens on the way


def patience(kind):
    """Short only where an answer never comes: any other is late now and then where much else is going on."""
    return 3.0 if kind == "hang-after" else 60.0


# fault, what the first try gives, how often the bytes are sent in all
ONCE = [
    ("Put", "reset", None, 2),
    ("Put", "reset-after", None, 1),
    ("Put", "hang-after", None, 1),
    ("Put", "twice", None, 1),
    ("Put", (500, "InternalError"), None, 2),
    ("Put", (400, "RequestTimeout"), None, 2),
    ("Put", (503, "SlowDown"), RemoteOutage, 2),
    ("Put", (503, "ServiceUnavailable"), RemoteOutage, 2),
    ("Put", (507, "InsufficientStorage"), RemoteOutage, 2),
    ("Put", "wrong-bytes", RemoteError, 3),  # refused where it is, then put in its place
    ("Put", "lost", RemoteError, 2),
    ("Put", "garbage", None, 2),
    ("Get", "cut", RemoteError, 1),
    ("Get", "reset", None, 1),
    ("Get", (500, "InternalError"), None, 1),
    ("Head", "short-head", None, 1),
    ("Head", (500, "InternalError"), None, 1),
]


@pytest.mark.parametrize(("operation", "kind", "error", "puts"), ONCE)
def test_one_failure(server, source, tmp_path, operation, kind, error, puts):
    """Nothing that is wrong is taken for right, and in the end there is one live version."""
    path = source(os.urandom(SMALL))
    store = Verifying(Retrying(s3_store(server, tmp_path, timeout_s=patience(kind)), sleep=no_sleep))
    server.fault(operation, kind, suffix=NAME)
    try:
        store.deliver(NAME, path, file_hash(path))
        failed = None
    except RemoteError as caught:
        failed = type(caught)
    assert failed is error
    store.deliver(NAME, path, file_hash(path))
    assert contents(server)[-1] == path.read_bytes()
    assert len(contents(server)) == (2 if kind == "wrong-bytes" else 1)
    assert server.count("Put", NAME) <= puts


IN_PARTS = [
    ("CreateUpload", "reset-after", None, 2),
    ("CreateUpload", "garbage", None, 2),
    ("PutPart", "reset", None, 2),
    ("PutPart", (500, "InternalError"), None, 2),
    ("PutPart", "hang-after", None, 2),
    ("PutPart", "twice", None, 1),
    ("PutPart", "wrong-bytes", RemoteError, 2),
    ("Complete", "reset", None, 2),
    ("Complete", "reset-after", None, 1),
    ("Complete", "error-in-200", None, 2),
    ("Complete", "garbage", None, 2),
    ("Complete", "twice", None, 1),
    ("Complete", (503, "SlowDown"), RemoteOutage, 2),
]


@pytest.mark.parametrize(("operation", "kind", "error", "uploads"), IN_PARTS)
def test_one_failure_of_an_upload_in_parts(server, source, tmp_path, operation, kind, error, uploads):
    path = source(os.urandom(BIG))
    store = Verifying(Retrying(s3_store(server, tmp_path, timeout_s=patience(kind)), sleep=no_sleep))
    server.fault(operation, kind)
    try:
        store.deliver(NAME, path, file_hash(path))
        failed = None
    except RemoteError as caught:
        failed = type(caught)
    assert failed is error
    store.deliver(NAME, path, file_hash(path))
    assert contents(server)[-1] == path.read_bytes()
    assert len(contents(server)) == (2 if kind == "wrong-bytes" else 1)
    assert server.count("CreateUpload") == uploads
    # What was begun and given up is not left there to be paid for, unless nobody was told its id.
    assert len(server.bucket.uploads) == (operation == "CreateUpload" and kind == "reset-after")


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1])
def test_parts_make_the_whole(server, source, tmp_path, size):
    path, sent = source(os.urandom(size)), []
    store = s3_store(server, tmp_path)
    store.put(NAME, path, sent.append)
    assert contents(server) == [path.read_bytes()]
    assert sent == [*range(PART, size, PART), size]
    assert server.count("PutPart") == (0 if size <= PART else -(-size // PART))
    before = len(server.requests)
    store.put(NAME, path)
    assert len(contents(server)) == 1
    assert not {"PutPart", "Complete"} & {operation for operation, _ in server.requests[before:]}


@pytest.mark.parametrize("conditions", ["kept", "ignored", "unknown"])
@pytest.mark.parametrize("size", [SMALL, BIG])
def test_a_put_whose_answer_is_lost_is_not_stored_again(server, source, tmp_path, conditions, size):
    """Even where the store knows no conditions, or forgets them."""
    server.conditions = conditions
    path = source(os.urandom(size))
    store = Retrying(s3_store(server, tmp_path), sleep=no_sleep)
    server.fault("Complete" if size == BIG else "Put", "reset-after", times=2)
    store.put(NAME, path)
    assert contents(server) == [path.read_bytes()]
    path.write_bytes(os.urandom(size))
    store.put(NAME, path)
    assert contents(server)[-1] == path.read_bytes()


CLOSED = {
    "Head": lambda store, path: store.put(NAME, path),
    "Get": lambda store, path: store.open(NAME).read(),
    "List": lambda store, path: list(store.list()),
    "ListVersions": lambda store, path: store.versions(NAME),
}


@pytest.mark.parametrize("operation", list(CLOSED))
@pytest.mark.parametrize("size", [SMALL, BIG])
def test_a_connection_that_the_server_closed_meanwhile_is_no_failure(
    server, source, tmp_path, operation, size
):
    """Some close one without a word after a refusal, Swift for one."""
    server.conditions = "unknown"
    store = s3_store(server, tmp_path)
    path = source(os.urandom(size))
    store.put(NAME, path)
    server.fault(operation, "closed")
    CLOSED[operation](store, path)
    assert not any(fault.times for fault in server.faults)
    assert contents(server) == [path.read_bytes()]


def test_a_refusal_that_costs_the_connection_is_no_failure(server, source, tmp_path):
    """Of a condition: of the first put and claim, and of an examination."""
    server.conditions, server.closes_refused = "unknown", True
    path = source(os.urandom(SMALL))
    for number in range(2):
        store = s3_store(server, tmp_path, prefix=str(number))
        identity = store.claim()
        store.put(NAME, path)
        assert "conditions are not implemented" in str(store.examine())
        assert (store.probe(), store.open(NAME).read()) == (identity, path.read_bytes())
    assert contents(server) == [path.read_bytes()] * 2


@pytest.mark.parametrize(("operation", "kind", "tries"), [("Put", "reset", 1), ("Head", "reset", 2)])
def test_what_may_have_arrived_is_not_sent_again_by_itself(server, source, tmp_path, operation, kind, tries):
    """And what only reads is asked for once more at most."""
    server.fault(operation, kind, times=9)
    with pytest.raises(RemoteError):
        s3_store(server, tmp_path).put(NAME, source(b"x"))
    assert server.count(operation, NAME) == tries


def test_a_store_without_conditions_is_claimed_once(server, tmp_path):
    server.conditions = "unknown"
    store = s3_store(server, tmp_path, prefix="two")
    identity = store.claim()
    assert (s3_store(server, tmp_path, prefix="two").claim(), store.probe()) == (identity, identity)


def test_several_threads_share_a_store(server, source, tmp_path):
    store = Verifying(s3_store(server, tmp_path))
    paths = {f"2026-11-21/{number % 6}.rec": None for number in range(24)}
    for name in paths:
        paths[name] = source(os.urandom(SMALL), name.replace("/", "_"))
    failures = []

    def carry(name, path):
        try:
            store.deliver(name, path, file_hash(path))
        except RemoteError as error:
            failures.append(error)

    threads = [threading.Thread(target=carry, args=each) for each in [*paths.items()] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert all(contents(server, name) == [path.read_bytes()] for name, path in paths.items())


def test_a_source_that_shrinks_while_it_is_sent_is_not_taken_for_an_outage(server, source, tmp_path):
    path = source(bytes(BIG))

    def shrink(_sent):
        os.truncate(path, PART)

    with pytest.raises(RemoteError, match="changed while it was sent") as caught:
        s3_store(server, tmp_path).put(NAME, path, shrink)
    assert not isinstance(caught.value, RemoteOutage)
    assert (contents(server), server.bucket.uploads) == ([], {})


# With recordings

FAULTS = {
    "Put": [
        "reset",
        "reset-after",
        "twice",
        "wrong-bytes",
        "lost",
        (500, "InternalError"),
        (503, "SlowDown"),
    ],
    "Get": ["cut", "reset", (500, "InternalError"), (503, "SlowDown")],
    "Head": ["short-head", "reset", (500, "InternalError")],
}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_fails_nothing_is_lost_and_nothing_is_verified_that_is_not_there(server, tmp_path, seed):
    chance = random.Random(seed)
    desk = make_desk(tmp_path)
    recordings = [desk.record(number) for number in range(8)]
    now = [STARTED_NS]
    with Index.open(desk.spool) as index:
        for number, sealed in enumerate(recordings):
            desk.enter(index, sealed, number)
        stores = {"vault": Retrying(s3_store(server, tmp_path), sleep=no_sleep)}
        synchronizer = Synchronizer(desk.spool, index, stores, lambda: now[0])
        for _ in range(40):
            operation = chance.choice(list(FAULTS))
            server.fault(operation, chance.choice(FAULTS[operation]), times=chance.randint(1, 5))
            (report,) = synchronizer.run()
            now[0] += LONGEST_PAUSE_S * 1_000_000_000
            rows = index.recordings()
            for sealed, row in zip(recordings, rows, strict=True):
                if row["sync"][0]["state"] == "verified":
                    assert contents(server, sealed.path.name)[-1] == sealed.path.read_bytes()
        server.faults.clear()
        (report,) = synchronizer.run(force=True)
        assert report.ok
    for sealed in recordings:
        for path in (sealed.path, sealed.manifest_path):
            held = contents(server, path.name)
            assert held[-1] == path.read_bytes()
            assert held.count(path.read_bytes()) == 1


# Who is out


def closed(server, folder):
    return s3_store(server, folder, endpoint="http://127.0.0.1:1")


OUTAGES = {
    "refused": closed,
    "no such host": lambda server, folder: s3_store(server, folder, endpoint="http://store.invalid"),
    "no TLS there": lambda server, folder: s3_store(
        server, folder, endpoint=server.url.replace("http:", "https:")
    ),
    "no such bucket": lambda server, folder: s3_store(server, folder, bucket="another"),
    "unknown key": lambda server, folder: s3_store(
        server, folder, credentials_file=credentials_file(folder, "AKIASTRANGER")
    ),
    "wrong secret": lambda server, folder: s3_store(
        server, folder, credentials_file=credentials_file(folder, ACCESS, "wrong")
    ),
    "wrong region": lambda server, folder: s3_store(server, folder, region="us-east-9"),
    "no credentials": lambda server, folder: s3_store(server, folder, credentials_file=folder / "none"),
}


@pytest.mark.parametrize("case", list(OUTAGES))
def test_a_store_that_is_out_is_an_outage(server, source, tmp_path, case):
    store = OUTAGES[case](server, tmp_path)
    for act in (store.probe, store.claim, lambda: store.put(NAME, source(b"x")), store.examine):
        with pytest.raises(RemoteOutage) as caught:
            act()
        assert SECRET not in str(caught.value)
    assert contents(server) == []


def test_a_store_that_denies_everything_is_out_and_one_that_denies_an_object_is_not(server, source, tmp_path):
    store = s3_store(server, tmp_path)
    server.fault("Put", (403, "AccessDenied"))
    with pytest.raises(RemoteError, match="AccessDenied") as caught:
        store.put(NAME, source(b"x"))
    assert not isinstance(caught.value, RemoteOutage)
    server.denied = {"everything"}
    for act in (store.probe, lambda: store.put(NAME, source(b"x")), lambda: store.size(NAME)):
        with pytest.raises(RemoteOutage):
            act()


def test_a_connection_that_breaks_for_every_request_is_an_outage(server, source, tmp_path):
    store = s3_store(server, tmp_path)
    server.fault("Put", "reset", times=9)
    server.fault("HeadBucket", "reset", times=9)
    with pytest.raises(RemoteOutage):
        store.put(NAME, source(b"x"))
    server.faults.clear()
    store.put(NAME, source(b"x"))


def test_new_credentials_are_taken_without_a_restart(server, source, tmp_path):
    path = credentials_file(tmp_path, ACCESS, "old")
    store = s3_store(server, tmp_path, credentials_file=path)
    with pytest.raises(RemoteOutage):
        store.put(NAME, source(b"x"))
    credentials_file(tmp_path)
    store.put(NAME, source(b"x"))
    assert contents(server) == [b"x"]


def test_what_a_hotel_says_to_everybody_is_no_identity(server, tmp_path):
    server.fault("Get", "garbage", suffix=MARKER)
    store = s3_store(server, tmp_path)
    with pytest.raises(RemoteOutage, match="not an identity"):
        store.probe()
    assert store.probe() is None


def test_a_marker_that_is_there_is_kept(server, tmp_path):
    first = s3_store(server, tmp_path, prefix="one")
    identity = first.claim()
    assert s3_store(server, tmp_path, prefix="one").claim() == identity == first.probe()
    assert s3_store(server, tmp_path, prefix="two").probe() is None
    server.conditions = "unknown"
    assert s3_store(server, tmp_path, prefix="two").claim()


# Credentials and connections


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_credentials_that_others_can_read_are_refused(server, tmp_path, mode):
    store = s3_store(server, tmp_path)
    credentials_file(tmp_path).chmod(mode)
    with pytest.raises(RemoteOutage, match="must be 0600"):
        store.probe()


@pytest.mark.parametrize(
    "text", ["", "[other]\n", "[default]\naws_access_key_id = A\n", f"= {SECRET}\n[", "\xff"]
)
def test_odd_credentials_are_told_without_the_secret(server, tmp_path, text):
    store = s3_store(server, tmp_path)
    credentials_file(tmp_path).write_bytes(text.encode("latin-1"))
    with pytest.raises(RemoteOutage, match=r"needs a section \[default\]") as caught:
        store.probe()
    assert SECRET not in str(caught.value)


def test_credentials_come_from_the_environment_and_nothing_else_of_it_counts(server, tmp_path, monkeypatch):
    """A user's own set-up for AWS must not lead the recordings elsewhere."""
    remote = s3_remote(server, tmp_path, credentials_file=None)
    store = open_store(remote)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(RemoteOutage, match="AWS_ACCESS_KEY_ID"):
        store.probe()
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://127.0.0.1:1\nregion = xx\n")
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_PROFILE": "somebody",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_REGION": "xx",
        "AWS_CA_BUNDLE": "/nowhere",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported",
    }.items():
        monkeypatch.setenv(name, value)
    assert store.claim() == store.probe()


def test_a_server_is_trusted_by_the_named_authority_only(source, tmp_path):
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server", server=True))
    with S3Server(context) as server:
        endpoint = f"https://127.0.0.1:{server.port}"
        settings = {"allow_http": False, "endpoint": endpoint}
        store = s3_store(server, tmp_path, ca_file=authority.file, **settings)
        store.put(NAME, source(b"x"))
        assert store.open(NAME).read() == b"x"
        with pytest.raises(RemoteOutage, match="certificate"):
            s3_store(server, tmp_path, **settings).probe()
        with pytest.raises(RemoteOutage, match="match"):
            s3_store(server, tmp_path, ca_file=authority.file).probe()  # by a name that it has not
        with pytest.raises(RemoteOutage, match="cannot be read"):
            s3_store(server, tmp_path, ca_file=tmp_path / "none", **settings).probe()


def test_the_bucket_may_be_in_the_hosts_name(server, source, tmp_path, monkeypatch):
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **options: real("127.0.0.1", *more, **options)
    )
    endpoint = server.url.replace("localhost", "s3.example.test")
    store = s3_store(server, tmp_path, endpoint=endpoint, addressing="virtual", prefix="virtual")
    store.put(NAME, source(b"x"))
    assert server.bucket.contents(f"virtual/{NAME}") == [b"x"]


# What is sent along


def test_settings_go_with_every_object(server, source, tmp_path):
    store = s3_store(server, tmp_path, encryption="aws:kms", kms_key_id="key-1", storage_class="STANDARD_IA")
    store.put("small", source(b"x"))
    store.put("big", source(bytes(BIG)))
    for name in ("small", "big"):
        (version,) = next(found for key, found in server.bucket.objects.items() if key.endswith(name))
        assert version.settings == {
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id": "key-1",
            "x-amz-storage-class": "STANDARD_IA",
            "content-type": "application/octet-stream",
        }


@pytest.mark.parametrize("size", [SMALL, BIG])
def test_a_lock_goes_with_every_object_but_keys(server, source, tmp_path, size):
    server.bucket.lock = True
    lock = {"mode": "compliance", "days": 30}
    store = s3_store(server, tmp_path, object_lock=lock)
    path = source(os.urandom(size))
    store.put(NAME, path)
    store.put(NAME.replace(".rec", ".key"), path)
    deleted = store.delete(NAME)
    assert deleted.outcome == "locked"
    assert deleted.versions == store.versions(NAME)
    until = datetime.fromisoformat(deleted.until)
    assert abs(until - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
    assert store.open(NAME).read() == path.read_bytes()
    assert store.delete(NAME.replace(".rec", ".key")).outcome == "gone"


@pytest.mark.parametrize("mode", ["compliance", "governance"])
def test_a_lock_that_was_forgotten_is_put_on_afterwards_or_told(server, source, tmp_path, mode):
    server.bucket.lock, server.bucket.locks_uploads = True, False
    store = s3_store(server, tmp_path, object_lock={"mode": mode, "days": 30})
    store.put(NAME, source(os.urandom(BIG)))
    assert store.delete(NAME).outcome == "locked"
    server.denied = {"PutRetention"}
    with pytest.raises(RemoteError):
        store.put(NAME + ".2", source(os.urandom(BIG)))
    server.denied = set()
    store.put(NAME + ".2", source(b"x" * BIG))
    assert store.delete(NAME + ".2").outcome == "locked"


def test_a_bucket_that_was_to_lock_and_does_not_is_told(server, source, tmp_path):
    server.bucket.lock = True
    store = s3_store(server, tmp_path, object_lock={"mode": "bucket"})
    with pytest.raises(RemoteError, match="stored, but not locked"):
        store.put(NAME, source(b"x"))
    server.bucket.default_lock = ("GOVERNANCE", 3)
    store.put(NAME + ".2", source(b"x"))
    assert store.delete(NAME + ".2").outcome == "locked"


def test_what_a_lock_keeps_is_left_and_the_other_versions_go(server, source, tmp_path):
    server.bucket.lock = True
    prefix = "locked"
    store = s3_store(server, tmp_path, prefix=prefix, object_lock={"mode": "governance", "days": 2})
    s3_store(server, tmp_path, prefix=prefix).put(NAME, source(b"first"))
    store.put(NAME, source(b"second"))
    first, second = reversed(store.versions(NAME))
    assert store.delete(NAME).versions == (second,)
    assert store.versions(NAME) == (second,)
    assert first != second
    later = s3_store(server, tmp_path, prefix=prefix)
    server.bucket.objects[f"{prefix}/{NAME}"][0].until = datetime.now(UTC) - timedelta(seconds=1)
    assert later.delete(NAME).outcome == "gone"


def test_credentials_that_may_not_delete_are_told(server, source, tmp_path):
    server.denied = {"Delete"}
    store = s3_store(server, tmp_path)
    store.put(NAME, source(b"x"))
    deleted = store.delete(NAME)
    assert (deleted.outcome, deleted.versions, deleted.until) == ("refused", store.versions(NAME), None)
    assert contents(server) == [b"x"]


@pytest.mark.parametrize(("versioned", "known"), [(True, True), (False, True), (False, False)])
def test_versions_are_as_the_bucket_has_them(server, source, tmp_path, versioned, known):
    server.bucket.versioned, server.versions_known = versioned, known
    store = s3_store(server, tmp_path)
    for data in (b"first", b"second"):
        store.put(NAME, source(data))
    versions = store.versions(NAME)
    assert len(versions) == (2 if versioned else 0)
    if versioned:
        held = {version.id: version.data for each in server.bucket.objects.values() for version in each}
        assert [held[version] for version in versions] == [b"second", b"first"]
        server.bucket.delete(next(key for key in server.bucket.objects if key.endswith(NAME)), None)
        assert (store.size(NAME), store.versions(NAME)) == (None, versions)
    deleted = store.delete(NAME)
    assert deleted.outcome == "gone"
    assert contents(server) == []
    assert NAME not in str(server.bucket.objects)


def test_long_lists_come_in_pages(server, source, tmp_path):
    server.page = 3
    store = s3_store(server, tmp_path)
    names = [f"2026-11-21/{number:02}.rec" for number in range(10)]
    for name in names:
        store.put(name, source(b"x"))
    assert [each.name for each in store.list()] == names
    server.fault("List", (503, "SlowDown"))
    with pytest.raises(RemoteOutage):
        list(store.list())


# What a store really enforces


def findings(store):
    return {finding.what: finding for finding in store.examine()}


def test_a_strict_store_is_found_to_be_strict(server, tmp_path):
    server.bucket.lock = True
    server.denied = {"Delete"}
    store = s3_store(server, tmp_path, object_lock={"mode": "compliance", "days": 365})
    for _ in range(2):
        found = store.examine()
        assert all(finding.ok for finding in found), found
        assert len(found) == 7
    # Nothing is locked for longer than it takes to see that it is, nor again while it still is.
    (end,) = [version.until for each in server.bucket.objects.values() for version in each if version.until]
    assert end - datetime.now(UTC) < timedelta(minutes=20)


WEAKNESSES = {
    "wrong checksum": lambda server: setattr(server, "checks_checksums", False),
    "changed bytes": lambda server: setattr(server, "checks_payload", False),
    "put of what is there already": lambda server: setattr(server, "conditions", "ignored"),
    "versions": lambda server: setattr(server.bucket, "versioned", False),
    "lock (governance)": lambda server: setattr(server.bucket, "enforces_lock", False),
    "deletion": lambda server: server.denied.clear(),
    "keys": lambda server: setattr(server.bucket, "default_lock", ("COMPLIANCE", 400)),
}


@pytest.mark.parametrize("weakness", list(WEAKNESSES))
def test_a_weakness_is_found(server, tmp_path, weakness):
    server.bucket.lock = True
    server.denied = {"Delete"} if not weakness.startswith("lock") else set()
    WEAKNESSES[weakness](server)
    store = s3_store(server, tmp_path, object_lock={"mode": "governance", "days": 365})
    wrong = {finding.what for finding in store.examine() if finding.ok is False}
    expected = {weakness} | ({"deletion"} if weakness.startswith("lock") else set())
    # Without versions nothing can be locked.
    assert wrong == expected | ({"lock (governance)"} if weakness == "versions" else set())


def test_a_bucket_that_cannot_lock_is_found(server, tmp_path):
    server.denied = {"Delete"}
    found = findings(s3_store(server, tmp_path, object_lock={"mode": "compliance", "days": 1}))
    assert "InvalidRequest" in found["lock (compliance)"].detail
    found = findings(s3_store(server, tmp_path, object_lock={"mode": "bucket"}))
    assert found["lock of the bucket"].ok is False


def test_what_may_be_deleted_is_not_left_behind(server, tmp_path):
    server.conditions, server.checks_checksums, server.checks_payload = "unknown", False, False
    server.bucket.versioned = False
    found = findings(s3_store(server, tmp_path))
    assert found["deletion"].ok is False
    assert server.bucket.objects == {}


def test_what_may_not_be_asked_is_not_said_to_be_well(server, tmp_path):
    server.denied = {"GetVersioning", "GetLockConfiguration", "Delete"}
    server.bucket.versioned = False
    found = findings(s3_store(server, tmp_path, object_lock={"mode": "bucket"}))
    assert (found["versions"].ok, found["lock of the bucket"].ok) == (None, None)


def test_it_works_where_memory_cannot_be_made_executable(server, tmp_path):
    """As the outbox runs: MemoryDenyWriteExecute=."""
    remote = s3_remote(server, tmp_path, prefix="here")
    code = (
        "import ctypes, sys\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(77)\n"  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
        "from recorderd.config.remotes_s3 import S3Remote\n"
        "from recorderd.spool.stores import open_store\n"
        "print(open_store(S3Remote.model_validate_json(sys.stdin.read())).claim())\n"
    )
    given = remote.model_dump_json(exclude_defaults=True, exclude={"credentials_file"})
    environment = os.environ | {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=given,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 77:
        pytest.skip("this kernel knows no PR_SET_MDWE")
    assert (done.returncode, done.stdout.strip()) == (0, open_store(remote).probe()), done.stderr


# The configuration

WRONG = {
    "endpoint: must be https": {"allow_http": False},
    "must be a URL": {"endpoint": "localhost:9000"},
    "must not have a path": {"endpoint": "https://x.example/bucket"},
    "must not have a password": {"endpoint": "https://user:secret@x.example"},
    "kms_key_id: only with": {"kms_key_id": "key"},
    "cannot be read back": {"storage_class": "DEEP_ARCHIVE"},
    "days: required": {"object_lock": {"mode": "compliance"}},
    "only for those": {"object_lock": {"mode": "bucket", "days": 3}},
    "must be names": {"prefix": "a/../b"},
    "should match pattern": {"bucket": "UPPER"},
}


@pytest.mark.parametrize("what", list(WRONG))
def test_a_wrong_configuration_is_refused(server, tmp_path, what):
    good = s3_remote(server, tmp_path).model_dump(exclude={"between", "days"})
    with pytest.raises(ValueError, match=what):
        S3Remote.model_validate(good | WRONG[what])
