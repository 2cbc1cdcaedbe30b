"""How the carrying to a remote goes, told from the index alone: for those who look while another process
carries."""

from dataclasses import dataclass
from typing import Any

from recorderd.spool.index import Index
from recorderd.spool.pacing import S_NS, Terms, is_waiting
from recorderd.spool.sync_report import RemoteReport
from recorderd.spool.times import rfc3339

_FRESH_NS = 120 * S_NS
"""A rate that was noted longer ago is not that of now."""


@dataclass(slots=True)
class RemoteStatus:
    """A remote's report, and more: ``recordings_s`` and ``bytes_s`` over the last minutes, ``eta_s`` until
    nothing is missing at that rate (None where there is none), ``oldest`` the first that is missing,
    ``again`` when a remote that is out is asked again, ``opens`` when its hours begin, ``since`` when it went
    out."""

    report: RemoteReport
    recordings_s: float = 0.0
    bytes_s: float = 0.0
    eta_s: float | None = None
    oldest: str | None = None
    again: str | None = None
    opens: str | None = None
    since: str | None = None

    @property
    def waits(self) -> str | None:
        """What it waits for, where that is no error."""
        return f"its hours begin at {self.opens}" if self.opens and self.report.pending else None

    def as_json(self) -> dict[str, Any]:
        """For ``sync --status --json``."""
        return {
            **self.report.as_json(),
            "recordings_per_s": round(self.recordings_s, 3),
            "bytes_per_s": round(self.bytes_s),
            "eta_s": None if self.eta_s is None else round(self.eta_s),
            "oldest_pending": self.oldest,
            "again_at": self.again,
            "opens_at": self.opens,
            "outage_since": self.since,
        }


def remote_status(index: Index, name: str, terms: Terms, now_ns: int) -> RemoteStatus:
    """What is known of a remote. Raises what the index raises."""
    counts, backlog, state = index.sync_counts(name), index.sync_backlog(name), index.remote_state(name)
    report = RemoteReport(
        name,
        counts["verified"],
        counts["failed"],
        counts["pending"] + counts["failed"],
        error=counts["error"] if counts["failed"] else None,
        stored=index.sync_stored(name),
        pending_bytes=backlog["bytes"],
        closed=not terms.timetable.is_open(now_ns),
    )
    status = RemoteStatus(report, oldest=backlog["oldest"])
    if abs(now_ns - int(state.get("rate_ns", 0))) <= _FRESH_NS:
        status.recordings_s, status.bytes_s = float(state["recordings_s"]), float(state["bytes_s"])
    if report.pending and status.recordings_s > 0:
        by_bytes = backlog["bytes"] / status.bytes_s if status.bytes_s else 0.0
        status.eta_s = max(report.pending / status.recordings_s, by_bytes)
    until = int(state.get("until_ns", 0))
    if is_waiting(until, now_ns):
        status.again = rfc3339(until // 1000)
    if state.get("failures"):
        report.error = str(state.get("error"))
        status.since = rfc3339(int(state.get("since_ns", now_ns)) // 1000)
    if report.closed:
        opens = terms.timetable.opens_ns(now_ns)
        status.opens = None if opens is None else rfc3339(opens // 1000)
    return status
