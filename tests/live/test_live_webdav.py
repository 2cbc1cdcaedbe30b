"""The WebDAV remote against a real nginx and odd servers: what is cut, full or a lie is never a copy."""

import base64
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recorderd.config.remotes_webdav import WebdavRemote
from recorderd.errors import RemoteError
from recorderd.spool.index import Index
from recorderd.spool.stores import Finding, RemoteOutage, Retrying, Verifying, open_store, stored_hash
from recorderd.spool.stores.webdav import WebdavStore
from tests.live.patience import at_last
from tests.live.web_server import Authority, WebServer, needs_nginx
from tests.simulators.odd_web import Answer, OddWeb, Request, response
from tests.small_disk import fill, small_disk
from tests.spool_builder import make_desk
from tests.tools_runner import recorderctl

pytestmark = needs_nginx
NAME = "2026-11-21/20261121T200501Z-0123456789.rec"
FLAT = "20261121T200501Z-0123456789.rec"
BIG = 5_000_000
OPERATIONS = Path(__file__).parent.parent.parent / "docs" / "operations.md"

Source = Callable[..., Path]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    with WebServer(tmp_path / "server") as server:
        yield server


@pytest.fixture
def store(server: WebServer) -> Iterator[WebdavStore]:
    store = WebdavStore(server.remote())
    yield store
    store.close()


@pytest.fixture
def source(tmp_path: Path) -> Source:
    def write(data: bytes, name: str = "source") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def content(store: WebdavStore, name: str = NAME) -> bytes:
    with store.open(name) as stream:
        return stream.read()


def found(findings: tuple[Finding, ...]) -> dict[str, bool | None]:
    return {finding.what: finding.ok for finding in findings}


def odd(server: OddWeb, **more: object) -> WebdavStore:
    settings = {"name": "odd", "type": "webdav", "url": server.url, "allow_http": True, "timeout_s": 10.0}
    return WebdavStore(WebdavRemote.model_validate({**settings, **more}))


# What is cut


@pytest.mark.parametrize("whole_server", [False, True])
def test_a_connection_that_is_cut_leaves_no_copy(
    server: WebServer, store: WebdavStore, source: Source, whole_server: bool
) -> None:
    store.put(NAME, source(b"the old one"))
    path = source(os.urandom(BIG))
    cuts = iter([True])

    def cut(_sent: int) -> None:
        if next(cuts, False):
            server.kill() if whole_server else server.cut()

    with pytest.raises(RemoteError, match="connection was lost"):
        store.put(NAME, path, cut)
    if whole_server:
        with pytest.raises(RemoteOutage, match="refused"):
            store.put(NAME, path)
        server.start()
    assert content(store) == b"the old one"
    store.put(NAME, path)
    assert content(store) == path.read_bytes()
    assert [each.name for each in store.list()] == [NAME]


def test_a_cut_is_mended_by_the_next_try(server: WebServer, store: WebdavStore, source: Source) -> None:
    path = source(os.urandom(BIG))
    cuts = iter([True])

    def cut_once(_sent: int) -> None:
        if next(cuts, False):
            server.cut()

    Verifying(Retrying(store, sleep=lambda _: None)).put(NAME, path, cut_once)
    assert content(store) == path.read_bytes()


def test_a_connection_that_ended_while_idle_is_made_anew() -> None:
    """A server that ends each connection after its answer, and does not say so before."""
    shelf = Shelf()
    shelf.objects[f"/store/{FLAT}"] = b"first"
    with OddWeb(shelf, once=True) as server:
        store = odd(server, dav=False)
        for _ in range(3):
            assert store.size(FLAT) == 5
            assert content(store, FLAT) == b"first"
            assert store.probe() is None


def test_a_connection_that_is_cut_while_reading_is_no_end_of_the_file(
    server: WebServer, store: WebdavStore, source: Source
) -> None:
    store.put(NAME, source(os.urandom(4 * BIG)))
    with store.open(NAME) as stream:
        assert stream.read(10)
        server.cut()
        with pytest.raises(RemoteError, match="lost"):
            stream.read()
    assert stored_hash(store, NAME)


