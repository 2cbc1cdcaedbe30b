"""Whose call it is, where several workers see the same signalling and each gets a part of the media.

All of them work out the same answer, from the signalling alone: nobody asks anybody. A call belongs to the
worker that gets the flow between the first two addresses which the two sides announced for each other; so
most of the media comes to the right worker by itself. A call that never announces both belongs to a worker by
its Call-ID. Until one or the other is certain the call has a keeper, by its Call-ID, who accounts for it, and
no owner: its media waits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from recorderd.calls.events import MediaExpected, Side
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.flow_hash import share_of, text_share

PATIENCE_NS: Final = 2_000_000_000
"""How long the second address is waited for after the first. Packets wait longer for their signalling."""


@dataclass(slots=True, eq=False)
class _Account:
    """What is known of who accounts for a call."""

    name: tuple[str, int]
    first_seen: int
    by_name: int
    known_at: int
    """When it became certain who accounts for it: first by its name, then by its share."""
    share: int | None = None
    """Where the media goes; None while that is not certain."""
    deadline: int | None = None


class Blindness(NamedTuple):
    """A worker saw nothing in this time: it was dead. ``until_ns`` is None while it is."""

    worker: int
    from_ns: int
    until_ns: int | None = None

    def hides(self, worker: int, first_seen: int, known_at: int) -> bool:
        """Whether the worker did not see that a call was its own, nor has seen all of it since."""
        missed = worker == self.worker and known_at >= self.from_ns
        return missed and (self.until_ns is None or first_seen < self.until_ns)


class Ownership:
    """The owners of all calls, as worker ``number`` (from 0) of ``count`` works them out."""

    def __init__(self, number: int, count: int) -> None:
        self.number, self.count = number, count
        self._calls: dict[str, _Account] = {}
        self._names: dict[tuple[str, int], str] = {}
        self._unsettled: dict[str, None] = {}  # with a deadline, in its order
        self._blind: tuple[Blindness, ...] = ()

    def began(self, call: str, call_id: str, first_seen: int) -> None:
        """A call was seen for the first time."""
        self._names[call_id, first_seen] = call
        self._calls[call] = _Account(
            (call_id, first_seen), first_seen, text_share(call_id, self.count), first_seen
        )

    def expected(
        self, event: MediaExpected, expectations: Mapping[tuple[Side, Endpoint], MediaExpected]
    ) -> None:
        """A side announced an address; ``expectations`` has all that the call's sides announced so far."""
        account = self._calls.get(event.call)
        if account is None or account.share is not None:
            return
        if account.deadline is None:
            account.deadline = event.now + PATIENCE_NS
            self._unsettled[event.call] = None
        if event.now >= account.deadline:
            self._settle(event.call, account, account.by_name, account.deadline)
            return
        for known in expectations.values():
            # Of one hop of the signalling only are two addresses the two ends of a flow.
            same_flow = known.line == event.line and set(known.legs) & set(event.legs)
            if known.side != event.side and same_flow:
                share = share_of(known.endpoint, event.endpoint, self.count)
                self._settle(event.call, account, share, event.now)
                return

    def tick(self, now: int) -> None:
        """Let time pass: who announced one address only has waited long enough."""
        due = []
        for call in self._unsettled:
            account = self._calls[call]
            if account.deadline is None or account.deadline > now:
                break
            due.append((call, account))
        for call, account in due:
            self._settle(call, account, account.by_name, account.deadline or now)

    def _settle(self, call: str, account: _Account, share: int, known_at: int) -> None:
        account.share, account.known_at = share, known_at
        self._unsettled.pop(call, None)

    def over(self, call: str) -> None:
        """A call is done with."""
        account = self._calls.pop(call, None)
        if account is not None:
            self._names.pop(account.name, None)
        self._unsettled.pop(call, None)

    def named(self, call_id: str, first_seen: int) -> str | None:
        """The key of a call here, by what all workers know it by; None for one that is unknown."""
        return self._names.get((call_id, first_seen))

    def name(self, call: str) -> tuple[str, int] | None:
        """What all workers know a call by: its Call-ID and when it was first seen."""
        account = self._calls.get(call)
        return account.name if account else None

    def blind(self, periods: tuple[Blindness, ...]) -> None:
        """Say when workers saw nothing: what became theirs in that time belongs to the next worker."""
        self._blind = periods

    def owner(self, call: str) -> int | None:
        """The worker that records the call; None while that is not certain, or the call is unknown."""
        account = self._calls.get(call)
        return None if account is None or account.share is None else self._seeing(account, account.share)

    def keeper(self, call: str) -> int | None:
        """The worker that accounts for the call: its owner, or who does so until it has one."""
        account = self._calls.get(call)
        if account is None:
            return None
        return self._seeing(account, account.by_name if account.share is None else account.share)

    def mine(self, call: str) -> bool:
        """Whether this worker accounts for the call."""
        return self.keeper(call) == self.number

    def adopted(self, call: str) -> bool:
        """Whether the call's media goes to a worker that does not know of it."""
        account = self._calls.get(call)
        if account is None or not self._blind:
            return False
        worker = account.by_name if account.share is None else account.share
        return self._hidden(account, worker)

    def orphaned(self, call: str) -> bool:
        """Whether the worker that had the call has died since: it is lost, and nobody else's."""
        account = self._calls.get(call)
        if account is None or account.share is None:
            return False
        worker = self._seeing(account, account.share)
        return any(p.worker == worker and account.known_at < p.from_ns for p in self._blind)

    def _seeing(self, account: _Account, worker: int) -> int:
        for _ in range(self.count if self._blind else 0):
            if not self._hidden(account, worker):
                break
            worker = (worker + 1) % self.count
        return worker

    def _hidden(self, account: _Account, worker: int) -> bool:
        return any(period.hides(worker, account.first_seen, account.known_at) for period in self._blind)
