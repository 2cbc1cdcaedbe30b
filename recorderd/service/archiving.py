"""Where the engine puts what it made."""

from typing import TYPE_CHECKING, Any, Protocol

from recorderd.calls.call import Call
from recorderd.service.session import Session, Sink

if TYPE_CHECKING:
    from recorderd.service.engine import Engine


class Archive(Protocol):
    """:class:`recorderd.service.archive.SpoolArchive` writes it to the spool."""

    def begin(self, call: Call, started_ns: int) -> tuple[str, Sink]:
        """Start a recording; returns its id and where to write it. Raises DiskFull, SpoolError."""

    def call_seen(self, call: Call) -> None:
        """Account for a call that began, or was answered."""

    def call_left(self, call: Call) -> None:
        """Another worker accounts for the call from now on."""

    def call_over(self, call: Call, engine: "Engine", interrupted: str | None) -> None:
        """Account for the outcome of a call that was not recorded."""

    def call_joined(self, session: Session, call: Call, how: str) -> None:
        """A call is recorded in a recording that has begun."""

    def recording_over(self, session: Session, engine: "Engine") -> None:
        """Seal a recording, and account for the outcomes of its calls."""

    def alert(self, kind: str, call: Call, **fields: Any) -> None:
        """Have people told something about a call."""

    def window_closed(self, end_ns: int) -> None:
        """All of a window is handed over; make it visible."""
