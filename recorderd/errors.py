"""The errors a user can meet, each with its exit code and what to do next.

What a peer sends wrong is never one of these: it is a :class:`PeerError`, which the engine turns into a
counter and an event. The exit codes are documented in docs/operations.md and tested there.
"""

from typing import ClassVar, Self


class RecorderError(Exception):
    """An error that is told to the user in one line, with a hint."""

    exit_code: ClassVar[int] = 1
    hint: str = ""

    def __init__(self, *told: object, hint: str | None = None) -> None:
        """``hint``: what to do next, where the hint of all errors of the class does not fit."""
        super().__init__(*told)
        if hint is not None:
            self.hint = hint

    def anew(self) -> Self:
        """The same, to be kept: what was raised holds the frames it went through, and all that these held."""
        return type(self)(*self.args, hint=self.hint)


class UsageError(RecorderError):
    """The command line asks for something that cannot be."""

    exit_code = 2
    hint = "see --help"


class NotOverwritten(UsageError):
    """What is to be written would take the place of something."""

    hint = "give another name, or move what is there away first"


class ChecksFailed(RecorderError):
    """`doctor` or `test-call` found something wrong; the details were printed."""

    exit_code = 3


class ConfigError(RecorderError):
    """The configuration is wrong; the message names file, line and key."""

    exit_code = 10
    hint = "see docs/configuration.md; `recorderd check-config -c FILE` checks without starting"


class CaptureError(RecorderError):
    """An interface cannot be tapped."""

    exit_code = 11
    hint = "see `ip link` for the interfaces; capturing needs CAP_NET_RAW"


class CaptureFileError(RecorderError):
    """A capture file is damaged or of an unknown kind; what came before the damage was recorded."""

    exit_code = 12
    hint = "`capinfos FILE` tells what the file is"


class SpoolCorrupt(RecorderError):
    """A recording, manifest or index does not hold what was sealed."""

    exit_code = 20
    hint = "restore the recording from a remote copy; keep the damaged file as evidence"


class KeysMissing(SpoolCorrupt):
    """The detached key slots of a recording are not there."""

    hint = "if they were not destroyed on purpose, bring ID.key back from a remote copy or a backup"


class LedgerCorrupt(SpoolCorrupt):
    """The ledger, or a checkpoint, is not what was entered and signed."""

    hint = "`recorderctl ledger verify` tells what is wrong; keep it as it is: each remote has a copy"


class WrongKey(RecorderError):
    """No given identity opens this recording."""

    exit_code = 21
    hint = "give --identity FILE of one of the recipients that `recorderctl show ID` lists"


class NoSuchRecording(RecorderError):
    """The spool has no recording of this id."""

    exit_code = 22
    hint = "`recorderctl list` shows what there is"


class Evicted(NoSuchRecording):
    """The recording is on the remotes, and not here."""

    hint = "`recorderctl restore ID` brings it back"


class DiskFull(RecorderError):
    """The spool's file system has no room."""

    exit_code = 23
    hint = "free space on the spool's file system; recording resumes by itself"


class NoRoom(DiskFull):
    """What is left of the spool's disk is kept for the calls in progress."""


class SpoolError(RecorderError):
    """The spool cannot be used: missing, not writable, or in use by another daemon."""

    exit_code = 24
    hint = "check the path, its owner, and that no other recorderd uses it"


class Undecodable(RecorderError):
    """A recording holds nothing but codecs that cannot be decoded here."""

    exit_code = 25
    hint = "the coded frames are kept as they came: `docs/codecs.md` lists what can be decoded"


class NotAllowed(RecorderError):
    """Approvals, a hold, a period or the clock do not allow a destruction."""

    exit_code = 26
    hint = "see docs/retention.md: what has to be there before something is destroyed"


class RemoteError(RecorderError):
    """A remote does not have, or does not give back, what was sent."""

    exit_code = 30
    hint = "`recorderctl sync` tries again and shows each remote's state"


class PeerError(Exception):
    """What a peer sent is not what the RFC says; never leaves the engine."""
