"""Files that hold a secret: read only where nobody else could have read them."""

import os
import stat
from pathlib import Path

from recorderd.spool.stores.base import RemoteOutage

_LONGEST = 65_536
_HANDED_OVER = Path("/run/credentials")


def check_private(path: Path) -> None:
    """Refuse a secret that others can read. Raises RemoteOutage.

    What systemd handed over (``LoadCredential=``) is in a folder that only the service can enter, and its
    files show the rights of an ACL as those of a group.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise RemoteOutage(f"{path}: {error.strerror}") from None
    if path.parent.parent == _HANDED_OVER or str(path.parent) == os.environ.get("CREDENTIALS_DIRECTORY"):
        return
    # Root looks (`doctor`) at what is the service's.
    if found.st_mode & 0o077 or (os.geteuid() not in (0, found.st_uid) and found.st_uid != 0):
        mode = stat.S_IMODE(found.st_mode)
        raise RemoteOutage(
            f"{path}: mode {mode:04o}, uid {found.st_uid}: must be 0600 and this user's, or root's"
        )


def read_private(path: Path) -> bytes:
    """The content of a file with a secret. Raises RemoteOutage."""
    check_private(path)
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST)
    except OSError as error:
        raise RemoteOutage(f"{path}: {error.strerror}") from None


def read_private_line(path: Path) -> str:
    """The one line of a password's or a token's file. Raises RemoteOutage."""
    try:
        line = read_private(path).decode("utf-8").rstrip("\r\n")
    except ValueError:
        line = ""
    if not line or not line.isprintable():
        raise RemoteOutage(f"{path}: must be one line of text")
    return line
