"""Recordings that are paused: who may ask for it, since when, and until when.

A pause takes effect before anything is sealed: what falls into it is withheld
(:mod:`recorderd.service.withholding`), and the recording tells that there was a pause, since when, by whom
and why. A pause that was forgotten must not cost a call, so it ends by itself, with an alert.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple, Protocol

from recorderd.calls.call import Call
from recorderd.calls.events import Side
from recorderd.calls.info_keys import info_keys
from recorderd.calls.pauses import Key, KeySequence, Pause, Pauses
from recorderd.calls.privacy import NOT_UNDERSTOOD, Wish, wish
from recorderd.calls.table import CallTable
from recorderd.service.recordings import Recordings
from recorderd.service.session import Session
from recorderd.wire.printable import printable
from recorderd.wire.sip import SipMessage

MAX_REASON: Final = 128
LEAST_ID: Final = 8
"""Letters of a recording's id that must be given."""


class PrivacySettings(NamedTuple):
    """What pauses a recording, and what is kept of keys.

    ``header`` is in lower case; ``most_s`` 0 is for ever.
    """

    header: str | None = None
    pause_keys: str | None = None
    resume_keys: str | None = None
    most_s: float = 600.0
    dtmf: Literal["keep", "digits", "remove"] = "keep"
    dtmf_tones: Literal["keep", "silence"] = "keep"

    @property
    def sequences(self) -> tuple[str, ...]:
        """The sequences of keys that mean something."""
        return tuple(dict.fromkeys(filter(None, (self.pause_keys, self.resume_keys))))


class Telling(Protocol):
    """What is needed of the archive here."""

    def alert(self, kind: str, call: Call, **fields: Any) -> None:
        """Tell people something about a call."""


