"""Stores on the tests' S3 server."""

import secrets

from recorderd.config.remotes_s3 import S3Remote
from recorderd.spool.stores.s3 import S3Store
from tests.simulators.s3_server import ACCESS, REGION, SECRET, S3Server


def credentials_file(folder, access=ACCESS, secret=SECRET):
    """As an administrator writes it."""
    path = folder / f"credentials-{access}"
    path.touch(0o600)
    path.write_text(f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
    return path


def s3_remote(server: S3Server, folder, **settings):
    """The configuration of a remote there; each has a prefix of its own unless told."""
    settings = {
        "name": "vault",
        "bucket": "recordings",
        "prefix": secrets.token_hex(8),
        "endpoint": server.url,
        "allow_http": True,
        "region": REGION,
    } | settings
    if "credentials_file" not in settings:
        settings["credentials_file"] = credentials_file(folder)
    return S3Remote.model_validate({"type": "s3", **settings})


def s3_store(server: S3Server, folder, *, part=5 << 20, **settings):
    """A store there, with the smallest parts that S3 takes."""
    return S3Store(s3_remote(server, folder, **settings), part=part)
