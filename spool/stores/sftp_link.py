"""One connection to an SSH server, used by any number of threads.

asyncssh lives in an event loop, which is in a thread of its own here; whoever calls waits for an answer, and
never longer than the configuration says. A connection that was lost is made anew by the next call.
"""

import asyncio
import concurrent.futures
import logging
import os
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import asyncssh

from recorderd.config.host_keys import fingerprint_of, parse_host_key
from recorderd.config.remotes_sftp import SftpRemote
from recorderd.errors import RemoteError
from recorderd.spool.stores.base import RemoteOutage
from recorderd.spool.stores.private_files import read_private
from recorderd.spool.stores.words import words

log = logging.getLogger(__name__)
T = TypeVar("T")

# The loop's own limit is the one that counts; this is for a loop that does not run any more.
_GRACE_S = 10.0
_PATIENCE = 10
"""How many time-outs some work may take while other work gets on."""
_LOST = (
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    asyncssh.SFTPBadMessage,
    asyncssh.DisconnectError,
    asyncssh.ChannelOpenError,
    ConnectionError,
)
ABSENT = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)
DENIED = (asyncssh.SFTPPermissionDenied, asyncssh.SFTPWriteProtect)
_OUTAGES = (*DENIED, asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)


@dataclass(frozen=True, eq=False, slots=True)
class Session:
    """A connection with its SFTP session; files that were opened on it end with it."""

    connection: asyncssh.SSHClientConnection
    sftp: asyncssh.SFTPClient
    waiting: dict[asyncio.Timeout, float] = field(default_factory=dict)
    """The deadlines of what is under way on it, and how far each can be put off (the loop's time)."""

    @asynccontextmanager
    async def bounded(self, limit_s: float) -> AsyncIterator[None]:
        """Work that may wait for so long, and longer (not without end) while other work gets on: many share a
        slow line. Raises TimeoutError."""
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout_at(begun + limit_s) as deadline:
            last = begun + _PATIENCE * limit_s
            self.waiting[deadline] = last
            try:
                yield
            finally:
                del self.waiting[deadline]
        now = asyncio.get_running_loop().time()
        for other, at_most in self.waiting.items():
            if not other.expired():
                other.reschedule(min(now + limit_s, at_most))


class _Lost(RemoteError):
    """The connection ended in the midst of some work."""


class _Pinned(asyncssh.SSHClient):
    """Trusts the keys that are pinned, and remembers what was shown instead."""

    def __init__(self, trusted: frozenset[str]) -> None:
        self._trusted = trusted
        self.shown: str | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Whether this key is a pinned one."""
        self.shown = fingerprint_of(key.public_data)
        return self.shown in self._trusted


def _nobody(host: str, addr: str, port: int | None) -> tuple[list[str], ...]:
    """Known hosts: none. An empty list would have asyncssh read the user's own file."""
    return [], [], [], [], [], [], []


