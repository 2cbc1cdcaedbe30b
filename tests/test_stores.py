"""One suite for every store, alone and wrapped; then what each wrapper and each disk does on its own."""

import errno
import io
import os
import shutil
import stat
import subprocess

import pytest

from recorderd.errors import RemoteError
from recorderd.spool.stores import (
    MARKER,
    LocalStore,
    MemoryStore,
    RemoteOutage,
    Retrying,
    Verifying,
    stored_hash,
)
from recorderd.spool.stores.sftp import SftpStore
from recorderd.spool.stores.webdav import WebdavStore
from tests.live.ssh_server import SshServer, needs_sshd
from tests.live.web_server import WebServer, needs_nginx
from tests.s3_builder import s3_store
from tests.simulators.s3_server import S3Server

NAME = "2026-11-21/20261121T200501Z-0123456789.rec"
SIZES = [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1]


def no_sleep(_seconds):
    pass


def make_s3(folder, request):
    return s3_store(request.getfixturevalue("s3_server"), folder)


def make_sftp(folder, request):
    server = request.getfixturevalue("ssh_server")
    root = server.recordings / folder.name
    root.mkdir()
    store = SftpStore(server.remote(path=str(root)))
    request.addfinalizer(store.close)
    return store


def make_webdav(folder, request):
    server = request.getfixturevalue("web_server")
    (server.recordings / folder.name).mkdir()
    store = WebdavStore(server.remote(url=f"{server.remote().url}/{folder.name}"))
    request.addfinalizer(store.close)
    return store


MAKERS = {
    "memory": lambda folder, request: MemoryStore(),
    "local": lambda folder, request: LocalStore.create(folder / "remote"),
    "s3": make_s3,
    "sftp": make_sftp,
    "webdav": make_webdav,
}


WRAPPERS = {
    "bare": lambda store: store,
    "retrying": lambda store: Retrying(store, sleep=no_sleep),
    "verifying": Verifying,
    "both": lambda store: Verifying(Retrying(store, sleep=no_sleep)),
}


@pytest.fixture(scope="module")
def s3_server():
    with S3Server() as server:
        yield server


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory):
    with SshServer(tmp_path_factory.mktemp("ssh") / "server") as server:
        yield server


@pytest.fixture(scope="module")
def web_server(tmp_path_factory):
    with WebServer(tmp_path_factory.mktemp("web") / "server") as server:
        yield server


@pytest.fixture(
    params=[
        "memory",
        "local",
        "s3",
        pytest.param("sftp", marks=needs_sshd),
        pytest.param("webdav", marks=needs_nginx),
    ]
)
def kind(request):
    return request.param


@pytest.fixture(params=list(WRAPPERS))
def store(request, kind, tmp_path):
    return WRAPPERS[request.param](MAKERS[kind](tmp_path, request))


@pytest.fixture
def source(tmp_path):
    def write(data: bytes, name="source"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def content(store, name=NAME):
    with store.open(name) as stream:
        return stream.read()


@pytest.mark.parametrize("size", SIZES)
def test_what_is_put_comes_back(store, source, size):
    data = os.urandom(size)
    sent = []
    store.put(NAME, source(data), sent.append)
    assert content(store) == data
    assert store.size(NAME) == size
    assert sent == sorted(sent)
    assert (sent[-1] if sent else 0) == size


def test_what_was_never_put_is_not_there(store):
    assert store.size(NAME) is None
    with pytest.raises(RemoteError):
        store.open(NAME)


def test_a_put_done_twice_leaves_one_object(store, source):
    store.put(NAME, source(b"first"))
    store.put(NAME, source(b"first"))
    assert content(store) == b"first"
    store.put(NAME, source(b"the second"))
    assert content(store) == b"the second"
    assert store.size(NAME) == 10


def test_names_are_kept_apart(store, source):
    other = NAME.replace(".rec", ".json")
    store.put(NAME, source(b"one"))
    store.put(other, source(b"two"))
    assert (content(store), content(store, other)) == (b"one", b"two")


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", "", ".hidden", "a//b", "a/", "a\0b", "a\nb", "é"]
)
def test_odd_names_are_refused(store, source, tmp_path, name):
    with pytest.raises(RemoteError):
        store.put(name, source(b"x"))
    assert not (tmp_path / "x").exists()


