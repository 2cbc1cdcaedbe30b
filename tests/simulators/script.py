"""The script of a call: what the simulated ends do and when. Times ``*_s`` are seconds."""

from dataclasses import dataclass, field
from typing import Literal

from tests.simulators.signals import Signal

SideName = Literal["caller", "callee"]
SIDES: tuple[SideName, SideName] = ("caller", "callee")
Ending = Literal["bye", "cancel", "busy", "unanswered", "open"]
Method = Literal["INVITE", "UPDATE"]


def other(side: SideName) -> SideName:
    """The other end."""
    return "callee" if side == "caller" else "caller"


@dataclass(frozen=True)
class Impairment:
    """What the network does to one direction, drawn from the call's seed.

    ``loss``, ``reorder`` and ``duplicate`` are shares of packets. Losses come in bursts of geometric length,
    mean ``burst``. A reordered packet is late by up to ``reorder_ms``; jitter delays each packet by up to
    ``jitter_ms``.
    """

    loss: float = 0.0
    burst: float = 1.0
    reorder: float = 0.0
    reorder_ms: float = 60.0
    duplicate: float = 0.0
    jitter_ms: float = 0.0


@dataclass(frozen=True)
class Hold:
    """One end holds the other by re-INVITE or UPDATE, and takes the call back ``length_s`` later.

    ``sendonly``: the holder goes on sending (music); ``recvonly``: the holder only listens; ``inactive`` and
    ``zero`` (the old ``c=0.0.0.0``): nobody sends.
    """

    at_s: float
    length_s: float
    by: SideName = "caller"
    style: Literal["sendonly", "inactive", "recvonly", "zero"] = "sendonly"
    method: Method = "INVITE"


@dataclass(frozen=True)
class Move:
    """One end moves its media to another port by re-INVITE or UPDATE, and to another host, or both ends to
    another codec, if one is named."""

    at_s: float
    side: SideName = "caller"
    method: Method = "INVITE"
    host: str | None = None
    codec: Literal["pcmu", "pcma"] | None = None


@dataclass(frozen=True)
class Refresh:
    """A re-INVITE or UPDATE that changes nothing (RFC 4028)."""

    at_s: float
    side: SideName = "caller"
    method: Method = "UPDATE"


@dataclass(frozen=True)
class Pause:
    """One end stops sending (silence suppression): a jump of the timestamp, no hole in the sequence, then a
    marker."""

    at_s: float
    length_s: float
    side: SideName = "caller"


@dataclass(frozen=True)
class NewSource:
    """One end changes its SSRC, with new random sequence and timestamp."""

    at_s: float
    side: SideName = "caller"


@dataclass(frozen=True)
class NewCodec:
    """One end changes to another of the negotiated G.711 payload types in mid-stream."""

    at_s: float
    codec: Literal["pcmu", "pcma"]
    side: SideName = "caller"


@dataclass(frozen=True)
class Dtmf:
    """One end presses keys: RFC 4733 events of 100 ms, 100 ms apart, in the audio's place and sequence."""

    at_s: float
    digits: str
    side: SideName = "caller"


@dataclass(frozen=True)
class Stranger:
    """Somebody else sends G.711 noise to one end's port for a while, from an address of their own, or with
    that of the other end as source."""

    at_s: float
    length_s: float
    toward: SideName = "caller"
    spoofed: bool = False


@dataclass(frozen=True)
class Fax:
    """One end makes the call a fax by re-INVITE (T.38: audio refused, ``m=image`` agreed), and an audio call
    again ``length_s`` later."""

    at_s: float
    length_s: float
    by: SideName = "callee"


@dataclass(frozen=True)
class Request:
    """One end sends a request in the dialog, with further headers (``NAME: VALUE`` and CR LF) and, if it is
    an INFO, a body, so many times over.
    """

    at_s: float
    method: Literal["INFO", "INVITE", "UPDATE"] = "INFO"
    side: SideName = "caller"
    headers: str = ""
    body: str | None = None
    content_type: str = "application/dtmf-relay"
    times: int = 1


Happening = Fax | Request | Hold | Move | Refresh | Pause | NewSource | NewCodec | Dtmf | Stranger


@dataclass(frozen=True)
class OpusSettings:
    """How the Opus encoder is set; the RTP clock is 48 kHz whatever these say (RFC 7587)."""

    channels: int = 1
    bitrate: int = 24000
    inband_fec: bool = False
    dtx: bool = False
    complexity: int = 5
    bandwidth: Literal["nb", "wb", "swb", "fb"] = "fb"


@dataclass(frozen=True)
class CallScript:
    """One call. ``start_s`` is when its INVITE is sent, after the simulator's epoch.

    Media of each end starts ``*_media_s`` after the answer (negative: RTP before its SDP is seen), or after
    the 183 for the ends named in ``early``. Happenings are timed from the answer. Ends named in ``nat``
    announce a private address and send from, and receive at, another one. ``*_coded`` are the payloads of
    codecs that the simulator has no encoder for, sent in turn and then from the first again. ``*_sdp`` stands
    at the end of an end's session descriptions: further m-lines.
    """

    caller: str = "1001"
    callee: str = "2002"
    call_id: str | None = None
    start_s: float = 0.0
    ring_s: float = 1.0
    talk_s: float = 10.0
    ending: Ending = "bye"
    hangup_by: SideName = "caller"

    codec: str = "pcmu"
    caller_coded: tuple[bytes, ...] | None = None
    callee_coded: tuple[bytes, ...] | None = None
    opus: OpusSettings = field(default_factory=OpusSettings)
    ptime_ms: int = 20
    caller_signal: Signal | None = None
    callee_signal: Signal | None = None
    caller_drift_ppm: float = 0.0
    callee_drift_ppm: float = 0.0
    caller_media_s: float = 0.04
    callee_media_s: float = 0.01
    caller_sends: bool = True
    callee_sends: bool = True
    caller_network: Impairment = Impairment()
    callee_network: Impairment = Impairment()

    early: frozenset[SideName] = frozenset()
    reliable: bool = False
    delayed_offer: bool = False
    challenge: bool = False
    retransmit: bool = False
    nat: frozenset[SideName] = frozenset()
    happenings: tuple[Happening, ...] = ()

    ip_version: Literal[4, 6] = 4
    caller_host: str | None = None
    callee_host: str | None = None
    caller_port: int | None = None
    callee_port: int | None = None
    sip_port: int = 5060
    invite_headers: str = ""
    caller_sdp: str = ""
    callee_sdp: str = ""
    seed: int | None = None

    def signal_of(self, side: SideName) -> Signal | None:
        return self.caller_signal if side == "caller" else self.callee_signal

    def coded_of(self, side: SideName) -> tuple[bytes, ...] | None:
        return self.caller_coded if side == "caller" else self.callee_coded

    def drift_of(self, side: SideName) -> float:
        return self.caller_drift_ppm if side == "caller" else self.callee_drift_ppm

    def media_delay_of(self, side: SideName) -> float:
        return self.caller_media_s if side == "caller" else self.callee_media_s

    def sends(self, side: SideName) -> bool:
        return self.caller_sends if side == "caller" else self.callee_sends

    def network_of(self, side: SideName) -> Impairment:
        """What the network does to what this side sends."""
        return self.caller_network if side == "caller" else self.callee_network
