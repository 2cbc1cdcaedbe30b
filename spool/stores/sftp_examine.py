"""What an SFTP server really does, tried on files of its own."""

from typing import cast

import asyncssh

from recorderd.config.host_keys import fingerprint_of
from recorderd.spool.stores.base import Finding
from recorderd.spool.stores.sftp_link import DENIED, Session
from recorderd.spool.stores.words import words

_OLD, _NEW = ".recorderd-examine", ".recorderd-examine.tmp"


async def examine(session: Session, root: str) -> tuple[Finding, ...]:
    """Try it in the folder ``root`` (with a slash at its end). Raises asyncssh.SFTPError."""
    synced = await _write(session, root + _OLD, b"old")
    await _write(session, root + _NEW, b"new")
    replaced = await _replaces(session, root)
    return (
        _host_key(session),
        synced,
        Finding(
            "rename",
            replaced,
            "a copy gets its name at once, whole"
            if replaced
            else "no posix-rename: while a copy is replaced, neither the old nor the new one is there",
        ),
        await _deletion(session, root),
        await _room(session, root),
    )


def _host_key(session: Session) -> Finding:
    key = session.connection.get_server_host_key()
    shown = "none" if key is None else f"{key.get_algorithm()} {fingerprint_of(key.public_data)}"
    version = words(session.connection.get_extra_info("server_version", ""))
    cipher = words(session.connection.get_extra_info("send_cipher", ""))
    return Finding("host key", key is not None, f"pinned: {shown}; {version}, {cipher}")


async def _write(session: Session, path: str, content: bytes) -> Finding:
    async with session.sftp.open(path, "wb", asyncssh.SFTPAttrs(permissions=0o640)) as file:
        await file.write(content)
        try:
            await file.fsync()
        except asyncssh.SFTPOpUnsupported:
            return Finding("fsync", False, "not offered: a power cut there may lose what was just stored")
    return Finding("fsync", True, "a copy is on the server's disk before it gets its name")


async def _replaces(session: Session, root: str) -> bool:
    try:
        await session.sftp.posix_rename(root + _NEW, root + _OLD)
    except asyncssh.SFTPError:
        return False
    async with session.sftp.open(root + _OLD, "rb") as file:
        return cast(bytes, await file.read()) == b"new"


async def _deletion(session: Session, root: str) -> Finding:
    try:
        await session.sftp.remove(root + _OLD)
    except (*DENIED, asyncssh.SFTPOpUnsupported):
        return Finding("deletion", True, "refused: who steals this identity cannot delete copies")
    return Finding("deletion", False, "allowed: who steals this identity can delete copies")


async def _room(session: Session, root: str) -> Finding:
    try:
        disk = await session.sftp.statvfs(root)
    except asyncssh.SFTPError:
        return Finding("room", None, "the server does not tell")
    free = disk.bavail * disk.frsize
    return Finding("room", free > 0, f"{free / 1e9:.1f} GB are free there")
