"""Where recordings are carried to."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from recorderd.config.fields import AbsolutePath, unique
from recorderd.config.remote_settings import Bandwidth, RemoteSettings
from recorderd.config.remotes_s3 import S3Remote
from recorderd.config.remotes_sftp import SftpRemote
from recorderd.config.remotes_webdav import WebdavRemote
from recorderd.config.section import Section


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


def _names_differ(remotes: tuple[Remote, ...]) -> tuple[Remote, ...]:
    unique(tuple(remote.name for remote in remotes))
    return remotes


class ScrubConfig(Section):
    """How copies are read again that were verified once."""

    every_days: Annotated[int, Field(ge=0, le=3650)] = Field(
        default=30, description="every copy is read back again after so many days; 0: never"
    )
    bandwidth: Bandwidth = Field(
        default=4_000_000, description="the most that is read for this from a remote, in bytes a second"
    )
    local: bool = Field(
        default=True,
        description="whether the files of the spool are read again as well, and restored from a remote",
    )


class SyncConfig(Section):
    """Where recordings are carried to."""

    interval_s: Annotated[float, Field(ge=0.1, le=86_400.0)] = Field(
        default=5.0, description="how often the outbox looks for something to carry, in seconds"
    )
    scrub: ScrubConfig = Field(default_factory=ScrubConfig)
    remotes: Annotated[tuple[Remote, ...], Field(strict=False), AfterValidator(_names_differ)] = Field(
        default=(), description="every recording goes to each of these"
    )
