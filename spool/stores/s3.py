"""A bucket of AWS, or of a store that speaks its language, as a store.

Every upload carries SHA-256 twice, as a checksum header and in its signature, so that any server that checks
either refuses bytes that changed on the way; and a condition, so that a put that arrived although its
answer did not is not stored again. Nothing of that is relied on: what counts is read back
(:class:`~recorderd.spool.stores.Verifying`).

One store may be used by several threads.
"""

import hashlib
import io
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final

from botocore.exceptions import ClientError

from recorderd.config.remotes_s3 import S3Remote
from recorderd.errors import RemoteError
from recorderd.spool.stores import s3_errors
from recorderd.spool.stores.base import (
    CHUNK,
    MARKER,
    Deleted,
    Finding,
    RemoteOutage,
    Sent,
    Stored,
    checked_name,
    stored_hash,
)
from recorderd.spool.stores.s3_body import Body, read_whole, sha256_of, taken
from recorderd.spool.stores.s3_client import find_credentials, make_client
from recorderd.spool.stores.s3_versions import UNVERSIONED, delete, history

# S3 takes parts from 5 MiB on, and 10,000 of them. A part is in memory while it is sent.
PART: Final = 16 << 20
MOST_PARTS: Final = 10_000
# A destroyed key is the end of a recording whose copies are locked, so keys are never locked.
NEVER_LOCKED: Final = ".key"
_IDENTITY: Final = re.compile(rb"[0-9a-f]{32}\n")
_LONGEST_IDENTITY: Final = 64


