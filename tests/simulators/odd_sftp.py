"""An SFTP server that does what a real one does once in ten years: it hangs, or stores other bytes."""

import asyncio
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh

from recorderd.config.remotes_sftp import SftpRemote


class Hanging(asyncssh.SFTPServer):
    """Takes everything, and never answers when a file is to be closed."""

    async def close(self, file_obj: object) -> None:
        await asyncio.Event().wait()


class Lying(asyncssh.SFTPServer):
    """Answers that all is well, and stores other bytes."""

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        super().write(file_obj, offset, bytes(byte ^ 1 for byte in data))
        return len(data)


class Slow(asyncssh.SFTPServer):
    """Writes one thing after the other, as a slow line would carry it: 0.25 s for each request."""

    line = asyncio.Lock()

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        async with self.line:
            await asyncio.sleep(0.25)
        written = super().write(file_obj, offset, data)
        assert isinstance(written, int)
        return written


class Vague(asyncssh.SFTPServer):
    """Fails with words that would harm a terminal."""

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        raise asyncssh.SFTPFailure("\x1b[2J\r\nforged line \u202e" + "x" * 5000)


class OddSftp:
    """Serves ``folder`` on a loopback port, from a thread of its own."""

    def __init__(self, folder: Path, behaviour: type[asyncssh.SFTPServer]) -> None:
        self.folder, self._behaviour = folder, behaviour
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._client_key = asyncssh.generate_private_key("ssh-ed25519")
        self._acceptor: Any = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._acceptor = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def remote(self, **more: Any) -> SftpRemote:
        """How a recorder would be configured for it."""
        identity = self.folder.parent / "odd_identity"
        identity.touch(0o600)
        identity.write_bytes(self._client_key.export_private_key())
        settings = {
            "name": "odd",
            "type": "sftp",
            "host": "127.0.0.1",
            "port": self._acceptor.get_port(),
            "user": "recorder",
            "path": "/",
            "identity_file": identity,
            "host_keys": [self._host_key.export_public_key().decode()],
            "timeout_s": 10.0,
        }
        return SftpRemote.model_validate({**settings, **more})

    async def _listen(self) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[self._host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(
                self._client_key.export_public_key().decode()
            ),
            sftp_factory=lambda channel: self._behaviour(channel, chroot=bytes(self.folder)),
        )

    async def _end(self) -> None:
        self._acceptor.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
