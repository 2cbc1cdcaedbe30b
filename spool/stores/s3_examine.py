"""What a bucket really enforces, found out by trying.

Stores that speak S3 differ in what they keep of it: some take a wrong checksum, some forget conditions, some
say "locked" and delete all the same. The objects that are tried on have names that no recording has, and
what can be deleted of them is.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from botocore.exceptions import ClientError

from recorderd.config.remotes_s3 import S3Remote
from recorderd.spool.stores import s3_errors
from recorderd.spool.stores.base import Finding
from recorderd.spool.stores.s3_client import Credentials, find_credentials, make_client
from recorderd.spool.stores.s3_versions import UNVERSIONED, delete, lock_of

TRIED: Final = ".recorderd-examined"
TRIED_WRONG: Final = ".recorderd-examined-wrong"
TRIED_LOCK: Final = ".recorderd-examined-lock"
_RIGHT, _WRONG = b"recorderd examines this store\n", b"recorderd examines this stor!\n"
# The shortest lock that is sure to be in the future where clocks are apart as far as S3 lets them be.
LOCK_MINUTES: Final = 16


class Bucket(Protocol):
    """What is needed of the store."""

    remote: S3Remote
    clock: Callable[[], int]

    @property
    def client(self) -> Any:
        """Botocore's."""

    def where(self, name: str) -> dict[str, str]:
        """Bucket and key of a name."""

    def held(self, name: str) -> int | None:
        """The size of the newest version."""

    def upload(self, name: str, data: bytes, *, create: bool, **more: Any) -> Any:
        """Put an object at once."""

    def probe(self) -> str | None:
        """Raises RemoteOutage where it cannot be used."""


def examine(bucket: Bucket) -> tuple[Finding, ...]:
    """Try everything. Raises RemoteError for what fails for another reason than a refusal."""
    bucket.probe()
    return tuple(_findings(bucket))


def _findings(bucket: Bucket) -> Iterator[Finding]:
    yield _checksum(bucket)
    yield _payload(bucket, find_credentials(bucket.remote))
    condition, version = _condition(bucket)
    yield condition
    versions = _versioning(bucket, version)
    yield versions
    yield from _locks(bucket)
    yield _deletion(bucket, version)


def _refusal(action: Callable[[], Any]) -> ClientError | None:
    """The error by which an action is refused; None where it is done."""
    try:
        action()
    except ClientError as error:
        if s3_errors.meaning(error) == "outage":
            raise
        return error
    return None


def _checksum(bucket: Bucket) -> Finding:
    what = "wrong checksum"
    other = "NSWjzTW2Z4BJ1oGTu5yNAyHzBWZrPTCQPJ5ZzVoEr2I="
    refusal = _refusal(lambda: bucket.upload(TRIED_WRONG, _RIGHT, create=False, ChecksumSHA256=other))
    if refusal is not None:
        return Finding(what, True, f"refused ({s3_errors.code_of(refusal)})")
    _remove(bucket, TRIED_WRONG)
    return Finding(what, False, "taken: x-amz-checksum-sha256 is not looked at")


def _payload(bucket: Bucket, credentials: Credentials) -> Finding:
    """Change the body after it was signed, as a bad network card does."""
    what = "changed bytes"
    client = make_client(bucket.remote, credentials)

    def change(request: Any, **_: Any) -> None:
        request.body = _WRONG

    client.meta.events.register("before-send.s3.PutObject", change)
    refusal = _refusal(lambda: client.put_object(**bucket.where(TRIED_WRONG), Body=_RIGHT))
    if refusal is not None:
        return Finding(what, True, f"refused ({s3_errors.code_of(refusal)})")
    _remove(bucket, TRIED_WRONG)
    return Finding(
        what, False, "taken: the signature of the body is not looked at; only reading back finds it"
    )


def _condition(bucket: Bucket) -> tuple[Finding, str | None]:
    """Also the version of the object that is then there, where it is known."""
    what = "put of what is there already"
    answer: dict[str, Any] = {}

    def create() -> None:
        answer.update(bucket.upload(TRIED, _RIGHT, create=True))

    # What was refused before may have cost the connection, and only what reads gets another by itself.
    bucket.held(TRIED)
    # The object may be there from an earlier examination.
    refusal = _refusal(create) or _refusal(create)
    version = answer.get("VersionId")
    if refusal is None:
        return Finding(what, False, "taken: If-None-Match is ignored, so it may be stored twice"), version
    if s3_errors.is_unmet(refusal):
        return Finding(what, True, "refused, so nothing is stored twice"), version
    if not s3_errors.is_not_implemented(refusal):
        raise refusal
    if bucket.held(TRIED) is None:
        bucket.upload(TRIED, _RIGHT, create=False)
    return Finding(what, False, "conditions are not implemented: the recorder looks before it sends"), version


