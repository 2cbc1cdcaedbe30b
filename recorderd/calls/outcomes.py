"""What became of a call: every call that was seen ends with exactly one outcome and its reason."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from recorderd.calls.call import Call
from recorderd.calls.events import Side

OutcomeName = Literal["complete", "partial", "excluded", "unanswered", "missing"]

#: What interrupted the recordings that a crash left behind.
RESTARTED: Final = "recorder restarted"


#: What kept calls from being recorded that were more than the host can carry.
OVERLOADED: Final = "recorder overloaded"


#: The same for calls that began when little of the disk was left.
NO_ROOM: Final = "disk full: what is left is kept for the calls in progress"


#: The same where nothing at all was left.
REFUSED: Final = "disk full: no room for another recording"


#: Begins the cause of the end of calls that were believed to be over since nothing was heard any more.
STILL: Final = "no media for"


class MediaFacts(NamedTuple):
    """What the recorder got of a call.

    Attributes:
        tracks: media packets by the side that sent them.
        recorder_drops: packets that the recorder itself lost while the call was running.
        encrypted: media came and could not be opened; what signalling says of it is in the call.
        interrupted: why the recorder stopped before the call did, e.g. `RESTARTED`.
        excluded: the policy that says that this call is not to be recorded.
        unannounced: media ran between the hosts of its signalling that could not be told from that of other
        calls.
        paused_s: for how long of the call nothing was to be recorded.
        failure: what kept the recorder from writing, e.g. `disk full`.
        undecodable: of each track that is there and cannot be heard, what is the matter with it.
    """

    tracks: Mapping[Side, int] = MappingProxyType({})
    recorder_drops: int = 0
    encrypted: bool = False
    interrupted: str | None = None
    excluded: str | None = None
    failure: str | None = None
    unannounced: bool = False
    paused_s: float = 0.0
    undecodable: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """What became of a call.

    `complete`: all that was to be recorded is there. `partial`: some of it. `missing`: nothing, though the
    call was answered. `unanswered`: there was nothing to record. `excluded`: there was, and it was not to be.
    `reason` is for people; empty where there is nothing to explain.
    """

    name: OutcomeName
    reason: str = ""


def outcome(call: Call, media: MediaFacts) -> Outcome:
    """Judge a call that is over, or that the recorder stopped following (`media.interrupted`)."""
    if media.excluded is not None:
        return Outcome("excluded", media.excluded)
    if call.answered_at is None:
        return Outcome("unanswered", call.end_cause or media.interrupted or "not answered so far")
    reasons = [*_losses(media), *(["joined in mid-call"] if call.joined else [])]
    expected = call.expected_speakers()
    if not any(media.tracks.values()):
        # Nobody looked at the media of a call that was not begun.
        why = [] if media.failure in (OVERLOADED, NO_ROOM, REFUSED) else [_why_nothing(call, media)]
        return Outcome("missing", "; ".join([*reasons, *why, *_besides(call)]))
    absent = [side for side in expected if not media.tracks.get(side)]
    reasons += [f"no media from {side}" for side in absent]
    if absent and _encrypted(call, media):
        reasons.append(_not_recordable(call))
    told = [f"paused {media.paused_s:.1f} s"] if media.paused_s else []
    told += [*media.undecodable, *_besides(call)]
    reasons += ["its signalling was not seen"] if call.unsignalled else []
    if reasons:
        return Outcome("partial", "; ".join([*reasons, *told]))
    told += ["its end was not seen"] if call.end_cause == "timeout" else []
    told += [f"its BYE was not seen: {call.end_cause}"] if call.end_cause.startswith(STILL) else []
    return Outcome("complete", "; ".join(told))


def _besides(call: Call) -> list[str]:
    """What nobody expects to be recorded, and who listens must know of."""
    if not call.besides:
        return []
    found: dict[str, list[str]] = {}
    for span in call.besides:
        when = f"from {_clock(span.since)}" + (f" to {_clock(span.until)}" if span.until is not None else "")
        found.setdefault(span.kind, []).append(when)
    whole = {kind for kind, when in found.items() if not kind.startswith("fax")}
    return [
        f"{kind} agreed, not recorded" if kind in whole else f"{kind} {', '.join(when[:4])}, not recorded"
        for kind, when in found.items()
    ]


def _clock(time_ns: int) -> str:
    """The time of day, UTC."""
    seconds = time_ns // 1_000_000_000 % 86400
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _losses(media: MediaFacts) -> list[str]:
    """What the recorder itself is to blame for."""
    found = [reason for reason in (media.failure, media.interrupted) if reason is not None]
    if media.recorder_drops:
        plural = "" if media.recorder_drops == 1 else "s"
        found.append(f"recorder lost {media.recorder_drops} packet{plural}")
    return found


def _why_nothing(call: Call, media: MediaFacts) -> str:
    if _encrypted(call, media):
        return _not_recordable(call)
    if call.described and not call.audio:
        return "no audio stream was agreed on"
    if call.described and not call.senders:
        return "neither side was to send"
    if media.unannounced:
        return "media seen, but at addresses that nobody announced, and of more than one call"
    return "no media seen"


def _encrypted(call: Call, media: MediaFacts) -> bool:
    """What signalling has keys of is to be blamed only where media showed that they do not fit."""
    return media.encrypted or bool(call.unopened) or (call.encrypted and bool(call.refusal))


def _not_recordable(call: Call) -> str:
    return ": ".join(filter(None, ["encrypted, not recordable", call.unopened or call.refusal]))
