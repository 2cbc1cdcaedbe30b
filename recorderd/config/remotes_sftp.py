"""A folder on another machine, reached by SFTP."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from recorderd.config.fields import AbsolutePath, some
from recorderd.config.host_keys import parse_host_key
from recorderd.config.remote_settings import RemoteSettings


def _host_key(value: str) -> str:
    parse_host_key(value)
    return value


class SftpRemote(RemoteSettings):
    """A folder on an SSH server whose host key is known beforehand."""

    type: Literal["sftp"] = Field(description="`sftp`: a folder on an SSH server")
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,253}$")] = Field(
        description="the server's name or address"
    )
    port: Annotated[int, Field(ge=1, le=65_535)] = Field(default=22, description="its port")
    user: Annotated[str, Field(pattern=r"^[!-~]{1,64}$")] = Field(description="whom to log in as")
    path: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,1024}$")] = Field(
        default=".", description="the folder there, which must exist; a relative one is below the login's"
    )
    identity_file: AbsolutePath = Field(
        description="the private key to log in with, which nobody else can read and has no passphrase"
    )
    host_keys: Annotated[
        tuple[Annotated[str, AfterValidator(_host_key)], ...], Field(strict=False), AfterValidator(some)
    ] = Field(description="the server's keys: lines of `ssh-keyscan`, or fingerprints `SHA256:...`")
    timeout_s: Annotated[float, Field(ge=0.1, le=3600.0)] = Field(
        default=60.0, description="how long to wait for the login, and for the answer to each MiB, in seconds"
    )