class Pausing:
    """The pauses of all recordings in progress."""

    def __init__(
        self,
        settings: PrivacySettings,
        recordings: Recordings,
        calls: CallTable,
        archive: Telling,
        counters: Counter[str],
    ) -> None:
        self.settings = settings
        self._recordings, self._calls, self._archive = recordings, calls, archive
        self._counters = counters
        self._listens = settings.header is not None or bool(settings.sequences)
        self._heeded: dict[tuple[str, Side], int] = {}
        """The CSeq of the last request of each side: one that is repeated asks for nothing."""
        self._info: dict[tuple[str, Side], KeySequence] = {}
        self._early: dict[str, Pauses] = {}
        """Of calls without media so far."""
        self.touched: dict[int, Session] = {}
        """Recordings that are or were paused, by number."""

    @property
    def paused(self) -> int:
        """How many recordings are paused now."""
        return sum(session.pauses.current is not None for session in self.touched.values())

    # -- who asks

    def heed(self, message: SipMessage, now_ns: int) -> None:
        """A message was taken in by the call table: it may ask for something."""
        if message.method != "INFO" and not (self._listens and message.method in ("INVITE", "UPDATE")):
            return
        found = self._calls.of(message)
        if found is None or found[0].excluded:
            return
        call, side = found
        if message.cseq <= self._heeded.get((call.key, side), -1):
            return
        asked = wish(message, self.settings.header) if self.settings.header else None
        keys = info_keys(message)
        if asked is None and keys is None:
            return
        self._heeded[call.key, side] = message.cseq
        now_us = now_ns // 1000
        if asked == NOT_UNDERSTOOD:
            self._not_understood(call, side, message.header(self.settings.header or "") or "", now_us)
        elif asked is not None:
            self._obey(call, asked, now_us, f"SIP header of {side}")
        for digit in keys.digits if keys is not None else "":
            self._told(call, side, Key(digit, now_us, None, (keys and keys.duration_ms) or 0))

    def _not_understood(self, call: Call, side: Side, value: str, now_us: int) -> None:
        """A value that nobody agreed on changes nothing, and somebody may wait for what it was to do."""
        self._counters["pause_headers_not_understood"] += 1
        session = self._recordings.of(call.key)
        if session is not None:
            by = f"SIP header of {side}"
            session.event("not_understood", now_us, by=by, value=printable(value, MAX_REASON))

    def _told(self, call: Call, side: Side, key: Key) -> None:
        """A key was told by signalling."""
        others = [key]
        if self.settings.sequences:
            sequence = self._info.setdefault((call.key, side), KeySequence(self.settings.sequences))
            done, others = sequence.press(key)
            if done is not None:
                self._obey(call, self._meant(done, call.key), key.time_us, f"keys of {side}")
        session = self._recordings.of(call.key)
        if session is not None:
            for each in others:
                self._note(session, each, self._calls.conversations.label(call.key, side))

    def pressed(self, session: Session, label: str, key: Key) -> None:
        """A key came with the media; it goes into the recording unless it is part of what pauses it."""
        if not self.settings.sequences:
            self._note(session, key)
            return
        sequence = session.keys.setdefault(label, KeySequence(self.settings.sequences))
        done, others = sequence.press(key)
        for other in others:
            self._note(session, other)
        if done is not None:
            self._wish(session, self._meant(done, session.call), key.time_us, f"keys of {label}")

    def _meant(self, done: str, call: str) -> Wish:
        if self.settings.pause_keys != self.settings.resume_keys:
            return "pause" if done == self.settings.pause_keys else "resume"
        return "resume" if self._of(call).current is not None else "pause"

    def _note(self, session: Session, key: Key, track: str = "") -> None:
        paused = next(session.pauses.spans(key.time_us, key.time_us + 1), None) is not None
        if paused or self.settings.dtmf == "remove":
            return
        digit = "*" if self.settings.dtmf == "digits" else key.digit
        hidden = {"hidden": True} if self.settings.dtmf == "digits" else {}
        facts = {"stream": key.stream, "digit": digit, "duration": key.duration, "volume": key.volume}
        if key.stream is None:
            facts = {"track": track, "by": "info", "digit": digit, "duration_ms": key.duration}
        session.event("tone", key.time_us, **facts, **hidden)

    def command(self, request: dict[str, Any], now_us: int) -> dict[str, Any]:
        """Obey a command of the control socket: ``pause`` or ``resume`` of a ``target``, a recording's id (or
        its beginning) or a Call-ID. Returns what was done, or an ``error``.
        """
        target, asked = str(request.get("target", "")), request.get("command")
        reason = printable(str(request.get("reason") or ""), MAX_REASON)
        by = printable(str(request.get("by") or "control socket"), MAX_REASON)
        obeyed = []
        for call in self._meant_by(target):
            paused = self._of(call.key).current is not None
            if (asked == "pause") != paused:
                self._obey(call, "pause" if asked == "pause" else "resume", now_us, by, reason)
            session = self._recordings.of(call.key)
            now_paused = self._of(call.key).current is not None
            recording = session.ids[-1] if session else None
            obeyed.append({"call_id": call.call_id, "recording": recording, "paused": now_paused})
        return {"calls": obeyed} if obeyed else {"error": f"no call in progress is {printable(target, 80)}"}

    def _meant_by(self, target: str) -> Iterator[Call]:
        """One call of each conversation that is meant."""
        known: set[int] = set()
        for call in self._calls.active():
            session = self._recordings.of(call.key)
            ids = session.ids if session is not None and len(target) >= LEAST_ID else ()
            named = any(known.startswith(target) for known in ids)
            if (
                not call.excluded
                and target
                and (named or call.call_id == target)
                and id(session) not in known
            ):
                known |= {id(session)} if session is not None else set()
                yield call

    # -- what is done

    def _of(self, call: str) -> Pauses:
        session = self._recordings.of(call)
        return session.pauses if session is not None else self._early.get(call, Pauses())

    def _obey(self, call: Call, asked: Wish, now_us: int, by: str, reason: str = "") -> None:
        session = self._recordings.of(call.key)
        if session is not None:
            self._wish(session, asked, now_us, by, reason)
            return
        pauses = self._early.setdefault(call.key, Pauses())
        if asked == "resume":
            pauses.end(now_us)
        else:
            pauses.begin(now_us, by, reason, endless=asked == "off")

    def _wish(self, session: Session, asked: Wish, now_us: int, by: str, reason: str = "") -> None:
        if asked == "resume":
            if session.pauses.end(now_us) is not None:
                session.event("resumed", now_us, by=by)
            return
        begun = session.pauses.begin(now_us, by, reason, endless=asked == "off")
        self.touched[session.number] = session
        if begun is not None:
            self._counters["pauses"] += 1
            self._tell(session, begun)

    @staticmethod
    def _tell(session: Session, pause: Pause) -> None:
        reason = {"reason": pause.reason} if pause.reason else {}
        session.event("paused", pause.since_us, by=pause.by, **reason)

    def begun(self, session: Session) -> None:
        """A recording begins: what was asked for before holds for it."""
        conversation = session.conversation
        for key in (session.call, *(conversation.legs if conversation else ())):
            early = self._early.pop(key, None)
            if early is not None and early.all:
                session.pauses = early
                self.touched[session.number] = session
                for pause in early.all:
                    self._tell(session, pause)
                    if pause.until_us is not None:
                        session.event("resumed", pause.until_us, by=pause.by)

    def tick(self, now_us: int) -> None:
        """End the pauses that lasted too long."""
        if not self.settings.most_s:
            return
        most_us = round(self.settings.most_s * 1e6)
        for session in self.touched.values():
            due_us = session.pauses.overdue_us(most_us, now_us)
            if due_us is not None:
                session.pauses.end(due_us)
                session.event("resumed", due_us, by="time limit")
                self._counters["pauses_overdue"] += 1
                call = next(self._running(session), None)
                if call is not None:
                    after = {"recording": session.recording, "resumed_after_s": self.settings.most_s}
                    self._archive.alert("pause", call, **after)
        for early in self._early.values():
            due_us = early.overdue_us(most_us, now_us)
            if due_us is not None:
                early.end(due_us)

    def _running(self, session: Session) -> Iterator[Call]:
        return (call for call in self._calls.active() if self._recordings.of(call.key) is session)

    def ending(self, session: Session) -> None:
        """A recording is about to be accounted for: nothing is held back any more."""
        for sequence in session.keys.values():
            for key in sequence.rest():
                self._note(session, key)
        for (call, side), told in self._info.items():
            if self._recordings.of(call) is session:
                for key in told.rest():
                    self._note(session, key, self._calls.conversations.label(call, side))
        self.touched.pop(session.number, None)

    def over(self, call: str) -> None:
        """A call was accounted for."""
        self._early.pop(call, None)
        for side in ("caller", "callee"):
            self._heeded.pop((call, side), None)
            self._info.pop((call, side), None)
