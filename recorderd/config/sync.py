"""Where recordings are carried to."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from recorderd.config.fields import AbsolutePath, unique
from recorderd.config.section import Section


class FileRemote(Section):
    """A folder: another disk, or a mounted share."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")] = Field(
        description="the remote's name in lists and lines: letters, digits, `-` and `_`"
    )
    type: Literal["file"] = Field(description="the kind of remote: `file`, a folder")
    path: AbsolutePath = Field(description="the folder")


def _names_differ(remotes: tuple[FileRemote, ...]) -> tuple[FileRemote, ...]:
    unique(tuple(remote.name for remote in remotes))
    return remotes


class SyncConfig(Section):
    """Where recordings are carried to."""

    remotes: Annotated[tuple[FileRemote, ...], Field(strict=False), AfterValidator(_names_differ)] = Field(
        default=(), description="every recording goes to each of these"
    )
    interval_s: Annotated[float, Field(ge=0.1, le=86_400.0)] = Field(
        default=5.0, description="how often the outbox looks for something to carry, in seconds"
    )
