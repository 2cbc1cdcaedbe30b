"""What an S3 server does with a request that came in whole."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.simulators.s3_bucket import Bucket, Upload, Version
from tests.simulators.s3_signature import Refused, check_checksums, check_payload, check_signature

REGION = "eu-test-1"
_SETTINGS = (
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-storage-class",
    "content-type",
)


@dataclass
class Rules:
    """What is served, and how strictly."""

    secrets: dict[str, str] = field(default_factory=dict)
    buckets: dict[str, Bucket] = field(default_factory=lambda: {"recordings": Bucket()})
    denied: set[str] = field(default_factory=set)
    """Operations that nobody may do; ``everything`` is all of them."""
    checks_payload: bool = True
    checks_checksums: bool = True
    conditions: Literal["kept", "ignored", "unknown"] = "kept"
    versions_known: bool = True
    page: int = 1000
    """How many names are listed at a time."""


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Request:
    """One request, and what becomes of it."""

    def __init__(self, server: Rules, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.server, self.method, self.target, self.headers, self.body = server, method, target, headers, body
        self.stored: Any = body
        path, _, query = target.partition("?")
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        host = headers.get("host", "").split(":")[0]
        names = unquote(path).lstrip("/").split("/", 1)
        if host.split(".")[0] in server.buckets:  # virtual-host style
            names = [host.split(".")[0], unquote(path).lstrip("/")]
        self.name = names[0]
        self.key = names[1] if len(names) > 1 else ""
        self.operation = self._operation()

    def _operation(self) -> str:
        table: dict[str, list[tuple[str, str]]] = {
            "GET": [
                ("versions", "ListVersions"),
                ("list-type", "List"),
                ("versioning", "GetVersioning"),
                ("object-lock", "GetLockConfiguration"),
            ],
            "PUT": [("uploadId", "PutPart"), ("retention", "PutRetention")],
            "POST": [("uploads", "CreateUpload"), ("uploadId", "Complete")],
            "DELETE": [("uploadId", "Abort")],
        }
        for parameter, operation in table.get(self.method, []):
            if parameter in self.query:
                return operation
        if not self.key:
            return f"{self.method.title()}Bucket"
        return {"GET": "Get", "HEAD": "Head", "PUT": "Put", "DELETE": "Delete"}.get(self.method, self.method)

    @property
    def bucket(self) -> Bucket:
        if self.name not in self.server.buckets:
            raise Refused(404, "NoSuchBucket")
        return self.server.buckets[self.name]

    def answer(self) -> Answer:
        try:
            check_signature(self.method, self.target, self.headers, self.server.secrets, REGION)
            if self.server.checks_payload:
                check_payload(self.headers, self.body)
            summed = self.server.checks_checksums and check_checksums(self.headers, self.body)
            if {self.operation, "everything"} & self.server.denied:
                raise Refused(403, "AccessDenied")
            bucket = self.bucket
            with bucket.guard:
                action: Callable[..., Answer] = getattr(self, f"_{self.operation.lower()}", _unknown)
                locks = bucket.lock and (bucket.default_lock or "x-amz-object-lock-mode" in self.headers)
                if self.operation == "Put" and locks and not summed and self.server.checks_checksums:
                    raise Refused(400, "InvalidRequest")
                return action(bucket)
        except Refused as refused:
            return error_answer(refused.status, refused.code)

    # Objects

    def _condition(self, bucket: Bucket) -> None:
        if "if-none-match" not in self.headers or self.server.conditions == "ignored":
            return
        if self.server.conditions == "unknown":
            raise Refused(501, "NotImplemented")
        if bucket.current(self.key) is not None:
            raise Refused(412, "PreconditionFailed")

    def _lock(self, bucket: Bucket) -> tuple[str | None, datetime | None]:
        mode = self.headers.get("x-amz-object-lock-mode")
        if mode is None:
            return None, None
        if not bucket.lock:
            raise Refused(400, "InvalidRequest")
        return mode, datetime.fromisoformat(self.headers["x-amz-object-lock-retain-until-date"])

    def _settings(self) -> dict[str, str]:
        return {name: self.headers[name] for name in _SETTINGS if name in self.headers}

    def _put(self, bucket: Bucket) -> Answer:
        self._condition(bucket)
        data = self.stored
        if data is None:
            return Answer(headers=(("ETag", '"0"'),))
        return _made(bucket.put(self.key, data, self._settings(), self._lock(bucket)))

    def _get(self, bucket: Bucket) -> Answer:
        found = bucket.find(self.key, self.query.get("versionId"))
        if found.data is None:
            raise Refused(405, "MethodNotAllowed")
        headers = [("ETag", found.etag), ("x-amz-version-id", found.id), ("Last-Modified", _http(found))]
        headers += found.settings.items()
        if found.until is not None and found.mode is not None:
            headers += [
                ("x-amz-object-lock-mode", found.mode),
                ("x-amz-object-lock-retain-until-date", found.until.isoformat().replace("+00:00", "Z")),
            ]
        return Answer(200, found.data, tuple(headers))

    def _head(self, bucket: Bucket) -> Answer:
        return self._get(bucket)

    def _delete(self, bucket: Bucket) -> Answer:
        bucket.delete(self.key, self.query.get("versionId"))
        return Answer(204)

    def _putretention(self, bucket: Bucket) -> Answer:
        tree = ElementTree.fromstring(self.body)
        values = {each.tag.split("}")[-1]: each.text or "" for each in tree}
        until = datetime.fromisoformat(values["RetainUntilDate"])
        bucket.retain(self.key, self.query.get("versionId"), values["Mode"], until)
        return Answer()

    # Uploads in parts

    def _createupload(self, bucket: Bucket) -> Answer:
        name = f"upload-{len(self.server.requests)}"
        bucket.uploads[name] = Upload(self.key, self._settings(), self._lock(bucket))
        inner = f"<Bucket>{self.name}</Bucket><Key>{escape(self.key)}</Key><UploadId>{name}</UploadId>"
        return _xml("InitiateMultipartUploadResult", inner)

    def _upload(self, bucket: Bucket) -> Upload:
        upload = bucket.uploads.get(self.query["uploadId"])
        if upload is None or upload.key != self.key:
            raise Refused(404, "NoSuchUpload")
        return upload

    def _putpart(self, bucket: Bucket) -> Answer:
        data = self.stored
        self._upload(bucket).parts[int(self.query["partNumber"])] = data
        headers = [("ETag", Version("", data, datetime.min).etag)]
        if "x-amz-checksum-sha256" in self.headers:
            headers.append(("x-amz-checksum-sha256", self.headers["x-amz-checksum-sha256"]))
        return Answer(headers=tuple(headers))

    def _complete(self, bucket: Bucket) -> Answer:
        upload = self._upload(bucket)
        self._condition(bucket)
        numbers = [
            int(each.text or 0)
            for each in ElementTree.fromstring(self.body).iter()
            if "PartNumber" in each.tag
        ]
        if numbers != sorted(upload.parts) or any(len(upload.parts[n]) < 5 << 20 for n in numbers[:-1]):
            raise Refused(400, "InvalidPart")
        del bucket.uploads[self.query["uploadId"]]
        made = bucket.put(
            self.key,
            b"".join(upload.parts[number] for number in numbers),
            upload.settings,
            upload.lock if bucket.locks_uploads else (None, None),
        )
        answer = _xml(
            "CompleteMultipartUploadResult", f"<Key>{escape(self.key)}</Key><ETag>{made.etag}</ETag>"
        )
        return Answer(200, answer.body, (("x-amz-version-id", made.id),))

    def _abort(self, bucket: Bucket) -> Answer:
        self._upload(bucket)
        del bucket.uploads[self.query["uploadId"]]
        return Answer(204)

    # Buckets

    def _headbucket(self, bucket: Bucket) -> Answer:
        return Answer()

    def _list(self, bucket: Bucket) -> Answer:
        after = self.query.get("continuation-token", "")
        keys = sorted(key for key in bucket.objects if bucket.current(key) and key > after)
        keys = [key for key in keys if key.startswith(self.query.get("prefix", ""))]
        found = [(key, bucket.find(key, None)) for key in keys[: self.server.page]]
        inner = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(each.data or b'')}</Size>"
            f"<LastModified>{each.modified.isoformat()}</LastModified></Contents>"
            for key, each in found
        )
        if len(keys) > len(found):
            token = escape(found[-1][0])
            inner += f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
        return _xml("ListBucketResult", inner)

    def _listversions(self, bucket: Bucket) -> Answer:
        if not self.server.versions_known:
            raise Refused(501, "NotImplemented")
        inner = ""
        for key in sorted(bucket.objects):
            if key.startswith(self.query.get("prefix", "")):
                for each in reversed(bucket.objects[key]):
                    kind = "DeleteMarker" if each.data is None else "Version"
                    inner += (
                        f"<{kind}><Key>{escape(key)}</Key><VersionId>{each.id}</VersionId>"
                        f"<LastModified>{each.modified.isoformat()}</LastModified></{kind}>"
                    )
        return _xml("ListVersionsResult", inner)

    def _getversioning(self, bucket: Bucket) -> Answer:
        return _xml("VersioningConfiguration", "<Status>Enabled</Status>" if bucket.versioned else "")

    def _getlockconfiguration(self, bucket: Bucket) -> Answer:
        if not bucket.lock:
            raise Refused(404, "ObjectLockConfigurationNotFoundError")
        rule = ""
        if bucket.default_lock is not None:
            mode, days = bucket.default_lock
            rule = f"<Rule><DefaultRetention><Mode>{mode}</Mode><Days>{days}</Days></DefaultRetention></Rule>"
        return _xml("ObjectLockConfiguration", f"<ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}")


def _unknown(bucket: Bucket) -> Answer:
    raise Refused(501, "NotImplemented")


def _made(version: Version) -> Answer:
    headers = (("ETag", version.etag), ("x-amz-version-id", version.id))
    return Answer(headers=headers if version.id != "null" else headers[:1])


def _http(version: Version) -> str:
    return version.modified.strftime("%a, %d %b %Y %H:%M:%S GMT")


def _xml(name: str, inner: str) -> Answer:
    text = f'<?xml version="1.0" encoding="UTF-8"?><{name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return Answer(200, f"{text}{inner}</{name}>".encode(), (("Content-Type", "application/xml"),))


def error_answer(status: int, code: str) -> Answer:
    """As S3 tells errors."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>refused</Message></Error>'
    )
    return Answer(status, body.encode(), (("Content-Type", "application/xml"),))
