"""The connection to an S3 store: whose credentials it uses, whom it trusts, and that it stores nothing twice.

Nothing of the user's own AWS set-up is read: what is sent where is the configuration's alone.
"""

import configparser
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import ConnectionClosedError
from botocore.session import Session

from recorderd.config.remotes_s3 import S3Remote
from recorderd.spool.stores.base import RemoteOutage
from recorderd.spool.stores.private_files import read_private

# Where the certificates that a system trusts are, by distribution; botocore has a list of its own, which no
# administrator sees.
_SYSTEM_CAS = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))
_MOST_CONNECTIONS = 64
# Threads may share a client, but not the session that makes it.
_MAKING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who sends."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def find_credentials(remote: S3Remote, environment: Mapping[str, str] = os.environ) -> Credentials:
    """From the file that is named, or ``AWS_ACCESS_KEY_ID`` and so on. Raises RemoteOutage."""
    if remote.credentials_file is not None:
        return _from_file(remote.credentials_file)
    try:
        access, secret = environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
    except KeyError as error:
        raise RemoteOutage(
            f"{remote.name}: no credentials: neither credentials_file nor {error.args[0]} is set"
        ) from None
    return Credentials(access, secret, environment.get("AWS_SESSION_TOKEN"))


def _from_file(path: Path) -> Credentials:
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(read_private(path).decode())
        section = parser["default"]
        access, secret = section["aws_access_key_id"], section["aws_secret_access_key"]
    except (configparser.Error, KeyError, ValueError):
        # Never the error's own text: it quotes lines of the file.
        raise RemoteOutage(
            f"{path}: needs a section [default] with aws_access_key_id and aws_secret_access_key"
        ) from None
    return Credentials(access, secret, section.get("aws_session_token"))


def make_client(remote: S3Remote, credentials: Credentials) -> Any:
    """A client of botocore, which threads may share. Nothing is sent yet. Raises RemoteOutage."""
    if remote.ca_file is not None and not os.access(remote.ca_file, os.R_OK):
        raise RemoteOutage(f"{remote.ca_file}: cannot be read")
    trusted = [remote.ca_file] if remote.ca_file else [path for path in _SYSTEM_CAS if path.exists()]
    with _MAKING:
        client = _made(remote, credentials, str(trusted[0]) if trusted else True)
    client.meta.events.register("needs-retry.s3", _once_more)
    return client


def _once_more(attempts: int, operation: Any, caught_exception: Any, **_: Any) -> int | None:
    """0 (seconds to wait) for a request that found its connection closed and goes out again, else None.

    A server may close a connection at any time (RFC 9112 section 9.5), and some do without a word after they
    refused a request whose body they had not asked for (RFC 9110 section 10.1.1). What only reads is sent
    again on another connection. What stores is not, as it may have arrived: the store looks before it sends,
    and looking is reading.
    """
    reads = operation.http["method"] in ("GET", "HEAD")
    return 0 if reads and attempts == 1 and isinstance(caught_exception, ConnectionClosedError) else None


def _made(remote: S3Remote, credentials: Credentials, trusted: str | bool) -> Any:
    return _session().create_client(
        "s3",
        region_name=remote.region,
        endpoint_url=remote.endpoint,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.token,
        verify=trusted,
        config=Config(
            signature_version="s3v4",
            connect_timeout=remote.connect_timeout_s,
            read_timeout=remote.timeout_s,
            max_pool_connections=_MOST_CONNECTIONS,
            # Trying again is Retrying's, which the store tells what may have arrived (but see _once_more).
            retries={"mode": "standard", "total_max_attempts": 1},
            # The store sends SHA-256 itself. What botocore would add by itself are trailers, which older
            # servers keep as a part of the object.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,
            s3={
                "addressing_style": remote.addressing,
                # The signature covers the body too: a server that checks signatures checks the bytes.
                "payload_signing_enabled": True,
                "us_east_1_regional_endpoint": "regional",
            },
        ),
    )


@cache
def _session() -> Session:
    """One for all: it reads the description of S3, which takes a quarter of a second."""
    return Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
