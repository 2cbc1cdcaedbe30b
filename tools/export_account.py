"""Enters in the ledger who takes which recording, before anything of it is written.

It tells of those who do not mind being told of: whoever has a private key and a copy of the files needs no
`recorderctl`.
"""

import contextlib
import os
import pwd
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recorderd.config import Config
from recorderd.errors import ConfigError, RecorderError, SpoolError
from recorderd.spool.header import Header
from recorderd.spool.keys import Identity
from recorderd.spool.ledger import FOLDER
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import ledger_of, may_enter
from recorderd.spool.slot_files import slots_beside
from recorderd.tools.command import Session, user


class ExportAccount:
    """The account of one command's exports. Raises ConfigError for a configuration that was given and is
    wrong."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._config = _config_of(session)
        self._told = False

    @property
    def _enabled(self) -> bool:
        return self._config is None or self._config.ledger.enabled

    def enter(self, recording_id: str, how: dict[str, Any]) -> int | None:
        """Enter an export; the entry's number, or None where that cannot be: people are told so, once.

        Raises SpoolError where the configuration asks for the entry.
        """
        if not self._enabled:
            return None
        why = self._hindrance()
        if why is None:
            fields = {"by": user(), "uid": os.getuid(), **how}
            entry = Entry("export", time.time_ns() // 1000, recording_id, fields)
            try:
                leaf = ledger_of(self._session.spool).append([entry]).start
            except RecorderError as error:
                why = str(error)
            else:
                self._tell_index(leaf, entry)
                return leaf
        if self._config is not None and self._config.ledger.exports == "require":
            raise SpoolError(f"{recording_id}: not exported (ledger.exports: require), not entered: {why}")
        if not self._told:
            self._told = True
            self._session.warn([f"not entered in the ledger: {why}"])
        return None

    def _hindrance(self) -> str | None:
        """Why nothing is entered here."""
        spool = self._session.spool
        if spool.is_remote_copy or not (
            self._session.spool_path is None or spool.host_key_path.exists() or self._configured()
        ):
            return f"{spool.path} is a copy"
        ledger = spool.path / FOLDER
        if not ledger.is_dir():
            return f"{spool.path} has none"
        if not may_enter(spool):
            # What root writes, the recorder could not go on with.
            return f"it is another user's: sudo -u {_owner(ledger)} recorderctl ... enters it"
        return None

    def _configured(self) -> bool:
        spool = self._session.spool
        return self._config is not None and Path(self._config.spool.path).resolve() == spool.path.resolve()

    def _tell_index(self, leaf: int, entry: Entry) -> None:
        """An index that cannot be told learns of it at the recorder's next start."""
        if self._session.spool.index_path.exists():
            with contextlib.suppress(RecorderError):
                index = self._session.index_to_write
                with index.batch():
                    index.ledger_entered(leaf, [entry])


def opened_by(path: Path, header: Header, identities: Iterable[Identity]) -> str | None:
    """The id of the key among ``identities`` that opens the recording at ``path``, in hex."""
    beside = slots_beside(path, header)
    slots = (*header.slots, *(beside.slots if beside else ()))
    own = {identity.recipient().id for identity in identities}
    return next((slot.key_id.hex() for slot in slots if slot.key_id in own), None)


def _config_of(session: Session) -> Config | None:
    """The configuration that says what is to be entered; None where only a spool was named, and the usual
    configuration is missing or is of another one."""
    try:
        config = session.config
    except ConfigError:
        if session.config_path is not None or session.spool_path is None:
            raise
        return None
    if session.config_path is not None or session.spool_path is None:
        return config
    return config if Path(config.spool.path).resolve() == session.spool.path.resolve() else None


def _owner(path: Path) -> str:
    number = path.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"'#{number}'"
