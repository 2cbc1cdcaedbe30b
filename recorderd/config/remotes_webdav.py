"""A folder on a web server."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from recorderd.config.fields import AbsolutePath
from recorderd.config.remote_settings import RemoteSettings


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        fine = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be a URL such as https://dav.example.org/recordings")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not have a password: credentials are never in the configuration")
    if "?" in value or "#" in value or "%" in value or ".." in parts.path.split("/"):
        raise ValueError("must be a folder's URL, without `?`, `#`, `%` and `..`")
    return value.rstrip("/")


class WebdavRemote(RemoteSettings):
    """A folder that takes PUT over HTTPS, with WebDAV's other methods or without."""

    type: Literal["webdav"] = Field(description="`webdav`: a folder on a web server that takes PUT")
    url: Annotated[str, AfterValidator(_url)] = Field(description="the folder's URL; the folder must exist")
    dav: bool = Field(
        default=True,
        description="whether the server has MKCOL, MOVE and PROPFIND; without, nothing can be listed there",
    )
    minimum_tls: Literal["1.2", "1.3"] = Field(
        default="1.3", description="the oldest version of TLS that is spoken"
    )
    allow_http: bool = Field(
        default=False, description="let `url` be `http:`; recordings are sealed, their manifests are not"
    )
    ca_file: AbsolutePath | None = Field(
        default=None, description="certificates (PEM) that the server's must come from; not the system's then"
    )
    certificate_file: AbsolutePath | None = Field(
        default=None, description="the certificate (PEM) to show, with what leads to its CA"
    )
    certificate_key_file: AbsolutePath | None = Field(
        default=None, description="its private key (PEM), which nobody else can read"
    )
    user: Annotated[str, Field(pattern=r"^[!-9;-~]{1,128}$")] | None = Field(
        default=None, description="whom to log in as; needs `password_file`"
    )
    password_file: AbsolutePath | None = Field(
        default=None, description="a file with the password, which nobody else can read"
    )
    token_file: AbsolutePath | None = Field(
        default=None, description="a file with a bearer token, which nobody else can read"
    )
    timeout_s: Annotated[float, Field(ge=0.1, le=3600.0)] = Field(
        default=60.0, description="how long to wait for a connection, an answer or the next bytes, in seconds"
    )

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        if self.url.startswith("http:"):
            if not self.allow_http:
                raise ValueError("url: must be https (or set allow_http)")
            if self.certificate_file is not None or self.ca_file is not None:
                raise ValueError("certificate_file, ca_file: only with https")
        if (self.certificate_file is None) != (self.certificate_key_file is None):
            raise ValueError("certificate_file: only together with certificate_key_file")
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user: only together with password_file")
        if self.user is not None and self.token_file is not None:
            raise ValueError("token_file: not with user")
        return self