class SftpLink:
    """Runs SFTP on one connection; thread-safe."""

    def __init__(self, remote: SftpRemote) -> None:
        self._remote = remote
        self.place = f"sftp://{remote.host}:{remote.port}"
        """How the server is named to a reader."""
        keys = [parse_host_key(text) for text in remote.host_keys]
        self._trusted = frozenset(key.fingerprint for key in keys)
        # Where the kinds are known, the server is asked for a key of those: it may have others.
        self._signatures = tuple(dict.fromkeys(each for key in keys for each in key.signatures))
        if not all(key.signatures for key in keys):
            self._signatures = ()
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: weakref.finalize[..., SftpLink] | None = None
        self._connecting = asyncio.Lock()
        self._session: Session | None = None

    def start(
        self, name: str, work: Callable[[Session], Awaitable[T]], session: Session | None = None
    ) -> "concurrent.futures.Future[T]":
        """Begin some work for an object; ``wait`` for its end. Without a session it is done on one that
        lives, and a second time where that one turns out to have ended: it must do no harm twice."""
        return asyncio.run_coroutine_threadsafe(self._bounded(name, work, session), self._running())

    def wait(self, future: "concurrent.futures.Future[T]") -> T:
        """What became of it. Raises RemoteError."""
        try:
            return future.result((1 + _PATIENCE) * self._remote.timeout_s + _GRACE_S)
        except TimeoutError:
            future.cancel()
            raise RemoteOutage(f"{self.place}: no answer") from None

    def run(self, name: str, work: Callable[[Session], Awaitable[T]], session: Session | None = None) -> T:
        """Do some work for an object. Raises RemoteError."""
        return self.wait(self.start(name, work, session))

    def close(self) -> None:
        """End the connection and its thread; the next call begins anew."""
        with self._starting:
            loop, self._loop = self._loop, None
            stop, self._stop = self._stop, None
        if loop is not None and stop is not None:
            loop.call_soon_threadsafe(self._abort, self._session)
            stop()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._connecting = asyncio.Lock()
                threading.Thread(target=_serve, args=(self._loop,), name="sftp", daemon=True).start()
                self._stop = weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)
                # A thread of its kind ends with the process; there is nobody to wait for it then.
                self._stop.atexit = False
            return self._loop

    async def _bounded(
        self, name: str, work: Callable[[Session], Awaitable[T]], session: Session | None
    ) -> T:
        if session is not None:
            return await self._told(name, work, session)
        session = await self._connected()
        try:
            return await self._told(name, work, session)
        except _Lost:
            # A connection that was idle may have ended long ago, and it is seen only now.
            return await self._told(name, work, await self._connected())

    async def _told(self, name: str, work: Callable[[Session], Awaitable[T]], session: Session) -> T:
        """Do it; what goes wrong is told in our words."""
        limit = self._remote.timeout_s
        try:
            async with session.bounded(limit):
                return await work(session)
        except TimeoutError:
            self._abort(session)
            raise RemoteOutage(f"{self.place}: no answer within {limit:g} s") from None
        except _LOST as error:
            self._abort(session)
            raise _Lost(f"{self.place}: the connection was lost: {words(error)}") from None
        except _OUTAGES as error:
            raise RemoteOutage(f"{self.place}/{name}: {words(error)}") from None
        except asyncssh.SFTPError as error:
            raise RemoteError(f"{self.place}/{name}: {words(error)}") from None

    async def _connected(self) -> Session:
        limit = self._remote.timeout_s
        try:
            async with asyncio.timeout(limit), self._connecting:
                if self._session is None or self._session.connection.is_closed():
                    self._session = await self._connect()
                return self._session
        except TimeoutError:
            raise RemoteOutage(f"{self.place}: no connection within {limit:g} s") from None

    async def _connect(self) -> Session:
        remote = self._remote
        client = _Pinned(self._trusted)
        try:
            connection = await asyncssh.connect(
                remote.host,
                remote.port,
                username=remote.user,
                client_factory=lambda: client,
                client_keys=[self._identity()],
                known_hosts=_nobody,
                server_host_key_algs=self._signatures or "default",
                # Nothing of the user's own: no agent, no configuration, no password, no ticket.
                config=None,
                agent_path=None,
                preferred_auth="publickey",
                password=None,
                gss_host=None,
                x509_trusted_certs=None,
                disable_trivial_auth=True,
                # Twice as fast as the usual first choice wherever the processor knows AES.
                encryption_algs="^aes256-gcm@openssh.com,aes128-gcm@openssh.com",
                compression_algs=None,
                keepalive_interval=remote.timeout_s,
                keepalive_count_max=1,
            )
        except asyncssh.HostKeyNotVerifiable:
            raise RemoteOutage(self._stranger(client.shown)) from None
        except asyncssh.PermissionDenied:
            raise RemoteOutage(f"{self.place}: {remote.user} may not log in with this key") from None
        except (OSError, asyncssh.Error) as error:
            raise RemoteOutage(f"{self.place}: no connection: {_reason(error)}") from None
        try:
            return Session(connection, await connection.start_sftp_client())
        except (OSError, asyncssh.Error) as error:
            connection.abort()
            raise RemoteOutage(f"{self.place}: no SFTP: {words(error)}") from None

    def _stranger(self, shown: str | None) -> str:
        if shown is None:
            return f"{self.place}: the server has no host key of a kind that is pinned"
        return (
            f"{self.place}: the server showed the host key {shown}, which is not pinned: another server, or"
            " somebody between; nothing was sent (if the key was changed on purpose: see host_keys)"
        )

    def _identity(self) -> asyncssh.SSHKey:
        path = self._remote.identity_file
        try:
            return asyncssh.import_private_key(read_private(path))
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
            raise RemoteOutage(f"{path}: no private key that can be used without a passphrase") from None

    def _abort(self, session: Session | None) -> None:
        if session is not None:
            session.connection.abort()
            if self._session is session:
                self._session = None


def _reason(error: Exception) -> str:
    # asyncio puts words of its own in the place of the system's.
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else words(error)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    # The one tells of each connection that it makes, the other of each byte that one did not take any more.
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    # Parts of what was given up end in errors of their own, which nobody waits for: their caller was told.
    loop.set_exception_handler(lambda _, context: log.debug("asyncssh: %s", context["message"]))
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    finally:
        loop.close()
