"""A folder on a web server as a store: HTTP (RFC 9110), with WebDAV (RFC 4918) or with no more than PUT."""

import io
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import urllib3

from recorderd.config.remotes_webdav import WebdavRemote
from recorderd.errors import RemoteError
from recorderd.spool.stores.base import (
    CHUNK,
    MARKER,
    Deleted,
    Finding,
    RemoteOutage,
    Sent,
    Stored,
    checked_name,
)
from recorderd.spool.stores.multistatus import PROPERTIES, MultistatusError, Resource, read_multistatus
from recorderd.spool.stores.outages import failure_is_outage
from recorderd.spool.stores.webdav_examine import examine
from recorderd.spool.stores.webdav_link import ABSENT, Readable, WebLink

_DONE = (200, 201, 204)
_MOST_FOLDERS = 1000


class WebdavStore:
    """A folder on a web server; thread-safe. One that does not exist is an outage and is never made here."""

    def __init__(self, remote: WebdavRemote) -> None:
        self._remote = remote
        self._link = WebLink(remote)
        self._folders: set[str] = set()
        """Folders that were seen to be there."""

    def close(self) -> None:
        """End the connections; the next call makes others."""
        self._link.close()

    def probe(self) -> str | None:
        """The identity in the folder's marker."""
        with failure_is_outage():
            if self._remote.dav:
                self._look("", "0")
            content = self._link.content(MARKER)
        try:
            return None if content is None else content.decode("ascii").strip() or None
        except ValueError:
            raise RemoteOutage(f"{self._link.url}/{MARKER}: is no marker") from None

    def claim(self) -> str:
        """Write the marker."""
        identity = secrets.token_hex(16)
        content = identity.encode() + b"\n"
        with failure_is_outage():
            self._store(MARKER, io.BytesIO(content), len(content))
        return identity

    def put(self, name: str, path: Path, sent: Sent | None = None) -> None:
        """A temporary name and MOVE over the name; without WebDAV, PUT to the name itself."""
        checked_name(name)
        try:
            with path.open("rb") as source:
                self._store(name, _Counted(source, sent), path.stat().st_size)
        except OSError as error:
            raise RemoteError(f"{path}: {error.strerror or error}") from None

    def open(self, name: str) -> BinaryIO:
        """What the server has; no cache between may answer for it."""
        answer = self._link.ask("GET", checked_name(name))
        if answer.status != 200:
            what = "not there" if answer.status in ABSENT else "cannot be read"
            raise self._link.refusal(name, answer, what)
        return self._link.body(name, answer)

    def size(self, name: str) -> int | None:
        """As HEAD tells it."""
        answer = self._link.told("HEAD", checked_name(name))
        # A folder of that name is shown the way to, with a slash (RFC 9110 section 15.4).
        if answer.status in ABSENT or answer.headers.get("Location", "").endswith(f"/{name}/"):
            return None
        if answer.status != 200:
            raise self._link.refusal(name, answer, "cannot be looked at")
        length = answer.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 19):
            raise RemoteError(f"{self._link.url}/{name}: the server does not tell the size")
        return int(length)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """As PROPFIND tells it; what is half written has names of its own and is not among it."""
        if not self._remote.dav:
            raise RemoteError(f"{self._link.url}: cannot be listed without WebDAV (dav: true)")
        return self._listed("", prefix)

    def delete(self, name: str) -> Deleted:
        """Remove it, and what was left half written of it; a server that says so and keeps it has refused."""
        folder, slash, last = checked_name(name).rpartition("/")
        if self._remote.dav:
            self._link.told("DELETE", f"{folder}{slash}.{last}.tmp")
        answer = self._link.told("DELETE", checked_name(name))
        if answer.status in ABSENT:
            return Deleted("gone")
        if answer.status == 423:
            return Deleted("locked")
        if answer.status in (403, 405, 501):
            return Deleted("refused")
        if answer.status not in (*_DONE, 202):
            raise self._link.refusal(name, answer, "cannot be deleted")
        return Deleted("gone" if self.size(name) is None else "refused")

    def versions(self, name: str) -> tuple[str, ...]:
        """It tells of none."""
        return ()

    def examine(self) -> tuple[Finding, ...]:
        """What the server speaks, and what it lets us do, tried on a file of its own."""
        self.probe()
        with failure_is_outage():
            return examine(self._link, dav=self._remote.dav)

    def _store(self, name: str, source: Readable, size: int) -> None:
        if not self._remote.dav:
            self._put_new(name, source, size)
            return
        folder, _, last = name.rpartition("/")
        self._make_folders(folder)
        temporary = f"{folder}/.{last}.tmp" if folder else f".{last}.tmp"
        answer = self._link.told("PUT", temporary, headers=_sized(size), body=source)
        self._expect_done(name, answer, "was not taken")
        headers = {"Destination": f"{self._link.url}/{name}", "Overwrite": "T"}
        answer = self._link.told("MOVE", temporary, headers=headers)
        self._expect_done(name, answer, "got no name")

    def _put_new(self, name: str, source: Readable, size: int) -> None:
        """Without MOVE: what has the name is replaced only when it is what was seen there before."""
        found = self._link.told("HEAD", name)
        etag = found.headers.get("ETag", "")
        headers = _sized(size)
        if found.status in ABSENT:
            headers["If-None-Match"] = "*"
        elif etag.startswith('"'):
            headers["If-Match"] = etag
        answer = self._link.told("PUT", name, headers=headers, body=source)
        self._expect_done(name, answer, "was not taken")

    def _expect_done(self, name: str, answer: urllib3.BaseHTTPResponse, what: str) -> None:
        if answer.status in _DONE:
            return
        self._folders.clear()
        if answer.status == 500 and self._is_full():
            raise RemoteOutage(f"{self._link.url}: the server stores nothing at all: is its disk full?")
        raise self._link.refusal(name, answer, what)

    def _is_full(self) -> bool:
        """Some servers (nginx) say 500 of a full disk: then not even a few bytes can be stored."""
        name = ".recorderd-examine"
        answer = self._link.told("PUT", name, headers=_sized(1), body=b"?")
        if answer.status in _DONE:
            self._link.told("DELETE", name)
        return answer.status >= 500

    def _make_folders(self, folder: str) -> None:
        parts = folder.split("/") if folder else []
        for count in range(1, len(parts) + 1):
            path = "/".join(parts[:count])
            if path in self._folders:
                continue
            answer = self._link.told("MKCOL", f"{path}/")
            if answer.status == 409:
                raise RemoteOutage(f"{self._link.url}: no such folder")
            # 405: it is there (RFC 4918 section 9.3.1).
            if answer.status not in (*_DONE, 405):
                raise self._link.refusal(path, answer, "the folder was not made")
            if len(self._folders) >= _MOST_FOLDERS:
                self._folders.clear()
            self._folders.add(path)

    def _look(self, folder: str, depth: str) -> tuple[Resource, ...]:
        headers = {"Depth": depth, "Content-Type": "application/xml; charset=utf-8"}
        answer = self._link.ask("PROPFIND", folder, headers=headers, body=PROPERTIES)
        try:
            if answer.status in (405, 501):
                raise RemoteError(f"{self._link.url}: no WebDAV here (dav: false does with PUT alone)")
            if answer.status != 207:
                what = "no such folder" if answer.status in ABSENT else "the folder cannot be looked at"
                raise self._link.refusal(folder, answer, what)
            with self._link.body(folder, answer) as pieces:
                return tuple(read_multistatus(iter(lambda: pieces.read(CHUNK), b"")))
        except MultistatusError as error:
            raise RemoteError(f"{self._link.url}/{folder}: {error}") from None
        finally:
            answer.close()

    def _listed(self, folder: str, prefix: str) -> Iterator[Stored]:
        above = f"{self._link.base}/{folder}"
        found: dict[str, Resource] = {}
        for each in self._look(folder, "1"):
            name = each.path.removeprefix(above)
            # Itself, what is hidden, and what a server tells that was not asked for.
            if name != each.path and name.rstrip("/").count("/") == 0 and not name.startswith((".", "/")):
                found[name] = each
        found.pop("", None)
        for last, each in sorted(found.items()):
            name = folder + last
            if each.folder and (name.startswith(prefix) or prefix.startswith(name)):
                yield from self._listed(name, prefix)
            elif not each.folder and name.startswith(prefix):
                yield Stored(name, each.size, each.modified_us)


def _sized(size: int) -> dict[str, str]:
    return {"Content-Length": str(size), "Content-Type": "application/octet-stream"}


class _Counted:
    """A file that tells how much of it was read."""

    def __init__(self, source: BinaryIO, sent: Sent | None) -> None:
        self._source, self._sent, self._done = source, sent, 0

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        block = self._source.read(size)
        self._done += len(block)
        if block and self._sent is not None:
            self._sent(self._done)
        return block
