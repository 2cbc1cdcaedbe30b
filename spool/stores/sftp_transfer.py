"""A file on its way to an SFTP server, and one on its way back."""

import contextlib
import io
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from typing import Any, BinaryIO, cast

import asyncssh

from recorderd.spool.stores.base import CHUNK, RemoteOutage, Sent
from recorderd.spool.stores.sftp_link import ABSENT, Session, SftpLink

_AHEAD = 2
"""Chunks under way at once: the next is on the wire while the last is acknowledged."""
_FOLDER_MODE, _FILE_MODE = 0o750, 0o640


class Upload:
    """A file under a temporary name, on one session; ``settle`` gives it its name."""

    def __init__(self, link: SftpLink, root: str, name: str) -> None:
        """``root`` is a folder that exists; the folders of ``name`` below it are made."""
        self._link, self._name, self._root = link, name, root.rstrip("/")
        self._folder, _, last = name.rpartition("/")
        self._target = f"{self._root}/{name}"
        self._temporary = f"{self._root}/{self._folder}{'/' if self._folder else ''}.{last}.tmp"
        self._session, self._file = link.run(name, self._begin)

    def send(self, source: BinaryIO, sent: Sent | None) -> None:
        """Write all of the source; ``sent`` is told what was acknowledged. Raises RemoteError, OSError."""
        under_way: deque[tuple[int, Future[None]]] = deque()
        done = 0
        while chunk := source.read(CHUNK):
            write = self._link.start(self._name, self._writing(chunk, done), self._session)
            done += len(chunk)
            under_way.append((done, write))
            if len(under_way) == _AHEAD:
                self._landed(*under_way.popleft(), sent)
        while under_way:
            self._landed(*under_way.popleft(), sent)

    def settle(self) -> None:
        """Have it on the server's disk, as far as the server can say, and under its name. Raises
        RemoteError."""
        self._link.run(self._name, self._settle, self._session)

    def discard(self) -> None:
        """Give up; nobody waits for it."""
        self._link.start(self._name, self._discard, self._session)

    def _landed(self, end: int, write: "Future[None]", sent: Sent | None) -> None:
        self._link.wait(write)
        if sent is not None:
            sent(end)

    def _writing(self, chunk: bytes, offset: int) -> Callable[[Session], Awaitable[None]]:
        async def write(session: Session) -> None:
            async with _explained(session, self._root, len(chunk)):
                await self._file.write(chunk, offset)

        return write

    async def _begin(self, session: Session) -> tuple[Session, asyncssh.SFTPClientFile]:
        async with _explained(session, self._root, 1):
            # Removed rather than cut: a connection that hangs may still write to an older one.
            with contextlib.suppress(asyncssh.SFTPError):
                await session.sftp.remove(self._temporary)
            try:
                return session, await self._open(session)
            except ABSENT:
                await self._make_folders(session)
                return session, await self._open(session)

    async def _open(self, session: Session) -> asyncssh.SFTPClientFile:
        attributes = asyncssh.SFTPAttrs(permissions=_FILE_MODE)
        return await session.sftp.open(self._temporary, "wb", attributes)

    async def _make_folders(self, session: Session) -> None:
        if not await session.sftp.isdir(self._root or "/"):
            raise RemoteOutage(f"{self._link.place}: {self._root}: no such folder")
        path = self._root
        for part in self._folder.split("/"):
            path = f"{path}/{part}"
            try:
                await session.sftp.mkdir(path, asyncssh.SFTPAttrs(permissions=_FOLDER_MODE))
            except asyncssh.SFTPError:
                if not await session.sftp.isdir(path):
                    raise

    async def _settle(self, session: Session) -> None:
        async with _explained(session, self._root, CHUNK):
            with contextlib.suppress(asyncssh.SFTPOpUnsupported):
                await self._file.fsync()
            await self._file.close()
        try:
            await session.sftp.posix_rename(self._temporary, self._target)
        except asyncssh.SFTPOpUnsupported:
            # The protocol's own rename replaces nothing; `examine` tells of such a server.
            with contextlib.suppress(*ABSENT):
                await session.sftp.remove(self._target)
            await session.sftp.rename(self._temporary, self._target)

    async def _discard(self, session: Session) -> None:
        with contextlib.suppress(asyncssh.SFTPError, ValueError):
            await self._file.close()
        await session.sftp.remove(self._temporary)


class Download(io.RawIOBase):
    """A file that is read from its start, one chunk ahead."""

    def __init__(self, link: SftpLink, name: str, path: str) -> None:
        super().__init__()
        self._link, self._name = link, name
        self._offset = 0
        self._left = memoryview(b"")
        self._ahead: Future[bytes] | None = None

        async def begin(session: Session) -> tuple[Session, asyncssh.SFTPClientFile]:
            return session, await session.sftp.open(path, "rb")

        self._session, self._file = link.run(name, begin)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as a chunk goes; 0 at the end. Raises RemoteError."""
        self._left = self._left or memoryview(self._chunk())
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count

    def close(self) -> None:
        """Close it there too; nobody waits for that."""
        if not self.closed:
            self._link.start(self._name, lambda _: self._file.close(), self._session)
        super().close()

    def _chunk(self) -> bytes:
        chunk = self._link.wait(self._ahead or self._fetch())
        self._offset += len(chunk)
        self._ahead = self._fetch() if len(chunk) == CHUNK else None
        return chunk

    def _fetch(self) -> "Future[bytes]":
        offset = self._offset

        async def read(_session: Session) -> bytes:
            return cast(bytes, await self._file.read(CHUNK, offset))

        return self._link.start(self._name, read, self._session)


@contextlib.asynccontextmanager
async def _explained(session: Session, folder: str, needed: int) -> AsyncIterator[None]:
    """Version 3 says no more than "failure": ask whether the disk there is full. Raises RemoteOutage."""
    try:
        yield
    except asyncssh.SFTPFailure:
        with contextlib.suppress(asyncssh.SFTPError):
            disk = await session.sftp.statvfs(folder or "/")
            if disk.flags & os.ST_RDONLY:
                raise RemoteOutage(f"{folder}: the server's disk is read-only") from None
            if disk.bavail * disk.frsize < needed or (disk.files and not disk.favail):
                raise RemoteOutage(f"{folder}: no space left on the server") from None
        raise