def test_a_source_that_is_missing_changes_nothing(store, source, tmp_path):
    store.put(NAME, source(b"good"))
    with pytest.raises(RemoteError):
        store.put(NAME, tmp_path / "nothing")
    assert content(store) == b"good"


def test_the_identity_is_kept(store):
    identity = store.probe() or store.claim()
    assert store.probe() == identity
    assert identity


def test_what_is_stored_is_listed(store, source):
    assert list(store.list()) == []
    sizes = {f"2026-11-{day}/{number}.rec": day + number for day in (9, 21) for number in range(3)}
    for name, size in sizes.items():
        store.put(name, source(bytes(size)))
    store.probe() or store.claim()
    assert {each.name: each.size for each in store.list()} == sizes
    assert [each.name for each in store.list("2026-11-21/")] == [name for name in sizes if "-21/" in name]
    assert [each.name for each in store.list("2026-11-21/2")] == ["2026-11-21/2.rec"]
    assert list(store.list("2027")) == []


def test_what_is_deleted_is_gone_in_all_its_versions(store, source):
    store.put(NAME, source(b"first"))
    store.put(NAME, source(b"second"))
    store.put(NAME + ".2", source(b"another"))
    known = store.versions(NAME)
    deleted = store.delete(NAME)
    assert (deleted.outcome, deleted.until) == ("gone", None)
    assert set(deleted.versions) == set(known)
    assert store.size(NAME) is None
    assert store.versions(NAME) == ()
    assert [each.name for each in store.list()] == [NAME + ".2"]
    with pytest.raises(RemoteError):
        store.open(NAME)
    store.put(NAME, source(b"third"))
    assert content(store) == b"third"


def test_what_is_not_there_is_deleted_already(store):
    assert store.delete(NAME).outcome == "gone"
    assert store.versions(NAME) == ()


def test_a_name_that_is_a_folder_holds_nothing(store, source):
    store.put(NAME, source(b"x"))
    assert store.size("2026-11-21") is None


def test_an_examination_leaves_nothing_to_be_seen(store, source):
    store.put(NAME, source(b"x"))
    for finding in store.examine():
        assert finding.what
        assert finding.detail
    assert [each.name for each in store.list()] == [NAME]


# A folder


@pytest.fixture
def local(tmp_path):
    return LocalStore.create(tmp_path / "remote")


def test_a_missing_folder_is_an_outage_and_is_never_made(tmp_path, source):
    store = LocalStore(tmp_path / "not-mounted")
    for act in (store.probe, store.claim, lambda: store.put(NAME, source(b"x")), lambda: store.open(NAME)):
        with pytest.raises(RemoteError):
            act()
    with pytest.raises(RemoteOutage, match="mounted"):
        store.probe()
    assert not (tmp_path / "not-mounted").exists()


def test_a_folder_can_be_made_explicitly(tmp_path):
    first = LocalStore.create(tmp_path / "a" / "b")
    assert first.probe() == LocalStore.create(tmp_path / "a" / "b").probe() is not None


def test_an_existing_folder_has_no_identity_until_it_is_claimed(tmp_path):
    store = LocalStore(tmp_path)
    assert store.probe() is None
    identity = store.claim()
    assert LocalStore(tmp_path).probe() == identity
    (tmp_path / MARKER).write_bytes(b"\xff")
    with pytest.raises(RemoteOutage):
        store.probe()


def test_copies_are_as_private_as_the_spool(tmp_path, source):
    before = os.umask(0)
    try:
        local = LocalStore.create(tmp_path / "remote")
        local.put(NAME, source(b"x"))
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [local.root, *local.root.rglob("*")]}
    assert modes == {"remote": 0o750, "2026-11-21": 0o750, NAME.split("/")[1]: 0o640, MARKER: 0o640}


def test_nothing_half_done_is_seen(local, source, monkeypatch):
    """Killed or refused in the midst of a copy: the name is not there, and the next try takes over."""
    path = source(b"x" * 3_000_000)

    def stop(_sent):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.put(NAME, path, stop)
    assert local.size(NAME) is None
    local.put(NAME, path)
    assert [each.name for each in (local.root / "2026-11-21").iterdir()] == [NAME.split("/")[1]]


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_disk_that_fails_keeps_what_was_there(local, source, monkeypatch, call):
    local.put(NAME, source(b"good"))

    def broken(*_arguments, **_keywords):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, broken)
        with pytest.raises(RemoteOutage, match="Input/output"):
            local.put(NAME, source(b"new one"))
    assert content(local) == b"good"


