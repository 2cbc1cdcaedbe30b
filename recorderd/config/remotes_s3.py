"""A bucket of an object store that speaks S3."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from recorderd.config.fields import AbsolutePath
from recorderd.config.remote_settings import RemoteSettings
from recorderd.config.section import Section

# Objects of these have to be restored before they can be read, so that no copy could ever be verified.
_COLD = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_PREFIX = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*(/[0-9A-Za-z][0-9A-Za-z._-]*)*")


def _endpoint(value: str) -> str:
    parts = urlsplit(value)
    try:
        port_is_fine = parts.port != 0
    except ValueError:
        port_is_fine = False
    if parts.scheme not in ("https", "http") or not parts.hostname or not port_is_fine:
        raise ValueError("must be a URL such as https://s3.example.org:9000")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must not have a path: the bucket has a key of its own")
    if parts.username or parts.password:
        raise ValueError("must not have a password: credentials are never in the configuration")
    return value.rstrip("/")


def _prefix(value: str) -> str:
    value = value.strip("/")
    if value and (_PREFIX.fullmatch(value) is None or ".." in value):
        raise ValueError("must be names of letters, digits, `.`, `_` and `-`, with `/` between them")
    return value


def _readable(value: str) -> str:
    if value in _COLD:
        raise ValueError(f"{value} cannot be read back at once, so no copy could be verified")
    return value


class ObjectLock(Section):
    """How long the store keeps what it was given, whoever asks for its deletion."""

    mode: Literal["bucket", "governance", "compliance"] = Field(
        description="`compliance`: nobody can shorten it; `governance`: whoever has a special right can;"
        " `bucket`: whatever is the bucket's default"
    )
    days: Annotated[int, Field(ge=1, le=36_500)] | None = Field(
        default=None, description="how many days from the sending on; with `bucket` the bucket has it"
    )

    @model_validator(mode="after")
    def _days_where_needed(self) -> Self:
        if (self.days is None) != (self.mode == "bucket"):
            raise ValueError("days: required for governance and compliance, and only for those")
        return self


class S3Remote(RemoteSettings):
    """A bucket, or a part of one."""

    type: Literal["s3"] = Field(description="`s3`: a bucket of AWS, or of a store that speaks its language")
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$")] = Field(
        description="the bucket, which must exist"
    )
    prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        default="", description="what the names in the bucket begin with"
    )
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = Field(
        default=None, description="the URL of a store that is not AWS's"
    )
    allow_http: bool = Field(
        default=False, description="let `endpoint` be `http:`; recordings are sealed, their manifests are not"
    )
    region: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,63}$")] = Field(
        default="us-east-1", description="the bucket's region; stores that have none take the default"
    )
    addressing: Literal["auto", "path", "virtual"] = Field(
        default="auto",
        description="where the bucket is in a URL: `path`, `virtual` (in the host's name), `auto` (`path`"
        " with an `endpoint`, `virtual` without)",
    )
    ca_file: AbsolutePath | None = Field(
        default=None,
        description="certificates (PEM) that are trusted instead of the system's",
    )
    credentials_file: AbsolutePath | None = Field(
        default=None,
        description="a file like `~/.aws/credentials` (section `default`), mode 0600; `AWS_ACCESS_KEY_ID`"
        " and so on of the environment, if not given",
    )
    encryption: Literal["AES256", "aws:kms"] | None = Field(
        default=None, description="the store's own encryption, beside the recording's"
    )
    kms_key_id: Annotated[str, Field(pattern=r"^[!-~]{1,2048}$")] | None = Field(
        default=None, description="the key for `aws:kms`"
    )
    storage_class: Annotated[str, Field(pattern=r"^[A-Z_]{1,32}$"), AfterValidator(_readable)] | None = Field(
        default=None, description="the storage class; one that can be read back at once"
    )
    object_lock: ObjectLock | None = Field(
        default=None, description="have the store refuse deletion (`.key` files are left out)"
    )
    connect_timeout_s: Annotated[float, Field(ge=0.1, le=600.0)] = Field(
        default=10.0, description="how long to wait for a connection, in seconds"
    )
    timeout_s: Annotated[float, Field(ge=0.1, le=3600.0)] = Field(
        default=60.0, description="how long to wait for an answer or the next bytes, in seconds"
    )

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        if self.endpoint is not None and self.endpoint.startswith("http:") and not self.allow_http:
            raise ValueError("endpoint: must be https (or set allow_http)")
        if self.kms_key_id is not None and self.encryption != "aws:kms":
            raise ValueError("kms_key_id: only with encryption: aws:kms")
        return self