def _versioning(bucket: Bucket, version: str | None) -> Finding:
    what = "versions"
    try:
        status = bucket.client.get_bucket_versioning(Bucket=bucket.remote.bucket).get("Status")
    except ClientError as error:
        if version not in (None, UNVERSIONED):
            return Finding(what, True, "kept")
        return Finding(what, None, f"not told ({s3_errors.text_of(error)})")
    if status == "Enabled":
        return Finding(what, True, "kept")
    return Finding(what, False, "not kept: who may put can put something else in the place of a recording")


def _locks(bucket: Bucket) -> Iterator[Finding]:
    wanted = bucket.remote.object_lock
    yield from _default_lock(bucket)
    if wanted is None or wanted.mode == "bucket":
        return
    what, mode = f"lock ({wanted.mode})", wanted.mode.upper()
    found = _locked_before(bucket, mode)
    if found is None:
        until = _in_minutes(bucket, LOCK_MINUTES)
        lock = {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": until}
        try:
            bucket.upload(TRIED_LOCK, _RIGHT, create=False, **lock)
        except ClientError as error:
            yield Finding(what, False, f"refused: {s3_errors.text_of(error)}")
            return
        found = bucket.client.head_object(**bucket.where(TRIED_LOCK))
    version = found.get("VersionId", UNVERSIONED)
    if found.get("ObjectLockMode") != mode or version == UNVERSIONED:
        yield Finding(what, False, "taken and forgotten: nothing is locked")
        return
    until = found["ObjectLockRetainUntilDate"]
    yield _shortening(bucket, what, version, mode, until)
    refusal = _refusal(lambda: bucket.client.delete_object(**bucket.where(TRIED_LOCK), VersionId=version))
    if refusal is None:
        yield Finding(what, False, "a locked object can be deleted")
    else:
        yield Finding(what, True, f"a locked object cannot be deleted ({s3_errors.code_of(refusal)})")


def _in_minutes(bucket: Bucket, minutes: int) -> datetime:
    return datetime.fromtimestamp(bucket.clock() // 1_000_000_000, UTC) + timedelta(minutes=minutes)


def _locked_before(bucket: Bucket, mode: str) -> Any:
    """The object of an earlier examination, where it is locked for long enough still."""
    try:
        found = bucket.client.head_object(**bucket.where(TRIED_LOCK))
    except ClientError as error:
        if not s3_errors.is_absent(error):
            raise
        return None
    until = found.get("ObjectLockRetainUntilDate")
    if found.get("ObjectLockMode") != mode or until is None:
        return None
    return found if until > _in_minutes(bucket, LOCK_MINUTES // 2) else None


def _default_lock(bucket: Bucket) -> Iterator[Finding]:
    """The bucket's own, which locks whatever is put, keys too."""
    what = "lock of the bucket"
    wanted = bucket.remote.object_lock is not None and bucket.remote.object_lock.mode == "bucket"
    try:
        found = bucket.client.get_object_lock_configuration(Bucket=bucket.remote.bucket)
    except ClientError as error:
        if wanted:
            yield Finding(what, None if s3_errors.is_denied(error) else False, s3_errors.text_of(error))
        return
    rule = found.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention")
    if rule is None:
        if wanted:
            yield Finding(what, False, "none: the bucket has no default retention")
        return
    length = f"{rule['Days']} days" if "Days" in rule else f"{rule.get('Years')} years"
    yield Finding(what, True, f"{rule.get('Mode')}, {length}")
    if bucket.remote.key_slots:
        yield Finding(
            "keys",
            False,
            "are locked too, so none can be destroyed before: set key_slots: false for this remote",
        )


def _shortening(bucket: Bucket, what: str, version: str, mode: str, until: datetime) -> Finding:
    shorter = {"Mode": mode, "RetainUntilDate": until - timedelta(minutes=LOCK_MINUTES // 4)}
    refusal = _refusal(
        lambda: bucket.client.put_object_retention(
            **bucket.where(TRIED_LOCK), VersionId=version, Retention=shorter
        )
    )
    if refusal is None:
        return Finding(what, False, "can be shortened")
    return Finding(what, True, f"cannot be shortened ({s3_errors.code_of(refusal)})")


def _deletion(bucket: Bucket, version: str | None) -> Finding:
    """Last, as it takes away what was tried on."""
    what = "deletion"
    if version in (None, UNVERSIONED):
        refusal = _refusal(lambda: bucket.client.delete_object(**bucket.where(TRIED)))
    else:
        refusal = _refusal(lambda: bucket.client.delete_object(**bucket.where(TRIED), VersionId=version))
    if refusal is None:
        return Finding(what, False, "allowed: who takes over this host can delete the copies")
    if not s3_errors.is_denied(refusal):
        return Finding(what, None, s3_errors.text_of(refusal))
    locked, until = lock_of(bucket, TRIED, version)
    return Finding(what, True, f"refused: locked until {until}" if locked else "refused to these credentials")


def _remove(bucket: Bucket, name: str) -> None:
    """All versions, where these credentials may."""
    try:
        delete(bucket, name)
    except ClientError as error:
        if not s3_errors.is_denied(error):
            raise
