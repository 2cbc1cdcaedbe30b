"""When a track of G.711 is listened to: at first all the time, then in turns.

After ten seconds, and once somebody spoke for five, its level and its noise are known. From then on four
seconds of every twelve tell whether they changed, at a third of the cost. The turns of different streams
begin in different seconds, so that every second costs the same. What is heard stands for what is not.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

AT_FIRST_S: Final = 10
AT_MOST_S: Final = 60
"""Nobody speaks: after so long it is a matter of turns all the same."""

ENOUGH_S: Final = 5.0

TURN_S: Final = 4
EVERY_S: Final = 12

ASK_EVERY_S: Final = 4
"""So often it is looked up whether enough was heard."""


def in_turn(
    seconds: NDArray[np.int32], stream: NDArray[np.integer], known: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether to listen to each of some streams (n) for the next second.

    ``seconds`` (n) is how many have gone by, ``stream`` (n) its number, ``known`` (n) whether enough was
    heard.
    """
    turn = (seconds + TURN_S * (stream % (EVERY_S // TURN_S))) % EVERY_S < TURN_S
    listen: NDArray[np.bool_] = turn | (seconds < AT_FIRST_S) | (~known & (seconds < AT_MOST_S))
    return listen


def asked_now(seconds: NDArray[np.int32], stream: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether it is to be looked up for each of some streams (n) if enough was heard."""
    asked: NDArray[np.bool_] = (seconds >= AT_FIRST_S - 1) & ((seconds + stream) % ASK_EVERY_S == 0)
    return asked
