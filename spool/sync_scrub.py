"""Reads what was verified once again, remote copies and local files, a little at a time: bytes rot.

A copy that is damaged is sent again by the next pass; where the original is not here any more, another remote
gives it back first. A local file that is damaged or lost is restored from a remote that has it.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from recorderd.errors import RecorderError, SpoolCorrupt
from recorderd.spool.budget import Limits
from recorderd.spool.database import Json
from recorderd.spool.durable import disk_error, forget_cached, write_file
from recorderd.spool.evidence import HERE, Damage, Witness
from recorderd.spool.index import Index
from recorderd.spool.intent import EVICTING, Intent
from recorderd.spool.layout import Spool
from recorderd.spool.ledger import FOLDER
from recorderd.spool.ledger_keeping import ledger_of
from recorderd.spool.manifest import load_manifest
from recorderd.spool.pacing import S_NS, TokenBucket, is_waiting
from recorderd.spool.restoration import Restorer
from recorderd.spool.signing import find_host_public
from recorderd.spool.slot_files import read_slots
from recorderd.spool.stores import RemoteOutage, Store, file_hash
from recorderd.spool.sync_check import Checker
from recorderd.spool.sync_ledger import LedgerCarrier
from recorderd.spool.sync_report import probe_known
from recorderd.spool.sync_store import Pace, Paced, Remote, Stopping, never
from recorderd.spool.times import rfc3339

DAY_S: Final = 86_400
GROUP: Final = 16
"""Copies of a remote, or local files, that are read in a round."""

_CATCH_UP: Final = 2.0
"""So much faster than needed to read everything in time, so that a host that is off at night keeps up."""

_COUNT_S: Final = 3600.0
_MISSED: Final = 4
"""So many are brought back in a round, for remotes that have not got them."""

_SAVED_S: Final = 30.0
"""What was not read for so long may be read at once: a round is several small recordings."""


@dataclass(frozen=True, slots=True)
class ScrubTerms:
    """``bandwidth`` in bytes a second; ``every_days`` 0 is never."""

    every_days: int = 30
    bandwidth: int | None = 4_000_000
    local: bool = True


@dataclass(slots=True)
class Scrubbed:
    """What a round did."""

    checked: int = 0
    damaged: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    error: str | None = None


@dataclass(slots=True)
class _Spread:
    """Spreads the reading of so many bytes over the days."""

    counted_s: float | None = None
    bucket: TokenBucket = field(default_factory=lambda: TokenBucket(None))
    due_s: float = 0.0


class Scrubber:
    """Scrubs in rounds; one in the process that has the network. ``index`` is its thread's own."""

    def __init__(
        self,
        spool: Spool,
        index: Index,
        remotes: Mapping[str, Remote],
        terms: ScrubTerms,
        limits: Limits | None = None,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool, self._index, self._terms, self._clock = spool, index, terms, clock
        self._monotonic = monotonic
        self._limits = limits or Limits()
        self._remotes = dict(remotes)
        rate = None if terms.bandwidth is None else float(terms.bandwidth)
        self._paces = {name: Pace(TokenBucket(rate, rate or 0.0)) for name in ("", *remotes)}
        self._spreads = {name: _Spread() for name in ("", *remotes)}
        self._period_ns = terms.every_days * DAY_S * S_NS
        self._missed_after = ""
        self._state_path = spool.path / "scrub.json"

    def run(self, stopping: Callable[[], bool] = never) -> Scrubbed:
        """One round: a few copies of each remote, and a few local files, those that are due. Raises what the
        index raises."""
        done = Scrubbed()
        self._bring_what_is_missed(done)
        if not self._terms.every_days:
            return done
        for pace in self._paces.values():
            pace.stopping = stopping
        for name in self._remotes:
            try:
                self._remote(name, done)
            except Stopping:
                return done
            except RemoteOutage as error:
                done.error = str(error)
        if self._terms.local and not stopping():
            with suppress(Stopping):
                self._local(done)
        return done

    def _bring_what_is_missed(self, done: Scrubbed) -> None:
        """What is not here any more and has to go to a remote that has not got it comes from another one."""
        rows = self._index.query(
            "SELECT id FROM recordings WHERE present = 0 AND carried = 0 AND id > ?"
            " AND state IN ('sealed', 'recovered') ORDER BY id LIMIT ?",
            [self._missed_after, _MISSED],
        )
        # From the beginning again, where these cannot be had just now.
        self._missed_after = rows[-1]["id"] if len(rows) == _MISSED else ""
        for row in rows:
            self._restore(row["id"], done)

    # -- copies

    def _remote(self, name: str, done: Scrubbed) -> None:
        now = self._clock()
        terms = self._remotes[name].terms
        waits = is_waiting(int(self._index.remote_state(name).get("until_ns", 0)), now)
        if waits or not terms.timetable.is_open(now) or not self._is_due(name):
            return
        self._ledger(name, done)
        before = rfc3339((now - self._period_ns) // 1000)
        rows = self._index.sync_due_to_check(name, before, rfc3339(now // 1000), GROUP)
        if not rows:
            return
        store = Paced(self._remotes[name].store, self._paces[name])
        probe_known(name, store, self._index.remote_identity(name))
        public = find_host_public(self._spool)
        checker = Checker(name, self._spool, self._index, store, public)
        for row in rows:
            damage = checker.check(row, self._clock())
            done.checked += 1
            if damage is not None:
                done.damaged.append(f"{name}: {damage}")
                self._have_here(row["id"], done)
            if not self._took(name, row["bytes"] or 0):
                break
        checker.witness.end(self._clock())

    def _ledger(self, name: str, done: Scrubbed) -> None:
        """All of the ledger that a remote has, as often as the recordings."""
        state, now = self._state(), self._clock()
        if 0 <= now - state["ledgers"].get(name, 0) < self._period_ns:
            return
        if name in state["ledgers"]:
            store = Paced(self._remotes[name].store, self._paces[name])
            probe_known(name, store, self._index.remote_identity(name))
            witness = Witness(self._spool, self._index, name)
            carrier = LedgerCarrier(self._spool, name, self._clock)
            done.error = carrier.carry(self._index, store, witness, True, everything=True)
        # What is sent is read back then: the first time is a period later.
        ledgers = {each: at for each, at in state["ledgers"].items() if each in self._remotes}
        self._keep({**state, "ledgers": {**ledgers, name: now}})

    def _have_here(self, recording: str, done: Scrubbed) -> None:
        """A copy has to be sent again: get the original back, if it is not here."""
        if self._index.evicted([recording]):
            self._restore(recording, done)

    # -- local files

    def _local(self, done: Scrubbed) -> None:
        if not self._is_due(""):
            return
        state = self._state()
        rows = self._index.query(
            "SELECT id, sha256, bytes FROM recordings WHERE state IN ('sealed', 'recovered') AND present = 1"
            " AND id > ? ORDER BY id LIMIT ?",
            [state["after"], GROUP],
        )
        if not rows:
            begun = state["begun_ns"]
            age = self._clock() - begun
            if state["after"] and 0 <= age < self._period_ns:
                return  # All were read; the next time is not yet.
            self._keep({**state, "after": "", "begun_ns": self._clock()})
            return
        after = state["after"]
        for row in rows:
            self._one_here(row, done)
            after = row["id"]
            if not self._took("", row["bytes"] or 0):
                break
        self._keep({**state, "after": after, "begun_ns": state["begun_ns"] or self._clock()})

    def _one_here(self, row: Json, done: Scrubbed) -> None:
        recording = row["id"]
        done.checked += 1
        self._paces[""](row["bytes"] or 0)
        problem = self._problem(recording, row["sha256"])
        if problem is None or not self._still_here(recording):
            return
        done.damaged.append(problem)
        error, facts = self._restore(recording, done)
        told = {"restored": error is None} | ({} if error is None else {"error": error})
        damage = Damage(f"{recording}.rec", problem, facts)
        Witness(self._spool, self._index, HERE).note(damage, recording, self._clock(), "local-damage", **told)

    def _problem(self, recording: str, sha256: str | None) -> str | None:
        """What is wrong with the files of a recording, or None."""
        path = self._spool.record_path(recording)
        try:
            manifest = load_manifest(self._spool.manifest_path(recording), find_host_public(self._spool))
            slots = read_slots(self._spool.slot_path(recording))
            if slots is None and manifest.slots_sha256 is not None:
                return f"{recording}: the key slots are missing"
            forget_cached(path)
            if file_hash(path) != manifest.sha256 or manifest.sha256 != (sha256 or manifest.sha256):
                return f"{path}: damaged"
        except SpoolCorrupt as error:
            return str(error)
        except FileNotFoundError:
            return f"{path}: gone"
        except OSError as error:
            return f"{path}: {error.strerror}"
        return None

    def _still_here(self, recording: str) -> bool:
        """Whether it should be here: it may have been evicted, or destroyed, while it was read."""
        if recording in Intent(self._spool.path / EVICTING).read():
            return False
        rows = self._index.query(
            "SELECT 1 FROM recordings WHERE id = ? AND present = 1 AND state IN ('sealed', 'recovered')",
            [recording],
        )
        return bool(rows)

    def _restore(self, recording: str, done: Scrubbed) -> tuple[str | None, dict[str, Any]]:
        """Bring it back from a remote where it was verified; returns why not, and what it took the place
        of."""
        public = find_host_public(self._spool)
        if public is None:
            return "no host.pub here", {}
        names = self._index.query(
            "SELECT remote FROM sync WHERE recording = ? AND state = 'verified'", [recording]
        )
        stores: dict[str, Store] = {
            row["remote"]: self._remotes[row["remote"]].store
            for row in names
            if row["remote"] in self._remotes
        }
        ledger = ledger_of(self._spool) if (self._spool.path / FOLDER).is_dir() else None
        restorer = Restorer(
            self._spool, self._index, stores, public, ledger, self._limits, "scrub", clock=self._clock
        )
        # They alone may be what is wrong.
        restorer.statements(recording)
        try:
            (result,) = restorer.restore([recording], thoroughly=True)
        except RecorderError as error:
            return str(error), {}
        if result.became in ("restored", "here"):
            done.restored.append(recording)
            return None, result.damage or {}
        return result.error or result.became, {}

    # -- when

    def _is_due(self, name: str) -> bool:
        """Whether it is time for the next few; the rate is that of all bytes over the days."""
        spread, now = self._spreads[name], self._monotonic()
        if spread.counted_s is None or now - spread.counted_s > _COUNT_S:
            spread.counted_s = now
            rate = _CATCH_UP * self._bytes(name) / (self._terms.every_days * DAY_S)
            spread.bucket = TokenBucket(max(rate, 1.0), rate * _SAVED_S)
        return now >= spread.due_s

    def _took(self, name: str, size: int) -> bool:
        """So many bytes were read; whether more may be read at once."""
        spread, now = self._spreads[name], self._monotonic()
        wait = min(spread.bucket.take(size, now), float(self._terms.every_days * DAY_S))
        spread.due_s = now + wait
        return wait <= 0

    def _bytes(self, name: str) -> int:
        return self._index.sync_bytes(name) if name else self._index.bytes_here()

    def _state(self) -> dict[str, Any]:
        """How far the reading of the local files is, when that began, and when each remote's ledger was
        read."""
        try:
            value = json.loads(self._state_path.read_bytes())
            ledgers = {str(name): int(at) for name, at in value["ledgers"].items()}
            return {"after": str(value["after"]), "begun_ns": int(value["begun_ns"]), "ledgers": ledgers}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {"after": "", "begun_ns": 0, "ledgers": {}}

    def _keep(self, state: dict[str, Any]) -> None:
        try:
            write_file(self._state_path, json.dumps(state).encode())
        except OSError as error:
            raise disk_error(error, self._state_path) from None
