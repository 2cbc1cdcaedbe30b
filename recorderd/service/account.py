"""What is said in the end: of each call, and of the recording that one or several of them share."""

from collections.abc import Sequence
from typing import Any

from recorderd.calls.call import Call
from recorderd.calls.conversations import Conversation, Leg
from recorderd.calls.events import SIDES
from recorderd.calls.outcomes import MediaFacts, Outcome, outcome
from recorderd.service.losses import Lost
from recorderd.service.session import LegOver, Session
from recorderd.service.track import Track
from recorderd.spool.times import rfc3339


def judge(session: Session, over: LegOver, tracks: Sequence[Track], closed_ns: int) -> Outcome:
    """What became of one call of a recording, by what the tracks of its two ends hold."""
    call = over.call
    speakers = {side: label(session, call, side) for side in SIDES}
    mute = [each.complaint for each in tracks if each.complaint and each.label in speakers.values()]
    # What was not to be kept was there all the same.
    heard = {track.label: track.facts.packets + track.facts.withheld for track in tracks}
    facts = MediaFacts(
        # What could not be written down was not recorded, however well it was heard.
        tracks={side: heard.get(speakers[side], 0) for side in SIDES} if session.recording else {},
        recorder_drops=_recorder_drops(session, over, tracks, closed_ns),
        interrupted=over.interrupted,
        excluded=call.excluded or None,
        failure=session.failure,
        paused_s=_paused_s(session, call, closed_ns),
        undecodable=tuple(mute),
    )
    return outcome(call, facts)


def _paused_s(session: Session, call: Call, closed_ns: int) -> float:
    start_ns, end_ns = call.answered_at or call.first_seen, call.ended_at or closed_ns
    return session.pauses.total_s(start_ns / 1000, end_ns / 1000)


def together(results: Sequence[tuple[Call, Outcome]]) -> Outcome:
    """What became of a conversation: as its answered calls, if one of them is not complete as that one."""
    answered = [result for call, result in results if call.answered_at is not None]
    found = answered or [result for _, result in results]
    return next((result for result in found if result.name != "complete"), found[0])


def expected_labels(session: Session) -> list[str]:
    """The tracks that must be there for the recording to be complete."""
    found = [
        label(session, over.call, side)
        for over in session.over
        for side in over.call.expected_speakers()
        if over.call.answered_at is not None or len(session.over) == 1
    ]
    return list(dict.fromkeys(found))


def label(session: Session, call: Call, side: Any) -> str:
    """Who is at a side of a call."""
    leg = _leg(session, call)
    return leg.ends[side].label if leg is not None else str(side)


def _leg(session: Session, call: Call) -> Leg | None:
    return session.conversation.legs.get(call.key) if session.conversation is not None else None


def _recorder_drops(session: Session, over: LegOver, tracks: Sequence[Track], closed_ns: int) -> int:
    """What the recorder lost in a call's time. What cost this call nothing is not held against it: all its
    packets came, and no loss was where there is no packet of it.
    """
    call, lost = over.call, over.lost
    if not lost.packets or call.answered_at is None:
        return 0
    if not session.recording:
        return 0  # what it does not record has a reason of its own
    start_us, end_us = call.answered_at / 1000, (call.ended_at or closed_ns) / 1000
    if session.given_up_us is not None:
        end_us = min(end_us, session.given_up_us)
    speakers = [label(session, call, side) for side in call.expected_speakers()]
    edges = any(session.may_lack(speaker, start_us, end_us) for speaker in speakers)
    return lost.packets if edges or any(track.facts.lost for track in tracks) else 0


def lost_by(call: Call, lost: Lost) -> int:
    """The same for a call that nothing was recorded of."""
    return lost.packets if call.answered_at is not None else 0


