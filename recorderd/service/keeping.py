"""How long a recording is kept, by the classes of its calls: decided when it is sealed.

A clock that is set back must not let recordings expire early: a period never runs from before what is known
to have been recorded already.
"""

from collections.abc import Sequence
from typing import Any

from recorderd.calls.call import Call
from recorderd.spool.retention import Schedule, stamped_later
from recorderd.spool.times import microseconds


class Keeping:
    """Stamps summaries. ``newest_us`` is when the newest recording of the spool began, in us since 1970."""

    def __init__(self, schedule: Schedule, newest_us: int) -> None:
        self._schedule, self._newest_us = schedule, newest_us

    def began(self, *calls: Call) -> dict[str, Any]:
        """For what the index says of a recording in progress: should the recorder die, this is known."""
        return self._stamp(calls, [call.first_seen for call in calls])

    def over(self, calls: Sequence[Call]) -> dict[str, Any]:
        """For the summary of a recording whose calls are over."""
        return self._stamp(calls, [call.ended_at or call.first_seen for call in calls])

    def cut_off(self, running: dict[str, Any], elapsed_s: float) -> dict[str, Any]:
        """For a file that ended before its call did, as recovery states it."""
        ended_us = microseconds(running["started_at"]) + round(elapsed_s * 1e6)
        kept = stamped_later(running.get("retention"), ended_us)
        return {} if kept is None else {"retention": kept}

    def _stamp(self, calls: Sequence[Call], times_ns: list[int]) -> dict[str, Any]:
        if not self._schedule.classes:
            return {}
        self._newest_us = max(self._newest_us, max(times_ns) // 1000)
        kept = self._schedule.stamp({call.retention for call in calls}, self._newest_us)
        return {} if kept is None else {"retention": kept}
