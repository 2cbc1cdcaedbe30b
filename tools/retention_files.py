"""The files of proposals and approvals, and the keys and rules of the configuration, for the commands that
destroy and shorten."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from recorderd.errors import ConfigError, NotOverwritten, SpoolCorrupt, SpoolError, UsageError
from recorderd.spool.approvals import Approval, Rules, read_approval
from recorderd.spool.durable import disk_error, write_file
from recorderd.spool.proposals import Proposal
from recorderd.spool.signing import HostKey, HostPublic
from recorderd.tools.command import Session


def read(path: Path) -> bytes:
    """A file's bytes. Raises UsageError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def write(path: Path, data: bytes) -> None:
    """Write a new file. Raises UsageError where there is one already, SpoolError."""
    if path.exists():
        raise NotOverwritten(f"{path} exists; it is not overwritten")
    try:
        write_file(path.absolute(), data)
    except OSError as error:
        raise disk_error(error, path) from None


def read_proposal(path: Path) -> Proposal:
    """A proposal. Raises SpoolCorrupt with the file's name."""
    try:
        return Proposal.from_bytes(read(path))
    except SpoolCorrupt as error:
        raise SpoolCorrupt(f"{path}: {error}") from None


def read_approvals(paths: Iterable[Path]) -> list[tuple[Approval, bytes]]:
    """Approvals with the bytes of their files. Raises SpoolCorrupt with the file's name."""
    found = []
    for path in paths:
        data = read(path)
        try:
            found.append((read_approval(data), data))
        except SpoolCorrupt as error:
            raise SpoolCorrupt(f"{path}: {error}") from None
    return found


def rules_of(session: Session, host: HostPublic) -> Rules:
    """Who may approve, by the configuration. Raises ConfigError."""
    retention = session.config.retention
    if not retention.approvers:
        raise ConfigError(f"{session.config.where('retention', 'approvers')}: nobody may approve")
    keys: dict[bytes, HostPublic] = {}
    for number, path in enumerate(retention.approvers):
        where = session.config.where("retention", "approvers", number)
        try:
            public = HostPublic.load(path)
        except SpoolError as error:
            raise ConfigError(f"{where}: {error}") from None
        if public.id == host.id:
            raise ConfigError(f"{where}: {path} is the host's own key: it approves nothing")
        if public.id in keys:
            raise ConfigError(f"{where}: {path} is the key of another approver as well")
        keys[public.id] = public
    return Rules(tuple(keys.values()), retention.approvals, retention.approval_days)


def host_key(session: Session, given: Path | None = None) -> HostKey:
    """The host's signing key, which must be there. Raises SpoolError."""
    path = given or session.config.spool.signing_key or session.spool.host_key_path
    if not path.exists():
        raise SpoolError(f"{path}: the host's signing key is not there (--signing-key names it)")
    return HostKey.load_or_create(path, session.spool.host_public_path)


def counts(names: Sequence[str | None]) -> str:
    """``3 of finance, 2 of retail``."""
    found = {name: names.count(name) for name in dict.fromkeys(names)}
    return ", ".join(f"{count} of {name or 'no class'}" for name, count in found.items())
