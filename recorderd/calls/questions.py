"""What the rules of joining leave open until more is heard."""

from dataclasses import dataclass

from recorderd.calls.call import Call


@dataclass(slots=True, eq=False)
class Question:
    """A call that may be what a B2BUA made of one of several others."""

    call: Call
    candidates: list[Call]