def test_who_stops_in_the_midst_leaves_nothing(server: WebServer, store: WebdavStore, source: Source) -> None:
    def stop(_sent: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put(NAME, source(bytes(BIG)), stop)
    assert store.size(NAME) is None
    assert list(store.list()) == []
    store.put(NAME, source(b"whole"))
    assert content(store) == b"whole"


def test_a_server_that_hangs_is_an_outage(server: WebServer, source: Source) -> None:
    store = WebdavStore(server.remote(timeout_s=1.0))
    path = source(b"good")
    at_last(lambda: store.put(NAME, path))
    server.cut(signal.SIGSTOP)
    try:
        for act in (lambda: store.size(NAME), store.probe, lambda: store.put(NAME, source(bytes(BIG)))):
            with pytest.raises(RemoteOutage, match="within 1 s"):
                act()
    finally:
        server.cut(signal.SIGCONT)
    assert at_last(lambda: content(store)) == b"good"
    store.close()


def test_many_threads_share_one_store(store: WebdavStore, source: Source) -> None:
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


# Who is who


def test_only_tls_1_3_is_spoken_unless_less_is_allowed(tmp_path: Path) -> None:
    with WebServer(tmp_path / "server", protocols="TLSv1.2") as server:
        store = WebdavStore(server.remote())
        with pytest.raises(RemoteOutage, match=r"TLS: .*[Vv]ersion"):
            store.probe()
        old = WebdavStore(server.remote(minimum_tls="1.2"))
        assert old.probe() is None
        (tls,) = (finding for finding in old.examine() if finding.what == "TLS")
        assert tls.ok is False
        assert tls.detail.startswith("TLSv1.2, ")
        old.close()


def test_another_authority_is_not_trusted(server: WebServer, tmp_path: Path, source: Source) -> None:
    (tmp_path / "other").mkdir()
    for other in (Authority(tmp_path / "other").file, None):
        store = WebdavStore(server.remote(ca_file=other))
        with pytest.raises(RemoteOutage, match="certificate verify failed"):
            store.probe()
        with pytest.raises(RemoteOutage, match="certificate verify failed"):
            store.put(NAME, source(b"secret"))
    assert not (server.recordings / "2026-11-21").exists()


def test_a_certificate_of_another_name_is_refused(server: WebServer) -> None:
    store = WebdavStore(server.remote(url=f"https://localhost:{server.port}/dav"))
    with pytest.raises(RemoteOutage, match="not valid for 'localhost'"):
        store.probe()


def test_a_client_whom_the_server_does_not_know_is_told(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").issue("stranger", server=False)
    store = WebdavStore(
        server.remote(certificate_file=stranger.certificate, certificate_key_file=stranger.key)
    )
    with pytest.raises(RemoteOutage, match="SSL certificate error"):
        store.probe()
    nobody = WebdavStore(server.remote(certificate_file=None, certificate_key_file=None))
    with pytest.raises(RemoteOutage, match="No required SSL certificate"):
        nobody.probe()


def test_a_key_that_others_can_read_is_refused(server: WebServer) -> None:
    server.client.key.chmod(0o644)
    store = WebdavStore(server.remote())
    with pytest.raises(RemoteOutage, match="mode 0644"):
        store.probe()
    server.client.key.chmod(0o600)
    assert store.probe() is None
    store.close()


def test_passwords_and_tokens_come_from_private_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    with OddWeb(lambda _: response(404)) as server:
        secret.write_text("pässword\n")
        odd(server, dav=False, user="anna", password_file=secret).probe()
        with pytest.raises(RemoteOutage, match="no bearer token"):
            odd(server, dav=False, token_file=secret).probe()
        secret.write_text("a.token\n")
        odd(server, dav=False, token_file=secret).probe()
        basic, bearer = (request.headers["authorization"] for request in server.requests)
        assert basic == f"Basic {base64.b64encode('anna:pässword'.encode()).decode()}"
        assert bearer == "Bearer a.token"
        secret.chmod(0o604)
        with pytest.raises(RemoteOutage, match="mode 0604"):
            odd(server, dav=False, token_file=secret).probe()
        assert len(server.requests) == 2


# What the server cannot or may not


def test_a_full_disk_is_an_outage(tmp_path: Path, source: Source) -> None:
    server = WebServer(tmp_path / "server")
    with small_disk(server.recordings, "300k"):
        (server.recordings / ".uploads").mkdir()
        with server:
            store = WebdavStore(server.remote())
            store.put(NAME, source(b"small"))
            with pytest.raises(RemoteError, match="500"):
                store.put(NAME.replace("0123", "9999"), source(bytes(BIG), "big"))
            filler = fill(server.recordings)
            with pytest.raises(RemoteOutage, match="full"):
                store.put(NAME, source(b"other bytes"))
            assert content(store) == b"small"
            assert [each.name for each in store.list()] == [NAME]
            filler.unlink()
            store.put(NAME, source(b"other bytes"))
            assert content(store) == b"other bytes"
            store.close()


def test_put_alone_will_do(tmp_path: Path, source: Source) -> None:
    """No WebDAV, no deletion: nginx with no method more than PUT, which makes the folders."""
    with WebServer(tmp_path / "server", methods="PUT", options="create_full_put_path on;") as server:
        store = WebdavStore(server.remote(dav=False))
        assert store.probe() is None
        assert store.claim() == store.probe()
        Verifying(store).put(NAME, source(b"first"))
        Verifying(store).put(NAME, source(b"second"))
        assert content(store) == b"second"
        assert store.delete(NAME).outcome == "refused"
        assert content(store) == b"second"
        assert found(store.examine()) == {"TLS": True, "conditions": False, "deletion": True}
        with pytest.raises(RemoteError, match="cannot be listed"):
            list(store.list())
        with pytest.raises(RemoteError, match="405"):
            WebdavStore(server.remote()).put(NAME, source(b"x"))
        store.close()


def test_the_write_once_server_of_the_document(tmp_path: Path, source: Source) -> None:
    """Who has our certificate there can neither delete recordings nor replace them."""
    blocks = re.findall(r"^```nginx\n(.*?)^```", OPERATIONS.read_text(), re.MULTILINE | re.DOTALL)
    (locations,) = (block for block in blocks if "PUT again" in block)
    locations = locations.replace("/recordings/", "/dav/")
    with WebServer(tmp_path / "server", locations=locations) as server:
        store = WebdavStore(server.remote(dav=False))
        assert store.claim() == store.probe()
        Verifying(store).put(NAME, source(b"the first"))
        with pytest.raises(RemoteError, match="412"):
            store.put(NAME, source(b"something else"))
        assert store.delete(NAME).outcome == "refused"
        assert content(store) == b"the first"
        assert found(store.examine()) == {"TLS": True, "conditions": True, "deletion": True}
        assert found(store.examine()) == {"TLS": True, "conditions": True, "deletion": True}
        key = NAME.replace(".rec", ".key")
        Verifying(store).put(key, source(b"generation 1"))
        Verifying(store).put(key, source(b"generation 2"))
        store.close()


def test_what_a_server_does_is_found_out(server: WebServer, store: WebdavStore) -> None:
    assert found(store.examine()) == {"TLS": True, "rename": True, "conditions": False, "deletion": False}
    assert [path.name for path in server.recordings.iterdir()] == [".uploads"]


def test_a_folder_that_is_missing_is_an_outage_and_is_never_made(server: WebServer, source: Source) -> None:
    store = WebdavStore(server.remote(url=f"https://127.0.0.1:{server.port}/dav/not-mounted"))
    for act in (store.probe, store.claim, lambda: store.put(NAME, source(b"x"))):
        with pytest.raises(RemoteOutage):
            act()
    assert not (server.recordings / "not-mounted").exists()
    store.close()


def test_a_folder_that_was_removed_is_made_again(
    server: WebServer, store: WebdavStore, source: Source
) -> None:
    store.put(NAME, source(b"first"))
    store.delete(NAME)
    (server.recordings / "2026-11-21").rmdir()
    Retrying(store, sleep=lambda _: None).put(NAME, source(b"second"))
    assert content(store) == b"second"


# Servers that are not what they seem


class Shelf:
    """Keeps what is PUT, as a server without WebDAV; ``spoil`` is what it makes of it."""

    def __init__(self, spoil: Callable[[bytes], bytes] = lambda data: data) -> None:
        self.objects: dict[str, bytes] = {}
        self._spoil = spoil

    def __call__(self, request: Request) -> bytes | None:
        match request.method:
            case "PUT":
                if request.headers.get("if-none-match") == "*" and request.path in self.objects:
                    return response(412)
                self.objects[request.path] = self._spoil(request.body)
                return response(201)
            case "GET" if request.path in self.objects:
                return response(200, self.objects[request.path])
            case "HEAD" if request.path in self.objects:
                size = len(self.objects[request.path])
                return f'HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nETag: "1"\r\n\r\n'.encode()
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def test_conditions_that_hold_are_found_out_and_used(source: Source) -> None:
    with OddWeb(Shelf()) as server:
        store = odd(server, dav=False)
        store.put(FLAT, source(b"first"))
        store.put(FLAT, source(b"second"))
        assert content(store, FLAT) == b"second"
        puts = [request.headers for request in server.requests if request.method == "PUT"]
        assert (puts[0]["if-none-match"], puts[1]["if-match"]) == ("*", '"1"')
        assert found(store.examine())["conditions"] is True


LIES = {
    "other bytes": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "cut short": lambda data: data[:-1],
    "nothing": lambda data: b"",
}


@pytest.mark.parametrize("lie", list(LIES))
def test_a_server_that_says_201_and_stores_other_bytes_is_never_believed(source: Source, lie: str) -> None:
    with OddWeb(Shelf(LIES[lie])) as server:
        store = Verifying(Retrying(odd(server, dav=False), sleep=lambda _: None))
        with pytest.raises(RemoteError, match="not what was sent"):
            store.put(FLAT, source(b"the data"))


def hang_at(method: str) -> Answer:
    shelf = Shelf()
    return lambda request: None if request.method == method else shelf(request)


@pytest.mark.parametrize("method", ["PUT", "HEAD", "GET"])
def test_a_server_that_hangs_after_the_last_byte_is_an_outage(source: Source, method: str) -> None:
    with OddWeb(hang_at(method)) as server:
        store = Verifying(odd(server, dav=False, timeout_s=0.5))
        with pytest.raises(RemoteOutage, match=r"within 0\.5 s"):
            store.put(FLAT, source(b"the data"))


@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_that_only_trickles_is_an_outage(part: str) -> None:
    """A byte now and then keeps every time-out of a socket from ever being over."""
    head, body = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", bytes(1000)
    at_once, slowly = (b"", head) if part == "head" else (head, body)
    with OddWeb(lambda _: at_once, then=slowly, pause_s=0.1) as server:
        store = odd(server, dav=False, timeout_s=0.5)
        with pytest.raises(RemoteOutage, match=r"within 0\.5 s|trickles"):
            stored_hash(store, FLAT)


def test_a_server_that_ends_before_the_end_is_no_end_of_the_file() -> None:
    whole = response(200, bytes(1000))
    with OddWeb(lambda _: whole[:-1]) as server:
        store = odd(server, dav=False, timeout_s=0.5)
        with pytest.raises(RemoteError, match=r"within|lost"):
            stored_hash(store, FLAT)


def test_nobody_is_followed_elsewhere(tmp_path: Path, source: Source) -> None:
    """A redirection would carry the password and the bytes to whoever is named."""
    with OddWeb(Shelf()) as other, OddWeb(lambda _: response(307, b"", f"Location: {other.url}/x")) as server:
        store = odd(server, dav=False)
        for act in (store.probe, lambda: store.put(FLAT, source(b"x")), lambda: store.size(FLAT)):
            with pytest.raises(RemoteError, match="307"):
                act()
        assert other.requests == []


@pytest.mark.parametrize(
    ("status", "outage"),
    [
        (400, False),
        (401, True),
        (403, True),
        (413, False),
        (429, True),
        (502, True),
        (503, True),
        (507, True),
    ],
)
def test_what_an_answer_means(source: Source, status: int, outage: bool) -> None:
    def answer(request: Request) -> bytes:
        return response(status if request.method == "PUT" else 404)

    with OddWeb(answer) as server, pytest.raises(RemoteError, match=str(status)) as told:
        odd(server, dav=False).put(FLAT, source(b"x"))
    assert isinstance(told.value, RemoteOutage) is outage


def test_what_a_server_says_is_shown_in_one_harmless_line() -> None:
    said = "\x1b[2Jforged\tline\u202e".encode() + b"x" * 3000
    answer = b"HTTP/1.1 500 " + said + b"\r\nContent-Length: 0\r\n\r\n"
    with OddWeb(lambda _: answer) as server, pytest.raises(RemoteError) as told:
        odd(server, dav=False).size(FLAT)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 400


def test_a_listing_that_is_none_is_an_error() -> None:
    def answer(request: Request) -> bytes:
        return response(207, b"<!DOCTYPE x [<!ENTITY a 'b'>]><multistatus xmlns='DAV:'/>")

    with OddWeb(answer) as server, pytest.raises(RemoteError, match="document type"):
        list(odd(server).list())


# As it is used


def test_recordings_are_carried_and_verified(server: WebServer, tmp_path: Path) -> None:
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
    told = [check["detail"] for check in answer.json["checks"] if check["name"] == "remote web"]
    assert [line.split(":")[0] for line in told[1:]] == ["TLS", "rename", "conditions", "deletion"]
