"""The scenes of the bench: what calls are replayed. Read by its small parent process: no NumPy here."""

import json
from dataclasses import asdict, dataclass
from typing import Final, Literal, get_args

Codec = Literal["pcmu", "pcma", "opus"]
CODECS: tuple[Codec, ...] = get_args(Codec)

_CAPTURED = (
    100 * 232
)  # bytes of a G.711 call in the capture file a second: 100 packets of 214 and their heads
_RECORDED = 17_600


@dataclass(frozen=True)
class Scene:
    """Calls of one kind. ``seconds`` is the talk time of each; ``impaired`` the share of their packets that
    the network loses, doubles or delivers late.
    """

    name: str
    calls: int = 200
    seconds: float = 60.0
    codec: Codec = "pcmu"
    impaired: float = 0.0

    @property
    def bytes(self) -> int:
        """What the capture and one spool take, at most."""
        return round(self.calls * self.seconds * (_CAPTURED + _RECORDED) * 1.1) + 50_000_000

    def with_calls(self, calls: int) -> "Scene":
        """As many calls of the same kind."""
        return Scene(self.name, calls, self.seconds, self.codec, self.impaired)

    def to_json(self) -> str:
        """The argument for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Scene":
        """What :meth:`to_json` wrote."""
        return cls(**json.loads(text))


#: What `make bench` measures, by the names that it is asked for.
SCENES: Final = {
    "g711-200": Scene("g711"),
    "g711-1000": Scene("g711", calls=1000),
    "opus-200": Scene("opus", codec="opus"),
    "impaired-200": Scene("g711-impaired", impaired=0.05),
}

#: Numbers of calls at which the plot shows what one costs.
PLOTTED: Final = (50, 100, 200, 500, 1000)