def summary(session: Session, tracks: Sequence[Track], causes: list[str], result: Outcome) -> dict[str, Any]:
    """What the index and the manifest say of a recording."""
    span = session.span()
    start = span.start_us if span is not None else None
    calls = [over.call for over in session.over]
    first = session.first_call()
    told = {
        "id": session.recording,
        "state": "sealed",
        "call_ids": call_ids(calls if len(calls) == 1 else in_order(session.conversation, first)),
        "from": first.from_user,
        "to": first.to_user,
        "started_at": rfc3339(round(start)) if start is not None else None,
        "duration_s": round((span.end_us - span.start_us) / 1e6, 6) if span is not None else 0.0,
        "tracks": [track.described() for track in tracks],
        "review": {"needed": bool(causes), "causes": causes},
        "outcome": result.name,
        "reason": result.reason,
        "capture_drops": session.losses.packets,
    }
    if session.pauses.all:
        told["pauses"] = _pauses(session, start or 0.0)
    conversation = session.conversation
    if conversation is not None and len(conversation.legs) > 1:
        told["participants"] = _participants(conversation, tracks, start or 0.0)
        told["legs"] = [_described(leg) for leg in conversation.legs.values()]
    if conversation is not None and conversation.related:
        related = [(one.recording, how) for one, how in conversation.related.values()]
        told["related"] = [{"recording": known, "how": how} for known, how in related if known]
    return told


def _pauses(session: Session, start_us: float) -> list[dict[str, Any]]:
    """When it was not to be recorded, in seconds from the recording's start, and who asked for it."""
    ended_us = max((over.call.ended_at or 0) for over in session.over) / 1000
    found = []
    for pause in session.pauses.all:
        length_s = max(0.0, pause.ends_us(round(ended_us)) - pause.since_us) / 1e6 if ended_us else None
        found.append(
            {
                "at_s": round((pause.since_us - start_us) / 1e6, 3) if start_us else None,
                "length_s": round(length_s, 3) if length_s is not None else None,
                "by": pause.by,
                "reason": pause.reason or None,
            }
        )
    return found


def in_order(conversation: Conversation | None, first: Call) -> list[Call]:
    """The calls of a conversation, the caller's own in front."""
    legs = conversation.legs.values() if conversation is not None else ()
    return [first, *(leg.call for leg in legs if leg.call is not first)]


def call_ids(calls: Sequence[Call]) -> list[str]:
    """Their Call-IDs, each once: a B2BUA may keep it."""
    return list(dict.fromkeys(call.call_id for call in calls))


def _participants(
    conversation: Conversation, tracks: Sequence[Track], start_us: float
) -> list[dict[str, Any]]:
    """Who took part, and from when to when, in seconds from the recording's start."""
    heard = {track.label for track in tracks}
    found = []
    for one in conversation.participants:
        own = [
            leg.call
            for leg in conversation.legs.values()
            for side in SIDES
            if leg.ends[side] is one and not leg.rank[side]
        ] or [one.call]
        begun = [call.answered_at for call in own if call.answered_at is not None]
        ends = [call.ended_at for call in own if call.answered_at is not None and call.ended_at is not None]
        if one.label not in heard and not begun:
            continue
        found.append(
            {
                "label": one.label,
                "user": one.user,
                "uri": one.uri,
                "display": one.display,
                "call_id": one.call.call_id,
                "from_s": _seconds(min(begun), start_us) if begun else None,
                "to_s": _seconds(max(ends), start_us) if ends else None,
            }
        )
    return found


def _seconds(time_ns: int, start_us: float) -> float:
    return max(0.0, round((time_ns / 1000 - start_us) / 1e6, 3))


def _described(leg: Leg) -> dict[str, Any]:
    row = call_row(leg.call, None, None, None)
    keys = ("call_id", "from", "to", "first_seen", "answered_at", "ended_at")
    return {**{key: row[key] for key in keys}, "role": leg.role, "joined_by": leg.how or None}


def identity(call: Call) -> dict[str, Any]:
    """Whose call it is, for an event of the recording."""
    return {
        "call_id": call.call_id,
        "from": call.from_user,
        "to": call.to_user,
        "from_uri": call.from_uri,
        "to_uri": call.to_uri,
    }


def call_row(call: Call, name: str | None, reason: str | None, recording: str | None) -> dict[str, Any]:
    """A call as the index has it, with its outcome's ``name``, if it has one."""
    answered_at, ended_at = call.answered_at, call.ended_at
    return {
        "call_id": call.call_id,
        "from": call.from_user,
        "to": call.to_user,
        "first_seen": rfc3339(call.first_seen // 1000),
        "answered_at": rfc3339(answered_at // 1000) if answered_at is not None else None,
        "ended_at": rfc3339(ended_at // 1000) if ended_at is not None else None,
        "outcome": name,
        "reason": reason,
        "recording": recording,
    }
