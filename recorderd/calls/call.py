"""One call, as the rest of the recorder sees it."""

from dataclasses import dataclass, field

from recorderd.calls.besides import Span
from recorderd.calls.events import SIDES, MediaExpected, Side
from recorderd.calls.states import State
from recorderd.wire.endpoint import Endpoint

MAX_HOLDS = 256  #: holds listed of one call; later ones still give events
MAX_DEFECTS = 16
MAX_HOSTS = 16


@dataclass(slots=True)
class Hold:
    """One side held the call from `since` until `until` (ns since the epoch; None: it still does)."""

    side: Side
    since: int
    until: int | None = None


@dataclass(slots=True, eq=False)
class Call:
    """A call in progress or ended. The table changes it; everybody else reads.

    It stays readable for whoever holds it after the table has forgotten it. Names and addresses have gone
    through `printable`; `call_id` is the peer's own text, clipped. Times are ns since the epoch, None for
    what did not happen.

    Attributes:
        key: unique in the process; what events call `call`.
        from_user: the user part of the caller's address, its host where there is none; likewise `to_user`.
        joined: the call was already in progress when its first message was seen, so who called whom is a
            guess.
        expectations: where each side receives now, by (side, endpoint); empty when the call is over.
        encrypted: SRTP was agreed on, or offered and never answered.
        refusal: why that SRTP cannot be opened; empty where its keys are in the signalling.
        unopened: why some of it could not be opened all the same; the recorder sets it.
        holding: the sides that hold the call at this moment.
        holds: all holds, in order of their start.
        described: session descriptions of both sides were seen after the answer.
        audio: both sides agreed on an audio stream, be it held.
        senders: the sides that were to send at some time of the talk. A side held or inactive throughout,
            or one that only listens, is not among them; without session descriptions both are.
        besides: what was agreed on that is not audio, and when.
        defects: what was wrong in the signalling and tolerated.
        hosts: where its signalling came from and went to, the first `MAX_HOSTS` of them.
        first_hop: from where to where its first message went; the caller is on the first side.
        unsignalled: there is media and nothing else: no signalling of it was seen.
        excluded: why it is not to be recorded, from the policy; empty where it is.
        retention: the class by which its recording is kept; empty for the default's.
    """

    key: str
    call_id: str
    from_user: str
    to_user: str
    from_uri: str
    to_uri: str
    from_display: str
    to_display: str
    first_seen: int
    ringing_at: int | None = None
    answered_at: int | None = None
    ended_at: int | None = None
    state: State = State.TRYING
    end_cause: str = ""
    joined: bool = False
    expectations: dict[tuple[Side, Endpoint], MediaExpected] = field(default_factory=dict)
    holding: frozenset[Side] = frozenset()
    holds: list[Hold] = field(default_factory=list)
    described: bool = False
    audio: bool = False
    encrypted: bool = False
    refusal: str = ""
    unopened: str = ""
    senders: frozenset[Side] = frozenset(SIDES)
    besides: list[Span] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    first_hop: tuple[str, str] | None = None
    excluded: str = ""
    retention: str = ""
    unsignalled: bool = False

    def expected_speakers(self) -> tuple[Side, ...]:
        """The sides whose media must be there for the recording to be complete, caller first."""
        return tuple(side for side in SIDES if side in self.senders)

    def signalled(self, source: str, destination: str, *, by_caller: bool) -> None:
        """Remember who takes part in the signalling."""
        if len(self.hosts) < MAX_HOSTS:
            self.hosts.update((source, destination))
        if self.first_hop is None:
            self.first_hop = (source, destination) if by_caller else (destination, source)

    def speaker_between(self, source: str, destination: str) -> Side | None:
        """Who speaks in packets between the two hosts of the first hop; None for any others."""
        if self.first_hop is None or source == destination:
            return None
        if (source, destination) == self.first_hop:
            return "caller"
        return "callee" if (destination, source) == self.first_hop else None

    def note(self, *defects: str) -> None:
        """Keep what was wrong, each once, so many at most."""
        for defect in defects:
            if defect not in self.defects and len(self.defects) < MAX_DEFECTS:
                self.defects.append(defect)
