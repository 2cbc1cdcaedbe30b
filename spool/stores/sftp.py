"""A folder on an SSH server as a store (draft-ietf-secsh-filexfer-02, and OpenSSH's extensions of it)."""

import contextlib
import io
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import asyncssh

from recorderd.config.remotes_sftp import SftpRemote
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
from recorderd.spool.stores.outages import failure_is_outage
from recorderd.spool.stores.sftp_examine import examine
from recorderd.spool.stores.sftp_link import ABSENT, DENIED, Session, SftpLink
from recorderd.spool.stores.sftp_transfer import Download, Upload


class SftpStore:
    """A folder on an SSH server; thread-safe, with one connection for all threads. As with a local folder,
    one that does not exist is an outage and is never made here."""

    def __init__(self, remote: SftpRemote) -> None:
        self._link = SftpLink(remote)
        self._root = remote.path.rstrip("/") or "/"

    def close(self) -> None:
        """End the connection; the next call makes another."""
        self._link.close()

    def probe(self) -> str | None:
        """The identity in the folder's marker file."""

        async def look(session: Session) -> bytes | None:
            if not await session.sftp.isdir(self._root):
                raise RemoteOutage(f"{self._link.place}: {self._root}: no such folder")
            try:
                async with session.sftp.open(self._path(MARKER), "rb") as file:
                    return cast(bytes, await file.read(256))
            except ABSENT:
                return None

        with failure_is_outage():
            found = self._link.run(MARKER, look)
        try:
            return None if found is None else found.decode("ascii").strip() or None
        except ValueError:
            raise RemoteOutage(f"{self._link.place}/{MARKER}: is no marker") from None

    def claim(self) -> str:
        """Write the marker file."""
        identity = secrets.token_hex(16)
        with failure_is_outage():
            self._store(MARKER, io.BytesIO(identity.encode() + b"\n"), None)
        return identity

    def put(self, name: str, path: Path, sent: Sent | None = None) -> None:
        """A temporary name, fsync where the server has it, and a rename over the name."""
        checked_name(name)
        try:
            with path.open("rb") as source:
                self._store(name, source, sent)
        except OSError as error:
            raise RemoteError(f"{path}: {error.strerror or error}") from None

    def open(self, name: str) -> BinaryIO:
        """The file, as the server reads it."""
        return io.BufferedReader(Download(self._link, name, self._path(checked_name(name))), CHUNK)

    def size(self, name: str) -> int | None:
        """The file's size."""
        where = self._path(checked_name(name))

        async def look(session: Session) -> int | None:
            try:
                found = await session.sftp.stat(where)
            except ABSENT:
                return None
            return found.size if stat.S_ISREG(found.permissions or 0) else None

        return self._link.run(name, look)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """The files; what is half written has names of its own and is not among them."""
        return self._listed("", prefix)

    def delete(self, name: str) -> Deleted:
        """Remove the file, and what was left half written of it; a server that says so and keeps it has
        refused."""
        where = self._path(checked_name(name))
        folder, _, last = where.rpartition("/")

        async def remove(session: Session) -> Deleted:
            try:
                with contextlib.suppress(*ABSENT):
                    await session.sftp.remove(f"{folder}/.{last}.tmp")
                await session.sftp.remove(where)
            except ABSENT:
                return Deleted("gone")
            except (*DENIED, asyncssh.SFTPOpUnsupported):
                return Deleted("refused")
            return Deleted("refused" if await session.sftp.lexists(where) else "gone")

        return self._link.run(name, remove)

    def versions(self, name: str) -> tuple[str, ...]:
        """A folder keeps none."""
        return ()

    def examine(self) -> tuple[Finding, ...]:
        """What the server can do, and what it lets us do, tried on a file of its own."""
        self.probe()
        with failure_is_outage():
            return self._link.run("examine", lambda session: examine(session, self._path("")))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _store(self, name: str, source: BinaryIO, sent: Sent | None) -> None:
        upload = Upload(self._link, self._root, name)
        try:
            upload.send(source, sent)
            upload.settle()
        except BaseException:
            upload.discard()
            raise

    def _listed(self, folder: str, prefix: str) -> Iterator[Stored]:
        where = self._path(folder).encode()

        async def look(session: Session) -> list[asyncssh.SFTPName]:
            # As bytes: a name that is no UTF-8 is none of ours, and no fault.
            return [entry async for entry in session.sftp.scandir(where)]

        for name, found in sorted(_names(self._link.run(folder or "list", look), folder)):
            if name.endswith("/") and (name.startswith(prefix) or prefix.startswith(name)):
                yield from self._listed(name, prefix)
            elif name.startswith(prefix) and not name.endswith("/"):
                yield found


def _names(entries: Iterable[asyncssh.SFTPName], folder: str) -> Iterator[tuple[str, Stored]]:
    """What a folder holds, each with its name below the store's root; folders end with a slash."""
    for entry in entries:
        filename, attributes = entry.filename, entry.attrs
        text = filename.decode("utf-8", "replace") if isinstance(filename, bytes) else filename
        mode = attributes.permissions or 0
        if text.startswith("."):
            continue
        if stat.S_ISDIR(mode):
            yield f"{folder}{text}/", Stored("", 0)
        elif stat.S_ISREG(mode):
            name, at = folder + text, attributes.mtime
            yield name, Stored(name, attributes.size or 0, None if at is None else at * 1_000_000)