class S3Store:
    """A bucket, or what begins with a prefix in it."""

    def __init__(
        self, remote: S3Remote, *, part: int = PART, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.remote = remote
        self.clock = clock
        """The time that locks are counted from, in ns since 1970."""
        self._part = part
        self._client: Any = None
        self._opening = threading.Lock()
        self._conditions = True
        """False once the store said that it does not know conditions."""

    def probe(self) -> str | None:
        """The identity in the marker's object."""
        with self._whole():
            try:
                found = self.client.get_object(**self.where(MARKER))["Body"].read(_LONGEST_IDENTITY)
            except ClientError as error:
                if s3_errors.is_absent(error):
                    return None
                raise
        if _IDENTITY.fullmatch(found) is None:
            # Or what a hotel says to everybody: it must not become the identity of our store.
            raise RemoteOutage(f"{self}/{MARKER}: not an identity")
        return str(found.decode()).strip()

    def claim(self) -> str:
        """Put the marker's object, unless there is one."""
        identity = secrets.token_hex(16)
        content = identity.encode() + b"\n"
        with self._whole():
            try:
                self.upload(MARKER, content, create=True)
            except ClientError as error:
                if s3_errors.is_unmet(error):
                    return self.probe() or identity
                if not s3_errors.is_not_implemented(error):
                    raise
                found = self.probe()
                if found is not None:
                    return found
                self.upload(MARKER, content, create=False)
        return identity

    def put(self, name: str, path: Path, sent: Sent | None = None) -> None:
        """At once, or in parts where it is big; nothing is sent where these bytes are there already."""
        checked_name(name)
        try:
            with path.open("rb") as file:
                self._put(name, file, sent)
        except OSError as error:
            raise RemoteError(f"{path}: {error.strerror or error}") from None

    def open(self, name: str) -> BinaryIO:
        """The newest version, as it comes."""
        key = self.where(checked_name(name))
        with self.asking(name):
            return io.BufferedReader(Body(self, name, self.client.get_object(**key)["Body"]), CHUNK)

    def size(self, name: str) -> int | None:
        """The size of the newest version."""
        checked_name(name)
        with self.asking(name):
            return self.held(name)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """By as many at a time as the store gives."""
        pages = iter(
            self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.remote.bucket, Prefix=self._key(prefix)
            )
        )
        start = len(self._key(""))
        while True:
            with self.asking(prefix):
                page = next(pages, None)
            if page is None:
                return
            for each in page.get("Contents", ()):
                name = each["Key"][start:]
                if name and not any(part.startswith(".") or not part for part in name.split("/")):
                    yield Stored(name, each["Size"], int(each["LastModified"].timestamp() * 1_000_000))

    def versions(self, name: str) -> tuple[str, ...]:
        """From the bucket's list of versions."""
        checked_name(name)
        with self.asking(name):
            found = tuple(version for version, marker in history(self, name) if not marker)
        return () if found == (UNVERSIONED,) else found

    def delete(self, name: str) -> Deleted:
        """All versions, and delete markers."""
        checked_name(name)
        with self.asking(name):
            return delete(self, name)

    def examine(self) -> tuple[Finding, ...]:
        """See :mod:`recorderd.spool.stores.s3_examine`."""
        from recorderd.spool.stores.s3_examine import examine

        return examine(self)

    # For the examination too

    @property
    def client(self) -> Any:
        """The connection, made when it is first needed. Raises RemoteOutage."""
        with self._opening:
            if self._client is None:
                self._client = make_client(self.remote, find_credentials(self.remote))
            return self._client

    @contextmanager
    def asking(self, name: str) -> Iterator[None]:
        """Around each request: its failure is a RemoteError, or a RemoteOutage."""
        try:
            yield
        except s3_errors.FAILURES as error:
            raise self.fault(error, name) from None

    def where(self, name: str) -> dict[str, str]:
        """Bucket and key of a name."""
        return {"Bucket": self.remote.bucket, "Key": self._key(name)}

    def held(self, name: str) -> int | None:
        """The size of the newest version, of any name. Raises what botocore raises."""
        try:
            return int(self.client.head_object(**self.where(name))["ContentLength"])
        except ClientError as error:
            if s3_errors.is_absent(error):
                return None
            raise

    def upload(self, name: str, data: bytes, *, create: bool, **more: Any) -> Any:
        """Put an object at once; with ``create`` only where there is none. Raises what botocore raises."""
        if create:
            more["IfNoneMatch"] = "*"
        return taken(
            self.client.put_object(
                **self.where(name),
                Body=data,
                **{"ChecksumSHA256": sha256_of(data), "ContentType": "application/octet-stream"} | more,
                **self._settings(),
            )
        )

    def fault(self, error: BaseException, name: str) -> RemoteError:
        """The error to raise for one of botocore's."""
        meaning = s3_errors.meaning(error)
        if meaning == "object" or (meaning == "ask" and self._answers()):
            return RemoteError(f"{self}/{name}: {s3_errors.text_of(error)}")
        with self._opening:
            # The file may have other credentials next time.
            self._client = None
        return RemoteOutage(f"{self}: {s3_errors.text_of(error)}")

    def __str__(self) -> str:
        place = self.remote.endpoint or f"s3.{self.remote.region}"
        return "/".join(part for part in (place, self.remote.bucket, self.remote.prefix) if part)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Around what no store can be used without."""
        try:
            with self.asking(MARKER):
                yield
        except RemoteError as error:
            raise RemoteOutage(str(error)) from None

    # Sending

    def _put(self, name: str, file: io.BufferedReader, sent: Sent | None) -> None:
        # Looked for first: it may have arrived although no answer said so, and some stores take conditions
        # without keeping them.
        size = os.fstat(file.fileno()).st_size
        there = self._same(name, file, size)
        with self.asking(name):
            if not there and not (
                there is None and self._conditions and self._create(name, file, size, sent)
            ):
                self._send(name, file, size, sent, create=False)
            self._see_lock(name)

    def _create(self, name: str, file: io.BufferedReader, size: int, sent: Sent | None) -> bool:
        """Send what must not be there yet; False where it has to be sent in place of something else."""
        try:
            self._send(name, file, size, sent, create=True)
        except ClientError as error:
            if s3_errors.is_unmet(error):
                # Something is there: a HEAD that told another size before may tell it again.
                return self._equal(name, file)
            if not s3_errors.is_not_implemented(error):
                raise
            self._conditions = False
            return self._same(name, file, size) is True
        return True

    def _same(self, name: str, file: io.BufferedReader, size: int) -> bool | None:
        """Whether these bytes have the name; None where nothing has it."""
        found = self.size(name)
        if found != size:
            return None if found is None else False
        return self._equal(name, file)

    def _equal(self, name: str, file: io.BufferedReader) -> bool:
        file.seek(0)
        return stored_hash(self, name) == hashlib.file_digest(file, "sha256").hexdigest()

    def _send(
        self, name: str, file: io.BufferedReader, size: int, sent: Sent | None, *, create: bool
    ) -> None:
        file.seek(0)
        lock = self._lock(name)
        if size > self._part:
            self._send_parts(name, file, size, sent, lock, create)
            return
        data = read_whole(file, size)
        self.upload(name, data, create=create, **lock)
        if sent is not None:
            sent(len(data))

    def _send_parts(
        self,
        name: str,
        file: io.BufferedReader,
        size: int,
        sent: Sent | None,
        lock: dict[str, Any],
        create: bool,
    ) -> None:
        key = self.where(name)
        upload = key | {
            "UploadId": self.client.create_multipart_upload(
                **key,
                ChecksumAlgorithm="SHA256",
                ContentType="application/octet-stream",
                **lock,
                **self._settings(),
            )["UploadId"]
        }
        try:
            parts = list(self._parts(upload, file, size, sent))
            condition = {"IfNoneMatch": "*"} if create else {}
            taken(
                self.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
            )
        except BaseException:
            # What is left of an upload costs room and is never seen.
            with suppress(*s3_errors.FAILURES):
                self.client.abort_multipart_upload(**upload)
            raise

    def _parts(
        self, upload: dict[str, str], file: io.BufferedReader, size: int, sent: Sent | None
    ) -> Iterator[dict[str, Any]]:
        length = max(self._part, -(-size // MOST_PARTS))
        done = 0
        for number in range(1, -(-size // length) + 1):
            data = read_whole(file, min(length, size - done))
            told = self.client.upload_part(
                **upload, PartNumber=number, Body=data, ChecksumSHA256=sha256_of(data)
            )
            done += len(data)
            if sent is not None:
                sent(done)
            # A server that knows no checksums would not understand the list with them.
            known = {key: told[key] for key in ("ETag", "ChecksumSHA256") if key in told}
            yield {"PartNumber": number, **known}

    def _see_lock(self, name: str) -> None:
        """Some stores forget the lock of what comes in parts: then it is put on afterwards. Raises
        RemoteError where nothing is locked at all."""
        lock = self._lock(name)
        if self.remote.object_lock is None or name.endswith(NEVER_LOCKED):
            return
        found = self.client.head_object(**self.where(name))
        if "ObjectLockMode" not in found and lock and "VersionId" in found:
            retention = {
                "Mode": lock["ObjectLockMode"],
                "RetainUntilDate": lock["ObjectLockRetainUntilDate"],
            }
            self.client.put_object_retention(
                **self.where(name), VersionId=found["VersionId"], Retention=retention
            )
            found = self.client.head_object(**self.where(name))
        if "ObjectLockMode" not in found:
            raise RemoteError(f"{self}/{name}: stored, but not locked")

    def _settings(self) -> dict[str, Any]:
        """What goes with every object."""
        settings = {
            "ServerSideEncryption": self.remote.encryption,
            "SSEKMSKeyId": self.remote.kms_key_id,
            "StorageClass": self.remote.storage_class,
        }
        return {key: value for key, value in settings.items() if value is not None}

    def _lock(self, name: str) -> dict[str, Any]:
        lock = self.remote.object_lock
        if lock is None or lock.days is None or name.endswith(NEVER_LOCKED):
            return {}
        until = datetime.fromtimestamp(self.clock() // 1_000_000_000, UTC) + timedelta(days=lock.days)
        return {"ObjectLockMode": lock.mode.upper(), "ObjectLockRetainUntilDate": until}

    def _key(self, name: str) -> str:
        return f"{self.remote.prefix}/{name}" if self.remote.prefix else name

    def _answers(self) -> bool:
        """Whether the bucket answers to these credentials at all."""
        try:
            self.client.head_bucket(Bucket=self.remote.bucket)
        except (*s3_errors.FAILURES, RemoteError):
            return False
        return True
