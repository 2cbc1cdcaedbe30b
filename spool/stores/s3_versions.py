"""The versions of an object in a bucket: which there are, what keeps them, and their deletion."""

from collections.abc import Callable
from datetime import UTC
from typing import Any, Protocol

from botocore.exceptions import ClientError

from recorderd.errors import RemoteError
from recorderd.spool.stores import s3_errors
from recorderd.spool.stores.base import Deleted
from recorderd.spool.times import rfc3339

# The id of the only version in a bucket that keeps none.
UNVERSIONED = "null"


class Bucket(Protocol):
    """What is needed of the store."""

    clock: Callable[[], int]

    @property
    def client(self) -> Any:
        """Botocore's."""

    def where(self, name: str) -> dict[str, str]:
        """Bucket and key of a name."""

    def held(self, name: str) -> int | None:
        """The size of the newest version."""


def history(bucket: Bucket, name: str) -> list[tuple[str, bool]]:
    """The ids of all versions of a name, newest first, and whether each is a delete marker.

    Nothing where the store does not know of versions. Raises what botocore raises.
    """
    where = bucket.where(name)
    pages = bucket.client.get_paginator("list_object_versions").paginate(
        Bucket=where["Bucket"], Prefix=where["Key"]
    )
    found = []
    try:
        for page in pages:
            for kind in ("Versions", "DeleteMarkers"):
                found += [
                    (each["LastModified"], each["VersionId"], kind == "DeleteMarkers")
                    for each in page.get(kind, ())
                    if each["Key"] == where["Key"]
                ]
    except ClientError as error:
        if not s3_errors.is_not_implemented(error):
            raise
    # By time alone: within one time, the store's own order is the right one.
    found.sort(key=lambda each: each[0], reverse=True)
    return [(version, marker) for _, version, marker in found]


def delete(bucket: Bucket, name: str) -> Deleted:
    """Version after version, delete markers too; what a lock keeps is left, and is not hidden by a marker.

    Raises RemoteError, and what botocore raises.
    """
    versions: list[str | None] = [version for version, _ in history(bucket, name)]
    if not versions and bucket.held(name) is not None:
        versions = [None]
    kept, until = [], None
    for version in versions:
        try:
            _delete(bucket, name, version)
        except ClientError as error:
            if not s3_errors.is_denied(error):
                raise
            locked, end = lock_of(bucket, name, version)
            if not locked:
                return Deleted("refused", _told([version]))
            kept.append(version)
            until = max(filter(None, (until, end)), default=None)
    if kept:
        return Deleted("locked", _told(kept), until)
    # A store may take the deletion of a version for that of the newest one, and hide all of them by a marker.
    if bucket.held(name) is not None or (versions != [None] and history(bucket, name)):
        raise RemoteError(f"{bucket}/{name}: still there after its deletion")
    return Deleted("gone", _told(versions))


def lock_of(bucket: Bucket, name: str, version: str | None) -> tuple[bool, str | None]:
    """Whether a version is locked now, and until when (RFC 3339), where these credentials may know."""
    try:
        found = bucket.client.head_object(**bucket.where(name), **_version(version))
    except ClientError:
        return False, None
    held = found.get("ObjectLockLegalHoldStatus") == "ON"
    end = found.get("ObjectLockRetainUntilDate")
    if end is None or end.timestamp() * 1_000_000_000 <= bucket.clock():
        return held, None
    return True, rfc3339(int(end.astimezone(UTC).timestamp() * 1_000_000))


def _delete(bucket: Bucket, name: str, version: str | None) -> None:
    bucket.client.delete_object(**bucket.where(name), **_version(version))


def _version(version: str | None) -> dict[str, str]:
    return {} if version is None else {"VersionId": version}


def _told(versions: list[str | None]) -> tuple[str, ...]:
    return tuple(version for version in versions if version not in (None, UNVERSIONED))
