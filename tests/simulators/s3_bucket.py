"""A bucket in memory: versions, delete markers, object lock and uploads in parts, as the S3 API has them."""

import hashlib
import itertools
import secrets
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.simulators.s3_signature import Refused


@dataclass
class Version:
    """One version of an object; ``data`` is None for a delete marker."""

    id: str
    data: bytes | None
    modified: datetime
    settings: dict[str, str] = field(default_factory=dict)
    mode: str | None = None
    until: datetime | None = None

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data or b"").hexdigest()}"'

    def locked(self) -> bool:
        return self.until is not None and self.until > datetime.now(UTC)


@dataclass
class Upload:
    """An upload in parts under way."""

    key: str
    settings: dict[str, str]
    lock: tuple[str | None, datetime | None]
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Bucket:
    """Its rules can be changed while it is used; ``guard`` is held by whoever does."""

    versioned: bool = True
    lock: bool = False
    default_lock: tuple[str, int] | None = None
    enforces_lock: bool = True
    locks_uploads: bool = True
    """False: the lock of an upload in parts is forgotten, as by Ceph's gateway of version 16."""
    guard: threading.RLock = field(default_factory=threading.RLock)
    objects: dict[str, list[Version]] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    _ids: itertools.count = field(default_factory=lambda: itertools.count(1))

    def current(self, key: str) -> Version | None:
        """The newest version that is none that is deleted."""
        versions = self.objects.get(key)
        return versions[-1] if versions and versions[-1].data is not None else None

    def find(self, key: str, version: str | None) -> Version:
        if version is None:
            found = self.current(key)
            if found is None:
                raise Refused(404, "NoSuchKey")
            return found
        for each in self.objects.get(key, ()):
            if each.id == version:
                return each
        raise Refused(404, "NoSuchVersion")

    def contents(self, key: str) -> list[bytes]:
        """What the versions hold, oldest first."""
        return [each.data for each in self.objects.get(key, ()) if each.data is not None]

    def put(
        self,
        key: str,
        data: bytes | None,
        settings: dict[str, str] | None = None,
        lock: tuple[str | None, datetime | None] = (None, None),
    ) -> Version:
        mode, until = lock
        if mode is None and self.default_lock is not None:
            mode, days = self.default_lock
            until = datetime.now(UTC) + timedelta(days=days)
        made = Version(
            f"v{next(self._ids)}-{secrets.token_hex(4)}" if self.versioned else "null",
            data,
            datetime.now(UTC),
            settings or {},
            mode,
            until,
        )
        if self.versioned:
            self.objects.setdefault(key, []).append(made)
        else:
            self.objects[key] = [made]
        return made

    def delete(self, key: str, version: str | None) -> None:
        if version is None and self.versioned:
            self.put(key, None)
            return
        versions = self.objects.get(key, [])
        for each in [*versions]:
            if each.id == (version or "null"):
                if each.locked() and self.enforces_lock:
                    raise Refused(403, "AccessDenied")
                versions.remove(each)
        if not versions:
            self.objects.pop(key, None)

    def retain(self, key: str, version: str | None, mode: str, until: datetime) -> None:
        found = self.find(key, version)
        shorter = found.until is not None and until < found.until
        if found.locked() and self.enforces_lock and (shorter or mode != found.mode):
            raise Refused(403, "AccessDenied")
        found.mode, found.until = mode, until
