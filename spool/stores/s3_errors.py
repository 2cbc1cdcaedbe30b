"""What an error of an S3 store means: that the store is out, that one object failed, or that one has to ask.

The codes are those of the S3 API reference ("Error responses"), and of servers that are compatible with it.
"""

from typing import Final, Literal

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

# What asking, or reading an answer, can raise. LookupError: an answer lacks what it must have.
FAILURES: Final = (ClientError, BotoCoreError, ResponseParserError, HTTPError, OSError, LookupError)

Meaning = Literal["outage", "object", "ask"]

_OUTAGES: Final = frozenset(
    {
        "AccountProblem",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InsufficientStorage",
        "InvalidAccessKeyId",
        "InvalidBucketName",
        "InvalidToken",
        "NoSuchBucket",
        "NotSignedUp",
        "PermanentRedirect",
        "QuotaExceeded",
        "RequestTimeTooSkewed",
        "ServiceUnavailable",
        "SignatureDoesNotMatch",
        "SlowDown",
        "ThrottlingException",
        "TokenRefreshRequired",
        "TooManyRequests",
        "XMinioStorageFull",
    }
)
_OUTAGE_STATUS: Final = frozenset({301, 429, 503, 507})
_BROKEN: Final = (
    ConnectionClosedError,
    ReadTimeoutError,
    ResponseStreamingError,
    ResponseParserError,
    HTTPError,
)
_ABSENT: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_NOT_IMPLEMENTED: Final = frozenset({"501", "NotImplemented", "405", "MethodNotAllowed"})


def code_of(error: BaseException) -> str:
    """The code that the store gave; empty where none came."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def status_of(error: BaseException) -> int:
    """The HTTP status; 0 where none came."""
    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_absent(error: BaseException) -> bool:
    """Nothing has that name (an answer to HEAD has no body, and so no better code)."""
    return code_of(error) in _ABSENT


def is_denied(error: BaseException) -> bool:
    """These credentials may not do that, or nobody may."""
    return status_of(error) == 403 and code_of(error) not in _OUTAGES


def is_unmet(error: BaseException) -> bool:
    """The condition of a put does not hold: something has that name."""
    return status_of(error) == 412


def is_not_implemented(error: BaseException) -> bool:
    """The store does not know how."""
    return status_of(error) in (405, 501) or code_of(error) in _NOT_IMPLEMENTED


def meaning(error: BaseException) -> Meaning:
    """``ask``: whether the store as a whole is out has to be found out by asking it something else."""
    if isinstance(error, ClientError):
        if code_of(error) in _OUTAGES or status_of(error) in _OUTAGE_STATUS:
            return "outage"
        # What is asked by HEAD is answered without a code.
        vague = code_of(error).isdigit() or not code_of(error)
        return "ask" if vague or status_of(error) == 403 or status_of(error) >= 500 else "object"
    # It broke in the midst: of this object, or for all of them.
    if isinstance(error, _BROKEN):
        return "ask"
    if isinstance(error, IncompleteReadError | LookupError):
        return "object"
    # No connection: no such host, refused, not the certificate of one that is trusted.
    return "outage"


def text_of(error: BaseException) -> str:
    """An error in one line, without what was sent."""
    if isinstance(error, ClientError):
        message = str(error.response.get("Error", {}).get("Message", "")).strip()
        parts = [f"HTTP {status_of(error)}", code_of(error), message]
        seen = [part for part in dict.fromkeys(parts) if part and part != str(status_of(error))]
        return " ".join(": ".join(seen).split())[:300]
    if isinstance(error, LookupError):
        return f"an answer without {error}"
    return " ".join(str(error).split())[:300]
