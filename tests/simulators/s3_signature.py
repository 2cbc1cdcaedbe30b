"""Checks what an S3 request claims of itself: AWS Signature Version 4, and the checksums of its body.

Written from the API reference ("Authenticating Requests: Using the Authorization Header"), so that it shares
nothing with the client that it checks.
"""

import base64
import hashlib
import hmac
import re
import zlib
from collections.abc import Mapping
from urllib.parse import quote, unquote

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)


class Refused(Exception):
    """An S3 error: HTTP status and code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


def check_signature(
    method: str, target: str, headers: Mapping[str, str], secrets: Mapping[str, str], region: str
) -> None:
    """Refuse what is not signed by one who is known. ``headers`` has lower-case names."""
    found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if found is None:
        raise Refused(403, "AccessDenied")
    access, day, signed_region, names, signature = found.groups()
    if access not in secrets:
        raise Refused(403, "InvalidAccessKeyId")
    if signed_region != region:
        raise Refused(400, "AuthorizationHeaderMalformed")
    signed = names.split(";")
    if "host" not in signed or any(name.startswith("x-amz-") and name not in signed for name in headers):
        raise Refused(
            403, "AccessDenied"
        )  # "There were headers present in the request which were not signed"
    path, _, query = target.partition("?")
    pairs = sorted(
        tuple(quote(unquote(part), safe="-_.~") for part in (*pair.split("=", 1), "")[:2])
        for pair in query.split("&")
        if pair
    )
    canonical = "\n".join(
        [
            method,
            quote(unquote(path), safe="/-_.~"),
            "&".join("=".join(pair) for pair in pairs),
            *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed),
            "",
            names,
            headers.get("x-amz-content-sha256", ""),
        ]
    )
    scope = f"{day}/{region}/s3/aws4_request"
    to_sign = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            headers.get("x-amz-date", ""),
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = f"AWS4{secrets[access]}".encode()
    for part in (*scope.split("/"), to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    if key.hex() != signature:
        raise Refused(403, "SignatureDoesNotMatch")


def check_payload(headers: Mapping[str, str], body: bytes) -> None:
    """Refuse a body other than the signed one."""
    if headers.get("x-amz-content-sha256") != hashlib.sha256(body).hexdigest():
        raise Refused(400, "XAmzContentSHA256Mismatch")


def check_checksums(headers: Mapping[str, str], body: bytes) -> bool:
    """Refuse a body whose checksums are others; whether there was one at all."""
    values = {
        "content-md5": hashlib.md5(body).digest(),
        "x-amz-checksum-sha256": hashlib.sha256(body).digest(),
        "x-amz-checksum-crc32": zlib.crc32(body).to_bytes(4, "big"),
    }
    given = values.keys() & headers.keys()
    for name in given:
        if headers[name] != base64.b64encode(values[name]).decode():
            raise Refused(400, "BadDigest")
    return bool(given)
