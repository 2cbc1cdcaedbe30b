"""The kinds of remotes: where recordings can be carried to."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from recorderd.config.fields import AbsolutePath
from recorderd.config.remote_settings import RemoteSettings
from recorderd.config.remotes_s3 import S3Remote
from recorderd.config.remotes_sftp import SftpRemote
from recorderd.config.remotes_webdav import WebdavRemote


class FileRemote(RemoteSettings):
    """A folder: another disk, or a mounted share."""

    type: Literal["file"] = Field(description="`file`: a folder of another disk, or of a mounted share")
    path: AbsolutePath = Field(description="the folder, which must exist")


def _kind(value: object) -> str | None:
    """Which remote is meant; None where that is not said, or is none that there is."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{kind}>" if isinstance(kind, str) and f"<{kind}>" in REMOTE_MODELS else None


REMOTE_MODELS: dict[str, type[RemoteSettings]] = {
    "<file>": FileRemote,
    "<s3>": S3Remote,
    "<sftp>": SftpRemote,
    "<webdav>": WebdavRemote,
}
"""The kinds of remotes, by what pydantic puts into an error's location."""

Remote = Annotated[
    Annotated[FileRemote, Tag("<file>")]
    | Annotated[S3Remote, Tag("<s3>")]
    | Annotated[SftpRemote, Tag("<sftp>")]
    | Annotated[WebdavRemote, Tag("<webdav>")],
    Discriminator(_kind),
]
