"""The SFTP remote against a real OpenSSH server: what is cut, full, forbidden or another is never a copy."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recorderd.config.host_keys import parse_host_key
from recorderd.errors import RemoteError
from recorderd.spool.index import Index
from recorderd.spool.stores import Finding, RemoteOutage, Retrying, Verifying, open_store, stored_hash
from recorderd.spool.stores.sftp import SftpStore
from tests.live.patience import at_last
from tests.live.ssh_server import SshServer, key_pair, needs_sshd
from tests.simulators.odd_sftp import Hanging, Lying, OddSftp, Slow, Vague
from tests.small_disk import fill, small_disk
from tests.spool_builder import make_desk
from tests.tools_runner import recorderctl

pytestmark = needs_sshd
NAME = "2026-11-21/20261121T200501Z-0123456789.rec"
BIG = 5_000_000
OPERATIONS = Path(__file__).parent.parent.parent / "docs" / "operations.md"

Source = Callable[..., Path]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    with SshServer(tmp_path / "server") as server:
        yield server


@pytest.fixture
def store(server: SshServer) -> Iterator[SftpStore]:
    store = SftpStore(server.remote())
    yield store
    store.close()


@pytest.fixture
def source(tmp_path: Path) -> Source:
    def write(data: bytes, name: str = "source") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def content(store: SftpStore, name: str = NAME) -> bytes:
    with store.open(name) as stream:
        return stream.read()


def found(findings: tuple[Finding, ...]) -> dict[str, bool | None]:
    return {finding.what: finding.ok for finding in findings}


# What is cut


@pytest.mark.parametrize("whole_server", [False, True])
def test_a_connection_that_is_cut_leaves_no_copy(
    server: SshServer, store: SftpStore, source: Source, whole_server: bool
) -> None:
    store.put(NAME, source(b"the old one"))
    path = source(os.urandom(BIG))
    cuts = iter([True])

    def cut(_sent: int) -> None:
        # The next may have been acknowledged before the server was dead.
        if next(cuts, False):
            server.kill() if whole_server else server.cut()

    with pytest.raises(RemoteError, match="connection"):
        store.put(NAME, path, cut)
    if whole_server:
        with pytest.raises(RemoteOutage, match="refused"):
            store.put(NAME, path)
        server.start()
    assert content(store) == b"the old one"
    store.put(NAME, path)
    assert content(store) == path.read_bytes()
    assert [each.name for each in (server.recordings / "2026-11-21").iterdir()] == [NAME.split("/")[1]]


def test_a_cut_is_mended_by_the_next_try(server: SshServer, store: SftpStore, source: Source) -> None:
    path = source(os.urandom(BIG))
    cuts = iter([True])

    def cut_once(_sent: int) -> None:
        if next(cuts, False):
            server.cut()

    Verifying(Retrying(store, sleep=lambda _: None)).put(NAME, path, cut_once)
    assert content(store) == path.read_bytes()


def test_a_connection_that_ended_while_idle_is_made_anew(
    server: SshServer, store: SftpStore, source: Source
) -> None:
    store.claim()
    store.put(NAME, source(b"x"))
    acts: list[Callable[[], object]] = [
        store.probe,
        store.examine,
        lambda: list(store.list()),
        lambda: store.size(NAME),
        lambda: content(store),
        lambda: store.put(NAME, source(b"y")),
        lambda: store.delete(NAME),
    ]
    for act in acts:
        server.cut()
        act()


def test_a_connection_that_is_cut_while_reading_is_no_end_of_the_file(
    server: SshServer, store: SftpStore, source: Source
) -> None:
    store.put(NAME, source(os.urandom(BIG)))
    with store.open(NAME) as stream:
        assert stream.read(10)
        server.cut()
        with pytest.raises(RemoteError, match="lost"):
            stream.read()
    assert stored_hash(store, NAME)


def test_who_stops_in_the_midst_leaves_nothing(server: SshServer, store: SftpStore, source: Source) -> None:
    def stop(_sent: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put(NAME, source(bytes(BIG)), stop)
    assert store.size(NAME) is None
    assert list(store.list()) == []
    store.put(NAME, source(b"whole"))
    assert [each.name for each in (server.recordings / "2026-11-21").iterdir()] == [NAME.split("/")[1]]


def test_a_server_that_hangs_is_an_outage(server: SshServer, source: Source) -> None:
    store = SftpStore(server.remote(timeout_s=1.0))
    path = source(b"good")
    at_last(lambda: store.put(NAME, path))
    server.cut(signal.SIGSTOP)
    # Another connection must not do better, where this one is given up before it is asked.
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RemoteOutage, match="within 1 s"):
            store.size(NAME)
    finally:
        os.kill(server.pid, signal.SIGCONT)
        server.cut(signal.SIGKILL)
    assert at_last(lambda: content(store)) == b"good"
    os.kill(server.pid, signal.SIGSTOP)
    try:
        store.close()
        with pytest.raises(RemoteOutage, match="within 1 s"):
            store.probe()
    finally:
        os.kill(server.pid, signal.SIGCONT)
    store.close()


def test_many_threads_share_one_connection(server: SshServer, store: SftpStore, source: Source) -> None:
    paths = {f"2026-11-{day:02d}/r{day}.rec": source(os.urandom(BIG // 4), f"s{day}") for day in range(1, 9)}
    failures: list[BaseException] = []

    def carry(name: str, path: Path) -> None:
        try:
            Verifying(store).put(name, path)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=carry, args=item) for item in paths.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [each.name for each in store.list()] == sorted(paths)
    assert len(server.sessions()) == 1


# Who is who


def test_another_host_key_is_refused_and_nothing_is_sent(
    server: SshServer, store: SftpStore, source: Source
) -> None:
    store.put(NAME, source(b"the old one"))
    server.kill()
    changed = key_pair(server.host_key)
    server.start()
    with pytest.raises(RemoteOutage, match="not pinned") as refused:
        store.put(NAME, source(b"secret"))
    assert changed.get_fingerprint() in str(refused.value)
    with pytest.raises(RemoteOutage, match="not pinned"):
        store.probe()
    assert (server.recordings / NAME).read_bytes() == b"the old one"
    new = SftpStore(server.remote())
    assert content(new) == b"the old one"
    new.close()


def test_the_users_own_known_hosts_are_not_asked(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Path(f"{server.host_key}.pub").read_text()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {line}")
    monkeypatch.setenv("HOME", str(tmp_path))
    other = key_pair(tmp_path / "other").export_public_key().decode()
    store = SftpStore(server.remote(host_keys=[other]))
    with pytest.raises(RemoteOutage, match="not pinned"):
        store.probe()
    store.close()


def test_a_fingerprint_pins_as_well(server: SshServer) -> None:
    key = parse_host_key(Path(f"{server.host_key}.pub").read_text())
    store = SftpStore(server.remote(host_keys=[key.fingerprint]))
    assert store.probe() is None
    store.close()


def test_the_kind_of_key_that_is_pinned_is_asked_for(tmp_path: Path) -> None:
    """A server has several keys, and shows the one that it is asked for."""
    rsa = tmp_path / "rsa"
    line = key_pair(rsa, "ssh-rsa").export_public_key().decode()
    with SshServer(tmp_path / "server", options=f"HostKey {rsa}\n") as server:
        store = SftpStore(server.remote(host_keys=[f"[{server.port}]:server {line}"]))
        assert store.probe() is None
        store.close()
        dsa = SftpStore(
            server.remote(
                host_keys=[key_pair(tmp_path / "e", "ecdsa-sha2-nistp256").export_public_key().decode()]
            )
        )
        with pytest.raises(RemoteOutage):
            dsa.probe()
        dsa.close()


def test_another_identity_is_refused(server: SshServer, tmp_path: Path) -> None:
    key_pair(tmp_path / "stranger")
    store = SftpStore(server.remote(identity_file=tmp_path / "stranger"))
    with pytest.raises(RemoteOutage, match="may not log in"):
        store.probe()
    store.close()


@pytest.mark.parametrize("fault", ["mode", "missing", "no key", "passphrase"])
def test_an_identity_that_cannot_be_used_is_named(server: SshServer, tmp_path: Path, fault: str) -> None:
    identity = tmp_path / "identity"
    key = key_pair(identity)
    match fault:
        case "mode":
            identity.chmod(0o640)
        case "missing":
            identity.unlink()
        case "no key":
            identity.write_text("nothing")
        case "passphrase":
            identity.write_bytes(key.export_private_key("pkcs8-pem", passphrase="secret"))
    store = SftpStore(server.remote(identity_file=identity))
    with pytest.raises(RemoteOutage, match=str(identity)):
        store.probe()
    store.close()


def test_what_systemd_hands_over_may_show_the_rights_of_an_acl(
    server: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.identity.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(server.identity.parent))
    store = SftpStore(server.remote())
    assert store.probe() is None
    store.close()


# What the server cannot or may not


def test_a_full_disk_is_an_outage(tmp_path: Path, source: Source) -> None:
    with SshServer(tmp_path / "server") as server, small_disk(server.recordings, "300k"):
        store = SftpStore(server.remote())
        store.put(NAME, source(b"small"))
        with pytest.raises(RemoteOutage, match="no space"):
            store.put(NAME.replace("0123", "9999"), source(bytes(BIG), "big"))
        assert content(store) == b"small"
        assert [each.name for each in store.list()] == [NAME]
        fill(server.recordings).unlink()  # what was half written takes no room any more
        store.put(NAME.replace("0123", "7777"), source(bytes(100_000), "fits"))
        filler = fill(server.recordings)
        with pytest.raises(RemoteOutage, match="no space"):
            store.put(NAME, source(b"other bytes"))
        assert content(store) == b"small"
        filler.unlink()
        store.close()


def test_who_may_not_write_is_told(tmp_path: Path, source: Source) -> None:
    with SshServer(tmp_path / "server", sftp="internal-sftp -R") as server:
        store = SftpStore(server.remote())
        assert store.probe() is None
        with pytest.raises(RemoteOutage, match="denied"):
            store.put(NAME, source(b"x"))
        with pytest.raises(RemoteOutage, match="denied"):
            store.claim()
        store.close()


def test_without_the_right_to_delete_copies_are_still_made(tmp_path: Path, source: Source) -> None:
    with SshServer(tmp_path / "server", sftp="internal-sftp -P remove,rmdir") as server:
        store = SftpStore(server.remote())
        store.put(NAME, source(b"first"))
        store.put(NAME, source(b"second"))
        assert store.delete(NAME).outcome == "refused"
        assert content(store) == b"second"
        assert found(store.examine())["deletion"] is True
        assert [each.name for each in store.list()] == [NAME]
        store.close()


def test_the_server_of_the_document(tmp_path: Path, source: Source) -> None:
    """What it lets a user do is enough, and neither deletes nor cuts what is there."""
    (command,) = re.findall(r"^ +ForceCommand (internal-sftp .*)$", OPERATIONS.read_text(), re.MULTILINE)
    with SshServer(tmp_path / "server", sftp=command) as server:
        store = SftpStore(server.remote())
        assert store.claim() == store.probe()
        Verifying(store).put(NAME, source(os.urandom(BIG)))
        Verifying(store).put(NAME, source(os.urandom(BIG)))
        assert [each.name for each in store.list()] == [NAME]
        assert store.delete(NAME).outcome == "refused"
        findings = {"host key": True, "fsync": True, "rename": True, "deletion": True, "room": True}
        assert found(store.examine()) == findings
        assert found(store.examine()) == findings
        store.close()


def test_a_server_without_extensions_is_used_and_told(tmp_path: Path, source: Source) -> None:
    options = "internal-sftp -P posix-rename,fsync,statvfs,limits"
    with SshServer(tmp_path / "server", sftp=options) as server:
        store = SftpStore(server.remote())
        store.put(NAME, source(b"first"))
        store.put(NAME, source(b"second"))
        assert content(store) == b"second"
        findings = found(store.examine())
        assert (findings["rename"], findings["fsync"], findings["room"]) == (False, False, None)
        store.close()


def test_what_a_server_does_is_found_out(server: SshServer, store: SftpStore) -> None:
    assert found(store.examine()) == {
        "host key": True,
        "fsync": True,
        "rename": True,
        "deletion": False,
        "room": True,
    }
    assert list(server.recordings.iterdir()) == []


def test_a_folder_that_is_missing_is_an_outage_and_is_never_made(server: SshServer, source: Source) -> None:
    missing = server.recordings / "not-mounted"
    store = SftpStore(server.remote(path=str(missing)))
    for act in (store.probe, store.claim, lambda: store.put(NAME, source(b"x"))):
        with pytest.raises(RemoteOutage):
            act()
    assert not missing.exists()
    store.close()


def test_odd_files_of_others_are_not_listed(server: SshServer, store: SftpStore, source: Source) -> None:
    store.put(NAME, source(b"x"))
    (server.recordings / ".hidden").write_bytes(b"")
    (server.recordings / "link").symlink_to("/etc/passwd")
    (server.recordings / os.fsdecode(b"\xff\xfe.rec")).write_bytes(b"")
    assert [each.name for each in store.list() if each.name.isascii()] == [NAME]


# Servers that are not what they seem


def test_a_server_that_hangs_after_the_last_byte_is_an_outage(tmp_path: Path, source: Source) -> None:
    (tmp_path / "odd").mkdir()
    with OddSftp(tmp_path / "odd", Hanging) as server:
        store, patient = SftpStore(server.remote(timeout_s=1.0)), SftpStore(server.remote())
        with pytest.raises(RemoteOutage, match="within 1 s"):
            store.put(NAME, source(b"x"))
        store.close()
        assert patient.size(NAME) is None
        patient.close()


def test_many_share_a_slow_line(tmp_path: Path, source: Source) -> None:
    """What waits behind others is no hang, though it waits longer than one answer may take."""
    (tmp_path / "odd").mkdir()
    # Sixteen requests of 0.25 s at once: the last takes longer than that, and some gets on well before.
    size, limit_s = 2 << 20, 3.0
    paths = [source(os.urandom(size), f"s{number}") for number in range(8)]
    failures: list[BaseException] = []
    with OddSftp(tmp_path / "odd", Slow) as server:
        store = SftpStore(server.remote(timeout_s=limit_s))

        def carry(path: Path) -> None:
            try:
                store.put(f"2026-11-21/{path.name}.rec", path)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=carry, args=(path,)) for path in paths]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert time.monotonic() - began > limit_s
        assert [each.size for each in store.list()] == [size] * 8
        store.close()


def test_a_server_that_stores_other_bytes_is_never_believed(tmp_path: Path, source: Source) -> None:
    (tmp_path / "odd").mkdir()
    with OddSftp(tmp_path / "odd", Lying) as server:
        store = SftpStore(server.remote())
        with pytest.raises(RemoteError, match="not what was sent"):
            Verifying(Retrying(store, sleep=lambda _: None)).put(NAME, source(os.urandom(100_000)))
        store.close()


def test_what_a_server_says_is_shown_in_one_harmless_line(tmp_path: Path, source: Source) -> None:
    (tmp_path / "odd").mkdir()
    with OddSftp(tmp_path / "odd", Vague) as server:
        store = SftpStore(server.remote())
        with pytest.raises(RemoteError) as told:
            store.put(NAME, source(b"x"))
        assert str(told.value).isprintable()
        assert "forged line" in str(told.value)
        assert len(str(told.value)) < 400
        store.close()


# As it is used


def test_recordings_are_carried_and_verified(server: SshServer, tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    with Index.open(desk.spool) as index:
        for number in range(2):
            desk.enter(index, desk.record(number), number)
    remote = json.loads(server.remote().model_dump_json(exclude_defaults=True))
    (tmp_path / "config.yaml").write_text(
        json.dumps(
            {
                "spool": {"path": "spool"},
                "encryption": {"recipients": ["identity.pub"], "suite": "x25519"},
                "sync": {"remotes": [remote]},
            }
        )
    )
    answer = recorderctl("-c", tmp_path / "config.yaml", "sync", "--json")
    assert (answer.code, answer.json["remotes"][0]["verified"]) == (0, 2)
    assert len(list(server.recordings.glob("2*/*.rec"))) == 2
    assert open_store(server.remote()).probe()
    answer = recorderctl("-c", tmp_path / "config.yaml", "doctor", "--json")
    told = [check["detail"] for check in answer.json["checks"] if check["name"] == "remote away"]
    assert [line.split(":")[0] for line in told[1:]] == ["host key", "fsync", "rename", "deletion", "room"]
