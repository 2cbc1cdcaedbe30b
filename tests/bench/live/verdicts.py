"""Compares what an overloaded recorder says of each call with what was sent and what is there.

It may lose, if it says so: which packets are missing is worked out from the recordings, and must be what the
account of the call tells, with the recorder to blame.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from recorderd.calls.outcomes import OVERLOADED
from recorderd.spool.keys import Identity
from recorderd.spool.layout import Spool
from recorderd.spool.reader import Recording
from tests.bench.live.load import PERIOD, Load, payloads, speech
from tests.bench.live.recount import numbers_as_sent
from tests.bench.tracks import RecordedStream, recorded
from tests.simulators.script import SIDES

_OWN_FAULT: Final = re.compile(rf"{OVERLOADED}|recorder lost \d+ packets?")
_LOST: Final = re.compile(r"recorder lost (\d+) packets?")
_NEAR = 3  #: packets: how near to the moment told a track ends


@dataclass
class Verdicts:
    """Of all calls. Packets are counted by what became of them: recorded as sent, lost (before the call was
    given up, if it was), or shed with calls that were not, or no longer, recorded.
    """

    outcomes: Counter[str]
    exact: int = 0
    given_up: int = 0
    recorded: int = 0
    lost: int = 0
    lost_said: int = 0
    shed: int = 0
    problems: tuple[str, ...] = ()


class Judge:
    """Judges the calls of a load, one by one."""

    def __init__(self, load: Load, spool: Spool, identities: tuple[Identity, ...]) -> None:
        self._load, self._spool, self._identities = load, spool, identities
        self._pool = payloads(speech())
        self.found = Verdicts(Counter())

    def call(self, call: int, accounts: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[str]:
        """What is wrong with a call, of which the index has these accounts and recordings."""
        if len(accounts) != 1 or len(rows) > 1:
            return [f"{len(accounts)} accounts, {len(rows)} recordings"]
        (account,) = accounts
        self.found.outcomes[account["outcome"]] += 1
        reason = account["reason"] or ""
        if account["outcome"] not in ("complete", "partial", "missing"):
            return [f"{account['outcome']}: {reason}"]
        if account["outcome"] != "complete" and not _OWN_FAULT.search(reason):
            return [f"{account['outcome']}, and the recorder is not to blame: {reason!r}"]
        if not rows:
            self.found.shed += 2 * self._load.packets
            return [] if account["outcome"] == "missing" else ["no recording"]
        return list(self._recording(call, account["outcome"], reason, rows[0]))

    def _recording(self, call: int, outcome: str, reason: str, row: dict[str, Any]) -> Iterator[str]:
        path = self._spool.locate(row["id"])
        streams, problems = recorded(path, self._identities)
        yield from problems
        with Recording.open(path, self._identities) as recording:
            events = list(recording.events)
        given_up = [event["time_us"] for event in events if event["event"] == "given up"]
        self.found.given_up += bool(given_up)
        if bool(given_up) != (OVERLOADED in reason):
            yield f"{len(given_up)} times given up, and the reason is {reason!r}"
        lost = 0
        for side, label in enumerate(SIDES):
            began = [e["time_us"] for e in events if e["event"] == "stream" and e["track"] == label]
            track: dict[str, Any] = next((track for track in row["tracks"] if track["label"] == label), {})
            last_us = given_up[0] - began[0] if given_up and began else None
            missing, wrong = self._track(2 * call + side, streams.get(label, []), track, last_us)
            lost += missing
            yield from (f"{label}: {what}" for what in wrong)
        self.found.lost += lost
        told = _LOST.search(reason)
        if lost and not told:
            yield f"{lost} packets lost, {outcome}: {reason!r}"
        if told and not lost:
            yield f"nothing lost: {reason!r}"
        if outcome == "complete" and not lost:
            self.found.exact += 1

    def _track(
        self, stream: int, found: list[RecordedStream], track: Mapping[str, Any], last_us: int | None
    ) -> tuple[int, list[str]]:
        """How many packets were lost; what is wrong. ``last_us``: from the first to when it was given up."""
        sent = self._load.packets
        if len(found) != 1:
            return (sent if last_us is None else 0), [] if not found else [f"{len(found)} streams"]
        wrong = []
        numbers = np.unique(numbers_as_sent(self._load, stream, found[0], self._pool))
        self.found.recorded += len(numbers)
        if len(numbers) != len(found[0].rows):
            wrong.append(f"{len(found[0].rows) - len(numbers)} packets are not as they were sent")
        first, last = (int(numbers[0]), int(numbers[-1])) if len(numbers) else (0, -1)
        until = sent - 1 if last_us is None else min(sent - 1, first + int(last_us // (1000 * PERIOD)))
        if last > until + _NEAR:
            wrong.append(f"{last - until} packets after it was given up")
        if abs(last - until) <= _NEAR and last_us is not None:
            until = last
        inside, said = last - first + 1 - len(numbers), track.get("lost", 0)
        self.found.lost_said += said
        self.found.shed += sent - 1 - max(until, last)
        if inside != said:
            wrong.append(f"{inside} packets are missing between others, and {said} said to be")
        causes = Counter(gap["cause"] for gap in track.get("gaps", ()))
        if set(causes) - {"capture"}:
            wrong.append(f"gaps by cause: {dict(causes)}")
        return first + inside + max(0, until - last), wrong