def test_reading_back_asks_the_disk(local, source, monkeypatch):
    local.put(NAME, source(b"data"))
    asked = []
    real = os.posix_fadvise
    monkeypatch.setattr(os, "posix_fadvise", lambda *each: asked.append(each[1:]) or real(*each))
    assert stored_hash(local, NAME)
    assert asked == [(0, 0, os.POSIX_FADV_DONTNEED)]


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting needs root")
def test_a_full_and_a_read_only_remote_are_outages(tmp_path, source):
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        store = LocalStore.create(mount)
        store.put(NAME, source(b"small"))
        with pytest.raises(RemoteOutage, match="space"):
            store.put(NAME.replace("0123", "9999"), source(bytes(400_000), "big"))
        assert content(store) == b"small"
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        with pytest.raises(RemoteOutage):
            store.put(NAME, source(b"small"))
        assert content(store) == b"small"
    finally:
        subprocess.run(["umount", str(mount)], check=True)


# Stores that fail and lie


class Flaky(MemoryStore):
    """Fails a number of times before it works."""

    def __init__(self, failures, error=RemoteError):
        super().__init__()
        self.failures, self.error, self.calls = failures, error, 0

    def put(self, name, path, sent=None):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error("connection reset")
        super().put(name, path, sent)


class Liar(MemoryStore):
    """Answers that all is well."""

    def __init__(self, keep):
        super().__init__()
        self.keep = keep

    def put(self, name, path, sent=None):
        super().put(name, path, sent)
        self.objects[name] = self.keep(self.objects[name])

    def size(self, name):
        return 8 if name in self.objects else None


LIES = {
    "wrong bytes": lambda data: data[:-1] + b"?",
    "cut short": lambda data: data[:-1],
    "nothing": lambda data: b"",
    "more": lambda data: data + b"\0",
}


@pytest.mark.parametrize("lie", list(LIES))
def test_a_lie_is_never_believed(source, lie):
    store = Verifying(Retrying(Liar(LIES[lie]), sleep=no_sleep))
    with pytest.raises(RemoteError, match="not what was sent"):
        store.put(NAME, source(b"the data"))


def test_a_store_that_loses_what_it_took_is_found(source):
    class Forgetful(MemoryStore):
        def put(self, name, path, sent=None):
            pass

    with pytest.raises(RemoteError):
        Verifying(Forgetful()).put(NAME, source(b"the data"))


def test_a_store_that_fails_while_reading_back_is_no_success(source):
    class Broken(io.BytesIO):
        def read(self, *_):
            raise OSError(errno.EIO, "Input/output error")

    class Unreadable(MemoryStore):
        def open(self, name):
            return Broken()

    with pytest.raises(RemoteError, match="reading back"):
        Verifying(Unreadable()).put(NAME, source(b"the data"))


def test_what_is_there_already_is_not_sent_again(source):
    inner = Flaky(0)
    store = Verifying(inner)
    store.put(NAME, source(b"the data"))
    store.put(NAME, source(b"the data"))
    assert inner.calls == 1


def test_a_store_that_forgets_its_identity_is_an_outage():
    class Amnesiac(MemoryStore):
        def probe(self):
            return None

    with pytest.raises(RemoteOutage):
        Verifying(Amnesiac()).claim()


def test_failures_are_tried_again_with_growing_pauses(source):
    pauses = []
    store = Retrying(Flaky(2), tries=3, pause_s=1, sleep=pauses.append)
    store.put(NAME, source(b"x"))
    assert content(store) == b"x"
    assert pauses == [1, 2]


def test_tries_end(source):
    flaky = Flaky(100)
    with pytest.raises(RemoteError, match="reset"):
        Retrying(flaky, tries=3, sleep=no_sleep).put(NAME, source(b"x"))
    assert flaky.calls == 3


def test_an_outage_is_told_at_once(source):
    flaky = Flaky(100, RemoteOutage)
    with pytest.raises(RemoteOutage):
        Retrying(flaky, sleep=no_sleep).put(NAME, source(b"x"))
    assert flaky.calls == 1
